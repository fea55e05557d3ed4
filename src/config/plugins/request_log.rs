//! `plugins`: the settings of `request_log`.

use crate::config::section::Section;

/// A line for each request, in a file or the log.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RequestLog {}

/// Reads its `config`.
pub(super) fn read(_: &mut Section<'_>) -> RequestLog {
    RequestLog {}
}
