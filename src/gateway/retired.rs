//! Pools that a reload has replaced: they take the last of those who found them, finish what they have, and end.
//!
//! **Protocol.** A request holds its provider from the moment that it found it until it ends or its stream runs by itself.
//! So an old pool stays as it was, for whoever still comes, until nobody but this list holds its provider: then nothing
//! can be handed in any more and nobody waits for an answer of it, and its workers are let go ([`Provider::release`]). Those that
//! relay a stream end with it. [`Retired::tend`] is called by the watchdog and looks how far each is; it waits for nobody.
//!
//! **Invariants.** I1: what a pool has begun it finishes; cut is only what has run longer than its own limits allow, all
//! together. I5: that deadline. I11: no channel is closed while somebody may hold it.
//!
//! **Lock order.** The list's lock may be held while workers are told to end and threads that have ended are joined, so it is
//! a [`ChannelLock`]; it ranks outside the rosters, and under a reload's.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use crate::events::Events;
use crate::provider::{Halt, PoolEnd, Provider};
use crate::sync::LockTimes;
use crate::sync::locks::{ChannelGuard, ChannelLock, LockError, classes};
use crate::time::Deadline;

/// How long the list is waited for: it is held while threads are told to end, and joined that have ended.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long what was cut has to end.
const CUT_WAIT: Duration = Duration::from_secs(2);

/// The pools that were replaced and have not ended.
pub(super) struct Retired(ChannelLock<Vec<Going>>);

/// A provider that was replaced. Whoever looks at it by this keeps it from nothing: what counts is who could hand something in.
pub(super) struct Kept(Arc<Provider>);

impl Deref for Kept {
    type Target = Provider;

    fn deref(&self) -> &Provider {
        &self.0
    }
}

/// A pool on its way out.
struct Going {
    provider: Arc<Kept>,
    stage: Stage,
    /// When what it still has must be over.
    until: Deadline,
}

enum Stage {
    /// Somebody may still come.
    Held,
    /// Nobody can: its workers end with what they are at.
    Released(Halt),
    /// What was left was cut.
    Cut(Halt),
}

impl Retired {
    pub(super) fn new(times: LockTimes) -> Self {
        Self(ChannelLock::new(&classes::RETIRED, times, Vec::new()))
    }

    /// Takes a pool that was replaced, whose requests have until `until` to end by themselves.
    ///
    /// # Errors
    /// If the list was not had: the provider then ends when the last who holds it lets go.
    pub(super) fn add(&self, providers: Vec<Arc<Provider>>, until: Deadline) -> Result<(), LockError> {
        let mut list = self.list()?;
        let going = |provider| Going { provider: Arc::new(Kept(provider)), stage: Stage::Held, until };
        list.extend(providers.into_iter().map(going));
        Ok(())
    }

    /// The providers whose pools have not ended, oldest first.
    pub(super) fn providers(&self) -> Vec<Arc<Kept>> {
        self.list().map_or_else(|_| Vec::new(), |list| list.iter().map(|going| Arc::clone(&going.provider)).collect())
    }

    /// Looks how far each is, and lets go what can be let go.
    pub(super) fn tend(&self, events: &Events) {
        let Ok(mut list) = self.list() else { return };
        let going = std::mem::take(&mut *list);
        list.extend(going.into_iter().filter_map(|going| going.on(events)));
    }

    /// Has all of them stop at once, for the gateway's end.
    pub(super) fn cut_all(&self) -> Vec<Halt> {
        let Ok(mut list) = self.list() else { return Vec::new() };
        let halts = list.drain(..).map(|Going { provider, stage, .. }| {
            let mut halt = match stage {
                Stage::Held => provider.release(),
                Stage::Released(halt) | Stage::Cut(halt) => halt,
            };
            halt.cut();
            halt
        });
        halts.collect()
    }

    fn list(&self) -> Result<ChannelGuard<'_, Vec<Going>>, LockError> {
        self.0.lock(PATIENCE).inspect_err(|error| log::error!("the list of replaced pools was not had: {error}"))
    }
}

impl Going {
    /// The next step, if it is time for one; `None` once it is over.
    fn on(self, events: &Events) -> Option<Self> {
        let Self { provider, stage, until } = self;
        let late = until.passed();
        let (stage, until) = match stage {
            Stage::Held if is_unshared(&provider.0) => (Stage::Released(provider.release()), until),
            Stage::Held if late => cut(provider.release()),
            Stage::Held => (Stage::Held, until),
            Stage::Released(mut halt) => match halt.reap() {
                true => return over(&provider, halt, events),
                false if late => cut(halt),
                false => (Stage::Released(halt), until),
            },
            Stage::Cut(mut halt) => match halt.reap() || late {
                true => return over(&provider, halt, events),
                false => (Stage::Cut(halt), until),
            },
        };
        Some(Self { provider, stage, until })
    }
}

fn cut(mut halt: Halt) -> (Stage, Deadline) {
    halt.cut();
    (Stage::Cut(halt), Deadline::after(CUT_WAIT))
}

/// Joins what has ended, and says what has not.
fn over(provider: &Provider, halt: Halt, events: &Events) -> Option<Going> {
    let name = provider.name();
    let PoolEnd { cut, swept, stragglers } = halt.join(Deadline::after(Duration::ZERO));
    if cut + swept == 0 && stragglers.is_empty() {
        log::info!("{name}: the replaced pool has ended");
        return None;
    }
    let mut text = format!("the replaced pool has ended late: {cut} cut, {swept} answered from the queue");
    if !stragglers.is_empty() {
        text = format!("{text}; threads that did not end: {}", stragglers.join(", "));
    }
    log::warn!("{name}: {text}");
    events.push("reload", name, text);
    None
}

/// Whether nobody else holds a provider. A weak handle leads to none of them.
fn is_unshared(provider: &Arc<Provider>) -> bool {
    let alone = Arc::strong_count(provider) == 1;
    // What the last holder did before it let go is seen from here on.
    fence(Ordering::Acquire);
    alone
}
