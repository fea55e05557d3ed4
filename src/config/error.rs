//! What is wrong with a configuration: every problem found, each with the place where it stands.

use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: a path such as `providers.openai.keys[0].value`, or a line and column; empty for the document as a whole.
    pub path: String,
    /// What is wrong there, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// A configuration that cannot be used, with everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file it was read from, if it was one.
    pub file: Option<String>,
    /// Never empty.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// An error of a single problem.
    pub(super) fn one(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { file: None, problems: vec![Problem { path: path.into(), message: message.into() }] }
    }

    /// Names the file.
    pub(super) fn in_file(mut self, file: &std::path::Path) -> Self {
        self.file = Some(file.display().to_string());
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.as_deref().unwrap_or("the configuration");
        match self.problems.len() {
            1 => write!(f, "{file} cannot be used:")?,
            n => write!(f, "{file} cannot be used, {n} problems:")?,
        }
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
