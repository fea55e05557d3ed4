//! Answers kept for requests that come again, and equal requests under way answered once.
//!
//! **What is the same.** Two requests with one meaning, of one gateway key, streamed alike (`key`). Tags, priority and
//! deadline make no difference. A model counts by the name that was asked for: an alias that means another model after a
//! reload is answered with what it meant before until that is too old. Library callers have no key, and share entries.
//!
//! **What is kept.** Whole answers of status 200 and streams whose end was seen, if a provider gave them: no error, nothing
//! that a plugin answered. Not what is forwarded unread, nor requests that depend on what a provider keeps (`conversation`)
//! or goes on with (`background`). What is asked for at a temperature above 0 is kept like everything else, unless
//! `only_deterministic` says no: who asks the same again wants the answer, and not another throw.
//!
//! **Where it stands.** What comes to it is kept: an answer with what the plugins behind it made of it, under the request that
//! the plugins before it made. A plugin before it works on each request and each answer, kept or not, as one that counts or
//! puts back what it had taken out; a plugin behind it works once for all who ask the same, and should make the same of it.
//!
//! **Protocol.** `pre` answers from the store, or has the request lead a flight, or waits for the leader's word (`shared`).
//! What it leads with stays in the context from `pre` to `post`, which ends the flight: with the answer, with the error if
//! it is the provider's or the gateway's, or by handing on the lead if this one's own caller left or a plugin behind turned it
//! away. A stream is recorded on its
//! way (`kept`) and given to followers whole, at its end. What is too long to be kept is given to nobody: then each goes
//! alone.
//!
//! **Panics.** What stays in the context is a guard: whatever loses it hands on the lead.

mod flights;
mod kept;
mod key;
mod shared;
mod store;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::plugins::{ModelPattern, ResponseCache as Settings};
use crate::error::{Code, Error};
use crate::model::{Operation, Served};
use crate::plugin::{
    Context, EventHook, Flow, HttpReply, HttpRequest, NotYet, Outcome, Plugin, PluginError, Reply, Request,
};
use crate::provider::cancelled;
use crate::sync::CancelReason;
use crate::sync::locks::{Leaf, classes};
use crate::time::now;
use kept::{Kept, Recorder, Recording, Tape};
use key::{Asked, Key};
use shared::{Found, Seat, Shared, Word};

/// The header by which a client says what is to be done, and is told what was.
const HEADER: &str = "x-sluicegate-cache";

/// The tag by which a library caller says it.
const TAG: &str = "cache";

/// Neither looked for nor kept.
const BYPASS: &str = "bypass";

/// Not looked for, but kept.
const REFRESH: &str = "refresh";

/// The longest wait for a leader. It ends by itself with the provider's limits; this is for where they are set off.
const MOST_WAIT: Duration = Duration::from_secs(3600);

/// Answers kept for requests that come again.
#[derive(Debug)]
pub(crate) struct ResponseCache {
    shared: Arc<Shared>,
    models: Vec<ModelPattern>,
    only_deterministic: bool,
}

/// What a request that went on to a provider is to be kept under, and who waits for it.
struct Leading {
    key: Key,
    /// When it went on.
    asked: Instant,
    seat: Option<Seat>,
    tape: Option<Tape>,
}

impl ResponseCache {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            shared: Arc::new(Shared::new(settings)),
            models: settings.models.clone(),
            only_deterministic: settings.only_deterministic,
        }
    }

    /// What the request is looked for by, if it is one to be kept.
    fn asked(&self, request: &Request<'_>, context: &Context<'_>) -> Option<Asked> {
        if request.operation().is_forward() || !self.models.iter().any(|models| models.matches(request.model())) {
            return None;
        }
        let asked = key::read(context.call(), request.body(), request.fields())?;
        (!asked.bound && (asked.deterministic || !self.only_deterministic)).then_some(asked)
    }

    /// It goes to a provider.
    fn missed(&self, key: Key, seat: Option<Seat>, context: &mut Context<'_>) -> Flow {
        self.shared.figures.misses.inc();
        context.add_header(HEADER, "miss");
        context.set(Leading { key, asked: now(), seat, tape: None });
        Flow::Continue
    }
}

/// It is answered with what is kept.
fn answered(kept: &Kept, how: &str, context: &mut Context<'_>) -> Flow {
    context.add_header(HEADER, how);
    if context.is_stream() { Flow::Stream(kept.stream()) } else { Flow::Answer(kept.reply()) }
}

/// Whether a request ended for a reason of its own, which says nothing about another's: its caller's, or one of a plugin
/// behind, which may judge by tags and whatever else makes no difference here. Where nothing was tried there is nothing that
/// would be asked for twice either.
fn is_its_own(error: &Error, outcome: &Outcome, context: &Context<'_>) -> bool {
    outcome.came().is_err_and(|came| came.attempts().is_empty())
        || context.is_cancelled()
        || context.deadline().is_some_and(crate::time::Deadline::passed)
        || matches!(error.code(), Code::ClientClosed | Code::ClientTooSlow)
}

/// The provider that gave an answer, if one did.
fn provider_of(outcome: &Outcome) -> Option<&Served> {
    outcome.served().filter(|served| served.attempts > 0)
}

/// A whole answer as it is kept, if it is one.
fn whole(outcome: &Outcome, operation: &Operation, most: usize) -> Option<Kept> {
    let reply: &Reply = outcome.reply()?;
    let served = provider_of(outcome)?;
    // One that is still at it has the status 200 as well.
    let is_done = *operation != Operation::Responses || {
        let status = outcome.json().and_then(|body| body.get("status"));
        status.is_none_or(|status| status == "completed" || status == "incomplete")
    };
    let fits = reply.body().len() <= most;
    (reply.status() == 200 && is_done && fits).then(|| Kept::whole(reply, served))
}

/// A stream as it is kept, if it is complete and was recorded.
fn streamed(outcome: &Outcome, recording: Option<Recording>) -> Option<(Kept, Recording)> {
    let served = provider_of(outcome)?;
    let mut recording = recording?;
    let kept = Kept::streamed(recording.take_bytes(), served, outcome.usage());
    Some((kept, recording))
}

impl Plugin for ResponseCache {
    fn name(&self) -> &str {
        "response_cache"
    }

    fn http_request(&self, request: &mut HttpRequest<'_>) -> Result<Option<HttpReply>, PluginError> {
        if let Some(wanted) = request.header(HEADER) {
            // What is none of these is refused with the request.
            let wanted = [BYPASS, REFRESH].into_iter().find(|known| *known == wanted).unwrap_or("unknown");
            request.tag(TAG, wanted);
        }
        Ok(None)
    }

    fn pre(&self, request: &mut Request<'_>, context: &mut Context<'_>) -> Result<Flow, PluginError> {
        let wanted = match context.tags().get(TAG) {
            None => None,
            Some(BYPASS) => {
                self.shared.figures.bypassed.inc();
                return Ok(Flow::Continue);
            }
            Some(REFRESH) => Some(REFRESH),
            Some(_) => {
                let text = "what is asked of the cache is neither \"bypass\" nor \"refresh\"";
                return Ok(Flow::Refuse(Error::invalid(HEADER, text)));
            }
        };
        let Some(Asked { key, .. }) = self.asked(request, context) else { return Ok(Flow::Continue) };
        if wanted.is_some() {
            return Ok(self.missed(key, None, context));
        }
        let (seat, words) = match self.shared.look((key, context.priority())) {
            Found::Kept(kept, age) => {
                self.shared.figures.hits.inc();
                context.add_header("age", &age.as_secs().to_string());
                return Ok(answered(&kept, "hit", context));
            }
            Found::Nothing(seat) => return Ok(self.missed(key, seat, context)),
            Found::UnderWay(seat, words) => (seat, words),
        };
        let word = context.wait(&words, MOST_WAIT);
        if matches!(word, Ok(Word::Answer(_) | Word::Failed(_))) {
            self.shared.figures.joined.inc();
        }
        Ok(match word {
            Ok(Word::Answer(kept)) => answered(&kept, "joined", context),
            Ok(Word::Failed(error)) => Flow::Refuse(error.retold()),
            Ok(Word::Lead) => self.missed(key, Some(seat), context),
            // Where nobody cancelled it, the gateway ends.
            Err(NotYet::Cancelled) => {
                Flow::Refuse(cancelled(context.call().cancel.reason().unwrap_or(CancelReason::Shutdown)))
            }
            Err(NotYet::TimedOut) if context.deadline().is_some_and(crate::time::Deadline::passed) => {
                let code = if context.is_stream() { Code::FirstTokenTimeout } else { Code::UpstreamTimeout };
                Flow::Refuse(Error::new(code, "the request's own time limit passed"))
            }
            Ok(Word::Alone) | Err(NotYet::TimedOut | NotYet::Disconnected) => self.missed(key, None, context),
        })
    }

    fn events(&self, context: &mut Context<'_>) -> Option<Box<dyn EventHook>> {
        let leading = context.get_mut::<Leading>()?;
        let tape = Tape::new(Leaf::new(&classes::RESPONSE_TAPE, None));
        leading.tape = Some(Arc::clone(&tape));
        Some(Box::new(Recorder::new(Arc::clone(&self.shared), tape)))
    }

    fn post(&self, outcome: &mut Outcome, context: &mut Context<'_>) -> Result<(), PluginError> {
        let Some(Leading { key, asked, seat, tape }) = context.take::<Leading>() else { return Ok(()) };
        let recording = tape.and_then(|tape| tape.lock().take());
        if let Some(error) = outcome.error() {
            if let Some(seat) = seat
                && !is_its_own(error, outcome, context)
            {
                seat.land(&Word::Failed(Arc::new(error.retold())));
            }
            return Ok(());
        }
        let kept = if outcome.stream().is_some() {
            streamed(outcome, recording).map(|(kept, recording)| (kept, Some(recording)))
        } else {
            whole(outcome, context.operation(), self.shared.max_entry_bytes()).map(|kept| (kept, None))
        };
        match (kept, seat) {
            (Some((kept, recording)), Some(seat)) => seat.land_with(&Arc::new(kept.asked_at(asked)), recording),
            (Some((kept, recording)), None) => self.shared.keep(key, Arc::new(kept.asked_at(asked)), recording),
            (None, Some(seat)) => seat.land(&Word::Alone),
            (None, None) => {}
        }
        Ok(())
    }

    fn stats(&self) -> Option<serde_json::Value> {
        Some(self.shared.stats())
    }
}
