//! The plugins in force: those of the configuration first, then the program's own; swapped whole while requests run.
//!
//! Changed under the reload's lock alone. One of the configuration whose settings are the same goes on as it is, with
//! whatever it keeps.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::build::StartError;
use crate::config::plugins::Plugin as Settings;
use crate::events::Events;
use crate::plugin::{Chain, Plugin, builtin};

/// The plugins in force.
#[derive(Debug)]
pub(super) struct Plugins(ArcSwap<Set>);

/// A chain, and what it was made of.
#[derive(Debug)]
pub(super) struct Set {
    chain: Arc<Chain>,
    configured: Vec<(Settings, Arc<dyn Plugin>)>,
    own: Vec<Arc<dyn Plugin>>,
}

impl Plugins {
    /// The first of a gateway.
    pub(super) fn new(configured: &[Settings], own: Vec<Arc<dyn Plugin>>, events: Events) -> Result<Self, StartError> {
        let none = Set { chain: Arc::new(Chain::empty(events)), configured: Vec::new(), own: Vec::new() };
        Ok(Self(ArcSwap::from_pointee(none.followed_by(configured, own)?)))
    }

    /// The chain in force, for one request.
    pub(super) fn chain(&self) -> Guard<Arc<Set>> {
        self.0.load()
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

    /// Brings a set into force.
    pub(super) fn swap(&self, set: Set) {
        self.0.store(Arc::new(set));
    }
}

impl Set {
    pub(super) fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    fn followed_by(&self, configured: &[Settings], own: Vec<Arc<dyn Plugin>>) -> Result<Self, StartError> {
        let known = |settings: &Settings| {
            let same = self.configured.iter().find(|(known, _)| known == settings);
            let made = || {
                let refused = |source| StartError::Plugin { plugin: settings.name(), source };
                builtin::make(settings, self.chain.events()).map_err(refused)
            };
            Ok((settings.clone(), same.map_or_else(made, |(_, plugin)| Ok(Arc::clone(plugin)))?))
        };
        let configured = configured.iter().map(known).collect::<Result<Vec<_>, StartError>>()?;
        let all = configured.iter().map(|(_, plugin)| plugin).chain(&own).cloned();
        let chain = Arc::new(self.chain.followed_by(all)?);
        Ok(Self { chain, configured, own })
    }
}
