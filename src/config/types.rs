//! The resolved configuration: every value in force, in types that cannot be wrong.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::origin::Origin;
use super::range::AddressRange;
use super::scope::Scope;
use super::tls::Tls;
use crate::recycle;
use crate::secret::{Digest, REDACTED, Secret};
use crate::sync::LockTimes;
use crate::time::Backoff;

/// The gateway's listeners and their limits.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Server {
    /// Where the data plane listens.
    pub listen: SocketAddr,
    /// Where the admin plane listens.
    pub admin: SocketAddr,
    /// What the admin plane asks for; always there if it listens beyond loopback.
    pub admin_key: Option<Secret>,
    /// The clients that are let in; everybody if there are none.
    pub keys: Vec<GatewayKey>,
    /// The most connections at once.
    pub max_connections: usize,
    /// The most requests of the data plane under way at once; derived from threads and memory if none.
    pub max_in_flight: Option<usize>,
    /// The most bytes held at once: bodies of requests, library calls among them, and answers that are not streamed.
    pub max_buffered_bytes: usize,
    /// The longest body.
    pub max_body_bytes: usize,
    /// The longest head.
    pub max_header_bytes: usize,
    /// How long a head may take to come.
    pub header_timeout: Duration,
    /// How long a body may take to come.
    pub body_timeout: Duration,
    /// How long a connection may lie idle.
    pub idle_timeout: Duration,
    /// How long a client may hold up writing to it, summed over an answer.
    pub write_timeout: Duration,
    /// How long requests under way are waited for at the end.
    pub shutdown_timeout: Duration,
    /// Whose word on the client's address is taken.
    pub trusted_proxies: Vec<AddressRange>,
    /// Whose pages a browser lets read answers.
    pub cors_origins: Vec<Origin>,
    /// TLS on the data plane; plain HTTP without it.
    pub tls: Option<Tls>,
}

/// A client that is let in.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GatewayKey {
    /// Names it in logs, and to plugins.
    pub name: Arc<str>,
    /// What the key that it sends must hash to.
    #[doc(hidden)]
    pub digest: Digest,
    /// Which models it may use.
    pub scope: Scope,
}

/// What goes for every provider.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Client {
    /// Whether policy `drop` stands wherever none is set.
    pub drop_excess_requests: bool,
    /// How many objects the pools make beforehand.
    pub initial_pool_size: usize,
}

/// Limits of the threads.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ThreadLimits {
    /// The most threads at once; derived from the machine's limits if none.
    pub max: Option<usize>,
    /// Each thread's stack, in bytes.
    pub stack_bytes: usize,
    /// How long a connection's thread waits for another connection before it ends.
    pub idle_timeout: Duration,
    /// How often threads are looked after.
    pub health_interval: Duration,
}

/// The object pools.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pools {
    /// Where a waiter hears of its attempt's end.
    pub reply_channel: recycle::Limits,
    /// The shells of jobs.
    pub job: recycle::Limits,
    /// Whole answers' bodies.
    pub response: recycle::Limits,
    /// Requests' bodies, and what streams are read with.
    pub buffer: recycle::Limits,
}

impl Pools {
    /// The same `limits` for each of them.
    #[must_use]
    #[doc(hidden)]
    pub fn alike(limits: recycle::Limits) -> Self {
        Self { reply_channel: limits, job: limits, response: limits, buffer: limits }
    }
}

/// How long locks are waited for, and how often deadlocks are looked for.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Locks {
    /// How long a ranked lock is waited for; the default is never more than the most.
    pub times: LockTimes,
    /// How often deadlocks are looked for.
    pub detect_interval: Duration,
}

/// How a provider is spoken to.
///
/// ```
/// use sluicegate::config::Kind;
/// use sluicegate::{Gateway, ProviderSetup};
///
/// let gateway = Gateway::builder().provider(ProviderSetup::sim("try")).build()?;
/// let leaves = gateway.config().providers.iter().any(|provider| provider.kind == Kind::OpenAi);
/// assert!(!leaves, "nothing leaves this machine");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// OpenAI's protocol.
    OpenAi,
    /// Anthropic's protocol.
    Anthropic,
    /// Amazon Bedrock's runtime.
    #[cfg(feature = "bedrock")]
    Bedrock,
    /// The simulated provider, which speaks OpenAI's and Anthropic's on a socket of this machine.
    Sim,
    /// A provider that the program itself is.
    Custom,
}

/// The header that carries a provider's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub struct KeyHeader {
    /// Its name, in lower case.
    pub name: &'static str,
    /// What stands before the key.
    pub scheme: &'static str,
}

impl KeyHeader {
    /// `Authorization: Bearer`.
    pub(super) const BEARER: Self = Self { name: "authorization", scheme: "Bearer " };

    /// The key alone, under this name.
    pub(super) const fn plain(name: &'static str) -> Self {
        Self { name, scheme: "" }
    }

    /// What carries the keys of a provider of this kind that is not known by its name.
    pub(super) const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Anthropic => Self::plain("x-api-key"),
            _ => Self::BEARER,
        }
    }

    /// The header's value for `key`.
    #[must_use]
    pub fn value(&self, key: &Secret) -> Secret {
        Secret::new(format!("{}{}", self.scheme, key.expose()))
    }
}

/// What a provider of OpenAI's shape has beside chats, as far as is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offer {
    /// `/completions`.
    pub completions: Has,
    /// `/embeddings`.
    pub embeddings: Has,
    /// `/responses`.
    pub responses: Has,
    /// What stands between the base URL and `/chat/completions`, where it is not [`Network::api_prefix`].
    pub chat_prefix: Option<&'static str>,
    /// Whether the tokens of a stream have to be asked for; else it refuses to be asked, and says them unasked.
    pub stream_usage: bool,
}

impl Offer {
    /// Of one of whom nothing is known.
    pub(super) const UNSAID: Self = Self {
        completions: Has::Unsaid,
        embeddings: Has::Unsaid,
        responses: Has::Unsaid,
        chat_prefix: None,
        stream_usage: true,
    };
}

/// Whether a provider has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Has {
    /// Its documentation says so.
    Yes,
    /// Its documentation says that it has not: nothing is sent there.
    No,
    /// It has what its answer says.
    Unsaid,
}

/// What becomes of a job that finds no place.
///
/// ```
/// use sluicegate::{Gateway, Policy, ProviderSetup};
///
/// let gateway = Gateway::builder().provider(ProviderSetup::sim("sim").policy(Policy::DropOldest)).build()?;
/// assert_eq!(gateway.ask("sim/echo", "Hello")?, "Hello");
/// let queue = &gateway.stats().providers["sim"].queue;
/// assert_eq!((queue.policy, queue.dropped_total), (Policy::DropOldest.as_str(), 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// It waits for one.
    Block,
    /// It is refused: `queue_full`.
    Error,
    /// It is shed: `request_dropped`.
    Drop,
    /// The job that has waited longest is shed, and it gets that one's place.
    DropOldest,
}

impl Policy {
    /// The policy's name, as in the configuration and in `/stats`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Error => "error",
            Self::Drop => "drop",
            Self::DropOldest => "drop_oldest",
        }
    }
}

/// What becomes of a stream that fails before its end.
///
/// ```
/// use sluicegate::{CallOptions, ChatRequest, Gateway, ProviderSetup, StreamRecovery};
///
/// let gateway = Gateway::builder().provider(ProviderSetup::sim("sim").max_retries(0)).build()?;
/// let options = CallOptions::new().fallbacks(["sim/echo"]).stream_recovery(StreamRecovery::Buffer);
/// // The connection breaks after two tokens, of which the caller sees none.
/// let stream = gateway.with(options).chat_stream(&ChatRequest::new("sim/lorem-100+cut-2", "Hello"))?;
/// assert_eq!(stream.collect_reply()?.text(), "Hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamRecovery {
    /// Each event reaches the client as it comes, and what fails then fails before the client's eyes.
    Off,
    /// Nothing reaches the client before the end was seen: what fails until then is tried again, unseen.
    Buffer,
}

/// What becomes of a stream's event that is no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamGarbage {
    /// It is left out, counted, and a comment says so.
    Skip,
    /// It ends the stream.
    Fail,
}

/// One provider.
///
/// ```
/// use sluicegate::{Gateway, KeySetup, ProviderSetup};
///
/// let local = ProviderSetup::openai_compatible("local", "http://127.0.0.1:9000").key(KeySetup::new("sk-0000"));
/// let config = Gateway::builder().provider(local).into_config()?;
/// let provider = &config.providers[0];
/// assert_eq!((provider.network.base_url.as_str(), provider.buffer_size), ("http://127.0.0.1:9000", 500));
///
/// // What a log of the program's own must not show.
/// let hide = |line: &str| provider.secrets().fold(line.to_owned(), |line, secret| line.replace(secret.expose(), "…"));
/// assert_eq!(hide("sent with sk-0000"), "sent with …");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Provider {
    /// Its name: the left part of `provider/model`.
    pub name: String,
    /// How it is spoken to.
    pub kind: Kind,
    /// The keys that are sent, by turns; none for a provider that asks for none.
    pub keys: Vec<Key>,
    /// What carries them.
    #[doc(hidden)]
    pub key_header: KeyHeader,
    /// The models that it is known to have, if it is one known by name.
    pub models: &'static [&'static str],
    /// Which routes it has, as far as is known of its name.
    pub offer: Offer,
    /// Names by which its models are asked for, each with what the provider calls it: deployments of Azure's.
    pub deployments: Vec<(String, String)>,
    /// Where it lives, and the limits of talking to it.
    pub network: Network,
    /// The region of AWS's that it is in and that requests are signed for, if it is Bedrock.
    pub region: Option<String>,
    /// The most workers it has; with [`Sizing::Auto`] what it begins with, until something is known of it.
    pub concurrency: usize,
    /// The fewest workers it has, which is what it starts with.
    pub min_concurrency: usize,
    /// How many jobs may wait; what holds for `concurrency` holds for it where it is sized, too.
    pub buffer_size: usize,
    /// Who says how many workers there may be.
    pub sizing: Sizing,
    /// When workers are added and removed.
    pub scaling: Scaling,
    /// What the provider is like, as far as its operator knows.
    pub optimization: Optimization,
    /// What it may be asked for in a minute.
    pub rate_limit: RateLimits,
    /// How many events are held for a caller that does not take them.
    pub result_buffer: usize,
    /// How jobs wait.
    pub queue: Queue,
    /// When it is given a rest.
    pub breaker: Breaker,
    /// When it is looked whether it is there.
    pub health: Health,
    /// What becomes of a stream that fails before its end, where the request does not say.
    pub stream_recovery: StreamRecovery,
    /// What becomes of a stream's event that is no JSON.
    pub stream_garbage: StreamGarbage,
    /// Whether a stream is kept alive by comments before its first event, which commits the status 200.
    pub early_keepalive: bool,
    pub(super) effective: Value,
}

/// Who says how many workers a provider may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sizing {
    /// The configuration.
    Given,
    /// The provider-optimization formula, at most `most` workers.
    Auto {
        /// The most workers that it may come to.
        most: usize,
        /// Whether it sizes the buffer, too: the configuration says nothing of it.
        buffer: bool,
    },
}

/// When workers are added and removed: the concurrency page's thresholds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Scaling {
    /// Whether they are at all; else there are as many as there may be, always.
    pub enabled: bool,
    /// Above this share of the queue, or of the workers' time, workers are added.
    pub up_threshold: f64,
    /// Below this share of both, workers are removed.
    pub down_threshold: f64,
    /// What their number is multiplied by when some are added.
    pub up_factor: f64,
    /// What their number is multiplied by when some are removed.
    pub down_factor: f64,
    /// The least time between two changes; growth on demand does not wait for it.
    pub min_interval: Duration,
    /// While work waits, workers are removed only if answers take less than this.
    pub target_response: Duration,
    /// While work waits, workers are added if answers take more than this.
    pub max_response: Duration,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            enabled: true,
            up_threshold: 0.8,
            down_threshold: 0.3,
            up_factor: 1.5,
            down_factor: 0.75,
            min_interval: Duration::from_secs(1),
            target_response: Duration::from_secs(2),
            max_response: Duration::from_secs(10),
        }
    }
}

/// When a provider or a model of its is given a rest, and how it comes back.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Breaker {
    /// Whether calls are counted at all.
    pub enabled: bool,
    /// The share of failed calls in the window that opens a circuit; 0 for none.
    pub failure_ratio: f64,
    /// The fewest calls in the window by which a share is judged.
    pub min_requests: u32,
    /// What counts for shares: the calls of so long.
    pub window: Duration,
    /// So many failed calls one after the other open a circuit; 0 for none.
    pub consecutive_failures: u32,
    /// How long a circuit is open.
    pub open_for: Duration,
    /// How many calls may try a half-open circuit at a time, and how many must go well to close it.
    pub half_open_probes: u32,
    /// A call that takes longer is slow, a stream if its first event does; none for no such thing.
    pub slow_after: Option<Duration>,
    /// The share of slow calls in the window that opens a circuit.
    pub slow_ratio: f64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            enabled: true,
            failure_ratio: 0.5,
            min_requests: 10,
            window: Duration::from_secs(30),
            consecutive_failures: 5,
            open_for: Duration::from_secs(10),
            half_open_probes: 1,
            slow_after: None,
            slow_ratio: 0.5,
        }
    }
}

/// When it is looked whether a provider is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether the gateway's start waits for a look.
    pub on_start: bool,
    /// How often; never if it is zero.
    pub interval: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self { on_start: true, interval: Duration::from_secs(30) }
    }
}

/// What a provider is like: what the provider-optimization formula is made of. None stands for not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Optimization {
    /// Requests a second that it takes.
    pub rate_limit: Option<f64>,
    /// How long an answer takes on average.
    pub avg_latency: Option<Duration>,
    /// The share of requests that fail, 0 to 1.
    pub error_rate: Option<f64>,
}

/// When a failed attempt is made again on the same target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retries {
    /// Tries after the first; 2 by default.
    pub most: u32,
    /// The pause before each.
    pub backoff: Backoff,
    /// The longest `Retry-After` that is waited for; past it the next target is tried at once.
    pub patience: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        let backoff = Backoff { initial: Duration::from_millis(500), max: Duration::from_secs(5) };
        Self { most: 2, backoff, patience: Duration::from_secs(10) }
    }
}

/// What may be asked for in a minute; none stands for no limit.
///
/// ```
/// use sluicegate::config::RateLimit;
/// use sluicegate::{Gateway, ProviderSetup, RateLimitSetup};
///
/// let sim = ProviderSetup::sim("sim").rate_limit(RateLimitSetup::default().requests_per_minute(600));
/// let limits = Gateway::builder().provider(sim).into_config()?.providers[0].rate_limit.clone();
/// assert_eq!(limits.all, RateLimit { requests_per_minute: Some(600), tokens_per_minute: None });
/// assert!(!limits.all.is_none() && RateLimit::default().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// Attempts.
    pub requests_per_minute: Option<u64>,
    /// Tokens of requests and answers together.
    pub tokens_per_minute: Option<u64>,
}

impl RateLimit {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A provider's limits: for all that goes there, and for some of its models beside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimits {
    /// For all of it.
    pub all: RateLimit,
    /// For models, by the provider's own names.
    pub models: Vec<(String, RateLimit)>,
}

/// A provider's key.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Key {
    /// Names it in logs and `/stats`.
    pub name: String,
    /// What is sent; of a key that signs, the key that it signs with, which never is.
    pub value: Secret,
    /// What a key has beside it that signs, as AWS's do.
    pub aws: Option<AwsKey>,
    /// What it may be used for in a minute.
    pub rate_limit: RateLimit,
    /// Its share among the keys of a model. One without a share gets nothing as long as another has one.
    pub weight: f64,
    /// The models that it is for.
    pub models: KeyModels,
}

/// What a key of AWS's has beside the secret one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AwsKey {
    /// The name of the key; who knows it can do nothing with it, but it is nobody's business either.
    pub access_key: Secret,
    /// What temporary keys carry.
    pub session_token: Option<Secret>,
}

/// Which models a provider's key is for.
///
/// ```
/// use sluicegate::{Gateway, KeySetup, ProviderSetup};
///
/// let key = KeySetup::new("sk-0000").models(["gpt-4o", "gpt-4o-mini"]);
/// let local = ProviderSetup::openai_compatible("local", "http://127.0.0.1:9000").key(key);
/// let config = Gateway::builder().provider(local).into_config()?;
/// let models = &config.providers[0].keys[0].models;
/// assert!(models.has("gpt-4o") && !models.has("o3"));
/// assert_eq!(models.named(), ["gpt-4o", "gpt-4o-mini"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyModels {
    /// Any.
    Any,
    /// These, by the provider's own names.
    Only(Vec<String>),
}

impl KeyModels {
    /// Whether `model` is among them.
    #[must_use]
    pub fn has(&self, model: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(models) => models.iter().any(|known| known == model),
        }
    }

    /// Those that are named.
    #[must_use]
    pub fn named(&self) -> &[String] {
        match self {
            Self::Any => &[],
            Self::Only(models) => models,
        }
    }
}

/// A header's value that is shorter is no secret but a word, such as a team's name, and words stand in errors.
const LEAST_SECRET: usize = 8;

impl Network {
    /// What counts as secret in the headers that are added: each value, and what stands in it behind a scheme such as `Bearer`.
    fn secrets(&self) -> impl Iterator<Item = Secret> {
        let values = self.extra_headers.iter().map(|(_, value)| value.as_str());
        let texts = values.flat_map(|value| [value, value.rsplit(' ').next().unwrap_or_default()]);
        texts.filter(|text| text.len() >= LEAST_SECRET).map(Secret::new)
    }
}

impl Provider {
    /// Whatever the provider is sent that nobody else should see.
    pub fn secrets(&self) -> impl Iterator<Item = Secret> {
        let of_key = |key: &Key| {
            let aws = key.aws.clone().map(|aws| [Some(aws.access_key), aws.session_token]);
            std::iter::once(key.value.clone()).chain(aws.into_iter().flatten().flatten())
        };
        self.keys.iter().flat_map(of_key).chain(self.network.secrets())
    }

    /// Whether its own list of models says what it can be asked for: there is one on the network, and it is none of Azure's,
    /// which names models that nobody has deployed.
    pub(crate) fn lists_models(&self) -> bool {
        self.kind != Kind::Custom && !self.network.base_url.is_empty() && self.key_header.name != "api-key"
    }

    /// The host, without brackets, and the port that it is reached at, unless it is part of this process.
    #[cfg(feature = "front")]
    pub(crate) fn address(&self) -> Option<(String, u16)> {
        let url = super::base_url::parse(&self.network.base_url).ok()?;
        Some((url.host.trim_matches(['[', ']']).to_owned(), url.port))
    }

    /// Whether it has a key for `model`, if it asks for keys at all.
    #[must_use]
    #[doc(hidden)]
    pub fn has_key_for(&self, model: &str) -> bool {
        self.keys.is_empty() || self.keys.iter().any(|key| key.models.has(model))
    }

    /// The models that it can be asked for, as far as they are known: those of `built_in`, deployments and those that its keys name,
    /// without those that there is no key for.
    #[must_use]
    #[doc(hidden)]
    pub fn known_models<'a>(&'a self, built_in: &'a [&'a str]) -> Vec<&'a str> {
        let named = self.keys.iter().flat_map(|key| key.models.named());
        let deployed = self.deployments.iter().map(|(name, _)| name.as_str());
        let built_in = built_in.iter().copied().chain(deployed).filter(|model| self.has_key_for(model));
        let mut seen = HashSet::new();
        built_in.chain(named.map(String::as_str)).filter(|model| seen.insert(*model)).collect()
    }
}

/// Where a provider lives, and the limits of talking to it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Network {
    /// Scheme, host, port and path before [`Network::api_prefix`]. Empty for a simulated provider of this process.
    pub base_url: String,
    /// What stands between the base URL and a route such as `/chat/completions`: `/v1`, or nothing where the base URL
    /// names its version itself.
    pub api_prefix: &'static str,
    /// The version of Azure's interface, where it is one that its URLs name. One that is a date has the deployment in its
    /// paths; `preview` goes with those that have it in the body.
    pub api_version: Option<String>,
    /// Bounds an attempt that is not streamed, and a stream up to its first event.
    pub request_timeout: Duration,
    /// Bounds connecting.
    pub connect_timeout: Duration,
    /// Bounds a stream's wait for its first event.
    pub first_token_timeout: Duration,
    /// Bounds the silence within a stream.
    pub stream_idle_timeout: Duration,
    /// Bounds a stream whole.
    pub stream_max_duration: Duration,
    /// How long a connection to the provider is kept for the next request.
    pub idle_connection_timeout: Duration,
    /// When a failed attempt is made again.
    pub retries: Retries,
    /// Headers sent with every request. Their values count as secrets.
    pub extra_headers: Vec<(String, String)>,
    /// Certificates that are trusted beside the usual ones.
    pub ca_cert_pem: Option<String>,
    /// Whether private addresses may be connected to: the base URL itself names one, or localhost, or plain `http`.
    pub allow_private: bool,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.extra_headers.iter().map(|(name, _)| (name, REDACTED)).collect();
        f.debug_struct("Network")
            .field("base_url", &self.base_url)
            .field("api_prefix", &self.api_prefix)
            .field("api_version", &self.api_version)
            .field("request_timeout", &self.request_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("first_token_timeout", &self.first_token_timeout)
            .field("stream_idle_timeout", &self.stream_idle_timeout)
            .field("stream_max_duration", &self.stream_max_duration)
            .field("idle_connection_timeout", &self.idle_connection_timeout)
            .field("retries", &self.retries)
            .field("extra_headers", &names)
            .field("ca_cert_pem", &self.ca_cert_pem.is_some())
            .field("allow_private", &self.allow_private)
            .finish()
    }
}

/// How jobs wait.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Queue {
    /// What becomes of a job that finds no place.
    pub policy: Policy,
    /// How long a job may wait in all, from submission until a worker takes it.
    pub wait_timeout: Duration,
    /// The share of the workers' attention that batch jobs get while interactive ones wait.
    pub batch_share: f64,
}
