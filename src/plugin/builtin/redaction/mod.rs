//! Secrets and personal data taken out of what goes to providers, and out of what models say.
//!
//! **Protocol.** `pre` looks at every text of the body that is somebody's words and puts a placeholder in the place of what
//! it finds; what was there stays with the request and goes nowhere. In the answer each placeholder that the model repeats
//! becomes what it stood for, in a whole answer by `post` and in a stream event by event, where a placeholder may come in
//! pieces. If answers are redacted, what the model itself says is looked at before that. Standing last among the plugins it
//! hides what it takes out from providers alone; those before it, a cache or a log, see what the caller wrote.
//!
//! **Invariants.** A request that it fails in goes nowhere. Nothing that it found is logged, counted by its text or shown
//! (I10). What it holds back of a stream is bounded (I4). Time is linear in what it looks at.
//!
//! What is forwarded unread is looked at on its way to the provider if it is JSON; answers to it are not. Read `detect` for
//! what is found, `words` for where it is looked for, `text` and `placeholders` for how it is replaced, `stream` for events.

mod detect;
mod numbers;
mod placeholders;
mod stream;
#[cfg(test)]
mod tests;
mod text;
mod words;

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::config::plugins::{Answers, Redaction as Settings, Unreadable};
use crate::error::{Code, Error};
use crate::metrics::Counter;
use crate::model::Operation;
use crate::plugin::{Context, EventHook, Flow, OnFailure, Outcome, Plugin, PluginError, Request};
use detect::Detector;
use placeholders::{Given, Originals, Restorer, placeholder};
use text::{Flavour, Window};
use words::Place;

/// Secrets and personal data taken out.
#[derive(Debug)]
pub(crate) struct Redaction(Arc<Rules>);

/// What is done, and how often it was done.
#[derive(Debug)]
struct Rules {
    detector: Detector,
    restore: bool,
    answers: Answers,
    unreadable: Unreadable,
    /// Of each kind, what was taken out of requests and out of answers.
    taken: Vec<(Counter, Counter)>,
    restored: Counter,
    unread: Counter,
}

impl Redaction {
    /// # Errors
    /// If a pattern cannot be compiled; the configuration has tried each.
    pub(crate) fn new(settings: &Settings) -> Result<Self, PluginError> {
        let detector = Detector::new(settings)?;
        Ok(Self(Arc::new(Rules {
            taken: detector.kinds().iter().map(|_| Default::default()).collect(),
            detector,
            restore: settings.restore,
            answers: settings.answers,
            unreadable: settings.unreadable,
            restored: Counter::new(),
            unread: Counter::new(),
        })))
    }
}

/// What a look at a body comes to.
enum Look {
    /// There is nothing to be taken out.
    Clean,
    /// There is; placeholders that stand there already are kept out.
    Found(Given),
    /// It is no JSON.
    Unreadable,
}

impl Rules {
    fn look_at(&self, body: &[u8]) -> Look {
        let (mut given, mut found) = (Given::default(), false);
        let looked = words::look_at(body, |text, flavour| {
            given.keep_out(text);
            found = found || text::holds_any(&self.detector, text, flavour);
        });
        match looked {
            Err(_) => Look::Unreadable,
            Ok(()) if found => Look::Found(given),
            Ok(()) => Look::Clean,
        }
    }

    /// Puts placeholders into a request.
    fn redact(&self, body: &mut Value, mut given: Given) -> Originals {
        words::change(body, Place::Api, &mut |text, flavour| {
            let mut rename = |kind: usize, found: &str| {
                self.taken[kind].0.inc();
                given.give(kind, &self.detector.kinds()[kind], found)
            };
            Some(text::renamed(&self.detector, text, flavour, &mut rename))
        });
        given.into_originals()
    }

    /// What stands for something that a model said.
    fn said(&self, kind: usize) -> String {
        self.taken[kind].1.inc();
        placeholder(&self.detector.kinds()[kind], None)
    }

    /// Whether anything of an answer's text would be changed.
    fn concerns(&self, originals: &Originals, text: &str, flavour: Flavour) -> bool {
        originals.stand_in(text) || (self.answers == Answers::Redact && text::holds_any(&self.detector, text, flavour))
    }

    /// Does with an answer, or a part of it that is whole, what is to be done.
    fn give_back(&self, value: &mut Value, place: Place, originals: &Originals) {
        if self.answers == Answers::Redact {
            forget_tokens(value);
        }
        words::change(value, place, &mut |text, flavour| {
            let concerned = self.concerns(originals, text, flavour);
            concerned.then(|| Voice::new(self, flavour).say(self, originals, text, true))
        });
    }
}

/// Takes the single tokens of an answer away: they would say in pieces what was taken out of it.
fn forget_tokens(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| match key.as_str() {
            "logprobs" => *value = Value::Null,
            _ => forget_tokens(value),
        }),
        Value::Array(items) => items.iter_mut().for_each(forget_tokens),
        _ => {}
    }
}

/// One text of an answer, as it comes: what the model says is looked at, and then what was taken out of the request is put
/// back.
struct Voice {
    window: Option<Window>,
    restorer: Restorer,
}

impl Voice {
    fn new(rules: &Rules, flavour: Flavour) -> Self {
        let window = (rules.answers == Answers::Redact).then(|| Window::new(flavour));
        Self { window, restorer: Restorer::new(flavour) }
    }

    /// Takes `text` in, and gives what can be said now: everything, if it is the last.
    fn say(&mut self, rules: &Rules, originals: &Originals, text: &str, last: bool) -> String {
        let mut out = String::with_capacity(text.len());
        let mut redacted = String::new();
        let text = match &mut self.window {
            Some(window) => {
                window.take(&rules.detector, text, last, &mut |kind, _| rules.said(kind), &mut redacted);
                &*redacted
            }
            None => text,
        };
        rules.restored.add(self.restorer.take(originals, text, last, &mut out));
        out
    }
}

impl Plugin for Redaction {
    fn name(&self) -> &str {
        "redaction"
    }

    fn pre(&self, request: &mut Request<'_>, context: &mut Context<'_>) -> Result<Flow, PluginError> {
        let rules = &*self.0;
        // What is fetched or deleted has no body.
        if request.body().is_empty() {
            return Ok(Flow::Continue);
        }
        match rules.look_at(request.body()) {
            Look::Clean => {}
            Look::Found(given) => {
                let body = request.json_mut().ok_or("a body that was read cannot be read again")?;
                context.set(Arc::new(rules.redact(body, given)));
            }
            Look::Unreadable => {
                rules.unread.inc();
                // What was taken for JSON before is words, though it cannot be read here: half a surrogate pair, say.
                if rules.unreadable == Unreadable::Refuse || !request.operation().is_forward() {
                    let text = "the body is no JSON, so that nothing can be taken out of it (redaction.unreadable)";
                    return Ok(Flow::Refuse(Error::new(Code::Unsupported, text)));
                }
            }
        }
        Ok(Flow::Continue)
    }

    fn post(&self, outcome: &mut Outcome, context: &mut Context<'_>) -> Result<(), PluginError> {
        let rules = &*self.0;
        let Some(originals) = self.concerned(context) else { return Ok(()) };
        // Vectors are no words.
        let Some(reply) = outcome.reply().filter(|_| *context.operation() != Operation::Embeddings) else {
            return Ok(());
        };
        let tells_tokens = || memchr::memmem::find(reply.body(), b"\"logprobs\"").is_some();
        let mut changes = rules.answers == Answers::Redact && tells_tokens();
        words::look_at(reply.body(), |text, flavour| changes |= rules.concerns(&originals, text, flavour))?;
        if changes {
            let body = outcome.json_mut().ok_or("an answer that was read cannot be read again")?;
            rules.give_back(body, Place::Api, &originals);
        }
        Ok(())
    }

    fn events(&self, context: &mut Context<'_>) -> Option<Box<dyn EventHook>> {
        let originals = self.concerned(context)?;
        Some(Box::new(stream::Hook::new(Arc::clone(&self.0), originals)))
    }

    fn on_failure(&self) -> OnFailure {
        OnFailure::Refuse
    }

    fn stats(&self) -> Option<Value> {
        let rules = &*self.0;
        let of = |side: fn(&(Counter, Counter)) -> u64| -> Map<String, Value> {
            rules.detector.kinds().iter().cloned().zip(rules.taken.iter().map(|both| side(both).into())).collect()
        };
        Some(json!({
            "requests": of(|(requests, _)| requests.get()),
            "answers": of(|(_, answers)| answers.get()),
            "restored_total": rules.restored,
            "unreadable_total": rules.unread,
        }))
    }
}

impl Redaction {
    /// What was taken out of a request, if its answer has to be looked at.
    fn concerned(&self, context: &Context<'_>) -> Option<Arc<Originals>> {
        let rules = &*self.0;
        let originals = context.get::<Arc<Originals>>().filter(|_| rules.restore).cloned().unwrap_or_default();
        let is_concerned = !originals.is_empty() || rules.answers == Answers::Redact;
        (is_concerned && !context.operation().is_forward()).then_some(originals)
    }
}
