//! Limits for each gateway key: requests and tokens a minute, requests a day, requests at a time.
//!
//! **Protocol.** `pre` takes what a request needs of all its client's limits, or refuses it at once: a client's limit is its
//! own to keep, and nobody waits here. How many tokens it needs is estimated. `post` puts that right: what reached no provider
//! gives everything back, what a provider refused gives its tokens back, and what nobody counted took what was estimated.
//! Read `rate_limit::book` for the sums.
//!
//! **Header lines** tell what is left of requests and tokens in a minute once this request has taken what it needs by estimate.
//! They stand in the place of the provider's own.
//!
//! **Order.** Behind a cache it counts what goes to providers; before it, what clients ask.
//!
//! **Invariants.** I2: what a request has taken is a guard in its context. I6: the lock is a leaf.

mod book;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::used::{Guess, Used};
use super::who::Who;
use crate::config::plugins::{KeyLimits, RateLimit as Settings};
use crate::error::{Code, Error};
use crate::model::Usage;
use crate::plugin::{Context, Flow, HttpResponse, Outcome, Plugin, PluginError, Request};
use crate::sync::locks::{Leaf, classes};
use crate::time::{format_duration, now};
use book::{Book, End, Held, Left, Refusal, Room};

/// The lines that tell a client what is left of its limits, as OpenAI's do, each behind the name under which it goes to the
/// head: a provider may have put its own there.
const LINES: [(&str, &str); 6] = [
    ("x-sluicegate-ratelimit-limit-requests", "x-ratelimit-limit-requests"),
    ("x-sluicegate-ratelimit-remaining-requests", "x-ratelimit-remaining-requests"),
    ("x-sluicegate-ratelimit-reset-requests", "x-ratelimit-reset-requests"),
    ("x-sluicegate-ratelimit-limit-tokens", "x-ratelimit-limit-tokens"),
    ("x-sluicegate-ratelimit-remaining-tokens", "x-ratelimit-remaining-tokens"),
    ("x-sluicegate-ratelimit-reset-tokens", "x-ratelimit-reset-tokens"),
];

/// Limits for each gateway key.
#[derive(Debug)]
pub(crate) struct RateLimit {
    settings: Settings,
    book: Arc<Leaf<Book>>,
}

impl RateLimit {
    pub(crate) fn new(settings: &Settings) -> Self {
        let book = Book::new(settings.default);
        Self { settings: settings.clone(), book: Arc::new(Leaf::new(&classes::RATE_LIMIT, book)) }
    }

    fn limits(&self, who: &Who) -> KeyLimits {
        let own = match who {
            Who::Key(name) => self.settings.keys.iter().find(|(key, _)| key == name),
            _ => None,
        };
        own.map_or(self.settings.default, |(_, limits)| *limits)
    }
}

impl Plugin for RateLimit {
    fn name(&self) -> &str {
        "rate_limit"
    }

    fn pre(&self, request: &mut Request<'_>, context: &mut Context<'_>) -> Result<Flow, PluginError> {
        let who = match Who::client(context) {
            Who::Unkeyed => Who::tagged(context, self.settings.by_tag.as_deref()).unwrap_or(Who::Unkeyed),
            client => client,
        };
        let limits = self.limits(&who);
        if limits == KeyLimits::default() {
            return Ok(Flow::Continue);
        }
        let guess = limits.tokens_per_minute.map(|_| Guess::of(request));
        let now = now();
        let taken = {
            let mut book = self.book.lock();
            let tokens = guess.map_or(0, |guess| {
                let Usage { input, output } = guess.tokens(&book.usual);
                input.saturating_add(output)
            });
            book.take(who, limits, tokens, now)
        };
        let (room, taken) = taken;
        let lines = lines(room);
        Ok(match taken {
            Ok(held) => {
                lines.for_each(|((carrier, _), value)| context.add_header(carrier, &value));
                context.set(Taken { book: Arc::clone(&self.book), held: Some(held) });
                Flow::Continue
            }
            Err((who, refusal)) => {
                let lines = lines.map(|((_, name), value)| (name.to_owned(), value)).collect();
                Flow::Refuse(refused(&who, refusal).with_upstream_headers(lines))
            }
        })
    }

    /// What a provider said of its own limits is not the client's business, where the client has its own.
    fn http_response(&self, response: &mut HttpResponse<'_>) -> Result<(), PluginError> {
        for (carrier, name) in LINES {
            if let Some(value) = response.header(carrier).map(str::to_owned) {
                response.set_header(name, &value);
                response.remove_header(carrier);
            }
        }
        Ok(())
    }

    fn post(&self, outcome: &mut Outcome, context: &mut Context<'_>) -> Result<(), PluginError> {
        if let Some(mut taken) = context.take::<Taken>() {
            taken.end(Used::of(outcome));
        }
        Ok(())
    }

    fn stats(&self) -> Option<Value> {
        let book = self.book.lock();
        let refused: Map<_, _> = book.refused().map(|(what, count)| (what.name().to_owned(), count.into())).collect();
        Some(json!({ "clients": book.known(), "in_flight": book.in_flight(), "refused_total": refused }))
    }
}

/// What a request has taken; dropped, it gives everything back.
#[derive(Debug)]
struct Taken {
    book: Arc<Leaf<Book>>,
    held: Option<Held>,
}

impl Taken {
    fn end(&mut self, used: Used<'_>) {
        let Some(held) = self.held.take() else { return };
        let (end, output) = match used {
            Used::Unsent => (End::Nothing, 0),
            Used::Refused(..) => (End::Took(Some(0)), 0),
            Used::Sent(sent) => match sent.counted {
                Some(usage) => (End::Took(Some(usage.input.saturating_add(usage.output))), usage.output),
                None => (End::Took(None), 0),
            },
        };
        let mut book = self.book.lock();
        book.usual.note(output);
        book.end(held, end, now());
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.end(Used::Unsent);
    }
}

/// What is left of a client's limits, as header lines.
fn lines(room: Room) -> impl Iterator<Item = ((&'static str, &'static str), String)> {
    let of = |left: Option<Left>| {
        left.map(|Left { limit, left, reset }| [limit.to_string(), left.to_string(), format_duration(up_to_ms(reset))])
    };
    let values = [of(room.requests), of(room.tokens)];
    values
        .into_iter()
        .zip(LINES.as_chunks::<3>().0)
        .flat_map(|(values, names)| values.into_iter().flat_map(|values| names.iter().copied().zip(values)))
}

/// To the next millisecond, so that whoever comes back then finds room.
fn up_to_ms(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

/// The error of a request that is over a limit.
fn refused(who: &Who, refusal: Refusal) -> Error {
    let Refusal { what, limit, after } = refusal;
    let name = what.name();
    let Some(after) = after else {
        let text = format!("{name} of {who} is {limit}, and as many are under way");
        return Error::new(Code::RateLimited, text);
    };
    let after = up_to_ms(after);
    let text = format!("{name} of {who} is {limit}; the request could go in {}", format_duration(after));
    Error::new(Code::RateLimited, text).with_retry_after(after)
}
