//! A worker: takes a job, makes one attempt, answers, and takes the next.
//!
//! **Protocol.** It waits for {quit, a job handed to it, tick}, after it has looked at the lanes in their share. A job whose
//! payload its waiter has taken back is a tombstone and thrown away; one whose waiter has gone, or whose time is over, is
//! answered without being sent.
//!
//! **Panics.** An attempt runs under `catch_unwind`: the job's guards answer and count it, and the worker ends, since what
//! its thread-local state is worth nobody knows. The supervisor hires another (I8).
//!
//! **Shutdown.** Quit is looked at between jobs; the current one is completed, or cancelled by whoever is in a hurry.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::attempt::{self, Scratch};
use super::face::{Face, WorkerState};
use super::figures::Unserved;
use super::job::{Job, Look, Payload, Reply};
use super::pool::{PoolPhase, Shared, cancelled, stopping};
use super::{ending, health, listing};
use crate::metrics::CountGuard;
use crate::model::Timing;
use crate::queue::{Shift, Taken};
use crate::recycle::Joint;
use crate::sync::threads::{count_panic, let_go, panic_text};
use crate::sync::{CancelReason, QuitSignal, State, threads};
use crate::time::{Deadline, now};

/// Whose it is what a panic of an attempt carries: its drop may panic as well, and the worker has still to end in order.
const OWN: &str = "a provider's";

/// How long a worker waits before it looks around: nothing depends on it but a heartbeat.
const TICK: Duration = Duration::from_secs(5);

/// Runs until told to quit, or until an attempt panics.
///
/// `starting` is let go of once it has taken its first job, and not before: until then somebody counts on it for one.
pub(crate) fn run(shared: &Shared, face: &Face, quit: &QuitSignal, ready: Option<Sender<()>>, starting: CountGuard) {
    let mut starting = Some(starting);
    let seat = shared.lanes.seat();
    let (mut shift, mut scratch) = (Shift::at(&seat), Scratch::default());
    face.enter(WorkerState::Listening);
    if let Some(ready) = ready {
        // Whoever started the pool may have given up waiting.
        let _ = ready.try_send(());
    }
    loop {
        let taken = {
            let _resting = threads::rest(State::WaitingChannel, TICK);
            shared.lanes.take(&seat, &mut shift, quit, TICK)
        };
        match taken {
            Taken::Tick => {}
            Taken::Quit => break,
            Taken::Job(job) => match job.payload.take() {
                None => match job.look.take() {
                    None => shared.lanes.unbury(job.priority),
                    Some(check) => {
                        starting = None;
                        if !look(shared, face, job, check) {
                            break;
                        }
                    }
                },
                Some(payload) => {
                    if starting.take().is_some() {
                        // Another job may have been taken for this worker's own meanwhile.
                        shared.lanes.ring_if_standing();
                    }
                    threads::count_job();
                    if !serve(shared, face, job, payload, &mut scratch) {
                        break;
                    }
                }
            },
        }
    }
    if shared.phase() == PoolPhase::Stopped {
        ending::sweep(shared);
    }
    face.enter(WorkerState::Shutdown);
}

/// Looks at the provider, which is no job that anybody counts; `false` if it panicked.
fn look(shared: &Shared, face: &Face, job: Joint<Job>, what: Look) -> bool {
    drop(job);
    let within = match &what {
        Look::Health(_) => health::CHECK_TIMEOUT,
        Look::Models(_) => listing::LIST_TIMEOUT,
    };
    let _piece = threads::round(within);
    face.enter(WorkerState::ApiCall);
    let looked = catch_unwind(AssertUnwindSafe(|| match what {
        Look::Health(check) => health::run(shared, check),
        Look::Models(listing) => listing::run(shared, listing),
    }));
    face.enter(WorkerState::Listening);
    // The start waits for a first one.
    shared.set_phase(PoolPhase::Ready);
    if let Err(panic) = looked {
        shared.figures.note_panic();
        count_panic(format!("at a look at {}: {}", shared.settings.name, panic_text(&*panic)));
        let_go(OWN, panic);
        return false;
    }
    true
}

/// Serves one job; `false` if it panicked.
fn serve(shared: &Shared, face: &Face, job: Joint<Job>, mut payload: Payload, scratch: &mut Scratch) -> bool {
    let limit = shared.attempt.limit(payload.call.fields.stream);
    let _piece = threads::round(limit);
    let taken = now();
    let queue = taken.saturating_duration_since(payload.submitted);
    let timing = Timing { queue, ..Timing::default() };
    if let Some(error) = too_late(shared, &mut payload, taken) {
        let Payload { pass, permit, entry, responder, .. } = payload;
        drop((pass, job));
        entry.settle(error.1);
        drop(permit);
        responder.answer(Reply { result: Err(error.0), timing });
        return true;
    }
    shared.figures.wait_us.record_micros(queue);
    let call = Arc::clone(&payload.call);
    let busy = face.begin(&call.request_id, &call.cancel, taken);
    if shared.phase() == PoolPhase::Stopped {
        // Whoever stops the pool sets the phase and then cancels what the faces show. This job may not have been shown yet
        // when its face was looked at; then the phase was set before, which is seen here.
        call.cancel.cancel_for(CancelReason::Shutdown);
    }
    let served = catch_unwind(AssertUnwindSafe(|| attempt::run(shared, face, job, payload, taken, scratch)));
    drop(busy);
    if let Err(panic) = served {
        shared.figures.note_panic();
        let (name, id) = (&shared.settings.name, &call.request_id);
        let text = panic_text(&*panic);
        let trace = call.trace.as_ref().map_or(String::new(), |trace| format!(" of trace {}", trace.id()));
        count_panic(format!("at request {id}{trace}: {text}"));
        shared.events.push("panic", name, format!("a worker panicked at request {id}: {text}"));
        let_go(OWN, panic);
        return false;
    }
    true
}

/// Why a job is not worth sending any more.
fn too_late(shared: &Shared, payload: &mut Payload, taken: std::time::Instant) -> Option<(crate::Error, Unserved)> {
    if shared.phase() == PoolPhase::Stopped {
        shared.figures.swept.inc();
        return Some((stopping(&shared.settings.name), Unserved::Abandoned));
    }
    if let Some(reason) = payload.call.cancel.reason() {
        return Some((cancelled(reason), Unserved::Abandoned));
    }
    let passed = |deadline: Deadline| deadline.remaining_at(taken).is_zero();
    if payload.call.deadline.is_some_and(passed) {
        return Some((shared.queue_timeout("worker"), Unserved::Abandoned));
    }
    if passed(payload.wait_until) {
        return Some((shared.queue_timeout("worker"), Unserved::TimedOutWorker));
    }
    let may_go = payload.pass.check().and_then(|()| payload.pass.renew());
    may_go.err().map(|error| (error.with_provider(&shared.settings.name), Unserved::Rejected))
}
