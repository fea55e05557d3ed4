//! What goes with a request to a custom provider beside its body.

use std::fmt;
use std::time::Duration;

use crate::ids::RequestId;
use crate::secret::Secret;
use crate::sync::CancelToken;
use crate::time::Deadline;
use crate::transport::Control;

/// What goes with a request beside its body.
///
/// ```
/// use std::time::Duration;
/// use sluicegate::crossbeam_channel::{Receiver, select};
/// use sluicegate::custom::{CallContext, ProviderError};
///
/// /// Waits for what another thread sends, as long as somebody waits for the answer.
/// fn received(from: &Receiver<String>, context: &CallContext<'_>) -> Result<String, ProviderError> {
///     select! {
///         recv(from) -> text => Ok(text?),
///         recv(context.cancel().channel()) -> _ => Err(ProviderError::new(499, "cancelled")),
///         default(context.remaining()) => Err(ProviderError::new(504, "nothing came in time")),
///     }
/// }
/// ```
pub struct CallContext<'a> {
    pub(super) model: &'a str,
    pub(super) key: Option<Secret>,
    pub(super) control: &'a Control<'a>,
}

impl CallContext<'_> {
    /// Names the request, in logs and towards its caller. None of a request that came to the provider by itself.
    #[must_use]
    pub fn request_id(&self) -> Option<&RequestId> {
        self.control.request_id
    }

    /// The model that is asked for, by the provider's own name.
    #[must_use]
    pub fn model(&self) -> &str {
        self.model
    }

    /// The key of the provider's configuration that this attempt goes with, if it has any.
    #[must_use]
    pub fn key(&self) -> Option<&Secret> {
        self.key.as_ref()
    }

    /// By when there must be a whole answer, or the first event of a stream; what comes later is thrown away.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        self.control.deadline
    }

    /// What is left until the [`deadline`](Self::deadline).
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.control.deadline.remaining()
    }

    /// Whether nobody waits for the answer any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.control.cancel.is_cancelled()
    }

    /// Tells that, with a [channel](CancelToken::channel) to `select!` on; a stream takes a clone of it along.
    #[must_use]
    pub fn cancel(&self) -> &CancelToken {
        self.control.cancel
    }
}

impl fmt::Debug for CallContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallContext")
            .field("request_id", &self.request_id())
            .field("model", &self.model)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
