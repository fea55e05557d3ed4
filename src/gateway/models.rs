//! The models that there are to ask for: those known beforehand, and providers' own lists once somebody has asked for them.
//!
//! **Protocol.** A list is asked for through its provider's pool, of all providers at once, each by itself: one that gives none
//! keeps the list that it had. What came stands until the next refresh. One thread refreshes at a time and the others wait
//! for it, and within [`REFRESH_EVERY`] of one that was whole nobody is asked again: whoever may look at the list cannot make
//! the gateway call providers more often, however many they are.
//!
//! **Invariants.** I4: `wire::models` bounds a list, and there is one for each provider of the configuration. I5. I6: the one lock is
//! a leaf; nothing is asked or waited for under it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Gateway;
use super::house::House;
use crate::config::{self, Kind};
use crate::error::{Code, Error};
use crate::provider::LIST_TIMEOUT;
use crate::sim::Sim;
use crate::sync::locks::{Leaf, classes};
use crate::sync::{State, threads};
use crate::time::{Deadline, now};
use crate::wire::models::{self, Listed};

/// How long what providers said is not asked again.
const REFRESH_EVERY: Duration = Duration::from_secs(10);

/// A model that a provider has.
///
/// ```
/// let gateway = sluicegate::Gateway::from_env()?;
/// let echo = gateway.model("sim/echo").ok_or("there is no such model")?;
/// assert_eq!((echo.provider.as_str(), echo.model.as_str()), ("sim", "echo"));
/// assert_eq!(gateway.ask(&echo.to_string(), "Hello")?, "Hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelName {
    /// The provider's name.
    pub provider: String,
    /// The model as the provider knows it.
    pub model: String,
    /// When it was made, in seconds of Unix time, if its provider has been asked and says so.
    pub created: Option<u64>,
    /// Who owns it, if its provider has been asked and says so.
    pub owned_by: Option<String>,
}

impl ModelName {
    fn of(provider: &str, model: &str) -> Self {
        Self { provider: provider.to_owned(), model: model.to_owned(), created: None, owned_by: None }
    }

    fn is(&self, name: &str) -> bool {
        name.split_once('/').is_some_and(|(provider, model)| provider == self.provider && model == self.model)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}

/// What came of asking providers for their lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelsRefresh {
    /// The providers that gave theirs.
    pub renewed: Vec<String>,
    /// Those that did not, whose lists from before stand.
    pub failed: Vec<ModelsFailure>,
}

/// A provider that gave no list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelsFailure {
    /// The provider's name.
    pub provider: String,
    /// What kind of failure it was.
    pub code: Code,
    /// Why, in words.
    pub message: String,
}

/// What providers said, and who asks them.
pub(super) struct Lists(Leaf<Book>);

#[derive(Default)]
struct Book {
    /// By provider: where it lived when it was asked, and what it said.
    lists: BTreeMap<String, (String, Arc<[Listed]>)>,
    /// When the last refresh ended that was whole, and what came of it.
    last: Option<(Instant, ModelsRefresh)>,
    /// Closes when the refresh under way ends.
    under_way: Option<Receiver<Infallible>>,
}

impl Lists {
    pub(super) fn new() -> Self {
        Self(Leaf::new(&classes::MODELS, Book::default()))
    }

    /// What `provider` said, if it was asked since it lives where it does.
    fn of(&self, provider: &config::Provider) -> Option<Arc<[Listed]>> {
        let book = self.0.lock();
        let (at, list) = book.lists.get(&provider.name)?;
        (*at == provider.network.base_url).then(|| Arc::clone(list))
    }
}

/// What whoever wants a refresh is to do.
enum Turn<'a> {
    /// It is over already.
    Done(ModelsRefresh),
    /// Wait for who is at it.
    Wait(Receiver<Infallible>),
    /// Do it.
    Go(Flight<'a>),
}

/// The right to refresh; dropped, it has ended, and who waited looks again.
struct Flight<'a> {
    lists: &'a Lists,
    over: Option<Sender<Infallible>>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.lists.0.lock().under_way = None;
        drop(self.over.take());
    }
}

impl Lists {
    fn turn(&self, now: Instant) -> Turn<'_> {
        let mut book = self.0.lock();
        if let Some((at, last)) = &book.last
            && now.saturating_duration_since(*at) < REFRESH_EVERY
        {
            return Turn::Done(last.clone());
        }
        if let Some(under_way) = &book.under_way {
            return Turn::Wait(under_way.clone());
        }
        let (over, under_way) = bounded(0);
        book.under_way = Some(under_way);
        Turn::Go(Flight { lists: self, over: Some(over) })
    }
}

impl Gateway {
    /// The models that are known, as `provider/model` in the order of the configuration: a provider's own list, once one was
    /// had by [`refresh_models`](Self::refresh_models), until then a built-in one, or what a custom one says, where a key of
    /// its goes for any model; Azure's deployments; and those that its keys name. There may be more; the provider knows.
    #[must_use]
    pub fn models(&self) -> Vec<ModelName> {
        let mut names = Vec::new();
        for provider in &self.config().providers {
            self.models_of(provider, &mut names);
        }
        names
    }

    fn models_of(&self, provider: &config::Provider, names: &mut Vec<ModelName>) {
        let name = |model: &str| ModelName::of(&provider.name, model);
        if let Some(list) = self.0.lists.of(provider) {
            let said: BTreeMap<_, _> = list.iter().map(|listed| (listed.id.as_str(), listed)).collect();
            let ids: Vec<_> = list.iter().map(|listed| listed.id.as_str()).collect();
            let known = provider.known_models(&ids);
            names.extend(known.into_iter().map(|model| {
                let said = said.get(model);
                let owned_by = said.and_then(|said| said.owned_by.clone());
                ModelName { created: said.and_then(|said| said.created), owned_by, ..name(model) }
            }));
            return;
        }
        let own = match provider.kind {
            Kind::Custom => self.0.ground.customs.models(&provider.name),
            _ => Vec::new(),
        };
        let own: Vec<_> = own.iter().map(String::as_str).collect();
        let built_in = match provider.kind {
            Kind::Sim => Sim::MODELS,
            Kind::Custom => &own,
            _ => provider.models,
        };
        names.extend(provider.known_models(built_in).into_iter().map(name));
    }

    /// The model `provider/model` of this name, if it is known that there is one. An alias is not found here.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<ModelName> {
        let (provider, model) = name.split_once('/')?;
        let config = self.config();
        let provider = config.provider(provider)?;
        let mut names = Vec::new();
        self.models_of(provider, &mut names);
        let found = names.into_iter().find(|model| model.is(name));
        found.or_else(|| {
            // The simulated provider has more models than a list can hold.
            let known = provider.kind == Kind::Sim && provider.has_key_for(model) && Sim::has_model(model);
            known.then(|| ModelName::of(&provider.name, model))
        })
    }

    /// Asks each provider for its own list of models, all at once, and waits for them: five seconds at most, and no longer
    /// than `deadline`. What came is in [`models`](Self::models) from then on. A provider that fails keeps the list that it had; those that have
    /// none on the network, and Azure, whose list is not of what is deployed, are not asked.
    ///
    /// One refresh runs at a time, and whoever asks meanwhile gets what comes of it; within ten seconds of the last one that
    /// was whole nobody is asked, and its outcome is given again.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let gateway = sluicegate::Gateway::builder().provider(sluicegate::ProviderSetup::sim("sim")).build()?;
    /// let refreshed = gateway.refresh_models(Duration::from_secs(5));
    /// assert!(refreshed.failed.is_empty());
    /// assert!(gateway.models().iter().any(|model| model.to_string() == "sim/echo"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "it says which providers failed"]
    pub fn refresh_models(&self, deadline: impl Into<Deadline>) -> ModelsRefresh {
        let deadline = deadline.into();
        let until = Deadline::after(LIST_TIMEOUT).earlier(deadline);
        let _due = threads::due(until.remaining());
        let _waiting = threads::enter(State::WaitingChannel);
        loop {
            match self.0.lists.turn(now()) {
                Turn::Done(last) => return last,
                Turn::Wait(under_way) => {
                    if under_way.recv_timeout(until.remaining()).is_err_and(|error| error.is_timeout()) {
                        let late = || Error::new(Code::UpstreamTimeout, "the lists of models did not come in time");
                        let asked = self.config();
                        let asked = asked.providers.iter().filter(|provider| provider.lists_models());
                        let failed = asked.map(|provider| failure(&provider.name, &late())).collect();
                        return ModelsRefresh { renewed: Vec::new(), failed };
                    }
                }
                Turn::Go(flight) => return self.refresh(&flight, until, until < deadline),
            }
        }
    }

    /// Does it. It was `whole` if each provider had its time.
    fn refresh(&self, flight: &Flight<'_>, until: Deadline, whole: bool) -> ModelsRefresh {
        let house = self.house();
        let asked: Vec<_> = house.config.providers.iter().filter(|provider| provider.lists_models()).collect();
        let coming: Vec<_> = asked.iter().map(|provider| begin(&house, &provider.name, until)).collect();
        let mut outcome = ModelsRefresh::default();
        let mut came = Vec::new();
        for (provider, coming) in asked.into_iter().zip(coming) {
            let body = coming.and_then(|coming| coming.wait(until));
            let no_list = || Error::new(Code::UpstreamBadResponse, "its answer is no list of models");
            match body.and_then(|body| models::read(&body).ok_or_else(no_list)) {
                Ok(list) => {
                    outcome.renewed.push(provider.name.clone());
                    came.push((provider.name.clone(), (provider.network.base_url.clone(), list.into())));
                }
                Err(error) => outcome.failed.push(failure(&provider.name, &error)),
            }
        }
        let mut book = flight.lists.0.lock();
        book.lists.retain(|name, _| house.config.provider(name).is_some());
        book.lists.extend(came);
        if whole || outcome.failed.is_empty() {
            book.last = Some((now(), outcome.clone()));
        }
        outcome
    }
}

fn begin(house: &House, name: &str, until: Deadline) -> Result<crate::provider::Coming, Error> {
    let gone = || Error::new(Code::ShuttingDown, "the provider is not there any more");
    house.provider(name).ok_or_else(gone)?.list_models(until)
}

fn failure(provider: &str, error: &Error) -> ModelsFailure {
    ModelsFailure { provider: provider.to_owned(), code: error.code(), message: error.message().to_owned() }
}
