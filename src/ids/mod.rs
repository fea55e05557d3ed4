//! Identifiers as types of their own, so that one kind is never taken for another.

mod trace;

use std::fmt;
use std::sync::Arc;

pub use trace::Trace;

/// The longest request id that a client may choose, in bytes.
pub const MAX_REQUEST_ID: usize = 128;

/// Names one request in logs, errors and the `x-request-id` header. Cheap to clone.
///
/// ```
/// use sluicegate::{CallOptions, Gateway, RequestId};
///
/// let gateway = Gateway::from_env()?;
/// let id = RequestId::from_client("job-17").ok_or("not one that a header can carry")?;
/// let calls = gateway.with(CallOptions::new().request_id(id.clone()));
/// let error = calls.ask("sim/fail-400", "Hello").expect_err("it always fails");
/// assert_eq!(error.request_id(), Some(&id));
/// assert!(RequestId::from_client("two words").is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// A fresh id: `req_` and 96 random bits in hexadecimal.
    #[must_use]
    pub fn fresh() -> Self {
        Self(format!("req_{:016x}{:08x}", fastrand::u64(..), fastrand::u32(..)).into())
    }

    /// The id that a client sent, if it can be echoed safely: 1 to 128 visible ASCII characters.
    #[must_use]
    pub fn from_client(text: &str) -> Option<Self> {
        let fits = (1..=MAX_REQUEST_ID).contains(&text.len());
        (fits && text.bytes().all(|b| b.is_ascii_graphic())).then(|| Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Numbers a worker within its pool, from 1 and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct WorkerId(pub u64);

/// Numbers a thread within its gateway, from 1 and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct ThreadId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_that_could_break_a_header_or_a_log_line_is_refused() {
        assert!(RequestId::from_client("abc-123").is_some());
        for bad in ["", "a b", "a\r\nx: y", "é", &"x".repeat(MAX_REQUEST_ID + 1)] {
            assert!(RequestId::from_client(bad).is_none(), "{bad:?} must be refused");
        }
    }
}
