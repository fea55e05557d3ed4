//! What model names mean, who may use them, and the plan of a request: its targets in order, none of them twice.
//!
//! Aliases come first; else the name is split at its first slash, and what stands before it must be a provider; else it is
//! a bare name, which means the provider of a drop-in route and nobody anywhere else. A fallback that is an alias stands
//! for its targets, not for its own fallbacks, so that a plan cannot go round in circles.

use std::collections::HashMap;
use std::sync::Arc;

use super::meter::Meter;
use super::strategy::{Moment, Share, arrange};
use crate::config::{self, AliasTarget, ModelRef, Scope, Strategy, near};
use crate::error::{Code, Error, Result};

/// The most targets of a plan: as many as an alias may have, and the fallbacks that a body may name.
const MAX_TARGETS: usize = 128;

/// How many near names an error lists.
const NEAR: usize = 3;

/// The most of a name that an error shows, in characters.
const SHOWN: usize = 120;

/// Every name that leads somewhere. `P` stands for a provider, in whatever form the plan's reader wants it.
#[derive(Debug)]
pub struct Table<P> {
    providers: Vec<(Arc<str>, P)>,
    /// In the order of the configuration.
    aliases: Vec<Alias<P>>,
    /// Where each alias stands among them, by its name.
    places: HashMap<Arc<str>, usize>,
}

#[derive(Debug)]
struct Alias<P> {
    name: Arc<str>,
    shares: Vec<Share<P>>,
    strategy: Strategy,
    fallbacks: Vec<Target<P>>,
}

/// One model of one provider.
#[derive(Clone, Debug)]
pub struct Target<P> {
    /// The provider.
    pub provider: P,
    /// Its place in the list that the table was made of.
    place: usize,
    /// The model as the provider knows it.
    pub model: Arc<str>,
    /// Where it is to be noted how an attempt went, if a strategy asks for that.
    pub meter: Option<Arc<Meter>>,
}

/// Where a request goes: its targets in the order in which they are to be tried, none of them twice.
#[derive(Debug)]
pub struct Plan<P> {
    /// Apart, so that the plan of most requests needs no list.
    first: Target<P>,
    rest: Vec<Target<P>>,
}

/// What a request says of where it wants to go.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its `model`.
    pub model: &'a str,
    /// The provider that a bare name means on its route.
    pub prefix: Option<&'a str>,
    /// Its own `fallbacks`.
    pub fallbacks: &'a [String],
    /// Whether it names further models of the provider's.
    pub models: bool,
    /// Whether it asks for a stream.
    pub streamed: bool,
    /// What its caller may use.
    pub scope: &'a Scope,
}

/// What a name means.
enum Meaning<'t, 'n, P> {
    Alias(&'t Alias<P>),
    /// The place of a provider, and its model.
    Model(usize, &'n str),
}

impl<P: Clone> Table<P> {
    /// The table of `providers` by their names, and of aliases that name no others.
    #[must_use]
    pub fn new(providers: Vec<(Arc<str>, P)>, aliases: &[config::Alias]) -> Self {
        let target = |model: &ModelRef, strategy| {
            let place = providers.iter().position(|(name, _)| **name == *model.provider)?;
            let meter = (strategy == Strategy::Latency).then(Arc::default);
            Some(Target { provider: providers[place].1.clone(), place, model: model.model.as_str().into(), meter })
        };
        let alias = |alias: &config::Alias| {
            let share = |share: &AliasTarget| {
                Some(Share { target: target(&share.model, alias.strategy)?, weight: share.weight })
            };
            Alias {
                name: alias.name.as_str().into(),
                shares: alias.targets.iter().filter_map(share).collect(),
                strategy: alias.strategy,
                fallbacks: alias.fallbacks.iter().filter_map(|model| target(model, Strategy::Order)).collect(),
            }
        };
        let aliases: Vec<_> = aliases.iter().map(alias).filter(|alias| !alias.shares.is_empty()).collect();
        let places = aliases.iter().enumerate().map(|(place, alias)| (Arc::clone(&alias.name), place)).collect();
        Self { providers, aliases, places }
    }

    /// The targets of a request.
    ///
    /// # Errors
    /// [`Code::ModelNotFound`] if its model leads nowhere, [`Code::InvalidRequest`] if a fallback does or there are too
    /// many, both with near names; [`Code::Forbidden`] if the caller may not use one of them, or may not know whether it
    /// leads anywhere.
    pub fn plan(&self, asked: &Asked<'_>, moment: &mut impl Moment<P>) -> Result<Plan<P>> {
        let mut plan = match self.permitted(asked.model, asked)? {
            Meaning::Model(place, model) => Plan { first: self.target(place, model), rest: Vec::new() },
            Meaning::Alias(alias) => {
                let mut plan = Plan::of(arrange(&alias.shares, alias.strategy, asked.streamed, moment))
                    .ok_or_else(|| Error::new(Code::Internal, "an alias stands for nothing"))?;
                if asked.fallbacks.is_empty() {
                    // Whoever may use the alias by its name may use all that stands in it.
                    let named = asked.scope.names_alias(&alias.name);
                    plan.extend(alias.fallbacks.iter().filter(|target| named || self.allows(asked.scope, target)))?;
                }
                plan
            }
        };
        for (index, name) in asked.fallbacks.iter().enumerate() {
            match self.permitted(name, asked).map_err(|error| of_fallback(&error, index))? {
                Meaning::Model(place, model) => plan.push(self.target(place, model))?,
                Meaning::Alias(alias) => {
                    plan.extend(arrange(&alias.shares, alias.strategy, asked.streamed, moment))?;
                }
            }
        }
        // Whoever may use all of a provider's models may name several; what a list of them means is the provider's to say.
        if asked.models && !plan.targets().all(|target| asked.scope.allows_all(&self.providers[target.place].0)) {
            let text = "'models' names further models of the provider, not all of which this gateway key may use";
            return Err(Error::new(Code::Forbidden, text).with_param("models"));
        }
        Ok(plan)
    }

    /// The providers that `name` may lead to by itself, without fallbacks; none if it leads nowhere.
    pub fn leads_to(&self, name: &str) -> Vec<&P> {
        match self.find(name, None) {
            Ok(Meaning::Alias(alias)) => alias.shares.iter().map(|share| &share.target.provider).collect(),
            Ok(Meaning::Model(place, _)) => vec![&self.providers[place].1],
            Err(_) => Vec::new(),
        }
    }

    /// The aliases that `scope` has, in the order of the configuration.
    pub fn aliases<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a str> {
        self.aliases.iter().filter(|alias| self.may_use(scope, alias)).map(|alias| &*alias.name)
    }

    fn target(&self, place: usize, model: &str) -> Target<P> {
        Target { provider: self.providers[place].1.clone(), place, model: model.into(), meter: None }
    }

    /// What `name` means, if the caller may use it. One that leads nowhere is forbidden, too, where there is a restriction:
    /// nobody learns what there is beyond it.
    fn permitted<'n>(&self, name: &'n str, asked: &Asked<'_>) -> Result<Meaning<'_, 'n, P>> {
        let scope = asked.scope;
        match self.find(name, asked.prefix) {
            Err(error) if scope.is_any() => Err(error),
            Ok(Meaning::Model(place, model)) if scope.allows(&self.providers[place].0, model) => {
                Ok(Meaning::Model(place, model))
            }
            Ok(Meaning::Alias(alias)) if self.may_use(scope, alias) => Ok(Meaning::Alias(alias)),
            _ => Err(scope.forbidden(name)),
        }
    }

    fn may_use(&self, scope: &Scope, alias: &Alias<P>) -> bool {
        scope.names_alias(&alias.name) || alias.shares.iter().all(|share| self.allows(scope, &share.target))
    }

    fn allows(&self, scope: &Scope, target: &Target<P>) -> bool {
        scope.allows(&self.providers[target.place].0, &target.model)
    }

    fn find<'n>(&self, name: &'n str, prefix: Option<&str>) -> Result<Meaning<'_, 'n, P>> {
        if let Some(place) = self.places.get(name) {
            return Ok(Meaning::Alias(&self.aliases[*place]));
        }
        let place = |wanted: &str| self.providers.iter().position(|(name, _)| **name == *wanted);
        if let Some((left, model)) = name.split_once('/')
            && let Some(place) = place(left)
        {
            if model.is_empty() {
                let text = format!("the model name {:?} ends after its provider; write {left}/<model>", shown(name));
                return Err(Error::new(Code::ModelNotFound, text).with_param("model"));
            }
            return Ok(Meaning::Model(place, model));
        }
        match prefix.map(|prefix| place(prefix).ok_or(prefix)) {
            Some(Ok(place)) => Ok(Meaning::Model(place, name)),
            Some(Err(prefix)) => {
                let known = self.names().collect::<Vec<_>>().join(", ");
                let text = format!(
                    "there is no provider named {prefix:?}, which is what this route leads to; the providers are: {known}"
                );
                Err(Error::new(Code::ModelNotFound, text))
            }
            None => {
                let (known, near) = (self.names().collect::<Vec<_>>().join(", "), self.near(name));
                let near = if near.is_empty() { String::new() } else { format!("; near: {}", near.join(", ")) };
                let text = format!(
                    "there is no model {:?}: write it as provider/model, where the provider is one of: {known}{near}",
                    shown(name)
                );
                Err(Error::new(Code::ModelNotFound, text).with_param("model"))
            }
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.providers.iter().map(|(name, _)| &**name)
    }

    /// Names that the caller may have meant: aliases, and the same model at a provider whose name is near, or at every one
    /// for a bare name.
    fn near(&self, name: &str) -> Vec<String> {
        let aliases = near(name, self.aliases.iter().map(|alias| &*alias.name));
        let mut ranked: Vec<_> = aliases.map(|(far, alias)| (far, alias.to_owned())).collect();
        match name.split_once('/') {
            Some((left, model)) => {
                ranked.extend(near(left, self.names()).map(|(far, near)| (far, format!("{near}/{}", shown(model)))));
            }
            None => ranked.extend(self.names().map(|near| (usize::MAX, format!("{near}/{}", shown(name))))),
        }
        ranked.sort_unstable();
        ranked.into_iter().take(NEAR).map(|(_, name)| name).collect()
    }
}

impl<P: Clone> Plan<P> {
    /// The target that is tried first.
    pub fn first(&self) -> &Target<P> {
        &self.first
    }

    /// The targets, in order.
    pub fn targets(&self) -> impl Iterator<Item = &Target<P>> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// A plan of an alias's targets, none of which it has twice; none if there are none.
    fn of(targets: Vec<&Target<P>>) -> Option<Self> {
        let mut targets = targets.into_iter().cloned();
        Some(Self { first: targets.next()?, rest: targets.collect() })
    }

    /// Puts a target at its end, unless it is there already.
    fn push(&mut self, target: Target<P>) -> Result<()> {
        if self.targets().any(|known| known.place == target.place && known.model == target.model) {
            return Ok(());
        }
        if self.rest.len() + 1 >= MAX_TARGETS {
            let text = format!("'fallbacks' lead to more than {MAX_TARGETS} targets");
            return Err(Error::invalid("fallbacks", text));
        }
        self.rest.push(target);
        Ok(())
    }

    fn extend<'a>(&mut self, targets: impl IntoIterator<Item = &'a Target<P>>) -> Result<()>
    where
        P: 'a,
    {
        targets.into_iter().try_for_each(|target| self.push(target.clone()))
    }
}

/// What is wrong with a fallback, by what would be wrong with it as a model.
fn of_fallback(error: &Error, index: usize) -> Error {
    let code = if error.code() == Code::Forbidden { Code::Forbidden } else { Code::InvalidRequest };
    let text = format!("'fallbacks[{index}]': {}", error.message());
    Error::new(code, text).with_param("fallbacks")
}

fn shown(name: &str) -> String {
    name.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests;
