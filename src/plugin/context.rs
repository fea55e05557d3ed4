//! What a plugin knows of a request beside its body, and the place where it keeps something of its own for it.

use std::any::Any;
use std::fmt;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, select};

use crate::ids::{RequestId, Trace};
use crate::model::{Call, Operation, Priority, Tags};
use crate::sync::{QuitSignal, State, threads};
use crate::time::{Deadline, now};

/// Something of a plugin's own for one request.
pub(super) type Slot = Option<Box<dyn Any + Send>>;

/// A request as a plugin's hooks see it, and one value of the plugin's own that stays from `pre` to `post`.
///
/// ```
/// use sluicegate::plugin::{Context, Flow, Outcome, Plugin, PluginError, Request};
/// use sluicegate::{CallOptions, Error, Gateway};
///
/// /// Lets nobody in who does not say for which team, and tells what each came to.
/// struct Teams;
///
/// impl Plugin for Teams {
///     fn name(&self) -> &str {
///         "teams"
///     }
///
///     fn pre(&self, _: &mut Request<'_>, context: &mut Context<'_>) -> Result<Flow, PluginError> {
///         let Some(team) = context.tags().get("team").map(str::to_owned) else {
///             return Ok(Flow::Refuse(Error::invalid("tags", "say which team it is for")));
///         };
///         context.set(team);
///         Ok(Flow::Continue)
///     }
///
///     fn post(&self, outcome: &mut Outcome, context: &mut Context<'_>) -> Result<(), PluginError> {
///         let team: Option<String> = context.take();
///         println!("{} for {team:?}: {:?} tokens", context.request_id(), outcome.usage());
///         Ok(())
///     }
/// }
///
/// let gateway = Gateway::builder().plugin(Teams).build()?;
/// assert_eq!(gateway.ask("sim/echo", "Hello").expect_err("no team").param(), Some("tags"));
/// let search = gateway.with(CallOptions::new().tag("team", "search"));
/// assert_eq!(search.ask("sim/echo", "Hello")?, "Hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Context<'a> {
    call: &'a Call,
    end: &'a QuitSignal,
    slot: &'a mut Slot,
    headers: Vec<(String, String)>,
    waited: Duration,
}

/// Why a plugin waited in vain.
///
/// ```
/// use std::time::Duration;
/// use sluicegate::Gateway;
/// use sluicegate::crossbeam_channel::{Receiver, Sender, bounded};
/// use sluicegate::plugin::{Context, Flow, NotYet, Plugin, PluginError, Request};
///
/// /// Waits for a permission, and goes on without it when that takes long.
/// struct Permission(Receiver<()>, Sender<NotYet>);
///
/// impl Plugin for Permission {
///     fn name(&self) -> &str {
///         "permission"
///     }
///
///     fn pre(&self, _: &mut Request<'_>, context: &mut Context<'_>) -> Result<Flow, PluginError> {
///         if let Err(why) = context.wait(&self.0, Duration::from_millis(10)) {
///             self.1.try_send(why)?;
///         }
///         Ok(Flow::Continue)
///     }
/// }
///
/// let ((permit, permits), (tell, told)) = (bounded(1), bounded(1));
/// let gateway = Gateway::builder().plugin(Permission(permits, tell)).build()?;
/// assert_eq!(gateway.ask("sim/echo", "Hello")?, "Hello");
/// assert_eq!(told.try_recv()?, NotYet::TimedOut);
/// # drop(permit);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotYet {
    /// The request was cancelled, its caller has gone, or the gateway ends.
    Cancelled,
    /// The time is over.
    TimedOut,
    /// Nobody is left who could send anything.
    Disconnected,
}

impl<'a> Context<'a> {
    pub(super) fn new(call: &'a Call, end: &'a QuitSignal, slot: &'a mut Slot) -> Self {
        Self { call, end, slot, headers: Vec::new(), waited: Duration::ZERO }
    }

    /// The request as it came.
    #[cfg(feature = "plugins")]
    pub(super) fn call(&self) -> &'a Call {
        self.call
    }

    /// The header lines that the plugin has put on the answer.
    pub(super) fn into_headers(self) -> Vec<(String, String)> {
        self.headers
    }

    /// How long the plugin has waited here, which is no work of its own.
    pub(super) fn waited(&self) -> Duration {
        self.waited
    }

    /// Names the request in logs, errors and headers.
    #[must_use]
    pub fn request_id(&self) -> &RequestId {
        &self.call.request_id
    }

    /// What is asked for.
    #[must_use]
    pub fn operation(&self) -> &Operation {
        &self.call.operation
    }

    /// The model as the caller wrote it; empty for what is forwarded.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.call.fields.model
    }

    /// Whether a stream was asked for.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.call.fields.stream
    }

    /// The name of the gateway key that the request came with, if it came with one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.call.key.as_deref()
    }

    /// The trace that it belongs to, if its caller has one.
    #[must_use]
    pub fn trace(&self) -> Option<&Trace> {
        self.call.trace.as_ref()
    }

    /// The notes on it, of its caller or of a plugin's [`http_request`](super::Plugin::http_request).
    #[must_use]
    pub fn tags(&self) -> &Tags {
        &self.call.tags
    }

    /// Which lane it waits in.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.call.priority
    }

    /// When it arrived.
    #[must_use]
    pub fn arrived(&self) -> Instant {
        self.call.arrived
    }

    /// When it ends, if its caller said so.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        self.call.deadline
    }

    /// Whether it was cancelled, or its caller has gone.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.call.cancel.is_cancelled()
    }

    /// Puts a line on the head of the answer or the stream that the request comes to, its name in lower case. From `pre` or
    /// `events`; an error has no such lines, and after `pre` it is too late for an answer.
    pub fn add_header(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// Keeps a value for this plugin and this request; the one before, if any, is dropped.
    pub fn set<T: Any + Send>(&mut self, value: T) {
        *self.slot = Some(Box::new(value));
    }

    /// The value that is kept, if it is of this type.
    #[must_use]
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.slot.as_ref()?.downcast_ref()
    }

    /// The same, to be changed.
    pub fn get_mut<T: Any>(&mut self) -> Option<&mut T> {
        self.slot.as_mut()?.downcast_mut()
    }

    /// Takes the value that is kept out again; one of another type stays.
    pub fn take<T: Any>(&mut self) -> Option<T> {
        if !self.slot.as_ref()?.is::<T>() {
            return None;
        }
        self.slot.take()?.downcast().ok().map(|value| *value)
    }

    /// Waits for something, as long as `longest`, the request's deadline, its caller and the gateway's end allow. The time is not counted as the
    /// plugin's own.
    ///
    /// # Errors
    /// Why nothing came.
    pub fn wait<T>(&mut self, source: &Receiver<T>, longest: Duration) -> Result<T, NotYet> {
        let begun = now();
        let left = self.call.deadline.map_or(longest, |deadline| longest.min(deadline.remaining_at(begun)));
        let _due = threads::due(left);
        let _waiting = threads::enter(State::WaitingChannel);
        let result = select! {
            recv(source) -> value => value.map_err(|_| NotYet::Disconnected),
            recv(self.call.cancel.channel()) -> _ => Err(NotYet::Cancelled),
            recv(self.end.channel()) -> _ => Err(NotYet::Cancelled),
            default(left) => Err(NotYet::TimedOut),
        };
        self.waited += now().saturating_duration_since(begun);
        result
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("request_id", &self.call.request_id).finish_non_exhaustive()
    }
}
