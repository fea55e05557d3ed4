//! Where a configuration came from, so that it can be read again from there.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Config;
use super::error::ConfigError;
use super::expand::Env;

/// Where a configuration came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Source {
    /// A file.
    File(PathBuf),
    /// What the environment offers.
    Environment,
    /// The program itself: there is nothing to read again.
    #[default]
    Program,
}

/// What the program that serves has said beside what is read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Beside {
    /// Where it listens by the command line, which goes before what is read.
    pub(super) listen: Option<SocketAddr>,
    pub(super) admin: Option<SocketAddr>,
    /// Whether each request is to have a line where nothing is said of plugins.
    pub(super) logs_requests: bool,
}

impl Config {
    /// Whether there is a file or an environment that it came from.
    #[must_use]
    #[doc(hidden)]
    pub fn can_be_reread(&self) -> bool {
        self.source != Source::Program
    }

    /// Reads it again from where it came; where it listens by the command line, it listens there still.
    ///
    /// # Errors
    /// Everything that is wrong with what is there now, or that the program gave it and nothing can be read again.
    #[doc(hidden)]
    pub fn reread(&self, env: &Env<'_>) -> Result<Self, ConfigError> {
        let mut config = match &self.source {
            Source::File(path) => Self::read_file(path, env)?,
            Source::Environment => Self::from_env(env)?,
            Source::Program => {
                return Err(ConfigError::one(
                    "",
                    "it was given by the program, and cannot be read again from anywhere",
                ));
            }
        };
        config = config.extended(&self.added, env)?;
        let Beside { listen, admin, logs_requests } = self.beside;
        if logs_requests {
            config.log_requests();
        }
        config.listen_on(listen, admin)?;
        Ok(config)
    }
}
