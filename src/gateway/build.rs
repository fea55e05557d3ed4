//! Putting a gateway together: a configuration becomes pools that are up.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use arc_swap::ArcSwap;

use super::attempts::Pauses;
use super::builder::Customs;
use super::house::House;
use super::load::Load;
use super::models::Lists;
use super::plugins::Plugins;
use super::requests::Requests;
use super::retired::Retired;
use super::samples::Samples;
use super::sim::{SimHost, SimTransport};
use super::strangers::Strangers;
use super::submit;
use super::watchdog::{Intervals, Watchdog};
use super::{Gateway, Inner, Phase, WeakGateway};
use crate::config::{self, Config, ConfigError, Draft, Kind, Sizing};
use crate::events::Events;
use crate::http::Certificates;
use crate::plugin::{Plugin, PluginError, SameName};
#[cfg(feature = "bedrock")]
use crate::provider::Signer;
use crate::provider::{
    AttemptSettings, CHECK_TIMEOUT, Checks, Credential, Identity, KeySettings, Paths, PoolSettings, Provider, Stock,
};
use crate::queue::ByteBudget;
use crate::secret::Mask;
use crate::sync::locks::{ChannelLock, classes};
use crate::sync::threads::SpawnError;
use crate::sync::{LockTimes, Quit, Slot, Threads, limits};
use crate::time::{Deadline, now};
use crate::transport::{BuildError, ConnectionCounts, Resolver, Settings, Transport, UreqTransport};
use crate::wire::Dialect;

/// What a debug build's threads need at least: unoptimised frames are several times larger.
const DEBUG_STACK: usize = 2 << 20;

/// Why a gateway was not started.
///
/// ```
/// use sluicegate::gateway::StartError;
/// use sluicegate::{Gateway, ProviderSetup};
///
/// match Gateway::builder().provider(ProviderSetup::sim("sim").batch_share(2.0)).build() {
///     Err(StartError::Config(error)) => {
///         for problem in &error.problems {
///             println!("{}: {}", problem.path, problem.message);
///         }
///         assert_eq!(error.problems[0].path, "providers.sim.queue.batch_share");
///     }
///     other => panic!("that is no share: {other:?}"),
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is wrong.
    Config(ConfigError),
    /// A thread could not be started.
    Threads(SpawnError),
    /// A provider's connections could not be set up.
    Transport {
        /// The provider.
        provider: String,
        /// Why.
        source: BuildError,
    },
    /// A listener or the watcher could not be set up.
    Listen(std::io::Error),
    /// Two plugins have the same name.
    Plugins(SameName),
    /// What a plugin of the configuration needs is not to be had.
    Plugin {
        /// The plugin.
        plugin: &'static str,
        /// Why.
        source: PluginError,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Threads(error) => error.fmt(f),
            Self::Transport { provider, source } => write!(f, "provider {provider}: {source}"),
            Self::Listen(error) => write!(f, "a listener could not be set up: {error}"),
            Self::Plugins(error) => error.fmt(f),
            Self::Plugin { plugin, source } => write!(f, "plugin {plugin}: {source}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Threads(error) => Some(error),
            Self::Transport { source, .. } => Some(source),
            Self::Listen(error) => Some(error),
            Self::Plugins(error) => Some(error),
            Self::Plugin { source, .. } => Some(&**source),
        }
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<SameName> for StartError {
    fn from(error: SameName) -> Self {
        Self::Plugins(error)
    }
}

impl From<SpawnError> for StartError {
    fn from(error: SpawnError) -> Self {
        Self::Threads(error)
    }
}

impl From<crate::http::StartError> for StartError {
    fn from(error: crate::http::StartError) -> Self {
        Self::Listen(std::io::Error::other(error))
    }
}

/// What is done with each configuration that is about to come into force.
pub(super) type OnConfig = Box<dyn Fn(&Config) + Send + Sync>;

/// A gateway to be put together. Without a configuration and without a provider it is made of what the environment offers.
///
/// Whatever is not set has its default. What is wrong is told by [`build`](Self::build), all of it, by the names that a
/// configuration file has for it. What is a text here is taken as it is: `env.NAME` stands for itself.
#[derive(Default)]
pub struct Builder {
    pub(super) config: Option<Config>,
    /// What is said by setters.
    pub(super) draft: Draft,
    pub(super) transports: HashMap<String, Arc<dyn Transport>>,
    pub(super) customs: Customs,
    on_config: Option<OnConfig>,
    plugins: Vec<Arc<dyn Plugin>>,
}

/// What every provider of a gateway stands on, those that a reload brings, too.
pub(super) struct Ground {
    transports: HashMap<String, Arc<dyn Transport>>,
    pub(super) customs: Customs,
    sim: Arc<SimHost>,
    resolver: Arc<Resolver>,
    locks: LockTimes,
    threads: Threads,
    events: Events,
    stock: Stock,
    bytes: ByteBudget,
}

impl Ground {
    /// Starts a provider; one that takes the place of `before` goes on counting where that one stands.
    pub(super) fn start(
        &self,
        settings: &config::Provider,
        before: Option<&Provider>,
    ) -> Result<Arc<Provider>, StartError> {
        let begun = now();
        let known = self.transports.get(&settings.name).cloned();
        let transport = match known.or_else(|| self.customs.transport(&settings.name)) {
            Some(transport) => transport,
            None => {
                let counts = before.and_then(Provider::connection_counts).unwrap_or_default();
                transport_of(settings, &self.sim, &self.resolver, counts)?
            }
        };
        let resources = now().saturating_duration_since(begun);
        let provider = Provider::start(
            before,
            pool_settings(settings, self.locks),
            attempt_settings(settings),
            transport,
            &self.threads,
            self.events.clone(),
            self.stock.clone(),
            self.bytes.clone(),
            resources,
        )?;
        Ok(Arc::new(provider))
    }
}

impl Builder {
    /// Takes a configuration, a file's usually. A provider or an alias that is given beside it is added to it, and stays when
    /// the file is read again; everything else is its own to say.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// Reaches the provider `name` through `transport` instead of the network: for tests; see [`testing`](crate::testing). Without
    /// a [`config`](Self::config), one that is not given otherwise is there by this, without keys and without checks.
    #[must_use]
    pub fn transport(mut self, name: &str, transport: Arc<dyn Transport>) -> Self {
        self.transports.insert(name.to_owned(), transport);
        self
    }

    /// Has `look` called with each configuration before anything is made of it: the first one, and that of each reload. A
    /// program that logs takes its secrets out of what it logs from then on.
    #[must_use]
    pub fn on_config(mut self, look: impl Fn(&Config) + Send + Sync + 'static) -> Self {
        self.on_config = Some(Box::new(look));
        self
    }

    /// Adds a plugin behind those added before: behind the built-in ones or before them, as its
    /// [`place`](Plugin::place) says, whatever the order of the calls. An `Arc` of one is one, too.
    /// [`Gateway::set_plugins`] swaps them while the gateway runs.
    #[must_use]
    pub fn plugin(mut self, plugin: impl Plugin) -> Self {
        self.plugins.push(Arc::new(plugin));
        self
    }

    /// Starts the gateway: every pool is up when this returns.
    ///
    /// # Errors
    /// If the configuration is wrong or the workers' threads cannot be started; what was started has ended again then.
    pub fn build(mut self) -> Result<Gateway, StartError> {
        let config = self.resolve()?;
        if let Some(look) = &self.on_config {
            look(&config);
        }
        let started = now();
        let stack = if cfg!(debug_assertions) {
            config.threads.stack_bytes.max(DEBUG_STACK)
        } else {
            config.threads.stack_bytes
        };
        let threads = match config.threads.max {
            Some(max) => Threads::new(max as u64, stack),
            None => {
                let (limit, set_by) = limits::derive();
                Threads::limited(limit, set_by, stack)
            }
        };
        let stock = Stock::new(&config.pools);
        let sim = Arc::new(SimHost::new(&threads, config.threads.idle_timeout, config.locks.times));
        let events = Events::new();
        let bytes = ByteBudget::new(config.server.max_buffered_bytes as u64);
        let told = events.clone();
        threads.on_panic(move |panic| told.push("panic", &panic.name, panic.text.clone()));
        let ground = Ground {
            transports: self.transports,
            customs: self.customs,
            sim: Arc::clone(&sim),
            resolver: Resolver::start(&threads),
            locks: config.locks.times,
            threads: threads.clone(),
            events: events.clone(),
            stock: stock.clone(),
            bytes: bytes.clone(),
        };
        let started_all = config.providers.iter().map(|settings| ground.start(settings, None));
        let providers = started_all.collect::<Result<Vec<_>, _>>()?;
        let checked_by = Deadline::after(CHECK_TIMEOUT);
        providers.iter().for_each(|provider| provider.checked(checked_by));
        let every = Intervals { health: config.threads.health_interval, locks: config.locks.detect_interval };
        let requests = Arc::new(Requests::default());
        let load = Arc::new(Load::new(&config, &threads, bytes.clone(), &requests));
        let tls = config.server.tls.as_ref();
        let certificates = tls.map(|tls| Certificates::load(tls).map(Arc::new)).transpose()?;
        let ending = Quit::new();
        let plugins = Plugins::new(&config.plugins, self.plugins, events.clone(), threads.clone(), ending.watch())?;
        let idle_timeout = config.threads.idle_timeout;
        let house = House::new(config, providers);
        let mut refused = None;
        let pauses = Pauses::until(ending.watch());
        let runners = submit::runners(&threads, idle_timeout);
        let inner = Arc::new_cyclic(|weak| {
            let watched = (stock.clone(), Arc::clone(&load), certificates.clone(), events.clone());
            // It finds the gateway once that is whole.
            let watchdog = match Watchdog::start(&threads, WeakGateway(weak.clone()), watched, every) {
                Ok(watchdog) => Slot::new(&classes::LIFECYCLE, watchdog),
                Err(error) => {
                    refused = Some(error);
                    Slot::empty(&classes::LIFECYCLE)
                }
            };
            Inner {
                house: ArcSwap::from_pointee(house),
                plugins,
                retired: Retired::new(ground.locks),
                reloading: ChannelLock::new(&classes::RELOAD, ground.locks, ()),
                on_config: self.on_config.take(),
                ground,
                sim,
                stock,
                bytes,
                load,
                requests,
                samples: Samples::new(),
                strangers: Strangers::new(events.clone()),
                lists: Lists::new(),
                events,
                certificates,
                watchdog,
                pauses,
                runners,
                ending: Slot::new(&classes::LIFECYCLE, ending),
                phase: AtomicU8::new(Phase::Starting as u8),
                started,
                threads,
            }
        });
        if let Some(error) = refused {
            return Err(error.into());
        }
        inner.advance(Phase::Running);
        Ok(Gateway(inner))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("config", &self.config.is_some()).finish_non_exhaustive()
    }
}

fn transport_of(
    provider: &config::Provider,
    sim: &Arc<SimHost>,
    resolver: &Arc<Resolver>,
    counts: Arc<ConnectionCounts>,
) -> Result<Arc<dyn Transport>, StartError> {
    if is_inside(provider) {
        let settings = transport_settings(provider);
        return Ok(Arc::new(SimTransport::new(Arc::clone(sim), Arc::clone(resolver), settings, counts)));
    }
    let transport = UreqTransport::counting(transport_settings(provider), Arc::clone(resolver), counts)
        .map_err(|source| StartError::Transport { provider: provider.name.clone(), source })?;
    Ok(Arc::new(transport))
}

/// Whether it is the simulated provider of this process.
fn is_inside(provider: &config::Provider) -> bool {
    provider.kind == Kind::Sim && provider.network.base_url.is_empty()
}

fn transport_settings(provider: &config::Provider) -> Settings {
    let network = &provider.network;
    Settings {
        base_url: network.base_url.clone(),
        idle_connection_timeout: network.idle_connection_timeout,
        max_idle: match provider.sizing {
            Sizing::Given => provider.concurrency,
            Sizing::Auto { most, .. } => most,
        },
        ca_cert_pem: network.ca_cert_pem.clone(),
        allow_private: network.allow_private,
    }
}

fn pool_settings(provider: &config::Provider, locks: LockTimes) -> PoolSettings {
    PoolSettings {
        name: provider.name.as_str().into(),
        concurrency: provider.concurrency,
        min_concurrency: provider.min_concurrency,
        sizing: provider.sizing,
        scaling: provider.scaling.clone(),
        optimization: provider.optimization,
        buffer_size: provider.buffer_size,
        policy: provider.queue.policy,
        wait_timeout: provider.queue.wait_timeout,
        batch_share: provider.queue.batch_share,
        rate_limit: provider.rate_limit.clone(),
        key_limits: provider.keys.iter().map(|key| key.rate_limit).collect(),
        locks,
        breaker: provider.breaker.clone(),
        // What is part of this process is there, and starts with its first request.
        checks: if is_inside(provider) { Checks::Needless } else { Checks::Made(provider.health) },
    }
}

fn attempt_settings(provider: &config::Provider) -> AttemptSettings {
    let network = &provider.network;
    let key = |key: &config::Key| KeySettings {
        name: key.name.clone(),
        weight: key.weight,
        models: key.models.clone(),
        credential: credential(provider, key),
    };
    AttemptSettings {
        dialects: match provider.kind {
            Kind::Anthropic => &[Dialect::Anthropic],
            #[cfg(feature = "bedrock")]
            Kind::Bedrock => &[Dialect::Bedrock],
            Kind::Sim => &[Dialect::OpenAi, Dialect::Anthropic],
            // Other kinds are of OpenAI's shape.
            _ => &[Dialect::OpenAi],
        },
        paths: Paths::of_provider(provider),
        deployments: provider.deployments.clone(),
        asks_usage: provider.offer.stream_usage,
        headers: network.extra_headers.clone(),
        keys: provider.keys.iter().map(key).collect(),
        identity: Identity::of(provider),
        mask: Mask::of(provider.secrets()),
        request_timeout: network.request_timeout,
        connect_timeout: network.connect_timeout,
        first_token_timeout: network.first_token_timeout,
        stream_idle_timeout: network.stream_idle_timeout,
        stream_max_duration: network.stream_max_duration,
        stream_recovery: provider.stream_recovery,
        stream_garbage: provider.stream_garbage,
        early_keepalive: provider.early_keepalive,
        retries: network.retries,
    }
}

/// How a key is shown to its provider: those of AWS's sign.
fn credential(provider: &config::Provider, key: &config::Key) -> Credential {
    #[cfg(feature = "bedrock")]
    if let (Some(aws), Some(region)) = (&key.aws, &provider.region) {
        let token = aws.session_token.as_ref();
        let base_url = &provider.network.base_url;
        return Credential::Signature(Signer::new(&aws.access_key, &key.value, token, region, base_url));
    }
    Credential::Header(provider.key_header.name, provider.key_header.value(&key.value))
}
