//! Plugins: code that sees a request before it goes to a provider and its answer before the caller has it.
//!
//! A [`Plugin`] is any value with a name and the hooks that it wants; each hook has a default that does nothing. They run
//! in a chain: `pre` in the chain's order, `events` and `post` in the reverse order, and only of those whose `pre` ran.
//!
//! ```text
//!  request ─▶ a.pre ─▶ b.pre ─▶ attempts at providers ─▶ b.post ─▶ a.post ─▶ caller
//!               │                                          ▲
//!               └── an answer, a stream or an error ───────┘   (a short circuit: b never hears of it)
//! ```
//!
//! **Where they run.** On the thread that waits for the request anyway; the hooks of a running stream on the worker that
//! relays it. A chain is taken once a request, so that one that is swapped meanwhile changes nothing for it.
//!
//! **Isolation.** What a hook changes is a draft that is taken when it returns `Ok`. If it fails or panics, nothing of it is
//! left, it is counted, and the request goes on without it or is refused, as the plugin's [`OnFailure`] says. A hook
//! cannot be interrupted: one that takes long is told of in the events, and one that hangs is a stuck thread in the alerts;
//! [`Context::wait`] is how to wait for something without that.
//!
//! **Cost.** Without plugins a request pays one load. What a plugin does not look at is not parsed, and what it does not
//! change keeps its bytes.

#[cfg(feature = "plugins")]
pub(crate) mod builtin;
#[cfg(not(feature = "plugins"))]
#[path = "none.rs"]
pub(crate) mod builtin;
mod chain;
mod context;
mod event;
mod figures;
mod http;
mod outcome;
mod reply;
mod request;

pub use chain::SameName;
pub(crate) use chain::{Chain, Ended, Pre, Run, let_go};
pub use context::{Context, NotYet};
pub use event::{Event, EventHook};
pub use figures::PluginStats;
pub use http::{HttpReply, HttpRequest, HttpResponse};
pub use outcome::{Outcome, StreamSummary};
pub(crate) use reply::StreamParts;
pub use reply::{Reply, StreamReply};
pub use request::Request;

use std::sync::Arc;

use crate::error::Error;
use crate::time::Deadline;

/// A hook's own failure, of whatever kind: what went wrong in the plugin, as opposed to an [`Error`] that it wants the caller
/// to have.
///
/// The caller never sees its text. The events and the log do, the first thousand characters of it: no secret belongs there,
/// and no words of a user's, which the errors of `serde_json` may quote.
pub type PluginError = Box<dyn std::error::Error + Send + Sync>;

/// What a plugin does with a request.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use sluicegate::Gateway;
/// use sluicegate::plugin::{Context, Flow, Outcome, Plugin, PluginError, Request};
///
/// /// Answers "ping" by itself, and counts everything else.
/// #[derive(Default)]
/// struct Ping(AtomicU64);
///
/// impl Plugin for Ping {
///     fn name(&self) -> &str {
///         "ping"
///     }
///
///     fn pre(&self, request: &mut Request<'_>, _: &mut Context<'_>) -> Result<Flow, PluginError> {
///         let said = request.json().and_then(|body| body.pointer("/messages/0/content")?.as_str());
///         Ok(if said == Some("ping") { Flow::Answer(sluicegate::plugin::Reply::chat("pong")) } else { Flow::Continue })
///     }
///
///     fn post(&self, outcome: &mut Outcome, _: &mut Context<'_>) -> Result<(), PluginError> {
///         if outcome.error().is_none() {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///         Ok(())
///     }
/// }
///
/// let gateway = Gateway::builder().plugin(Arc::new(Ping::default())).build()?;
/// assert_eq!(gateway.ask("sim/echo", "ping")?, "pong");
/// assert_eq!(gateway.ask("sim/echo", "Hello")?, "Hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A plugin that keeps a [`Gateway`](crate::Gateway) keeps it from ending: keep a
/// [`WeakGateway`](crate::gateway::WeakGateway). It may ask the gateway for something from a hook; that is a request like
/// any other, which goes through the same plugins: the one that asks has to know its own, or it asks for ever. From
/// `events`, an [`EventHook`] and the `post` of a stream it would wait on a worker for one of that worker's pool, which may
/// have no other.
pub trait Plugin: Send + Sync + 'static {
    /// Its name in figures, events and logs; no two of a chain have the same.
    fn name(&self) -> &str;

    /// Before the request goes to a provider: changes it, or ends it here. The request has been routed by then, and its key
    /// judged: a model that leads nowhere is refused before any plugin could name another.
    ///
    /// # Errors
    /// Its own failure; see [`on_failure`](Self::on_failure). To refuse the request, return [`Flow::Refuse`].
    fn pre(&self, request: &mut Request<'_>, context: &mut Context<'_>) -> Result<Flow, PluginError> {
        let _ = (request, context);
        Ok(Flow::Continue)
    }

    /// After the request has ended, well or not: changes the answer or the error, or makes one of the other. Called once for
    /// each `pre` that ran, also where that failed, and whatever became of the request. Of a stream that has begun it hears
    /// at the end, and changes nothing more: to try is its failure.
    ///
    /// # Errors
    /// Its own failure; see [`on_failure`](Self::on_failure).
    fn post(&self, outcome: &mut Outcome, context: &mut Context<'_>) -> Result<(), PluginError> {
        let _ = (outcome, context);
        Ok(())
    }

    /// A stream of events is about to begin: what looks at each of them, if anything does.
    fn events(&self, context: &mut Context<'_>) -> Option<Box<dyn EventHook>> {
        let _ = context;
        None
    }

    /// A request of the data plane came over HTTP, and its key was let in: looks at its head, tags it, changes its body
    /// before it is read, or answers it. Requests of library callers have none, nor have probes and the lists of models.
    ///
    /// # Errors
    /// Its own failure; see [`on_failure`](Self::on_failure).
    fn http_request(&self, request: &mut HttpRequest<'_>) -> Result<Option<HttpReply>, PluginError> {
        let _ = request;
        Ok(None)
    }

    /// The head of the answer to such a request is about to be sent: adds, changes or takes away header lines. Its failure
    /// refuses nothing, since the answer has been given by then. What was turned away before, for its key or the load, is
    /// not seen here.
    ///
    /// # Errors
    /// Its own failure; see [`on_failure`](Self::on_failure).
    fn http_response(&self, response: &mut HttpResponse<'_>) -> Result<(), PluginError> {
        let _ = response;
        Ok(())
    }

    /// What a request comes to in which a hook of it fails or panics. Asked once, when it is put into a chain.
    ///
    /// By default [`OnFailure::Continue`].
    fn on_failure(&self) -> OnFailure {
        OnFailure::Continue
    }

    /// Where it stands beside the built-in plugins. Asked once, when it is put into a chain.
    fn place(&self) -> Place {
        Place::Behind
    }

    /// Figures of its own: `plugins.NAME.own` in `/stats`. Asked once a second, and whenever somebody asks for the gateway's
    /// figures, which it must not do itself; should be small and quick.
    fn stats(&self) -> Option<serde_json::Value> {
        None
    }

    /// The process is about to end, and may drop nothing: waits until what it has said before is where it is to go.
    #[doc(hidden)]
    fn flush(&self, until: Deadline) {
        let _ = until;
    }
}

impl<P: Plugin + ?Sized> Plugin for Arc<P> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn pre(&self, request: &mut Request<'_>, context: &mut Context<'_>) -> Result<Flow, PluginError> {
        (**self).pre(request, context)
    }

    fn post(&self, outcome: &mut Outcome, context: &mut Context<'_>) -> Result<(), PluginError> {
        (**self).post(outcome, context)
    }

    fn events(&self, context: &mut Context<'_>) -> Option<Box<dyn EventHook>> {
        (**self).events(context)
    }

    fn http_request(&self, request: &mut HttpRequest<'_>) -> Result<Option<HttpReply>, PluginError> {
        (**self).http_request(request)
    }

    fn http_response(&self, response: &mut HttpResponse<'_>) -> Result<(), PluginError> {
        (**self).http_response(response)
    }

    fn on_failure(&self) -> OnFailure {
        (**self).on_failure()
    }

    fn place(&self) -> Place {
        (**self).place()
    }

    fn stats(&self) -> Option<serde_json::Value> {
        (**self).stats()
    }

    fn flush(&self, until: Deadline) {
        (**self).flush(until);
    }
}

impl std::fmt::Debug for dyn Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Plugin({})", self.name())
    }
}

/// Where a program's own plugins stand beside the built-in ones.
///
/// ```
/// use sluicegate::Gateway;
/// use sluicegate::plugin::{Place, Plugin};
/// use sluicegate::serde_json::json;
///
/// struct Counts(Place);
///
/// impl Plugin for Counts {
///     fn name(&self) -> &str {
///         "counts"
///     }
///
///     fn place(&self) -> Place {
///         self.0
///     }
/// }
///
/// # #[cfg(feature = "plugins")]
/// for (place, seen) in [(Place::Before, 2), (Place::Behind, 1)] {
///     let cached = Gateway::builder().builtin_plugin("response_cache", json!({}));
///     let gateway = cached.plugin(Counts(place)).build()?;
///     let _ = (gateway.ask("sim/echo", "Hello")?, gateway.ask("sim/echo", "Hello")?);
///     assert_eq!(gateway.stats().plugins["counts"].calls_total, seen, "the cache answers the second");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Behind them: what one of those answers, as `response_cache` does, it does not see. The default.
    #[default]
    Behind,
    /// Before them: it sees every request and what each comes to, so for one that counts or forbids.
    Before,
}

/// What a request comes to in which a plugin's hook fails or panics.
///
/// ```
/// use sluicegate::plugin::{Context, Flow, OnFailure, Plugin, PluginError, Request};
/// use sluicegate::{Code, Gateway};
///
/// /// Should take names away, and cannot.
/// struct Names(OnFailure);
///
/// impl Plugin for Names {
///     fn name(&self) -> &str {
///         "names"
///     }
///
///     fn pre(&self, _: &mut Request<'_>, _: &mut Context<'_>) -> Result<Flow, PluginError> {
///         Err("the list of names is not there".into())
///     }
///
///     fn on_failure(&self) -> OnFailure {
///         self.0
///     }
/// }
///
/// let lax = Gateway::builder().plugin(Names(OnFailure::Continue)).build()?;
/// assert_eq!(lax.ask("sim/echo", "Hello")?, "Hello");
/// let strict = Gateway::builder().plugin(Names(OnFailure::Refuse)).build()?;
/// assert_eq!(strict.ask("sim/echo", "Hello").expect_err("it goes nowhere").code(), Code::Internal);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// It goes on as if the hook had done nothing.
    #[default]
    Continue,
    /// It ends with `internal`: for a plugin whose work must not be left out, as one that takes secrets away.
    Refuse,
}

/// How a request goes on after a `pre`.
///
/// ```
/// use sluicegate::plugin::{Context, Flow, Plugin, PluginError, Reply, Request};
/// use sluicegate::{Code, Error, Gateway};
///
/// /// Answers one model by itself, and forbids another.
/// struct Doorman;
///
/// impl Plugin for Doorman {
///     fn name(&self) -> &str {
///         "doorman"
///     }
///
///     fn pre(&self, request: &mut Request<'_>, _: &mut Context<'_>) -> Result<Flow, PluginError> {
///         Ok(match request.model() {
///             "sim/echo" => Flow::Answer(Reply::chat("Nobody is at home.")),
///             "sim/hang" => Flow::Refuse(Error::new(Code::Forbidden, "that would take for ever")),
///             _ => Flow::Continue,
///         })
///     }
/// }
///
/// let gateway = Gateway::builder().plugin(Doorman).build()?;
/// assert_eq!(gateway.ask("sim/echo", "Hello")?, "Nobody is at home.");
/// assert_eq!(gateway.ask("sim/hang", "Hello").expect_err("refused").code(), Code::Forbidden);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Flow {
    /// To the next plugin, and on to a provider.
    Continue,
    /// It is answered with this, and goes no further. Who asked for a stream gets it as one where that is possible: chat and
    /// text completions, and messages. Every `post` then hears of a whole answer, and no `events` is asked.
    Answer(Reply),
    /// It is answered with this stream; only who asked for one can be. It goes through the `events` of every plugin that was
    /// asked, this one among them.
    Stream(StreamReply),
    /// It ends with this error: `Error::invalid("messages", "…")`, or `Error::new(Code::Forbidden, "…")`.
    Refuse(Error),
}
