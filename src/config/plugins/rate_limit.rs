//! `plugins`: the settings of `rate_limit`.

use crate::config::section::Section;

/// Limits for each gateway key.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RateLimit {}

/// Reads its `config`.
pub(super) fn read(_: &mut Section<'_>) -> RateLimit {
    RateLimit {}
}
