//! The plugins of a gateway in their order, and one request's way through them.
//!
//! **Protocol.** A [`Run`] belongs to one request and goes where its end is: it stays on the waiting thread, or travels with
//! the sink of a stream. `pre` notes how far it came; `post` goes back from there, once. A run that is dropped before, by a
//! panic above it, tells its plugins of a request that was lost.
//!
//! **Panics.** Every call into a plugin is caught here, and so is the drop of whatever is its own: the plugin, its hooks,
//! what it kept for a request, its errors. Each is dropped by itself, since two that panic together end the process.
//!
//! **Invariants.** I8: what a hook changes is settled after it has returned, or forgotten.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::context::{Context, Slot};
use super::event::{Change, Event, EventHook};
use super::figures::{Figures, PluginStats};
use super::outcome::{Outcome, StreamSummary};
use super::reply::{Reply, StreamReply};
use super::request::Request;
use super::{Flow, OnFailure, Plugin, PluginError};
use crate::error::{Code, Error};
use crate::events::Events;
use crate::model::{BodyFields, Call};
use crate::sync::QuitSignal;
use crate::sync::threads::{self, brief, count_panic, panic_text};
use crate::time::{Stamp, now};
use crate::wire::pieces::{Framing, Pieces};

/// A hook that takes longer is told of.
const SLOW: Duration = Duration::from_millis(250);

/// A hook that takes longer is stuck, as its thread is.
const STUCK: Duration = Duration::from_secs(5);

/// How often one plugin is told of: one that fails in each request must not push everything else out of the events.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The largest event taken apart, in bytes; the worker lets none through that is larger.
const MAX_EVENT: usize = 4 << 20;

/// The event that tells of a plugin.
const EVENT: &str = "plugin";

/// Two plugins of a chain have the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SameName(pub String);

impl fmt::Display for SameName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "two plugins are called {:?}; names tell them apart in figures and logs", self.0)
    }
}

impl std::error::Error for SameName {}

/// A plugin in its place.
pub(super) struct Link {
    pub(super) plugin: Arc<dyn Plugin>,
    name: Arc<str>,
    on_failure: OnFailure,
    pub(super) figures: Arc<Figures>,
    /// When it was last told of, in microseconds; 0 for never.
    told: AtomicU64,
}

/// The plugins of a gateway, in their order.
pub(crate) struct Chain {
    pub(super) links: Vec<Link>,
    pub(super) events: Events,
    /// Given when the gateway waits for nothing any more.
    end: QuitSignal,
}

impl Chain {
    /// No plugins, of a gateway that ends with `end`.
    pub(crate) fn empty(events: Events, end: QuitSignal) -> Self {
        Self { links: Vec::new(), events, end }
    }

    /// These plugins; each counts on where one of its name did in this chain.
    pub(crate) fn followed_by(&self, plugins: impl IntoIterator<Item = Arc<dyn Plugin>>) -> Result<Self, SameName> {
        let mut links: Vec<Link> = Vec::new();
        for plugin in plugins {
            let name: Arc<str> = plugin.name().into();
            if links.iter().any(|link| link.name == name) {
                return Err(SameName(name.to_string()));
            }
            let known = self.links.iter().find(|link| link.name == name);
            let figures = known.map_or_else(Arc::default, |link| Arc::clone(&link.figures));
            links.push(Link { on_failure: plugin.on_failure(), plugin, name, figures, told: AtomicU64::new(0) });
        }
        Ok(Self { links, events: self.events.clone(), end: self.end.clone() })
    }

    /// Where plugins are told of.
    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    /// Given when the gateway waits for nothing any more.
    pub(crate) fn end(&self) -> &QuitSignal {
        &self.end
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.links.iter().map(|link| &*link.name)
    }

    pub(crate) fn stats(&self) -> BTreeMap<String, PluginStats> {
        let stats = |link: &Link| {
            let (own, _) = link.call(&self.events, "stats", || (Ok(link.plugin.stats()), Duration::ZERO));
            (link.name.to_string(), link.figures.stats(own.unwrap_or_default()))
        };
        self.links.iter().map(stats).collect()
    }

    /// Waits until what each plugin has said before is where it is to go.
    #[cfg(feature = "cli")]
    pub(crate) fn flush(&self, until: crate::time::Deadline) {
        for link in &self.links {
            let flush = || {
                link.plugin.flush(until);
                (Ok(()), Duration::ZERO)
            };
            let _ = link.call(&self.events, "flush", flush);
        }
    }

    /// A request's way through it.
    pub(crate) fn run(self: &Arc<Self>, call: &Arc<Call>) -> Run {
        Run {
            chain: Arc::clone(self),
            call: Arc::clone(call),
            slots: Vec::new(),
            hooks: Vec::new(),
            pieces: None,
            streams: false,
            headers: Vec::new(),
            settled: false,
        }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.links.drain(..).for_each(let_go);
    }
}

/// Drops what is a plugin's own, and whatever a panic of that carries.
pub(crate) fn let_go<T>(own: T) {
    threads::let_go("a plugin's", own);
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Link {
    /// Calls a hook, which says how long it waited for others. What comes back of one that failed is the error that the
    /// request is refused with, if it is to be.
    pub(super) fn call<T>(
        &self,
        events: &Events,
        hook: &'static str,
        work: impl FnOnce() -> (Result<T, PluginError>, Duration),
    ) -> (Result<T, Option<Error>>, Duration) {
        let begun = now();
        let _due = threads::due(STUCK);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let (result, waited) = work();
            // The error's text and its drop are the plugin's, too.
            let told = |error: PluginError| self.tell(events, || format!("its {hook} failed: {error}"));
            (result.map_err(told), waited)
        }));
        let took = now().saturating_duration_since(begun);
        match outcome {
            Ok((Ok(value), waited)) => {
                let took = took.saturating_sub(waited);
                if took > SLOW {
                    self.tell(events, || format!("its {hook} took {} ms", took.as_millis()));
                }
                (Ok(value), took)
            }
            Ok((Err(()), waited)) => {
                self.figures.errors.inc();
                (Err(self.refusal()), took.saturating_sub(waited))
            }
            Err(panic) => {
                let text = brief(panic_text(&*panic)).to_owned();
                // What a panic carries is the plugin's, and so is its drop.
                let_go(panic);
                self.figures.panics.inc();
                count_panic(format!("plugin {}, {hook}: {text}", self.name));
                self.tell(events, || format!("its {hook} panicked: {text}"));
                (Err(self.refusal()), took)
            }
        }
    }

    /// What a request is told that goes no further because of it.
    fn refusal(&self) -> Option<Error> {
        (self.on_failure == OnFailure::Refuse).then(|| {
            let text = format!("the plugin {} failed, without which no request goes through", self.name);
            Error::new(Code::Internal, text)
        })
    }

    fn tell(&self, events: &Events, text: impl FnOnce() -> String) {
        let now_us = Stamp::now().micros().max(1);
        let last = self.told.load(Ordering::Relaxed);
        let is_due = last == 0 || u128::from(now_us.saturating_sub(last)) >= TELL_EVERY.as_micros();
        if is_due && self.told.compare_exchange(last, now_us, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let text = text();
            let text = brief(&text);
            log::warn!("plugin {}: {text}", self.name);
            events.push(EVENT, &self.name, text);
        }
    }
}

/// How a request goes on after every `pre`.
#[derive(Debug)]
pub(crate) enum Pre {
    /// To a provider, with another body if there is one.
    Go(Option<(Vec<u8>, BodyFields)>),
    /// Nowhere.
    Ended(Ended),
}

/// What a request was ended with by a plugin.
#[derive(Debug)]
pub(crate) enum Ended {
    Answer(Reply),
    Stream(StreamReply),
    Failed(Error),
}

/// One request's way through a chain.
pub(crate) struct Run {
    chain: Arc<Chain>,
    call: Arc<Call>,
    /// One for each plugin whose `pre` was called.
    slots: Vec<Slot>,
    /// What looks at the events, in the order in which they do; the first number is the plugin's.
    hooks: Vec<Hook>,
    pieces: Option<Pieces>,
    /// Whether it was asked who looks at the events.
    streams: bool,
    /// What they have put on the head of the answer.
    headers: Vec<(String, String)>,
    settled: bool,
}

/// What one plugin has on a stream.
struct Hook {
    at: usize,
    /// None once it has failed.
    hook: Option<Box<dyn EventHook>>,
    took: Duration,
}

impl Run {
    /// Asks each plugin before the request goes anywhere.
    pub(crate) fn pre(&mut self) -> Pre {
        let Self { chain, call, slots, headers, .. } = self;
        let mut request = Request::new(call);
        for link in &chain.links {
            slots.push(None);
            let Some(slot) = slots.last_mut() else { continue };
            let mut context = Context::new(call, &chain.end, slot);
            link.figures.calls.inc();
            let (result, took) = link.call(&chain.events, "pre", || {
                let flow = link.plugin.pre(&mut request, &mut context);
                let settled = flow.and_then(|flow| {
                    match flow {
                        Flow::Continue => request.settle()?,
                        Flow::Answer(reply) => return reply.in_shape_of(call).map(Flow::Answer),
                        Flow::Stream(_) if !call.fields.stream => {
                            return Err("it gave a stream to who asked for none".into());
                        }
                        Flow::Stream(stream) => return stream.in_shape_of(call).map(Flow::Stream),
                        Flow::Refuse(_) => {}
                    }
                    Ok(flow)
                });
                (settled, context.waited())
            });
            link.figures.note_pre(took);
            request.forget();
            if result.is_ok() {
                headers.extend(context.into_headers());
            }
            let ended = match result {
                Ok(Flow::Continue) if link.on_failure == OnFailure::Refuse && request.is_unreadable() => {
                    let text = format!("the plugin {} has to read the body, and that is no JSON to it", link.name);
                    Ended::Failed(Error::new(Code::InvalidRequest, text))
                }
                Ok(Flow::Continue) => continue,
                Ok(Flow::Answer(mut reply)) => {
                    reply.origin.get_or_insert_with(|| (link.name.to_string(), call.fields.model.clone()));
                    Ended::Answer(reply)
                }
                Ok(Flow::Stream(mut stream)) => {
                    stream.origin.get_or_insert_with(|| (link.name.to_string(), call.fields.model.clone()));
                    Ended::Stream(stream)
                }
                Ok(Flow::Refuse(error)) => Ended::Failed(error),
                Err(Some(error)) => return Pre::Ended(Ended::Failed(error)),
                Err(None) => continue,
            };
            link.figures.short_circuits.inc();
            return Pre::Ended(ended);
        }
        Pre::Go(request.into_changed())
    }

    /// Tells each plugin, the last first, of a whole answer, and gives what they made of it.
    pub(crate) fn answered(&mut self, answer: impl Into<Reply>) -> Result<Reply, Error> {
        self.whole(Outcome::answered(answer.into()))
    }

    /// Tells each plugin, the last first, of an error, and gives what they made of it.
    pub(crate) fn failed(&mut self, error: Error) -> Result<Reply, Error> {
        self.whole(Outcome::failed(error))
    }

    fn whole(&mut self, outcome: Outcome) -> Result<Reply, Error> {
        let result = self.post(outcome);
        let mut reply = result?.ok_or_else(|| Error::new(Code::Internal, "the plugins left no answer"))?;
        reply.headers.append(&mut self.headers);
        Ok(reply)
    }

    /// Tells each plugin, the last first, of a stream that has ended.
    pub(crate) fn streamed(&mut self, stream: StreamSummary, end: Result<(), Error>) -> Result<(), Error> {
        self.post(Outcome::streamed(stream, end)).map(drop)
    }

    fn post(&mut self, mut outcome: Outcome) -> Result<Option<Reply>, Error> {
        self.settled = true;
        let Self { chain, call, slots, hooks, .. } = self;
        for (at, slot) in slots.iter_mut().enumerate().rev() {
            let Some(link) = chain.links.get(at) else { continue };
            let mut context = Context::new(call, &chain.end, slot);
            let (result, took) = link.call(&chain.events, "post", || {
                let result =
                    link.plugin.post(&mut outcome, &mut context).and_then(|()| outcome.settle(&link.name, call));
                (result, context.waited())
            });
            let events: Duration = hooks.iter().filter(|hook| hook.at == at).map(|hook| hook.took).sum();
            link.figures.note_post(took + events);
            if let Err(refusal) = result {
                outcome.forget();
                if let Some(error) = refusal.filter(|_| outcome.stream().is_none()) {
                    outcome.refuse(error);
                }
            }
        }
        outcome.into_result()
    }

    /// A stream of events begins: `head` gets the header lines that plugins have put on it.
    ///
    /// # Errors
    /// If a plugin fails whose work must not be left out.
    pub(crate) fn begin_stream(&mut self, head: &mut Vec<(String, String)>) -> Result<(), Error> {
        // The next attempt begins it again where only comments have been sent.
        if std::mem::replace(&mut self.streams, true) {
            return Ok(());
        }
        let Self { chain, call, slots, hooks, headers, .. } = self;
        for (at, slot) in slots.iter_mut().enumerate().rev() {
            let Some(link) = chain.links.get(at) else { continue };
            let mut context = Context::new(call, &chain.end, slot);
            let (result, took) =
                link.call(&chain.events, "events", || (Ok(link.plugin.events(&mut context)), context.waited()));
            match result {
                Ok(hook) => {
                    headers.extend(context.into_headers());
                    if hook.is_some() {
                        hooks.push(Hook { at, hook, took });
                    }
                }
                Err(None) => {}
                Err(Some(error)) => return Err(error),
            }
        }
        head.append(headers);
        if !hooks.is_empty() {
            self.pieces = Some(Pieces::new(Framing::of(&self.call.operation), MAX_EVENT));
        }
        Ok(())
    }

    /// Whether anything looks at the events.
    pub(crate) fn looks_at_events(&self) -> bool {
        self.pieces.is_some()
    }

    /// Puts into `out` what the plugins make of whole events.
    ///
    /// # Errors
    /// If a plugin fails whose work must not be left out: the stream has to end.
    pub(crate) fn events(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let Self { chain, call, hooks, pieces, .. } = self;
        let Some(pieces) = pieces else {
            out.extend_from_slice(bytes);
            return Ok(());
        };
        pieces.push(bytes);
        while let Some(piece) = pieces.next() {
            let piece = piece?;
            if piece.is_comment {
                out.extend_from_slice(piece.raw);
                continue;
            }
            pass((chain, Framing::of(&call.operation)), hooks, (piece.name, &piece.data), piece.raw, out)?;
        }
        Ok(())
    }

    /// The stream is complete: puts into `out` what the plugins have left to say.
    ///
    /// # Errors
    /// As [`events`](Self::events).
    pub(crate) fn end_stream(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let Self { chain, call, hooks, .. } = self;
        let framing = Framing::of(&call.operation);
        for at in 0..hooks.len() {
            let (own, later) = hooks.split_at_mut(at + 1);
            let Some(own) = own.last_mut() else { continue };
            let (Some(hook), Some(link)) = (own.hook.as_mut(), chain.links.get(own.at)) else { continue };
            let (result, took) = link.call(&chain.events, "end of a stream", || (hook.end(), Duration::ZERO));
            own.took += took;
            for data in result.or_else(|refusal| refusal.map_or(Ok(Vec::new()), Err))? {
                let data = data.to_string().into_bytes();
                let raw = framed(framing, b"", &data);
                pass((chain, framing), later, (b"", &data), &raw, out)?;
            }
        }
        Ok(())
    }
}

/// Puts into `out` what hooks, one after the other, make of an event of a name and data, which stands there as `raw`.
fn pass(
    (chain, framing): (&Chain, Framing),
    hooks: &mut [Hook],
    (name, data): (&[u8], &[u8]),
    raw: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut changed: Option<Vec<u8>> = None;
    for at in 0..hooks.len() {
        let (own, later) = hooks.split_at_mut(at + 1);
        let Some(own) = own.last_mut() else { continue };
        let (Some(hook), Some(link)) = (own.hook.as_mut(), chain.links.get(own.at)) else { continue };
        let as_it_came = changed.is_none().then_some(raw);
        let mut event = Event::new(framing, name, changed.as_deref().unwrap_or(data), as_it_came);
        let (result, took) = link.call(&chain.events, "event", || (hook.event(&mut event), Duration::ZERO));
        own.took += took;
        match result {
            Ok(()) => {
                let (before, change) = event.into_change();
                for (name, data) in before {
                    let data = data.to_string().into_bytes();
                    let raw = framed(framing, name.as_bytes(), &data);
                    pass((chain, framing), later, (name.as_bytes(), &data), &raw, out)?;
                }
                match change {
                    Change::None => {}
                    Change::Gone => return Ok(()),
                    Change::Data(data) => changed = Some(data),
                }
            }
            Err(refusal) => {
                own.hook.take().into_iter().for_each(let_go);
                if let Some(error) = refusal {
                    return Err(error);
                }
            }
        }
    }
    match changed {
        Some(data) => framing.write(name, &data, out),
        None => out.extend_from_slice(raw),
    }
    Ok(())
}

fn framed(framing: Framing, name: &[u8], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + data.len() + 16);
    framing.write(name, data, &mut out);
    out
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.settled {
            let _ = self.failed(Error::new(Code::Internal, "the request was lost"));
        }
        self.slots.drain(..).for_each(let_go);
        self.hooks.drain(..).for_each(let_go);
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("chain", &self.chain).field("ran", &self.slots.len()).finish_non_exhaustive()
    }
}
