//! No built-in plugins: what stands for them where the crate is built without the feature `plugins`.

use std::sync::Arc;

use super::{Plugin, PluginError};
use crate::config::plugins::Plugin as Settings;
use crate::events::Events;
use crate::sync::{QuitSignal, Threads};

/// Never called: a configuration that names a plugin is refused.
pub(crate) fn make(
    settings: &Settings,
    _: &Events,
    _: &Threads,
    _: &QuitSignal,
) -> Result<Arc<dyn Plugin>, PluginError> {
    unreachable!("the configuration refuses {} without the feature", settings.name())
}
