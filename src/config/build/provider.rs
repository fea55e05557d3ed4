//! A provider as a program writes it.

use std::fmt;
use std::time::Duration;

use super::super::provider::{KINDS, word_of};
use super::super::types::{Kind, Policy, StreamGarbage, StreamRecovery};
use super::parts::{BreakerSetup, KeySetup, RateLimitSetup, ScalingSetup};
use super::{Draft, Said, setters};
use crate::secret::Secret;

/// A provider, of which everything that is not set has its default.
///
/// ```
/// # use std::time::Duration;
/// use sluicegate::{Concurrency, Gateway, Policy, ProviderSetup};
///
/// let gateway = Gateway::builder()
///     .provider(
///         ProviderSetup::sim("sim")
///             .concurrency(Concurrency::between(2, 8))
///             .buffer_size(100)
///             .policy(Policy::Error)
///             .wait_timeout(Duration::from_secs(2))
///             .request_timeout(Duration::from_secs(30))
///             .max_retries(1),
///     )
///     .provider(ProviderSetup::openai_compatible("local", "http://127.0.0.1:11434").health_interval(Duration::ZERO))
///     .build()?;
/// assert_eq!(gateway.ask("sim/echo", "Hello")?, "Hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct ProviderSetup {
    name: String,
    draft: Draft,
    model_limits: Vec<(String, RateLimitSetup)>,
}

impl ProviderSetup {
    /// A provider that is known by its name, such as `openai`, `anthropic`, `groq` or `ollama`: its address is built in, and
    /// without a [`key`](Self::key) its usual variable of the environment has it, such as `OPENAI_API_KEY`.
    #[must_use]
    pub fn known(name: impl Into<String>) -> Self {
        Self { name: name.into(), draft: Draft::default(), model_limits: Vec::new() }
    }

    /// A provider that speaks OpenAI's protocol at `base_url`, with or without `/v1` at its end. Plain `http`, localhost and
    /// private addresses are taken if they stand here.
    #[must_use]
    pub fn openai_compatible(name: impl Into<String>, base_url: &str) -> Self {
        Self::at(name, Kind::OpenAi, base_url)
    }

    /// The same of one that speaks Anthropic's protocol. Chats are translated on their way there and back.
    #[must_use]
    pub fn anthropic_compatible(name: impl Into<String>, base_url: &str) -> Self {
        Self::at(name, Kind::Anthropic, base_url)
    }

    /// The provider that is simulated in this process, for trying things out. The name of its model is what it does: words,
    /// joined with `+`, as in `sim/lorem-100+gap-10ms`. `D` stands for a time as `250ms` or `2s`, `N` for a number.
    ///
    /// | words | what it does |
    /// | --- | --- |
    /// | `echo`, `lorem-N`, `json` | repeats the last user message; says `N` tokens; says a JSON object |
    /// | `tool` | calls the first tool offered; a tool's result it repeats as text |
    /// | `slow-D`, `ttft-D`, `gap-D` | waits before the first byte; between the head and the first token; between tokens |
    /// | `fail-STATUS`, `fail-STATUS-once` | answers with this status; to the first call under this name alone |
    /// | `fail-429-after-D` | the same once, with `Retry-After` |
    /// | `flaky-P` | `P` percent of the calls end with 503, chosen by the body |
    /// | `hang`, `reset`, `reset-once` | never answers; resets the connection |
    /// | `cut-N`, `stall-N` | the connection dies after `N` tokens; falls silent after them |
    /// | `garbage-N`, `no-done` | the `N`th event is no JSON; a stream without `[DONE]` |
    /// | `error-in-200`, `down-D` | an error in a good answer; 503 for so long from the name's first use |
    #[must_use]
    pub fn sim(name: impl Into<String>) -> Self {
        Self::of(name, Kind::Sim)
    }

    /// The provider that the program itself is: its answers are given by what
    /// [`custom_provider`](crate::gateway::Builder::custom_provider) registers under this name.
    #[must_use]
    pub fn custom(name: impl Into<String>) -> Self {
        Self::of(name, Kind::Custom)
    }

    fn at(name: impl Into<String>, kind: Kind, base_url: &str) -> Self {
        let mut provider = Self::of(name, kind);
        provider.draft.set(&["network_config", "base_url"], base_url);
        provider
    }

    fn of(name: impl Into<String>, kind: Kind) -> Self {
        let mut provider = Self::known(name);
        provider.draft.set(&["kind"], word_of(KINDS, kind));
        provider
    }

    /// A key that is sent, beside those named before. By default none, or the well-known variable's. At most 256.
    #[must_use]
    pub fn key(mut self, key: KeySetup) -> Self {
        self.draft.push(&["keys"], key);
        self
    }

    /// How many workers it has, which is how many requests run there at once: up to 64 by default, at least 10.
    #[must_use]
    pub fn concurrency(mut self, concurrency: Concurrency) -> Self {
        let (most, fewest) = match concurrency.0 {
            Size::Auto => ("auto".said(), None),
            Size::UpTo(most) => (most.said(), None),
            Size::Between(fewest, most) => (most.said(), Some(fewest)),
        };
        self.draft.set(&["concurrency_and_buffer_size", "concurrency"], most);
        if let Some(fewest) = fewest {
            self.draft.set(&["concurrency_and_buffer_size", "min_concurrency"], fewest);
        }
        self
    }

    /// What one of its models may be asked for in a minute, beside [`rate_limit`](Self::rate_limit) for all of it.
    #[must_use]
    pub fn model_rate_limit(mut self, model: impl Into<String>, limit: RateLimitSetup) -> Self {
        self.model_limits.push((model.into(), limit));
        self
    }

    /// The ceilings of the pause before the first retry and before every later one, of which each draws its share: 500 ms and
    /// 5 s by default, up to a day.
    #[must_use]
    pub fn retry_backoff(mut self, initial: Duration, max: Duration) -> Self {
        self.draft.set(&["network_config", "retry_backoff_initial"], initial);
        self.draft.set(&["network_config", "retry_backoff_max"], max);
        self
    }

    /// A header of every request; its value counts as a secret.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Secret>) -> Self {
        self.draft.set(&["network_config", "extra_headers", name], &value.into());
        self
    }

    /// Certificates in PEM that are trusted beside the usual ones.
    #[must_use]
    pub fn ca_cert_pem(mut self, pem: &str) -> Self {
        self.draft.set(&["network_config", "ca_cert_pem"], pem);
        self
    }

    /// Its name and what a document has of it.
    pub(crate) fn into_parts(self) -> (String, impl Said) {
        let Self { name, mut draft, model_limits } = self;
        // Behind the limit for all of it, whichever was said first.
        for (model, limit) in model_limits {
            draft.set(&["rate_limit", "models", &model], limit);
        }
        (name, draft)
    }
}

setters! { ProviderSetup:
    /// How many requests may wait for a worker: 500 by default, 1 to 10⁶.
    buffer_size(usize) => "concurrency_and_buffer_size"."buffer_size";
    /// How many events of a stream are held for a caller who does not take them: 256 by default, 1 to 65,536.
    result_buffer(usize) => "concurrency_and_buffer_size"."result_buffer";
    /// What becomes of a request that finds no place: it waits for one by default.
    policy(Policy) => "queue"."policy";
    /// How long a request may wait in all for a place and a worker: 5 s by default, 1 ms to 10 min.
    wait_timeout(Duration) => "queue"."wait_timeout";
    /// The share of the workers that batch requests get while interactive ones wait: 0.125 by default, 0 to 1.
    batch_share(f64) => "queue"."batch_share";
    /// When workers are added and removed.
    scaling(ScalingSetup) => "scaling";
    /// Bounds an attempt that is not streamed, and a stream up to its first event: 120 s by default, 10 ms to a day.
    request_timeout(Duration) => "network_config"."default_request_timeout_in_seconds";
    /// Bounds connecting: 5 s by default, 1 ms to a day.
    connect_timeout(Duration) => "network_config"."connect_timeout";
    /// Bounds a stream's wait for its first event: 60 s by default, 1 ms to a day.
    first_token_timeout(Duration) => "network_config"."first_token_timeout";
    /// Bounds the silence within a stream: 60 s by default, 1 ms to a day.
    stream_idle_timeout(Duration) => "network_config"."stream_idle_timeout_in_seconds";
    /// Bounds a stream whole: 30 min by default, 1 ms to a day.
    stream_max_duration(Duration) => "network_config"."stream_max_duration";
    /// How long a connection is kept for the next request: 30 s by default, 1 ms to a day.
    idle_connection_timeout(Duration) => "network_config"."idle_connection_timeout";
    /// Tries after the first: 2 by default, up to 100.
    max_retries(usize) => "network_config"."max_retries";
    /// The longest `Retry-After` that is waited for before the next target is tried: 10 s by default, up to a day.
    retry_after_patience(Duration) => "network_config"."retry_after_patience";
    /// When it is given a rest.
    breaker(BreakerSetup) => "breaker";
    /// Whether the gateway's start waits, for two seconds at most, for a look whether it is there: yes by default.
    check_on_start(bool) => "health"."on_start";
    /// How often it is looked whether it is there while no call shows it: 30 s by default, up to a day; zero is never.
    health_interval(Duration) => "health"."interval";
    /// What it may be asked for in a minute: no limit by default.
    rate_limit(RateLimitSetup) => "rate_limit";
    /// For [`Concurrency::auto`]: how many requests a second it takes, up to 10⁶. By default what its answers say.
    expected_rate(f64) => "optimization"."rate_limit";
    /// For [`Concurrency::auto`]: how long an answer takes, up to a day. By default what is observed.
    expected_latency(Duration) => "optimization"."avg_latency";
    /// For [`Concurrency::auto`]: the share of requests that fail, 0 to 1. By default what is observed.
    expected_error_rate(f64) => "optimization"."error_rate";
    /// Whether a stream is held until its end was seen, so that one that fails is tried again unseen: not by default.
    stream_recovery(StreamRecovery) => "stream_recovery";
    /// What becomes of a stream's event that is no JSON: it is left out by default.
    stream_garbage(StreamGarbage) => "stream_garbage";
    /// Whether a stream is kept alive by comments before its first event, which commits the status 200: not by default.
    early_keepalive(bool) => "early_keepalive";
}

impl fmt::Debug for ProviderSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderSetup").field("name", &self.name).field("sets", &self.draft).finish()
    }
}

/// How many workers a provider has.
///
/// ```
/// use sluicegate::Concurrency;
///
/// assert_eq!(Concurrency::between(2, 8), Concurrency::between(8, 2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency(Size);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Auto,
    UpTo(usize),
    Between(usize, usize),
}

impl Concurrency {
    /// Always so many, at least one.
    #[must_use]
    pub fn fixed(workers: usize) -> Self {
        Self(Size::Between(workers, workers))
    }

    /// Between the smaller of the two, which is what it starts with and at least one, and the larger, by load.
    #[must_use]
    pub fn between(one: usize, other: usize) -> Self {
        Self(Size::Between(one.min(other), one.max(other)))
    }

    /// Up to so many by load, and at least 10 of them.
    #[must_use]
    pub fn up_to(most: usize) -> Self {
        Self(Size::UpTo(most))
    }

    /// As many as the provider-optimization formula comes to by what is observed and what
    /// [`expected_rate`](ProviderSetup::expected_rate) and the like say.
    #[must_use]
    pub fn auto() -> Self {
        Self(Size::Auto)
    }
}
