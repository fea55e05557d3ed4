//! The plugins in force: those of the configuration first, then the program's own; swapped whole while requests run.
//!
//! Changed under the reload's lock alone; what is replaced is dropped outside it, since that may be a plugin's last. One of the configuration whose settings are the same goes on as it is, with
//! whatever it keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::build::StartError;
use crate::config::plugins::Plugin as Settings;
use crate::events::Events;
use crate::plugin::{Chain, Place, Plugin, PluginStats, builtin, let_go};
use crate::sync::{QuitSignal, Threads};

/// The plugins in force.
#[derive(Debug)]
pub(super) struct Plugins(ArcSwap<Set>);

/// A chain, and what it was made of.
#[derive(Debug)]
pub(super) struct Set {
    chain: Arc<Chain>,
    configured: Vec<(Settings, Arc<dyn Plugin>)>,
    own: Vec<Arc<dyn Plugin>>,
    /// What plugins of the configuration do by themselves.
    threads: Threads,
}

impl Plugins {
    /// The first of a gateway that ends with `end`.
    pub(super) fn new(
        configured: &[Settings],
        own: Vec<Arc<dyn Plugin>>,
        events: Events,
        threads: Threads,
        end: QuitSignal,
    ) -> Result<Self, StartError> {
        let chain = Arc::new(Chain::empty(events, end));
        let none = Set { chain, configured: Vec::new(), own: Vec::new(), threads };
        Ok(Self(ArcSwap::from_pointee(none.followed_by(configured, own)?)))
    }

    /// What is counted of each.
    pub(super) fn stats(&self) -> BTreeMap<String, PluginStats> {
        let chain = Arc::clone(&self.0.load().chain);
        chain.stats()
    }

    /// The chain in force, for one request, if there is a plugin in it.
    pub(super) fn in_force(&self) -> Option<Arc<Chain>> {
        let set = self.0.load();
        (!set.chain.is_empty()).then(|| Arc::clone(&set.chain))
    }

    /// What another configuration makes of them.
    pub(super) fn configured_as(&self, configured: &[Settings]) -> Result<Set, StartError> {
        let set = self.0.load();
        set.followed_by(configured, set.own.clone())
    }

    /// What other plugins of the program's own make of them.
    pub(super) fn with_own(&self, own: Vec<Arc<dyn Plugin>>) -> Result<Set, StartError> {
        let set = self.0.load();
        let configured: Vec<_> = set.configured.iter().map(|(settings, _)| settings.clone()).collect();
        set.followed_by(&configured, own)
    }

    /// Brings a set into force, and gives the one before, which may hold the last of a plugin: it is to be dropped where no
    /// lock is held.
    #[must_use = "it is to be dropped where no lock is held"]
    pub(super) fn swap(&self, set: Set) -> Arc<Set> {
        self.0.swap(Arc::new(set))
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        self.configured.drain(..).for_each(let_go);
        self.own.drain(..).for_each(let_go);
    }
}

impl Set {
    fn followed_by(&self, configured: &[Settings], own: Vec<Arc<dyn Plugin>>) -> Result<Self, StartError> {
        let known = |settings: &Settings| {
            let same = self.configured.iter().find(|(known, _)| known == settings);
            let made = || {
                let refused = |source| StartError::Plugin { plugin: settings.name(), source };
                builtin::make(settings, self.chain.events(), &self.threads, self.chain.end()).map_err(refused)
            };
            Ok((settings.clone(), same.map_or_else(made, |(_, plugin)| Ok(Arc::clone(plugin)))?))
        };
        let configured = configured.iter().map(known).collect::<Result<Vec<_>, StartError>>()?;
        let (before, behind): (Vec<_>, Vec<_>) = own.iter().partition(|plugin| plugin.place() == Place::Before);
        let all = before.into_iter().chain(configured.iter().map(|(_, plugin)| plugin)).chain(behind).cloned();
        let chain = Arc::new(self.chain.followed_by(all)?);
        Ok(Self { chain, configured, own, threads: self.threads.clone() })
    }
}
