//! References in strings: `env.NAME`, `${NAME}`, `${NAME:-default}`, `file:PATH`.

use std::io::Read as _;
use std::path::Path;

/// Looks a variable up.
pub type Env<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// The most that is read from a file that a string refers to.
const FILE_LIMIT: u64 = 1 << 20;

/// A string with its references replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expanded {
    /// There were none.
    Literal,
    /// What it stands for. What came in by a reference is not searched for references again.
    Replaced(String),
}

/// Replaces the references in `text`. A variable that is empty counts as not set, as in a shell's `${NAME:-default}`.
///
/// # Errors
/// What is missing, and what would be right; never what a variable or file holds.
pub(super) fn expand(text: &str, env: &Env<'_>) -> Result<Expanded, String> {
    if let Some(name) = text.strip_prefix("env.")
        && is_name(name)
    {
        return lookup(name, env).map(Expanded::Replaced).ok_or_else(|| missing(name));
    }
    if let Some(path) = named_file(text) {
        return read_file(path).map(Expanded::Replaced);
    }
    if !text.contains("${") {
        return Ok(Expanded::Literal);
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        let after = &rest[start + 2..];
        let end = after.find('}').ok_or("a `${` has no `}`; write ${NAME} or ${NAME:-default}")?;
        let (name, default) = match after[..end].split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (&after[..end], None),
        };
        if !is_name(name) {
            return Err("`${…}` holds no variable's name; write ${NAME} or ${NAME:-default}".to_owned());
        }
        match (lookup(name, env), default) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => return Err(missing(name)),
        }
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    Ok(Expanded::Replaced(out))
}

/// Whether [`expand`] would take `text` for something else than itself.
pub(super) fn refers(text: &str) -> bool {
    text.strip_prefix("env.").is_some_and(is_name) || named_file(text).is_some() || text.contains("${")
}

/// The file that a text refers to, if it does.
pub(super) fn named_file(text: &str) -> Option<&Path> {
    text.strip_prefix("file:").map(Path::new)
}

fn lookup(name: &str, env: &Env<'_>) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn missing(name: &str) -> String {
    format!("the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
}

/// The file's text without its last line end, which editors and `echo` leave there.
fn read_file(path: &Path) -> Result<String, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("cannot read the file {}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
    let mut text = String::new();
    file.take(FILE_LIMIT + 1).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(wrong(&"it is longer than 1 MiB"));
    }
    let trimmed = text.strip_suffix('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    Ok(trimmed.map(str::to_owned).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<Expanded, String> {
        let env = |name: &str| match name {
            "KEY" => Some("sk-1".to_owned()),
            "NEST" => Some("${KEY}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        expand(text, &env)
    }

    fn replaced(text: &str) -> String {
        match run(text) {
            Ok(Expanded::Replaced(text)) => text,
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    #[test]
    fn each_form_of_reference_is_replaced() {
        assert_eq!(replaced("env.KEY"), "sk-1");
        assert_eq!(replaced("Bearer ${KEY}!"), "Bearer sk-1!");
        assert_eq!(replaced("${KEY}${KEY}"), "sk-1sk-1");
        assert_eq!(replaced("${GONE:-a:-b}"), "a:-b");
        assert_eq!(replaced("${GONE:-}"), "");
        assert_eq!(replaced("${EMPTY:-other}"), "other");
        assert_eq!(replaced("${NEST}"), "${KEY}", "what comes in is not searched again");
    }

    #[test]
    fn a_text_without_reference_is_left_alone() {
        for text in ["", "plain", "env.", "env.two words", "env.9", "$KEY", "a file:b", "environment"] {
            assert_eq!(run(text), Ok(Expanded::Literal), "{text:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for text in ["env.GONE", "${GONE}", "env.EMPTY"] {
            let message = run(text).expect_err("it is missing");
            assert!(message.contains("GONE") || message.contains("EMPTY"), "{message}");
            assert!(message.contains("not set"), "{message}");
        }
        assert!(run("${KEY").expect_err("it is open").contains("no `}`"));
        assert!(run("${a b}").expect_err("it is no name").contains("no variable's name"));
    }

    #[test]
    fn a_file_loses_its_last_line_end_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!("file:{}", file.path().display());
        for (held, expected) in [("sk-2\n", "sk-2"), ("sk-2\r\n", "sk-2"), ("a\n\n", "a\n"), ("a", "a")] {
            std::fs::write(file.path(), held).unwrap();
            assert_eq!(replaced(&text), expected);
        }
        std::fs::write(file.path(), vec![b'x'; 2 << 20]).unwrap();
        assert!(run(&text).expect_err("it is long").contains("longer"));
        assert!(run("file:/no/such/file").expect_err("it is missing").contains("/no/such/file"));
    }
}
