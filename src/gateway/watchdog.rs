//! The watchdog: one thread that looks at what no request and no lock shows, and keeps the alerts.
//!
//! **Protocol.** It waits for {quit, the next duty}. Duties have intervals of their own: threads and jobs are looked at each
//! `threads.health_interval`, locks each `locks.detect_interval`; once a second the object pools are swept and judged, and
//! what costs a look into `/proc` is looked at; twice a second, whether requests are being refused and whether files that the
//! configuration refers to have changed, which leads to a reload on a thread of its own; four times, how far replaced pools
//! are. What is wrong with threads
//! and jobs is judged by `vitals`, which knows no clock and no thread; here the findings become alerts, and an alert whose
//! finding has gone is cleared.
//!
//! **Invariants.** It takes no lock that a request takes but leaves, for moments. I5: it sleeps at most a second.
//!
//! **Shutdown.** It holds the gateway weakly, so it keeps none alive; one whose last handle goes just while it looks ends on
//! its thread. It ends with its quit signal.
//!
//! **Panics.** A service: it goes on after one. What it had raised stands outside its work, so that it is still cleared.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::select;

use super::load::{Load, Sample, nofile};
use super::overload::Overload;
use super::snapshot::{open_fds_below, resident};
use super::vitals::{self, Finding, Share, View};
use super::{ReloadError, WeakGateway};
use crate::config::{Config, Files};
use crate::events::{Events, LockWatch};
use crate::http::{Certificates, Look};
use crate::provider::Stock;
use crate::sync::threads::{GRACE, STEADY, SpawnError};
use crate::sync::{Quit, QuitSignal, Role, State, Thread, Threads, threads};
use crate::time::{Deadline, now};

/// How often what a look into `/proc` tells is judged.
const SLOWLY: Duration = Duration::from_secs(1);

/// How often it is looked whether requests are being refused.
const REFUSALS: Duration = Duration::from_millis(500);

/// How often it is looked whether files that the configuration refers to have changed.
const REFERENCES: Duration = Duration::from_millis(500);

/// How often it is looked how far replaced pools are.
const RETIRED: Duration = Duration::from_millis(250);

/// Whom the events and alerts of the certificate concern.
const TLS: &str = "server.tls";

/// The alert that new files cannot be used.
const CERTIFICATE_REFUSED: &str = "certificate_refused";

/// The alert that the certificate in force has expired, or is not valid yet.
const CERTIFICATE_INVALID: &str = "certificate_invalid";

/// How much later than it meant to the watchdog may wake: what threads are given beyond their times, less the longest that
/// it sleeps. Past it the process was stopped or frozen, or got no processor, and everybody's times have run out meanwhile:
/// who is late by that is not stuck.
const OVERSLEPT: Duration = Duration::from_secs(1);
const _: () = assert!(OVERSLEPT.as_millis() + SLOWLY.as_millis() <= GRACE.as_millis(), "it would notice too late");

/// The running watchdog. Field order is drop order: the quit signal is given before the handle goes.
#[derive(Debug)]
pub(super) struct Watchdog {
    quit: Quit,
    thread: Thread,
}

impl Watchdog {
    /// Starts looking after `gateway`, `threads`, what `watched` holds, and the locks of this process.
    ///
    /// # Errors
    /// If its thread cannot be started.
    pub(super) fn start(
        threads: &Threads,
        gateway: WeakGateway,
        watched: (Stock, Arc<Load>, Option<Arc<Certificates>>, Events),
        every: Intervals,
    ) -> Result<Self, SpawnError> {
        let quit = Quit::new();
        let (stock, load, certificates, events) = watched;
        let mut watch = Watch {
            threads: threads.clone(),
            gateway,
            references: References::default(),
            stock,
            certificates,
            locks: LockWatch::new(events.clone()),
            events,
            health: Raised::default(),
            limits: Raised::default(),
            load,
            overload: Overload::default(),
            refusals: Raised::default(),
        };
        // The first requests are judged by something, too.
        watch.look_at_limits(now());
        let duty = |every, does| Duty { every, next: now(), does };
        let mut duties = [
            duty(every.health, Watch::look_after_health),
            duty(every.locks, Watch::look_at_locks),
            duty(SLOWLY, Watch::look_at_limits),
            duty(REFUSALS, Watch::look_at_refusals),
            duty(SLOWLY, Watch::tend_stock),
            duty(SLOWLY, Watch::look_at_certificates),
            duty(REFERENCES, Watch::look_at_references),
            duty(RETIRED, Watch::tend_retired),
        ];
        let signal = quit.watch();
        let thread = threads.service(Role::Watchdog, "watchdog", move || run(&mut watch, &mut duties, &signal))?;
        Ok(Self { quit, thread })
    }

    /// Ends it; gives its name back if it is still at something then.
    pub(super) fn stop(self, deadline: Deadline) -> Option<String> {
        drop(self.quit);
        self.thread.join(deadline).err().map(|thread| thread.name().to_owned())
    }
}

/// How often it looks, by configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Intervals {
    /// At threads and jobs: `threads.health_interval`.
    pub(super) health: Duration,
    /// For deadlocks: `locks.detect_interval`.
    pub(super) locks: Duration,
}

/// Something to be done at an interval.
struct Duty {
    every: Duration,
    next: Instant,
    does: fn(&mut Watch, Instant),
}

fn run(watch: &mut Watch, duties: &mut [Duty], quit: &QuitSignal) {
    let mut overslept = false;
    loop {
        let next = duties.iter().map(|duty| duty.next).min().unwrap_or_else(now);
        let sleep = Deadline::at(next).remaining();
        {
            let _resting = threads::rest(State::WaitingChannel, sleep);
            select! {
                recv(quit.channel()) -> _ => return,
                default(sleep) => {}
            }
        }
        let _round = threads::round(threads::ROUND);
        threads::count_job();
        let woke = now();
        overslept = woke.saturating_duration_since(next) > OVERSLEPT && !overslept;
        if overslept {
            // Everybody comes round first; not twice in a row, or it would never look where processors are always short.
            duties.iter_mut().for_each(|duty| duty.next = woke + duty.every);
            continue;
        }
        for duty in duties.iter_mut() {
            let now = now();
            if duty.next <= now {
                // Before it is done: one that panics is not tried again at once.
                duty.next = now + duty.every;
                (duty.does)(watch, now);
            }
        }
    }
}

/// What the watchdog looks at, and what it has raised.
struct Watch {
    threads: Threads,
    gateway: WeakGateway,
    references: References,
    stock: Stock,
    certificates: Option<Arc<Certificates>>,
    locks: LockWatch,
    events: Events,
    health: Raised,
    limits: Raised,
    load: Arc<Load>,
    overload: Overload,
    refusals: Raised,
}

impl Watch {
    fn look_after_health(&mut self, now: Instant) {
        let view = View {
            threads: self.threads.list(),
            panics: self.threads.recent_panics(now, STEADY),
            pools: self.gateway.upgrade().map_or_else(Vec::new, |gateway| gateway.vitals(now)),
        };
        self.health.tell(&self.events, vitals::judge(&view));
    }

    fn look_at_locks(&mut self, now: Instant) {
        self.locks.look(now);
    }

    fn tend_stock(&mut self, now: Instant) {
        self.stock.tend(now, &self.events);
    }

    fn look_at_certificates(&mut self, _now: Instant) {
        let Some(certificates) = &self.certificates else { return };
        match certificates.look() {
            Look::Same => {}
            Look::Taken => {
                log::info!("the files of server.tls have changed and are in force");
                self.events.push("reload", TLS, "the files have changed and are in force for new connections");
                self.events.clear(CERTIFICATE_REFUSED, TLS);
            }
            Look::Refused(why) => {
                let message = format!("the files have changed and cannot be used; the old certificate stays: {why}");
                self.events.raise(CERTIFICATE_REFUSED, TLS, message);
            }
        }
        self.events.set(CERTIFICATE_INVALID, TLS, certificates.remark());
    }

    fn tend_retired(&mut self, _now: Instant) {
        if let Some(gateway) = self.gateway.upgrade() {
            gateway.tend_retired();
        }
    }

    fn look_at_references(&mut self, _now: Instant) {
        let Some(gateway) = self.gateway.upgrade() else { return };
        let before = self.references.files.clone();
        if !self.references.have_changed(&gateway.config()) {
            return;
        }
        // Pools are started by it: that is not done here.
        let weak = self.gateway.clone();
        let started = self.threads.spawn(Role::Watchdog, "reload", move || {
            log::info!("a file that the configuration refers to has changed");
            // The events say what came of it; one that was not had may have read the file before it changed.
            while let Some(gateway) = weak.upgrade()
                && matches!(gateway.reread(), Err(ReloadError::Busy(_)))
            {}
        });
        if let Err(error) = started {
            log::warn!("no thread for a reload, which is tried again: {error}");
            self.references.files = before;
        }
    }

    fn look_at_limits(&mut self, _now: Instant) {
        let threads = Share {
            used: self.threads.active(),
            limit: self.threads.limit(),
            stands: self.limits.has(vitals::THREADS_NEAR_LIMIT),
        };
        let descriptors = nofile().and_then(|limit| Some((open_fds_below(limit)?, limit)));
        self.load.note(Sample {
            resident: resident(),
            descriptors_left: descriptors.map(|(used, limit)| limit.saturating_sub(used)),
        });
        let descriptors = descriptors.map(|(used, limit)| Share {
            used,
            limit,
            stands: self.limits.has(vitals::DESCRIPTORS_NEAR_LIMIT),
        });
        self.limits.tell(&self.events, vitals::near_limits(threads, self.threads.limit_set_by(), descriptors));
    }

    fn look_at_refusals(&mut self, now: Instant) {
        let look = self.overload.look(now, self.load.freed(), self.load.refused());
        self.load.note_drain(look.per_second, look.refused);
        let found = look.standing.into_iter().map(|standing| standing.finding(&self.load.explain(standing.limit)));
        self.refusals.tell(&self.events, found.collect());
    }
}

/// The files that the configuration in force refers to.
#[derive(Default)]
struct References {
    config: Weak<Config>,
    files: Files,
}

impl References {
    /// Whether they have changed since they were read, and settled; said once of a change.
    fn have_changed(&mut self, config: &Arc<Config>) -> bool {
        if !config.can_be_reread() {
            return false;
        }
        if !std::ptr::eq(self.config.as_ptr(), Arc::as_ptr(config)) {
            *self = Self { config: Arc::downgrade(config), files: config.files.clone() };
        }
        self.files.look()
    }
}

/// The alerts that stand by one duty.
#[derive(Default)]
struct Raised(BTreeSet<(&'static str, String)>);

impl Raised {
    fn has(&self, kind: &str) -> bool {
        self.0.iter().any(|(raised, _)| *raised == kind)
    }

    /// Raises what was found, and clears what was not found again.
    fn tell(&mut self, events: &Events, findings: Vec<Finding>) {
        let mut standing = BTreeSet::new();
        for Finding { kind, subject, message } in findings {
            events.raise(kind, &subject, message);
            standing.insert((kind, subject));
        }
        for (kind, subject) in self.0.difference(&standing) {
            events.clear(kind, subject);
        }
        self.0 = standing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(subject: &str) -> Finding {
        Finding { kind: "stuck_thread", subject: subject.to_owned(), message: "as the test says".to_owned() }
    }

    #[test]
    fn what_is_found_stands_until_it_is_not_found_again() {
        let (events, mut raised) = (Events::new(), Raised::default());
        let standing = |events: &Events| events.alerts().into_iter().map(|alert| alert.subject).collect::<Vec<_>>();
        raised.tell(&events, vec![finding("a"), finding("b")]);
        assert_eq!(standing(&events), ["a", "b"]);
        raised.tell(&events, vec![finding("b"), finding("c")]);
        assert_eq!(standing(&events), ["b", "c"]);
        assert!(raised.has("stuck_thread") && !raised.has("long_stream"));
        raised.tell(&events, Vec::new());
        assert!(standing(&events).is_empty());
    }
}
