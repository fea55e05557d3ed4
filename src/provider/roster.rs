//! A pool's workers by name: hiring one, taking off those that have ended, telling idle ones to end.
//!
//! **Protocol.** A worker stands here from its start until its thread has ended. One that was told to end is *leaving*: it
//! finishes the job that it may have been handed in that very moment, counts no more against what is wanted, and keeps its
//! place here until its thread is over, so that a pool's end joins it by name like any other. Only the supervisor hires and
//! retires, and the pool's start before it looks.
//!
//! **Lock order.** The roster is ranked, inside the scaler's lock. Threads are started, told to end and joined outside the
//! roster's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crossbeam_channel::{Sender, TryRecvError};

use super::face::{Face, Tally, WorkerState};
use super::pool::{PoolPhase, Shared};
use super::staffing::{Crew, Staffing};
use super::worker;
use crate::ids::WorkerId;
use crate::sync::locks::{Ranked, Wait, classes, lock_all};
use crate::sync::threads::{SpawnError, ThreadEvent};
use crate::sync::{CancelReason, Quit, Role, Thread};
use crate::time::Deadline;

/// How long the roster is waited for: it is held for microseconds.
const ROSTER_WAIT: Wait<'static> = Wait::DEFAULT;

/// Who works.
pub(crate) struct Roster {
    pub(crate) shared: Arc<Shared>,
    pub(crate) staffing: Staffing,
    pub(super) workers: Ranked<BTreeMap<WorkerId, Hired>>,
    next: AtomicU64,
    closing: AtomicBool,
    exits: Sender<ThreadEvent>,
}

/// A worker as its pool holds it. Field order is drop order: the quit signal is given before the handle goes.
#[derive(Debug)]
pub(crate) struct Hired {
    /// None once it was given.
    pub(super) quit: Option<Quit>,
    pub(super) face: Arc<Face>,
    pub(super) thread: Thread,
}

/// Who may be told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// Who is idle.
    Idle,
    /// Busy ones as well, where too few are idle: each ends with its job.
    Any,
}

/// Who is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Census {
    /// Those that stay.
    pub(crate) present: usize,
    /// Those that were told to end and have not.
    pub(crate) leaving: usize,
}

impl Roster {
    /// Nobody yet; each worker's start and end is told to `exits`.
    pub(crate) fn new(shared: Arc<Shared>, staffing: Staffing, exits: Sender<ThreadEvent>) -> Self {
        let workers = Ranked::timed(&classes::ROSTER, shared.settings.locks, BTreeMap::new());
        Self { shared, staffing, workers, next: AtomicU64::new(1), closing: AtomicBool::new(false), exits }
    }

    /// Looks after the pool's strength: takes off who has ended, and has it decided what there should be.
    pub(crate) fn tend(&self, now: Instant, is_look: bool) {
        self.reap(now);
        if self.is_manned() {
            self.staffing.tend(self, now, is_look);
        }
    }

    /// Starts one worker; it tells `ready` once it listens.
    pub(crate) fn hire(&self, ready: Option<Sender<()>>) -> Result<(), SpawnError> {
        let id = WorkerId(self.next.fetch_add(1, Ordering::Relaxed));
        let (quit, face) = (Quit::new(), Arc::new(Face::new(id)));
        let (shared, watch, own) = (Arc::clone(&self.shared), quit.watch(), Arc::clone(&face));
        let name = format!("{}-worker-{}", self.shared.settings.name, id.0);
        let starting = self.staffing.starting();
        let thread = self.shared.threads.spawn_owned(Role::Worker, &name, self.exits.clone(), move || {
            worker::run(&shared, &own, &watch, ready, starting);
        })?;
        // It may be at a job by now.
        let late = match self.workers.lock(ROSTER_WAIT) {
            Ok(mut workers) => {
                self.shared.figures.spawned.inc();
                let (stays, goes) =
                    if self.closing.load(Ordering::SeqCst) { (None, Some(quit)) } else { (Some(quit), None) };
                workers.insert(id, Hired { quit: stays, face: Arc::clone(&face), thread });
                goes
            }
            // It ends, since its quit signal drops here.
            Err(error) => {
                log::error!("{name} was not entered: {error}");
                return Ok(());
            }
        };
        if let Some(quit) = late {
            // The pool's end has passed it by. It was stopped before it was closed: a job that the worker does not show
            // here sees so for itself.
            drop(quit);
            face.cancel_current(CancelReason::Shutdown);
        }
        Ok(())
    }

    /// Takes the workers that have ended off the roster; what they did is kept.
    pub(crate) fn reap(&self, now: Instant) {
        let Ok(mut workers) = self.workers.lock(ROSTER_WAIT) else { return };
        let is_over = |hired: &Hired| matches!(hired.thread.done().try_recv(), Err(TryRecvError::Disconnected));
        let ended: Vec<_> = workers.extract_if(.., |_, hired| is_over(hired)).collect();
        drop(workers);
        for (_, Hired { face, thread, .. }) in ended {
            self.staffing.keep(face.tally(now));
            // It is over but for its stack's unmapping.
            let _ = thread.join(Deadline::at(now));
            self.shared.figures.retired.inc();
        }
    }

    /// Whether workers are replaced: not before the start has hired the first ones.
    pub(crate) fn is_manned(&self) -> bool {
        self.shared.phase() >= PoolPhase::Ready && !self.closing.load(Ordering::SeqCst)
    }

    /// The workers' faces; `None` if the roster is stuck.
    pub(crate) fn faces(&self) -> Option<Vec<Arc<Face>>> {
        let workers = self.workers.lock(ROSTER_WAIT).ok()?;
        Some(workers.values().map(|hired| Arc::clone(&hired.face)).collect())
    }

    /// Whoever is hired from now on ends at once. The pool's phase says that it has stopped by then.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }
}

impl Crew for Roster {
    /// `None` if the roster is stuck.
    fn census(&self) -> Option<Census> {
        let workers = self.workers.lock(ROSTER_WAIT).ok()?;
        let present = workers.values().filter(|hired| hired.quit.is_some()).count();
        Some(Census { present, leaving: workers.len() - present })
    }

    /// None once it closes.
    fn missing(&self) -> usize {
        if self.closing.load(Ordering::SeqCst) {
            return 0;
        }
        self.census().map_or(0, |census| self.staffing.wanted().saturating_sub(census.present))
    }

    /// Those that have ended are included.
    fn tally(&self, now: Instant) -> Option<Tally> {
        Some(self.faces()?.iter().fold(self.staffing.kept(), |sum, face| sum + face.tally(now)))
    }

    fn standing(&self) -> usize {
        self.shared.lanes.standing()
    }

    fn fewest_idle(&self) -> usize {
        self.shared.lanes.fewest_idle()
    }

    fn enlist(&self) -> Result<(), SpawnError> {
        self.hire(None)
    }

    /// Idle ones first, and of those the newest: names, rows and threads that have been there for long stay, and an
    /// operator's view of them with them. Idle workers are alike otherwise, since the set that they wait in is first in,
    /// first out.
    fn retire(&self, most: usize, whom: Whom) -> usize {
        let Ok(mut workers) = self.workers.lock(ROSTER_WAIT) else { return 0 };
        let idle = workers.values_mut().rev().filter(|hired| hired.face.state() == WorkerState::Listening);
        let mut told: Vec<_> = idle.filter_map(|hired| hired.quit.take()).take(most).collect();
        if whom == Whom::Any {
            let busy = workers.values_mut().rev().filter_map(|hired| hired.quit.take());
            told.extend(busy.take(most - told.len()));
        }
        drop(workers);
        // The signals are given here, by dropping them.
        told.len()
    }

    fn listen(&self, armed: bool) {
        self.shared.lanes.listen(armed);
    }
}

/// Takes everybody off the rosters, for their pools' end, and once more when their supervisors have ended, which may have
/// been hiring. All rosters are held at once, so that there is one moment from which no pool has workers to be replaced, and
/// one wait for all and not one each.
pub(super) fn dismiss_all(rosters: &[&Roster]) -> Vec<Vec<Hired>> {
    let all_of = |workers: &mut BTreeMap<WorkerId, Hired>| std::mem::take(workers).into_values().collect();
    let error = match lock_all(rosters.iter().map(|roster| &roster.workers), ROSTER_WAIT) {
        Ok(mut workers) => return workers.iter_mut().map(all_of).collect(),
        Err(error) => error,
    };
    log::error!("the workers of all pools could not be told to quit together: {error}");
    // One that is stuck keeps none of the others.
    let alone = |roster: &&Roster| match roster.workers.lock(ROSTER_WAIT) {
        Ok(mut workers) => all_of(&mut workers),
        Err(error) => {
            log::error!("{}: the workers could not be told to quit: {error}", roster.shared.settings.name);
            Vec::new()
        }
    };
    rosters.iter().map(alone).collect()
}

impl std::fmt::Debug for Roster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roster").field("wanted", &self.staffing.wanted()).finish_non_exhaustive()
    }
}
