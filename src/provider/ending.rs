//! The end of a pool, in two steps, so that several pools end side by side and not one after the other.
//!
//! **Shutdown.** [`Pool::halt`] closes the permits, so that nobody waits for a place; gives every worker its quit signal;
//! sweeps the lanes and answers what is left; cancels what runs. [`Halted::join`] then waits for each thread by name, the
//! supervisor first: a worker that it was just starting ends at once and stands on the roster by then.
//!
//! **Invariants.** I1: whatever waits or runs is answered. What is counted as cut or swept is what ended by this, not what
//! had its answer already and only tidied up.

use std::sync::Arc;

use super::figures::Unserved;
use super::job::{Job, Payload, Reached, Reply};
use super::pool::{Pool, PoolPhase, READY_WAIT, Shared, since, stopping};
use super::roster::{Hired, Roster};
use crate::model::Timing;
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
    /// Ends the pool but for its threads: cuts what still runs, answers what still waits.
    pub(crate) fn halt(&self) -> Halted {
        let shared = Arc::clone(&self.roster.shared);
        let (cut, swept) = (shared.figures.cut.get(), shared.figures.swept.get());
        shared.set_phase(PoolPhase::Stopped);
        self.roster.close();
        shared.permits.close();
        let supervisor = self.supervisor.take().map(|(quit, thread)| {
            drop(quit);
            thread
        });
        let mut hired = self.roster.dismiss();
        hired.iter_mut().for_each(|hired| drop(hired.quit.take()));
        shared.lanes.sweep().for_each(|job| answer_swept(&job, &shared));
        for worker in &hired {
            // A job that has been answered and only tidies up hears of it too, which does it no harm.
            worker.face.cancel_current(CancelReason::Shutdown);
        }
        Halted { roster: Arc::clone(&self.roster), hired, supervisor, cut, swept }
    }
}

impl Halted {
    /// Joins every thread until `deadline`.
    pub(crate) fn join(self, deadline: Deadline) -> PoolEnd {
        let (mut end, figures) = (PoolEnd::default(), &self.roster.shared.figures);
        if let Some(Err(thread)) = self.supervisor.map(|thread| thread.join(deadline)) {
            end.stragglers.push(thread.name().to_owned());
        }
        // Those that it was starting when the roster was cleared.
        let late = self.roster.dismiss();
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
            self.halt().join(Deadline::after(READY_WAIT));
        }
    }
}

/// Answers a job that the sweep found, unless it is a tombstone.
fn answer_swept(job: &Job, shared: &Shared) {
    let Some(payload) = job.payload.take() else { return };
    shared.figures.swept.inc();
    let Payload { permit, entry, responder, submitted, .. } = payload;
    drop(permit);
    entry.settle(Unserved::Abandoned);
    let timing = Timing { queue: since(submitted), ..Timing::default() };
    responder.answer(Reply { result: Err::<Reached, _>(stopping(&shared.settings.name)), timing });
}
