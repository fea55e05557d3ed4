//! Configuration: raw JSON, checked and resolved into types that cannot be wrong.
//!
//! A document goes through three hands. `raw` makes JSON of the text and refuses keys that stand twice; `server` and
//! `provider` walk it, one line per key, and note every problem with its path; what comes out is [`Config`], of which
//! the gateway is built, or a [`ConfigError`] that tells everything that is wrong at once. What is discovered in the
//! environment becomes such a document first, so that there is one way through.
//!
//! A part that is not built yet is refused by name; a value that asks for nothing of it is always taken. This module
//! opens no socket and starts no thread.
//!
//! What a program finds in a configuration:
//!
//! ```
//! use std::time::Duration;
//! use sluicegate::config::{Config, Kind, Policy, StreamRecovery, process_env};
//!
//! let text = r#"{
//!     "server": { "keys": [{ "name": "search", "value": "gk-0123456789", "models": ["fast"] }] },
//!     "providers": {
//!         "sim": {
//!             "concurrency_and_buffer_size": { "concurrency": 4, "buffer_size": 20 },
//!             "queue": { "policy": "error", "wait_timeout": "2s" },
//!             "rate_limit": { "requests_per_minute": 600 },
//!             "stream_recovery": "buffer"
//!         }
//!     },
//!     "aliases": { "fast": "sim/echo" }
//! }"#;
//! let config = Config::from_json(text, &process_env)?;
//!
//! let sim = &config.providers[0];
//! assert_eq!((sim.kind, sim.concurrency, sim.buffer_size), (Kind::Sim, 4, 20));
//! assert_eq!((sim.queue.policy, sim.queue.wait_timeout), (Policy::Error, Duration::from_secs(2)));
//! assert_eq!(sim.rate_limit.all.requests_per_minute, Some(600));
//! assert_eq!(sim.stream_recovery, StreamRecovery::Buffer);
//!
//! // What is not written has a value, too.
//! assert_eq!((sim.network.retries.most, sim.network.request_timeout), (2, Duration::from_secs(120)));
//! assert_eq!((sim.breaker.consecutive_failures, sim.breaker.open_for), (5, Duration::from_secs(10)));
//! assert_eq!((sim.scaling.enabled, sim.health.interval), (true, Duration::from_secs(30)));
//!
//! let (fast, search) = (&config.aliases[0], &config.server.keys[0]);
//! assert_eq!((fast.name.as_str(), fast.targets[0].model.to_string().as_str()), ("fast", "sim/echo"));
//! assert_eq!((&*search.name, config.server.max_connections), ("search", 8192));
//! assert!(config.plugins.is_empty() && config.threads.max.is_none());
//!
//! // What is wrong is told with its place.
//! let wrong = r#"{ "providers": { "sim": { "queue": { "policy": "wait" } } } }"#;
//! let error = Config::from_json(wrong, &process_env).expect_err("there is no such policy");
//! assert_eq!(error.problems[0].path, "providers.sim.queue.policy");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod aliases;
mod azure;
mod base_url;
#[cfg(feature = "bedrock")]
mod bedrock;
mod build;
mod changes;
mod error;
mod expand;
mod files;
mod imported;
mod kinds;
mod known;
mod near;
mod origin;
pub mod plugins;
mod provider;
mod range;
mod raw;
mod scope;
mod section;
mod server;
mod source;
mod tls;
mod types;
mod well_known;
mod written;

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde_json::{Map, Value, json};

pub use aliases::{Alias, AliasTarget, ModelRef, Strategy};
pub use build::{
    AliasSetup, BreakerSetup, Concurrency, GatewayKeySetup, KeySetup, ProviderSetup, RateLimitSetup, ScalingSetup,
};
pub(crate) use build::{Draft, setters};
pub use changes::{ChangedProvider, Changes, ProviderChanges};
pub use error::{ConfigError, Problem};
pub use expand::Env;
#[doc(hidden)]
pub use files::Files;
#[doc(hidden)]
pub use imported::{Imported, LeftOut};
#[doc(hidden)]
pub use kinds::parse_address;
#[doc(hidden)]
pub use near::{near, nearest};
pub use origin::Origin;
pub use range::AddressRange;
pub use scope::Scope;
#[doc(hidden)]
pub use tls::LoadedTls;
pub use tls::{Tls, TlsVersion};
pub use types::{
    AwsKey, Breaker, Client, GatewayKey, Has, Health, Key, KeyHeader, KeyModels, Kind, Locks, Network, Offer,
    Optimization, Policy, Pools, Provider, Queue, RateLimit, RateLimits, Retries, Scaling, Server, Sizing,
    StreamGarbage, StreamRecovery, ThreadLimits,
};

pub use crate::recycle::Limits as PoolLimits;
pub use crate::secret::Secret;
pub use crate::sync::LockTimes;
pub use crate::time::Backoff;

use section::{Findings, Outcome, Section, Walk};
use source::{Beside, Source};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "sluicegate.json";

/// The longest file that is read.
const FILE_LIMIT: u64 = 16 << 20;

/// A configuration, resolved.
///
/// ```
/// use sluicegate::Gateway;
/// use sluicegate::config::{Config, process_env};
///
/// let config = Config::from_json(r#"{ "providers": { "sim": { "queue": { "policy": "drop" } } } }"#, &process_env)?;
/// assert_eq!(config.provider("sim").map(|sim| sim.queue.policy.as_str()), Some("drop"));
/// assert_eq!(config.effective_json()["providers"]["sim"]["queue"]["wait_timeout"], "5s");
///
/// let gateway = Gateway::builder().config(config).build()?;
/// assert_eq!(gateway.ask("sim/echo", "Hello")?, "Hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// The gateway's listeners and their limits.
    pub server: Server,
    /// What goes for every provider.
    pub client: Client,
    /// Limits of the threads.
    pub threads: ThreadLimits,
    /// The object pools.
    pub pools: Pools,
    /// How long locks are waited for.
    pub locks: Locks,
    /// The providers, in the order of the document.
    pub providers: Vec<Provider>,
    /// Names of the user's own for models, in the order of the document.
    pub aliases: Vec<Alias>,
    /// The built-in plugins, in the order of the document.
    pub plugins: Vec<plugins::Plugin>,
    /// What was found where, a line each, for a person to read.
    pub sources: Vec<String>,
    /// What is taken, but probably not meant.
    pub warnings: Vec<String>,
    /// The files that its strings refer to, as they were when they were read.
    #[doc(hidden)]
    pub files: Files,
    source: Source,
    beside: Beside,
    /// Whether the document says which plugins there are.
    names_plugins: bool,
    /// What a program has added to what is read there.
    added: Draft,
    effective: Value,
}

/// Looks a variable of this process up. One that is no UTF-8 counts as not set.
///
/// ```
/// use sluicegate::config::{Config, process_env};
///
/// // The variables of this process, and one beside them that a vault gives.
/// let env = |name: &str| if name == "TEAM_KEY" { Some("sk-0000".to_owned()) } else { process_env(name) };
/// let config = Config::from_json(r#"{ "server": { "admin_key": "env.TEAM_KEY" } }"#, &env)?;
/// assert_eq!(config.server.admin_key.as_ref().map(|key| key.expose()), Some("sk-0000"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Config {
    /// Reads a file; its references are looked up in the environment of this process.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::read_file(path, &process_env)
    }

    /// Reads a document.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_json(text: &str, env: &Env<'_>) -> Result<Self, ConfigError> {
        Self::from_document(raw::parse(text)?, env)
    }

    /// Takes what the environment offers: each provider whose key is set, and the simulated one.
    ///
    /// # Errors
    /// What is wrong with a variable.
    pub fn from_env(env: &Env<'_>) -> Result<Self, ConfigError> {
        let config = Self::from_document(Map::new(), env)?;
        Ok(Self { source: Source::Environment, ..config })
    }

    /// Reads the file that is named, else [`DEFAULT_FILE`] if it is there, else takes what the environment offers.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn discover(explicit: Option<&Path>, env: &Env<'_>) -> Result<Self, ConfigError> {
        match Self::discoverable(explicit) {
            Some(path) => Self::read_file(path, env),
            None => Self::from_env(env),
        }
    }

    /// The same, and beside it the file and what it is where it is one of Bifrost's, be it one that cannot be used. It is
    /// read once for both: of a pipe there is no second time.
    #[doc(hidden)]
    pub fn discover_imported<'a>(
        explicit: Option<&'a Path>,
        env: &Env<'_>,
    ) -> (Option<(&'a Path, Imported)>, Result<Self, ConfigError>) {
        let Some(path) = Self::discoverable(explicit) else { return (None, Self::from_env(env)) };
        match read_text(path) {
            Ok(text) => {
                let imported = Imported::from_json(&text, env).map(|imported| (path, imported));
                (imported, Self::of_file(path, &text, env))
            }
            Err(error) => (None, Err(error.in_file(path))),
        }
    }

    /// The file that [`discover`](Self::discover) reads.
    fn discoverable(explicit: Option<&Path>) -> Option<&Path> {
        let default = Path::new(DEFAULT_FILE);
        explicit.or_else(|| default.exists().then_some(default))
    }

    /// Every value in force, as a document that could be read again; secrets redacted.
    #[must_use]
    pub fn effective_json(&self) -> Value {
        let mut effective = self.effective.clone();
        effective["server"]["listen"] = self.server.listen.to_string().into();
        effective["server"]["admin"] = self.server.admin.to_string().into();
        effective["providers"] =
            self.providers.iter().map(|provider| (provider.name.clone(), provider.effective.clone())).collect();
        effective
    }

    /// Listens elsewhere than the document says.
    ///
    /// # Errors
    /// If the admin plane would then stand open beyond loopback, or both addresses are the same.
    pub fn listen_on(&mut self, listen: Option<SocketAddr>, admin: Option<SocketAddr>) -> Result<(), ConfigError> {
        self.beside = Beside { listen, admin, ..self.beside };
        self.server.listen = listen.unwrap_or(self.server.listen);
        self.server.admin = admin.unwrap_or(self.server.admin);
        let no_env = |_: &str| None;
        let walk = Walk::reading(&no_env);
        server::check_addresses(&self.server, &walk);
        let Findings { problems, warnings, .. } = walk.into_findings();
        self.warnings.retain(|warning| !warning.starts_with(server::OPEN_TO_ALL));
        self.warnings.extend(warnings);
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { file: None, problems }) }
    }

    /// Has each request leave a line in the log where the document says nothing of plugins, as a program does that serves;
    /// a list of plugins, be it empty, says what there is.
    pub(crate) fn log_requests(&mut self) {
        self.beside.logs_requests = true;
        if !self.names_plugins && self.plugins.is_empty() {
            let (plugin, shown) = plugins::request_log();
            self.plugins.push(plugin);
            self.effective["plugins"] = json!([shown]);
        }
    }

    /// Refuses a provider of kind `custom` that nobody is: the program has `registered` those that there are.
    ///
    /// # Errors
    /// The places of those that it has not registered, and of those that it has and that are of another kind here.
    pub(crate) fn check_custom(&self, registered: impl Fn(&str) -> bool) -> Result<(), ConfigError> {
        let wrong = self.providers.iter().filter_map(|provider| {
            let name = &provider.name;
            let message = match (provider.kind == Kind::Custom, registered(name)) {
                (true, false) => format!(
                    "no program has registered a custom provider {name:?}; one that has such providers does so by \
                     Gateway::builder().custom_provider({name:?}, …), and the sluicegate binary has none"
                ),
                (false, true) => format!(
                    "the program has registered a custom provider {name:?}, and this is another; write \"kind\": \
                     \"custom\", or take another name for one of the two"
                ),
                _ => return None,
            };
            Some(Problem { path: raw::join(&raw::join("providers", name), "kind"), message })
        });
        let problems: Vec<_> = wrong.collect();
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { file: None, problems }) }
    }

    /// Every secret in it that is kept as it is: of clients' keys there are digests alone.
    pub fn secrets(&self) -> impl Iterator<Item = Secret> {
        self.server.admin_key.iter().cloned().chain(self.providers.iter().flat_map(Provider::secrets))
    }

    /// The provider of this name.
    #[must_use]
    pub fn provider(&self, name: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.name == name)
    }

    fn read_file(path: &Path, env: &Env<'_>) -> Result<Self, ConfigError> {
        let text = read_text(path).map_err(|error| error.in_file(path))?;
        Self::of_file(path, &text, env)
    }

    /// What a file says whose text was read.
    fn of_file(path: &Path, text: &str, env: &Env<'_>) -> Result<Self, ConfigError> {
        let mut config = Self::from_json(text, env).map_err(|error| error.in_file(path))?;
        config.sources.insert(0, format!("configuration: {}", path.display()));
        // Wherever the process goes meanwhile, it is read again from there.
        config.source = Source::File(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        Ok(config)
    }

    /// Resolves a document. One without `providers` gets those of the environment.
    fn from_document(mut document: Map<String, Value>, env: &Env<'_>) -> Result<Self, ConfigError> {
        let mut sources = Vec::new();
        let discovers = document.get("providers").is_none_or(Value::is_null);
        spread_keys(&mut document);
        aliases::spread(&mut document);
        if discovers {
            document.insert("providers".to_owned(), discovered(env, &mut sources));
        }
        let walk = Walk::reading(env);
        let (mut config, outcome) = resolve(&walk, &document);
        if discovers {
            warn_of_unbuilt(env, &walk);
            leave_out_self(&mut config, &walk);
            refuse_lost_aliases(&config, &walk);
        }
        let Findings { problems, warnings, files, .. } = walk.into_findings();
        if !problems.is_empty() {
            return Err(ConfigError { file: None, problems });
        }
        config.effective = outcome.effective;
        config.sources = sources;
        config.warnings = warnings;
        config.files = files;
        Ok(config)
    }
}

/// The JSON schema of the document.
///
/// ```
/// // Written to a file, it lets an editor check and complete a configuration that names it in `$schema`.
/// let schema = sluicegate::config::schema();
/// let server = &schema["properties"]["server"]["properties"];
/// assert_eq!(server["shutdown_timeout"]["default"], "30s");
/// assert_eq!(server["max_connections"]["maximum"], 1_000_000);
/// ```
#[must_use]
pub fn schema() -> Value {
    let no_env = |_: &str| None;
    let walk = Walk::describing(&no_env);
    let (_, outcome) = resolve(&walk, &Map::new());
    let mut schema = outcome.schema;
    written::as_written(&mut schema);
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "Sluicegate configuration".into();
    schema
}

/// The text of a file, if it is no longer than one may be.
fn read_text(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |error: &dyn std::fmt::Display| ConfigError::one("", format!("it cannot be read: {error}"));
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            unreadable(&format!("{error}; where no file is named, the environment's providers are offered"))
        }
        _ => unreadable(&error),
    })?;
    let mut text = String::new();
    file.take(FILE_LIMIT + 1).read_to_string(&mut text).map_err(|error| unreadable(&error))?;
    if text.len() as u64 > FILE_LIMIT {
        return Err(unreadable(&"it is longer than 16 MiB"));
    }
    Ok(text)
}

/// Walks the whole document.
fn resolve(walk: &Walk<'_>, document: &Map<String, Value>) -> (Config, Outcome) {
    Section::read(walk, String::new(), Some(document), |s| {
        s.ignore("$schema");
        let server = s.section("server", server::server);
        server::check_addresses(&server, walk);
        let client = s.section("client", server::client);
        let threads = s.section("threads", server::threads);
        let pools = s.section("pools", |s| server::pools(s, &client));
        let locks = s.section("locks", server::locks);
        let providers = providers(s, &provider::Around { client: &client, threads: &threads });
        let aliases = aliases::aliases(s, aliases::Names::default());
        warn_of_strange_scopes(&server, &aliases, walk);
        let plugins = plugins::plugins(s);
        s.foreign(known::TOP);
        Config {
            server,
            client,
            threads,
            pools,
            locks,
            providers,
            aliases,
            plugins,
            sources: Vec::new(),
            warnings: Vec::new(),
            files: Files::default(),
            source: Source::default(),
            beside: Beside::default(),
            names_plugins: document.get("plugins").is_some_and(|plugins| !plugins.is_null()),
            added: Draft::default(),
            effective: Value::Null,
        }
    })
}

fn providers<'a>(s: &mut Section<'a>, around: &provider::Around<'_>) -> Vec<Provider> {
    let (walk, path) = (s.walk(), s.path_of("providers"));
    let mut providers = Vec::new();
    for (name, raw) in s.object_at("providers").into_iter().flatten() {
        let path = raw::join(&path, name);
        if let Err(rule) = provider::check_name(name) {
            walk.problem(path, rule);
        } else if let Some(why) = provider::left_out(name, raw) {
            walk.leave_out(&path, why, why, "");
        } else if let Value::Object(object) = raw {
            let (provider, outcome) = Section::read(walk, path, Some(object), |s| provider::provider(name, s, around));
            providers.extend(provider.map(|provider| Provider { effective: outcome.effective, ..provider }));
        } else {
            walk.problem(path, "a provider is an object; write { } for one with the defaults");
        }
    }
    let (_, outcome) = Section::read(&Walk::describing(&|_: &str| None), String::new(), None, |s| {
        provider::provider("sim", s, around)
    });
    s.declare("providers", json!({"type": "object", "additionalProperties": outcome.schema}));
    s.show("providers", Value::Null);
    providers
}

/// A gateway key may be written as a text alone.
fn spread_keys(document: &mut Map<String, Value>) {
    let keys = document.get_mut("server").and_then(|server| server.get_mut("keys")).and_then(Value::as_array_mut);
    for key in keys.into_iter().flatten().filter(|key| key.is_string()) {
        *key = json!({"value": key.take()});
    }
}

/// The providers that the environment offers, as a document.
fn discovered(env: &Env<'_>, sources: &mut Vec<String>) -> Value {
    let mut providers = Map::new();
    for known in well_known::WELL_KNOWN {
        #[cfg(feature = "bedrock")]
        if known.kind == Kind::Bedrock {
            let found = bedrock::of_environment(|variable| known::first_set(&[variable], env).is_some());
            if let Some((key, variables)) = found {
                sources.push(format!("provider {}: {}", known.name, variables.join(", ")));
                providers.insert(known.name.to_owned(), json!({ "keys": [key] }));
            }
            continue;
        }
        let set = |variable: Option<&'static str>| known::first_set(variable.as_slice(), env);
        let (key, address) = (set(known.key_variable), set(known.url_variable));
        // One that has no address of its own needs both.
        let is_there = if known.base_url.is_some() { key.or(address) } else { key.and(address) };
        if is_there.is_none() {
            continue;
        }
        let keys: Vec<_> = key.iter().map(|name| json!({"name": name, "value": format!("env.{name}")})).collect();
        let mut provider = json!({"keys": keys});
        if let Some(address) = address {
            provider["network_config"] = json!({"base_url": format!("env.{address}")});
        }
        let names: Vec<_> = key.into_iter().chain(address).collect();
        sources.push(format!("provider {}: {}", known.name, names.join(", ")));
        providers.insert(known.name.to_owned(), provider);
    }
    sources.push("provider sim: simulated, on this machine".to_owned());
    providers.insert("sim".to_owned(), json!({}));
    Value::Object(providers)
}

/// What the warning says.
const NO_SUCH_ALIAS: &str = ", and there is no such alias";

/// Says so where a client is kept to an alias that there is none of: the line lets nobody in.
fn warn_of_strange_scopes(server: &Server, aliases: &[Alias], walk: &Walk<'_>) {
    let names = || aliases.iter().map(|alias| alias.name.as_str());
    for (index, key) in server.keys.iter().enumerate() {
        for named in key.scope.aliases().filter(|named| !names().any(|name| name == *named)) {
            let near = nearest(named, names()).map_or(String::new(), |near| format!("; the nearest is {near:?}"));
            let message = format!("it names {named:?}{NO_SUCH_ALIAS}{near}");
            walk.warn(&format!("server.keys[{index}].models"), &message);
        }
    }
}

/// Says so where a variable is set for a provider that this build has not.
fn warn_of_unbuilt(env: &Env<'_>, walk: &Walk<'_>) {
    for (name, variables) in known::UNBUILT_KINDS {
        if let Some(variable) = known::first_set(variables, env) {
            walk.warn(
                variable,
                &format!("it is set, but provider {name} needs the cargo feature `{name}`, and is left out"),
            );
        }
    }
}

/// Leaves a discovered provider out whose address is this gateway's own: `OPENAI_BASE_URL` is what clients of the
/// gateway are told to set, and in the same shell it would make the gateway call itself for ever.
fn leave_out_self(config: &mut Config, walk: &Walk<'_>) {
    let listen = config.server.listen;
    let is_self = |provider: &Provider| {
        base_url::parse(&provider.network.base_url).is_ok_and(|base| {
            let host = base.host.trim_start_matches('[').trim_end_matches(']');
            let this_machine = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
            let reached = if listen.ip().is_unspecified() || listen.ip().is_loopback() {
                this_machine
            } else {
                host.parse() == Ok(listen.ip())
            };
            base.port == listen.port() && reached
        })
    };
    config.providers.retain(|provider| {
        if is_self(provider) {
            let message = format!("it is this gateway's own address; provider {} is left out", provider.name);
            walk.warn("OPENAI_BASE_URL", &message);
        }
        !is_self(provider)
    });
}

/// An alias may not stand for a provider that was left out after it was read.
fn refuse_lost_aliases(config: &Config, walk: &Walk<'_>) {
    for alias in &config.aliases {
        let named = alias.targets.iter().map(|target| &target.model).chain(&alias.fallbacks);
        if let Some(lost) = named.into_iter().find(|model| config.provider(&model.provider).is_none()) {
            let message = format!("it names provider {:?}, which is left out", lost.provider);
            walk.problem(raw::join("aliases", &alias.name), message);
        }
    }
}
