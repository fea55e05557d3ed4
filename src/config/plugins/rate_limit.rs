//! `plugins`: the settings of `rate_limit`.

use crate::config::kinds::{Count, Limits as _, Maybe, Text};
use crate::config::section::Section;

/// The most that may be set as what goes in a minute or a day: past it a limit is none.
const MOST: usize = 1_000_000_000_000;

/// Limits for each gateway key.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RateLimit {
    /// Of each key that has none of its own, and of requests without a key together.
    pub default: KeyLimits,
    /// Of these keys, by their names; what such a one does not limit is not limited.
    pub keys: Vec<(String, KeyLimits)>,
    /// Requests without a key are told apart by the value of this tag.
    pub by_tag: Option<String>,
}

/// What one key may do; none stands for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyLimits {
    /// Requests in a minute.
    pub requests_per_minute: Option<u64>,
    /// Requests in a day.
    pub requests_per_day: Option<u64>,
    /// Tokens of requests and answers together, in a minute.
    pub tokens_per_minute: Option<u64>,
    /// Requests at a time.
    pub concurrent: Option<u64>,
}

/// Reads its `config`.
pub(super) fn read(s: &mut Section<'_>) -> RateLimit {
    RateLimit {
        default: s.section("default", limits),
        keys: s.each("keys", limits),
        by_tag: s.get("by_tag", Maybe(Text(String::new()))),
    }
}

fn limits(s: &mut Section<'_>) -> KeyLimits {
    // 0 asks for nothing, here as everywhere.
    let mut most = |key| s.get(key, Maybe(Count(0).hard(0, MOST))).map(|most| most as u64).filter(|most| *most > 0);
    KeyLimits {
        requests_per_minute: most("requests_per_minute"),
        requests_per_day: most("requests_per_day"),
        tokens_per_minute: most("tokens_per_minute"),
        concurrent: most("concurrent"),
    }
}
