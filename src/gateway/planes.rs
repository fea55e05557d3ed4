//! What data plane and admin plane alone need of a gateway.

use std::sync::Arc;

use super::{Gateway, RequestGuard, Snapshot};
use crate::config::{Config, Scope};
use crate::metrics::Tally;
use crate::plugin::Chain;
use crate::provider;

/// How long everything took so far: two looks tell what came between them.
pub(crate) struct Times {
    pub(crate) requests: Tally,
    /// Of each provider that there is, by its name.
    pub(crate) providers: Vec<(Arc<str>, provider::Times)>,
}

impl Gateway {
    /// Looks at the times of all requests, and of the jobs of each provider.
    pub(crate) fn times(&self) -> Times {
        let providers = self.house().providers.iter().map(|each| (Arc::clone(each.name()), each.times())).collect();
        Times { requests: self.0.requests.times(), providers }
    }

    /// Takes a sample of what was counted, out of a snapshot that is there already.
    pub(crate) fn sample_of(&self, snapshot: &Snapshot) {
        self.0.samples.take(snapshot);
    }

    /// Looks at the configuration in force, without taking a share of it.
    pub(crate) fn with_config<T>(&self, look: impl FnOnce(&Config) -> T) -> T {
        look(&self.0.house.load().config)
    }

    /// The aliases that a key of this scope may use, in the order of the configuration.
    pub(crate) fn aliases_in(&self, scope: &Scope) -> Vec<String> {
        self.house().routes.aliases(scope).map(str::to_owned).collect()
    }

    /// The plugins in force, if there are any, for whoever has a request as HTTP. They go on with it in its guard.
    pub(crate) fn http_plugins(&self) -> Option<Arc<Chain>> {
        self.0.plugins.in_force()
    }

    /// Waits until what the plugins in force have said before is where it is to go, for a process that ends without dropping
    /// them.
    #[cfg(feature = "cli")]
    pub(crate) fn flush_plugins(&self, until: crate::time::Deadline) {
        self.0.plugins.in_force().iter().for_each(|chain| chain.flush(until));
    }
}

impl RequestGuard {
    /// Keeps the plugins that it has met as HTTP: others that come meanwhile change nothing for it.
    pub(crate) fn keep_plugins(&mut self, plugins: Option<Arc<Chain>>) {
        self.plugins = Some(plugins);
    }
}
