//! Results, failures and exit codes.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};
use std::process::ExitCode;

use log::Level;

use super::journal::say;
use crate::config::ConfigError;
use crate::error::Error;
use crate::gateway::StartError;
use crate::sync::threads::SpawnError;

/// Why a command did not do its job.
#[derive(Debug)]
pub enum Failure {
    /// Bad usage or bad configuration: exit 2.
    Usage(String),
    /// The job failed: exit 1.
    Job(String),
    /// Whoever read stdout has gone: a quiet end, exit 0.
    ReaderGone,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Job(text) => f.write_str(text),
            Self::ReaderGone => f.write_str("nobody reads the output"),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Job(error.to_string()),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Config(error) => error.into(),
            StartError::Listen(ref system) => Self::Job(format!("{error}{}", advice(system))),
            other => Self::Job(other.to_string()),
        }
    }
}

/// What to do about an address that cannot be had.
pub(super) fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => {
            "; something listens there already, another gateway perhaps: --listen and --admin name other addresses, and \
             port 0 takes a free one"
        }
        ErrorKind::AddrNotAvailable => {
            "; this machine has no such address: 127.0.0.1 is itself, 0.0.0.0 all that it has"
        }
        ErrorKind::PermissionDenied => "; ports below 1024 want a privilege: name a higher one",
        _ => "",
    }
}

impl From<SpawnError> for Failure {
    fn from(error: SpawnError) -> Self {
        Self::Job(error.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Job(error.to_string())
    }
}

/// Writes a result to stdout.
pub(super) fn result(text: &str) -> Result<(), Failure> {
    print(text.as_bytes())
}

/// Writes a result to stdout, byte by byte as it is.
pub(super) fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

/// Writes a line for a person to stderr.
pub(super) fn note(text: &str) {
    say(Level::Info, text, text);
}

/// Writes a warning for a person to stderr.
pub(super) fn warning(text: &str) {
    say(Level::Warn, text, &format!("warning: {text}"));
}

pub(super) fn exit_code(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) | Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Err(failure) => {
            say(Level::Error, &failure.to_string(), &format!("sluicegate: {failure}"));
            ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 })
        }
    }
}
