//! `plugins`: the settings of `request_log`.

use std::path::PathBuf;

use crate::config::kinds::{Bytes, FilePath, Flag, Limits};
use crate::config::section::Section;

/// A line for each request, in a file or the log.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RequestLog {
    /// The file that lines are appended to; none for the program's log, under the target `sluicegate::requests`.
    pub path: Option<PathBuf>,
    /// How many bytes of each request's body and of its answer's stand in the line; none if they do not.
    pub bodies: Option<usize>,
}

/// Reads its `config`.
pub(super) fn read(s: &mut Section<'_>) -> RequestLog {
    let path = s.get("path", FilePath);
    let bodies = s.get("bodies", Flag(false));
    let most = s.get("max_body_bytes", Bytes(4096).hard(1, 1 << 20));
    RequestLog { path, bodies: bodies.then_some(most) }
}
