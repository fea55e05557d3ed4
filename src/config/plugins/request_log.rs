//! `plugins`: the settings of `request_log`.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::kinds::{Bytes, Count, FilePath, Flag, Limits, Span, millis, secs};
use crate::config::section::Section;

/// A line for each request, in a file or the log.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RequestLog {
    /// The file that lines are appended to; none for the program's log, under the target `sluicegate::requests`.
    pub path: Option<PathBuf>,
    /// How many bytes of each request's body and of its answer's stand in the line; none if they do not.
    pub bodies: Option<usize>,
    /// How many plain successes a second have a line; of those that failed or were slow four times as many have. The others
    /// are counted. 1000 by default: each request of a gateway that has hundreds a second, and of any other no more than
    /// half a megabyte of lines a second.
    pub max_lines_per_s: usize,
    /// From when on a request was slow. 30 s by default.
    pub slow_after: Duration,
}

/// Reads its `config`.
pub(super) fn read(s: &mut Section<'_>) -> RequestLog {
    let path = s.get("path", FilePath);
    let bodies = s.get("bodies", Flag(false));
    let most = s.get("max_body_bytes", Bytes(4096).hard(1, 1 << 20));
    let max_lines_per_s = s.get("max_lines_per_s", Count(1000).hard(1, 1_000_000));
    let slow_after = s.get("slow_after", Span(secs(30)).hard(millis(1), secs(24 * 3600)));
    RequestLog { path, bodies: bodies.then_some(most), max_lines_per_s, slow_after }
}
