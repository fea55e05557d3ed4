//! What a gateway is made of by its configuration: the providers and what leads to them. A reload swaps it whole (I11).
//!
//! A request takes the house as it stands when its head arrives and keeps it until it ends or its stream runs by itself, so
//! that what it found stays there.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Scope};
use crate::error::{Code, Error, Result};
use crate::model::Call;
use crate::provider::Provider;
use crate::route;

/// The configuration in force and the providers made of it, in its order.
#[derive(Debug)]
pub(super) struct House {
    pub(super) config: Arc<Config>,
    pub(super) providers: Vec<Arc<Provider>>,
}

/// A model at a provider.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) provider: Arc<Provider>,
    pub(super) model: Arc<str>,
}

/// Where a request goes: the first target, and those to be tried after it, in order.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) first: Target,
    pub(super) rest: Vec<Target>,
}

impl Plan {
    pub(super) fn targets(&self) -> impl Iterator<Item = &Target> {
        std::iter::once(&self.first).chain(&self.rest)
    }
}

impl House {
    /// The providers' names, in the order of the configuration.
    pub(super) fn names(&self) -> Vec<&str> {
        self.providers.iter().map(|provider| &**provider.name()).collect()
    }

    /// The longest that a request of it may take by its providers' limits: each may be a target of it.
    pub(super) fn longest(&self) -> Duration {
        self.providers.iter().fold(Duration::ZERO, |sum, provider| sum.saturating_add(provider.longest()))
    }

    /// Where `call` goes.
    ///
    /// # Errors
    /// If it leads nowhere, or its key may not use what it leads to.
    pub(super) fn plan(&self, call: &Call) -> Result<Plan> {
        if !call.fields.fallbacks.is_empty() {
            let text = "fallbacks are not built yet in this version; leave the field out or empty";
            return Err(Error::new(Code::Unsupported, text).with_param("fallbacks"));
        }
        let (provider, model) = self.permitted(&call.fields.model, call.prefix, &call.scope)?;
        // Whoever may use all of a provider's models may name several; what a list of them means is the provider's to say.
        if call.fields.models && !call.scope.allows_all(provider.name()) {
            let text = "'models' names further models of the provider, not all of which this gateway key may use";
            return Err(Error::new(Code::Forbidden, text).with_param("models"));
        }
        Ok(Plan { first: Target { provider: Arc::clone(provider), model: model.into() }, rest: Vec::new() })
    }

    /// Finds what `name` leads to, if `scope` has it. One that leads nowhere is forbidden, too, where there is a
    /// restriction: nobody learns what there is beyond it.
    fn permitted<'a>(
        &self,
        name: &'a str,
        prefix: Option<&'a str>,
        scope: &Scope,
    ) -> Result<(&Arc<Provider>, &'a str)> {
        match self.target(name, prefix) {
            Ok((provider, model)) if scope.allows(provider.name(), model) => Ok((provider, model)),
            Err(error) if scope.is_any() => Err(error),
            _ => Err(scope.forbidden(name)),
        }
    }

    /// Finds the provider that serves `name`, and the model's name there. Under a prefix route a bare name means the
    /// provider of that `prefix`.
    fn target<'a>(&self, name: &'a str, prefix: Option<&'a str>) -> Result<(&Arc<Provider>, &'a str)> {
        let target = route::resolve(name, prefix, &self.names())?;
        let found = self.providers.iter().find(|provider| &**provider.name() == target.provider);
        let provider = found.ok_or_else(|| Error::new(Code::Internal, "a routed provider is gone"))?;
        Ok((provider, target.model))
    }
}
