//! What a gateway is made of by its configuration: the providers and what leads to them. A reload swaps it whole (I11).
//!
//! A request takes the house as it stands when its head arrives and keeps it until it ends or its stream runs by itself, so
//! that what it found stays there.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::error::Result;
use crate::model::Call;
use crate::provider::Provider;
use crate::route::{Asked, Moment, Table};
use crate::time::Stamp;

/// A model at a provider.
pub(super) type Target = crate::route::Target<Arc<Provider>>;

/// Where a request goes.
pub(super) type Plan = crate::route::Plan<Arc<Provider>>;

/// The configuration in force and what is made of it: its providers in its order, and the names that lead to them.
#[derive(Debug)]
pub(super) struct House {
    pub(super) config: Arc<Config>,
    pub(super) providers: Vec<Arc<Provider>>,
    pub(super) routes: Table<Arc<Provider>>,
}

impl House {
    /// The house of `config`, whose `providers` have been started.
    pub(super) fn new(config: Config, providers: Vec<Arc<Provider>>) -> Self {
        let named = providers.iter().map(|provider| (Arc::clone(provider.name()), Arc::clone(provider))).collect();
        let routes = Table::new(named, &config.aliases);
        Self { config: Arc::new(config), providers, routes }
    }

    /// The providers' names, in the order of the configuration.
    pub(super) fn names(&self) -> Vec<&str> {
        self.providers.iter().map(|provider| &**provider.name()).collect()
    }

    /// The provider of this name.
    pub(super) fn provider(&self, name: &str) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| **provider.name() == *name)
    }

    /// How many events are held for a library caller who asks for `model`: the most that one of those has who may answer.
    pub(super) fn result_buffer(&self, model: &str) -> usize {
        let providers = self.routes.leads_to(model).into_iter();
        let depths = providers.filter_map(|provider| Some(self.config.provider(provider.name())?.result_buffer));
        depths.max().unwrap_or(1)
    }

    /// The longest that a request of it may take by its providers' limits: each may be a target of it.
    pub(super) fn longest(&self) -> Duration {
        self.providers.iter().fold(Duration::ZERO, |sum, provider| sum.saturating_add(provider.longest()))
    }

    /// Where `call` goes.
    ///
    /// # Errors
    /// If it or one of its fallbacks leads nowhere, or its key may not use what they lead to.
    pub(super) fn plan(&self, call: &Call) -> Result<Plan> {
        let fields = &call.fields;
        let asked = Asked {
            model: &fields.model,
            prefix: call.prefix,
            fallbacks: &fields.fallbacks,
            models: fields.models,
            streamed: fields.stream,
            scope: &call.scope,
        };
        self.routes.plan(&asked, &mut Here)
    }
}

/// The moment at which a request is planned.
struct Here;

impl Moment<Arc<Provider>> for Here {
    fn now(&mut self) -> Stamp {
        Stamp::now()
    }

    fn draw(&mut self) -> f64 {
        fastrand::f64()
    }

    fn busy(&mut self, provider: &Arc<Provider>) -> f64 {
        provider.busy()
    }

    fn is_usable(&mut self, provider: &Arc<Provider>, model: &str) -> bool {
        provider.takes(model)
    }
}
