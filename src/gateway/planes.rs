//! What data plane and admin plane alone need of a gateway.

use std::sync::Arc;

use super::Gateway;
use crate::config::Config;
use crate::plugin::Chain;

impl Gateway {
    /// Looks at the configuration in force, without taking a share of it.
    pub(crate) fn with_config<T>(&self, look: impl FnOnce(&Config) -> T) -> T {
        look(&self.0.house.load().config)
    }

    /// The plugins, if there are any, for whoever has a request or an answer as HTTP.
    pub(crate) fn http_plugins(&self) -> Option<Arc<Chain>> {
        let set = self.0.plugins.chain();
        (!set.chain().is_empty()).then(|| Arc::clone(set.chain()))
    }
}
