//! The `sluicegate` block that stands beside an error, whatever the shape of it.

use serde::Serialize;

use crate::error::{Attempt, Error, Origin};
use crate::ids::RequestId;

/// What the gateway says of an error beside the words that its shape has for it.
#[derive(Debug, Serialize)]
pub(crate) struct Ours<'a> {
    code: &'static str,
    origin: Origin,
    provider: Option<&'a str>,
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<&'static str>,
    attempts: &'a [Attempt],
}

impl<'a> Ours<'a> {
    /// The block of `error`, which happened to the request of this id.
    pub(crate) fn of(error: &'a Error, request_id: Option<&'a RequestId>) -> Self {
        Self {
            code: error.code().as_str(),
            origin: error.origin(),
            provider: error.provider(),
            request_id: request_id.map(RequestId::as_str),
            phase: error.phase(),
            attempts: error.attempts(),
        }
    }
}
