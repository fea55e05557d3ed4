//! Another configuration for a gateway that runs: read whole, made whole, swapped in, and only then the old is let go.
//!
//! **Protocol.** One reload at a time; a second one waits for the first for as long as a lock may be waited for, and is then
//! made of what is there and in force by then, or is told [`ReloadError::Busy`]. A reload resolves the document completely,
//! starts a pool for each provider that comes or has other settings, and swaps the house; a provider whose settings are the
//! same goes on as it is, with its workers, connections and whatever is known of it. What fails on the way leaves everything
//! as it was. Requests that hold the old house go on in it; its pools are `retired`'s from here on.
//!
//! **Invariants.** I11. I1: whoever found a provider just before the swap is served by it. I10: what is told of a difference
//! is where it stands.
//!
//! **Shutdown.** The gateway's end sets its phase and then takes the reload's lock for good: a reload looks at the phase
//! under the lock, before it begins and before it swaps, so that the end finds the last house and none comes after it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::build::StartError;
use super::house::House;
use super::{Gateway, Phase};
use crate::config::{self, Changes, Config, ConfigError};
use crate::plugin::{Plugin, SameName, let_go};
use crate::provider::{CHECK_TIMEOUT, Provider};
use crate::sync::locks::LockError;
use crate::time::Deadline;

/// Whom events and the alert of reloads concern.
const CONFIGURATION: &str = "configuration";

/// The alert that a provider is paused.
const PAUSED: &str = "provider_paused";

/// The alert that the last reload was refused.
const REFUSED: &str = "reload_refused";

/// How long a second reload waits for the first, if locks may be waited for so long: a pool's start takes up to two seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a reload changed nothing.
///
/// ```
/// use std::time::Duration;
/// use sluicegate::gateway::{Phase, ReloadError};
/// use sluicegate::{Gateway, ProviderSetup};
///
/// let gateway = Gateway::from_env()?;
/// gateway.shutdown(Duration::from_secs(5));
/// let other = Gateway::builder().provider(ProviderSetup::sim("other")).into_config()?;
/// match gateway.reload(other) {
///     Err(ReloadError::NotRunning(phase)) => assert_eq!(phase, Phase::Stopped),
///     other => panic!("it has ended: {other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ReloadError {
    /// The configuration cannot be used.
    Config(ConfigError),
    /// The gateway was given its configuration by its program, so that there is nowhere to read it again.
    NoSource,
    /// A new pool could not be started, or a plugin of the configuration not be made.
    Start(StartError),
    /// Two plugins have the same name.
    Plugins(SameName),
    /// Another reload was under way for too long.
    Busy(LockError),
    /// The gateway is coming to its end, or has not come to its start.
    NotRunning(Phase),
}

impl fmt::Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::NoSource => {
                f.write_str("the gateway was given its configuration by its program and can read none again")
            }
            Self::Start(error) => error.fmt(f),
            Self::Plugins(error) => error.fmt(f),
            Self::Busy(_) => f.write_str("another reload is under way; try again when it is over"),
            Self::NotRunning(phase) => {
                write!(f, "the gateway is not running but {}", format!("{phase:?}").to_lowercase())
            }
        }
    }
}

impl std::error::Error for ReloadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Start(error) => Some(error),
            Self::Plugins(error) => Some(error),
            Self::Busy(error) => Some(error),
            Self::NoSource | Self::NotRunning(_) => None,
        }
    }
}

/// Why the plugins could not be made.
fn of_plugins(error: StartError) -> ReloadError {
    match error {
        StartError::Plugins(same) => ReloadError::Plugins(same),
        other => ReloadError::Start(other),
    }
}

impl From<ConfigError> for ReloadError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl Gateway {
    /// Reads the configuration again from where it came, the file or the environment, and brings it into force.
    ///
    /// # Errors
    /// Why nothing was changed; everything that is wrong with the configuration.
    pub fn reread(&self) -> Result<Changes, ReloadError> {
        self.bring_in(|running| {
            if !running.can_be_reread() {
                return Err(ReloadError::NoSource);
            }
            Ok(running.reread(&config::process_env)?)
        })
    }

    /// Brings another configuration into force. What cannot change while the gateway runs stays, and is named in the
    /// warnings of what comes back.
    ///
    /// ```
    /// use sluicegate::{Config, Gateway};
    ///
    /// let config = |text| Config::from_json(text, &sluicegate::config::process_env);
    /// let gateway = Gateway::builder().config(config(r#"{ "providers": { "sim": {} } }"#)?).build()?;
    /// let changes = gateway.reload(config(r#"{ "providers": { "sim": {}, "other": { "kind": "sim" } } }"#)?)?;
    /// assert_eq!((&*changes.providers.added, &*changes.providers.unchanged), (&["other".into()][..], &["sim".into()][..]));
    /// assert_eq!(gateway.ask("other/echo", "Hello")?, "Hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn reload(&self, config: Config) -> Result<Changes, ReloadError> {
        self.bring_in(|_| Ok(config))
    }

    /// Lets nothing new into a provider until it is [resumed](Self::resume): who comes is told `circuit_open`, or tried elsewhere.
    /// What is under way goes on, and a reload changes nothing of it. `false` if there is no provider of this name.
    pub fn pause(&self, provider: &str) -> bool {
        self.set_paused(provider, true)
    }

    /// Lets a paused provider go on. `false` if there is none of this name.
    pub fn resume(&self, provider: &str) -> bool {
        self.set_paused(provider, false)
    }

    /// Puts these in the place of the program's own plugins, all at once: each request has either the old ones or the new.
    /// The built-in ones stay where they are. One of the name of one before goes on counting where that stood; one that is not
    /// among these is gone.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn set_plugins(&self, plugins: Vec<Arc<dyn Plugin>>) -> Result<(), ReloadError> {
        let given = plugins.clone();
        let outcome = self.swap_plugins(plugins);
        // Those that were refused go like those that were replaced.
        given.into_iter().for_each(let_go);
        outcome
    }

    fn swap_plugins(&self, plugins: Vec<Arc<dyn Plugin>>) -> Result<(), ReloadError> {
        self.check_running()?;
        // Dropped behind the lock: a plugin's own drop may come back here.
        let _before;
        let _one = self.0.reloading.lock(PATIENCE).map_err(ReloadError::Busy)?;
        self.check_running()?;
        let set = self.0.plugins.with_own(plugins).map_err(of_plugins)?;
        _before = self.0.plugins.swap(set);
        Ok(())
    }

    fn set_paused(&self, provider: &str, paused: bool) -> bool {
        let house = self.house();
        let Some(found) = house.provider(provider) else { return false };
        found.set_paused(paused);
        self.tell_of_pause(found);
        true
    }

    fn tell_of_pause(&self, provider: &Provider) {
        let name = provider.name();
        let why = || format!("its operator lets nothing new into it; POST /providers/{name}/resume ends that");
        self.0.events.set(PAUSED, name, provider.is_paused().then(why));
    }

    fn bring_in(&self, read: impl FnOnce(&Config) -> Result<Config, ReloadError>) -> Result<Changes, ReloadError> {
        let events = &self.0.events;
        let outcome = self.swap(read);
        match &outcome {
            Ok(changes) => {
                let text = changes.to_string();
                log::info!("reload: {text}");
                changes.warnings.iter().for_each(|warning| log::warn!("reload: {warning}"));
                events.push("reload", CONFIGURATION, text);
                events.clear(REFUSED, CONFIGURATION);
            }
            Err(error) => {
                log::error!("reload: nothing was changed: {error}");
                events.push("reload", CONFIGURATION, format!("nothing was changed: {error}"));
                if matches!(error, ReloadError::Config(_) | ReloadError::Start(_) | ReloadError::Plugins(_)) {
                    let text = "the last one was refused, and what was in force before it stays; the events say why";
                    events.raise(REFUSED, CONFIGURATION, text);
                }
            }
        }
        outcome
    }

    fn swap(&self, read: impl FnOnce(&Config) -> Result<Config, ReloadError>) -> Result<Changes, ReloadError> {
        // One that comes at the end need not wait for it.
        self.check_running()?;
        // Dropped behind the lock: a plugin's own drop may come back here.
        let _before;
        let _one = self.0.reloading.lock(PATIENCE).map_err(ReloadError::Busy)?;
        self.check_running()?;
        let old = self.house();
        let (config, changes) = read(&old.config)?.following(&old.config)?;
        self.0.ground.customs.check(&config)?;
        if let Some(look) = &self.0.on_config {
            look(&config);
        }
        let plugins = self.0.plugins.configured_as(&config.plugins).map_err(of_plugins)?;
        let house = self.follow(&old, config, &changes)?;
        let stays = |provider: &Arc<Provider>| house.providers.iter().any(|known| Arc::ptr_eq(known, provider));
        let replaced: Vec<_> = old.providers.iter().filter(|provider| !stays(provider)).cloned().collect();
        // What was started meanwhile ends here if the gateway does.
        self.check_running()?;
        // A body may still be on its way.
        let until = Deadline::after(old.longest().saturating_add(old.config.server.body_timeout));
        // Before the swap, so that there is no moment in which a pool is in neither.
        self.0.retired.add(replaced.clone(), until).map_err(ReloadError::Busy)?;
        let house = Arc::new(house);
        for before in &replaced {
            // Its start took a while, in which the old one went on counting, and its operator may have spoken.
            house.providers.iter().filter(|new| new.name() == before.name()).for_each(|new| new.follow(before));
        }
        drop(self.0.house.swap(Arc::clone(&house)));
        _before = self.0.plugins.swap(plugins);
        replaced.iter().for_each(|provider| provider.replaced());
        if self.phase() >= Phase::Draining {
            // The drain has just gone by.
            house.providers.iter().for_each(|provider| provider.drain());
        }
        changes.providers.removed.iter().for_each(|name| self.0.events.clear(PAUSED, name));
        for provider in &house.providers {
            self.tell_of_pause(provider);
            provider.took_over();
        }
        drop((old, replaced));
        self.0.retired.tend(&self.0.events);
        Ok(changes)
    }

    /// The house that `config` makes of what there is.
    fn follow(&self, old: &House, config: Config, changes: &Changes) -> Result<House, ReloadError> {
        // One that was removed a moment ago and comes again counts on, too.
        let going = self.0.retired.providers();
        let going = |name: &str| going.iter().rev().map(|kept| &***kept).find(|going| &**going.name() == name);
        let mut providers = Vec::with_capacity(config.providers.len());
        for settings in &config.providers {
            let known = old.provider(&settings.name);
            providers.push(match known {
                Some(known) if changes.providers.unchanged.contains(&settings.name) => Arc::clone(known),
                known => {
                    let before = known.map(|known| &**known).or_else(|| going(&settings.name));
                    self.0.ground.start(settings, before).map_err(ReloadError::Start)?
                }
            });
        }
        let checked_by = Deadline::after(CHECK_TIMEOUT);
        providers.iter().for_each(|provider: &Arc<Provider>| provider.checked(checked_by));
        Ok(House::new(config, providers))
    }

    fn check_running(&self) -> Result<(), ReloadError> {
        match self.phase() {
            Phase::Running => Ok(()),
            phase => Err(ReloadError::NotRunning(phase)),
        }
    }
}
