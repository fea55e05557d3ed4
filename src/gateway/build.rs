//! Putting a gateway together: a configuration becomes pools that are up.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use arc_swap::ArcSwap;

use super::house::House;
use super::load::Load;
use super::requests::Requests;
use super::samples::Samples;
use super::sim::{SimHost, SimTransport};
use super::strangers::Strangers;
use super::watchdog::{Intervals, Watchdog};
use super::{Gateway, Inner, Phase};
use crate::config::{self, Config, ConfigError, Kind, Sizing};
use crate::events::Events;
use crate::http::Certificates;
use crate::provider::{AttemptSettings, Paths, PoolSettings, Provider, Stock};
use crate::queue::ByteBudget;
use crate::secret::Mask;
use crate::sync::locks::classes;
use crate::sync::threads::SpawnError;
use crate::sync::{LockTimes, Slot, Threads, limits};
use crate::time::now;
use crate::transport::{BuildError, Resolver, Settings, Transport, UreqTransport};

/// What a debug build's threads need at least: unoptimised frames are several times larger.
const DEBUG_STACK: usize = 2 << 20;

/// Why a gateway was not started.
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
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Threads(error) => error.fmt(f),
            Self::Transport { provider, source } => write!(f, "provider {provider}: {source}"),
            Self::Listen(error) => write!(f, "a listener could not be set up: {error}"),
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
        }
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
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

/// A gateway to be put together. Without a configuration it is made of the environment.
#[derive(Default)]
pub struct Builder {
    config: Option<Config>,
    transports: HashMap<String, Arc<dyn Transport>>,
}

impl Builder {
    /// Takes a configuration instead of the environment's.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = Some(config);
        self
    }

    /// Reaches the provider `name` through `transport` instead of the network: for tests.
    #[must_use]
    pub fn transport(mut self, name: &str, transport: Arc<dyn Transport>) -> Self {
        self.transports.insert(name.to_owned(), transport);
        self
    }

    /// Starts the gateway: every pool is up when this returns.
    ///
    /// # Errors
    /// If the configuration is wrong or the workers' threads cannot be started; what was started has ended again then.
    pub fn build(mut self) -> Result<Gateway, StartError> {
        let config = match self.config.take() {
            Some(config) => config,
            None => Config::from_env(&config::process_env)?,
        };
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
        let resolver = Resolver::start(&threads);
        let stock = Stock::new(&config.pools);
        let sim = Arc::new(SimHost::new(&threads, config.threads.idle_timeout, config.locks.times));
        let events = Events::new();
        let bytes = ByteBudget::new(config.server.max_buffered_bytes as u64);
        let told = events.clone();
        threads.on_panic(move |panic| told.push("panic", &panic.name, panic.text.clone()));
        let mut providers = Vec::with_capacity(config.providers.len());
        for settings in &config.providers {
            let begun = now();
            let transport: Arc<dyn Transport> = match self.transports.remove(&settings.name) {
                Some(transport) => transport,
                None => transport_of(settings, &sim, &resolver)?,
            };
            let resources = now().saturating_duration_since(begun);
            let key_name = settings.key.as_ref().map(|key| key.name.clone());
            let provider = Provider::start(
                pool_settings(settings, config.locks.times),
                attempt_settings(settings),
                key_name,
                transport,
                &threads,
                events.clone(),
                stock.clone(),
                bytes.clone(),
                resources,
            )?;
            providers.push(Arc::new(provider));
        }
        let every = Intervals { health: config.threads.health_interval, locks: config.locks.detect_interval };
        let requests = Arc::new(Requests::default());
        let load = Arc::new(Load::new(&config, &threads, bytes.clone(), &requests));
        let tls = config.server.tls.as_ref();
        let certificates = tls.map(|tls| Certificates::load(tls).map(Arc::new)).transpose()?;
        let watchdog = Watchdog::start(&threads, &providers, &stock, &load, certificates.clone(), &events, every)?;
        let house = House { config: Arc::new(config), providers };
        let inner = Inner {
            house: ArcSwap::from_pointee(house),
            sim,
            stock,
            bytes,
            load,
            requests,
            samples: Samples::new(),
            strangers: Strangers::new(events.clone()),
            events,
            certificates,
            watchdog: Slot::new(&classes::LIFECYCLE, watchdog),
            phase: AtomicU8::new(Phase::Starting as u8),
            started,
            threads,
        };
        inner.advance(Phase::Running);
        Ok(Gateway(Arc::new(inner)))
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
) -> Result<Arc<dyn Transport>, StartError> {
    if provider.kind == Kind::Sim && provider.network.base_url.is_empty() {
        let settings = transport_settings(provider);
        return Ok(Arc::new(SimTransport::new(Arc::clone(sim), Arc::clone(resolver), settings)));
    }
    let transport = UreqTransport::new(transport_settings(provider), Arc::clone(resolver))
        .map_err(|source| StartError::Transport { provider: provider.name.clone(), source })?;
    Ok(Arc::new(transport))
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
        locks,
    }
}

fn attempt_settings(provider: &config::Provider) -> AttemptSettings {
    let network = &provider.network;
    let key = provider.key.as_ref().map(|key| &key.value);
    let bearer = key.map(|key| ("authorization".to_owned(), format!("Bearer {}", key.expose())));
    AttemptSettings {
        paths: Paths::under(network.api_prefix),
        headers: bearer.into_iter().chain(network.extra_headers.iter().cloned()).collect(),
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
