//! The end of a pool, in two steps, so that several pools end side by side and not one after the other.
//!
//! **Shutdown.** [`Pool::halt_all`] closes the permits, so that nobody waits for a place; takes the rosters of all pools
//! together; gives every worker its quit signal; sweeps the lanes and answers what is left; cancels what runs.
//! [`Halted::join`] then waits for each thread by name, the supervisor first: a worker that it was just starting ends at
//! once and stands on the roster by then.
//!
//! **A reload.** A replaced pool ends by [`Pool::release`] once nobody holds its provider: nothing waits then and nothing can
//! come, so that no lane has to be closed to anybody. What runs is a stream, or an attempt whose waiter has left; it keeps its
//! worker until it is over, or is cut at the deadline.
//!
//! **Invariants.** I1: whatever waits or runs is answered. What is counted as cut or swept is what ended by this, not what
//! had its answer already and only tidied up.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::TryRecvError;

use super::figures::Unserved;
use super::job::{Job, Payload, Reached, Reply};
use super::pool::{Pool, PoolPhase, READY_WAIT, Shared, since, stopping};
use super::roster::{self, Hired, Roster};
use crate::model::Timing;
use crate::recycle::Joint;
use crate::sync::{CancelReason, Thread};
use crate::time::Deadline;

/// What became of a pool at its end.
#[derive(Clone, Debug, Default)]
pub struct PoolEnd {
    /// Jobs that were running at the deadline and were cancelled.
    pub cut: u64,
    /// Jobs that still waited and were answered with `shutting_down`.
    pub swept: u64,
    /// Workers that did not end in time, by name.
    pub stragglers: Vec<String>,
}

/// A pool that has been told to end.
#[derive(Debug)]
#[must_use = "its threads are to be joined"]
pub(crate) struct Halted {
    roster: Arc<Roster>,
    hired: Vec<Hired>,
    supervisor: Option<Thread>,
    /// What was counted before.
    cut: u64,
    swept: u64,
}

impl Pool {
    /// Ends pools but for their threads: cuts what still runs, answers what still waits.
    pub(crate) fn halt_all(pools: &[&Self]) -> Vec<Halted> {
        let mut halted: Vec<_> = pools.iter().map(|pool| pool.close()).collect();
        let rosters: Vec<_> = pools.iter().map(|pool| &*pool.roster).collect();
        for (halted, hired) in halted.iter_mut().zip(roster::dismiss_all(&rosters)) {
            halted.hired = hired;
            halted.cut_off();
        }
        halted
    }

    /// Ends a pool that nobody can hand anything in to any more, and for whose answers nobody waits: workers without a job
    /// end at once, those that relay a stream with its end.
    pub(crate) fn release(&self) -> Halted {
        let mut halted = self.dismiss();
        halted.hired = roster::dismiss_all(&[&self.roster]).into_iter().flatten().collect();
        halted.hired.iter_mut().for_each(|hired| drop(hired.quit.take()));
        halted
    }

    /// Lets nothing in any more, and nobody hire.
    fn close(&self) -> Halted {
        self.roster.shared.stop();
        self.dismiss()
    }

    /// Lets nobody hire any more.
    fn dismiss(&self) -> Halted {
        let shared = Arc::clone(&self.roster.shared);
        let (cut, swept) = (shared.figures.cut.get(), shared.figures.swept.get());
        self.roster.close();
        let supervisor = self.supervisor.take().map(|(quit, thread)| {
            drop(quit);
            thread
        });
        Halted { roster: Arc::clone(&self.roster), hired: Vec::new(), supervisor, cut, swept }
    }
}

impl Shared {
    /// From here on nothing is let in, and what is taken is not sent.
    fn stop(&self) {
        self.set_phase(PoolPhase::Stopped);
        self.permits.close();
        self.gate.close();
    }
}

impl Halted {
    /// Joins the threads that have ended; whether it was the last of them.
    pub(crate) fn reap(&mut self) -> bool {
        let is_over = |thread: &Thread| matches!(thread.done().try_recv(), Err(TryRecvError::Disconnected));
        for Hired { thread, .. } in self.hired.extract_if(.., |hired| is_over(&hired.thread)) {
            // It is over but for its stack's unmapping.
            let _ = thread.join(Deadline::after(Duration::ZERO));
            self.roster.shared.figures.retired.inc();
        }
        self.hired.is_empty() && self.supervisor.as_ref().is_none_or(is_over)
    }

    /// Cuts what still runs.
    pub(crate) fn cut(&mut self) {
        self.roster.shared.stop();
        self.cut_off();
    }

    /// Tells the workers to quit, answers what waits, and cancels what runs.
    fn cut_off(&mut self) {
        self.hired.iter_mut().for_each(|hired| drop(hired.quit.take()));
        sweep(&self.roster.shared);
        self.roster.shared.health.cancel();
        for worker in &self.hired {
            // A job that has been answered and only tidies up hears of it too, which does it no harm.
            worker.face.cancel_current(CancelReason::Shutdown);
        }
    }

    /// Joins every thread until `deadline`.
    pub(crate) fn join(self, deadline: Deadline) -> PoolEnd {
        let (mut end, figures) = (PoolEnd::default(), &self.roster.shared.figures);
        if let Some(Err(thread)) = self.supervisor.map(|thread| thread.join(deadline)) {
            end.stragglers.push(thread.name().to_owned());
        }
        // Those that it was starting when the roster was cleared.
        let late: Vec<_> = roster::dismiss_all(&[&self.roster]).into_iter().flatten().collect();
        late.iter().for_each(|hired| hired.face.cancel_current(CancelReason::Shutdown));
        for Hired { quit, face, thread } in self.hired.into_iter().chain(late) {
            drop(quit);
            match thread.join(deadline) {
                Ok(()) => figures.retired.inc(),
                Err(thread) => {
                    end.cut += u64::from(face.state().is_busy());
                    end.stragglers.push(format!("{} ({:?})", thread.name(), face.state()));
                }
            }
        }
        end.cut += figures.cut.get().saturating_sub(self.cut);
        end.swept = figures.swept.get().saturating_sub(self.swept);
        end
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.shared().phase() != PoolPhase::Stopped {
            for halted in Self::halt_all(&[self]) {
                halted.join(Deadline::after(READY_WAIT));
            }
        }
    }
}

/// Empties the lanes of a pool that has stopped, and answers what still waits there. A worker does so once more at its
/// end: one that found a job in a lane while another was being handed to it puts that one back, which may be behind the
/// sweep of [`Pool::halt_all`].
pub(super) fn sweep(shared: &Shared) {
    shared.lanes.sweep().for_each(|job| answer_swept(job, shared));
}

/// Answers a job that the sweep found, unless it is a tombstone.
fn answer_swept(job: Joint<Job>, shared: &Shared) {
    let Some(payload) = job.payload.take() else { return };
    shared.figures.swept.inc();
    let Payload { pass, permit, entry, responder, submitted, .. } = payload;
    drop((pass, job));
    entry.settle(Unserved::Abandoned);
    drop(permit);
    let timing = Timing { queue: since(submitted), ..Timing::default() };
    responder.answer(Reply { result: Err::<Reached, _>(stopping(&shared.settings.name)), timing });
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::super::{AttemptSettings, PoolSettings, Provider, Stock};
    use super::*;
    use crate::config::{Policy, Pools};
    use crate::events::Events;
    use crate::queue::ByteBudget;
    use crate::recycle::Limits;
    use crate::sync::{LockTimes, Threads};
    use crate::transport::{MemoryTransport, TransportError, TransportErrorKind};

    const FUSE: Duration = Duration::from_secs(5);
    const SHORT: Duration = Duration::from_millis(20);

    /// A provider that nobody reaches, whose locks are waited for briefly.
    fn provider(name: &str, threads: &Threads) -> Arc<Provider> {
        let pool = PoolSettings {
            policy: Policy::Error,
            locks: LockTimes { default_timeout: SHORT, max_timeout: FUSE },
            ..PoolSettings::fixed(name, 3, 1)
        };
        let attempt = AttemptSettings::within(FUSE);
        let nobody = MemoryTransport::new(|_, _| Err(TransportError::new(TransportErrorKind::Connect, "nobody")));
        let limits = Limits { initial: 0, max_idle: 1, idle_max_age: FUSE, alert_below: 0.0 };
        let stock = Stock::new(&Pools::alike(limits));
        let (nobody, bytes) = (Arc::new(nobody), ByteBudget::new(1 << 20));
        let started =
            Provider::start(None, pool, attempt, nobody, threads, Events::new(), stock, bytes, Duration::ZERO);
        Arc::new(started.expect("threads"))
    }

    #[test]
    fn a_roster_that_is_stuck_keeps_no_other_pool_from_ending() {
        let threads = Threads::new(64, 2 << 20);
        let providers = [provider("free", &threads), provider("stuck", &threads)];
        let (is_held, held) = bounded::<()>(0);
        let (let_go, until) = bounded::<()>(0);
        let ends: Vec<_> = std::thread::scope(|scope| {
            let stuck = &providers[1].pool.roster.workers;
            scope.spawn(move || {
                let _held = stuck.lock(FUSE).expect("free");
                drop(is_held);
                let _ = until.recv_timeout(FUSE);
            });
            let _ = held.recv_timeout(FUSE);
            let halted = Provider::halt_all(&providers);
            drop(let_go);
            halted.into_iter().map(|halt| halt.join(Deadline::after(FUSE))).collect()
        });
        assert!(ends.iter().all(|end| end.stragglers.is_empty()), "{ends:?}");
        let workers = |provider: &Provider| provider.pool.faces().len();
        assert_eq!((workers(&providers[0]), workers(&providers[1])), (0, 0), "the stuck one's were had in the end");
        drop(providers);
        let fuse = Deadline::after(FUSE);
        while threads.active() > 0 {
            assert!(!fuse.passed(), "its workers end when it goes");
            std::thread::yield_now();
        }
    }
}
