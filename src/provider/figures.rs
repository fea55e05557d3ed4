//! What a provider counts, and the two ledgers that make the counts add up.
//!
//! Every attempt handed to a pool opens an [`Entry`], which ends in exactly one of the queue's outcomes; one that a worker
//! takes becomes a [`Running`], which ends in exactly one of the jobs' outcomes. Both are guards: forgetting to settle one
//! counts it as abandoned or failed, so the sums of the interface's section 5 hold whatever happens (I2).
//!
//! **A reload.** Where a pool is replaced by one with other settings, both count in the same [`Totals`] until the old one has
//! ended, so that what only grows goes on growing and the sums hold over both. What is under way is each pool's own.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::scaler::Hold;
use super::series::{Asked, Chunks, Series};
use crate::error::Code;
use crate::metrics::{CountGuard, Counter, Gauge, Histogram, Paired};
use crate::model::Usage;
use crate::time::{micros_of, now};

thread_local! {
    /// Whether the panic that unwinds this thread is counted.
    static PANIC_NOTED: Cell<bool> = const { Cell::new(false) };
}

/// One pool's figures.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) waiting: Arc<Gauge>,
    /// Jobs ended by the pool's end: those that ran, and those that still waited.
    pub(crate) cut: Counter,
    pub(crate) swept: Counter,
    /// Jobs of this pool alone that ended well.
    pub(crate) served: Counter,
    /// Requests a second that the provider takes, by its own word.
    pub(crate) rate_limit: RateLimit,
    totals: Arc<Totals>,
}

/// What is counted of a provider, by one pool of it after the other.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Attempts that were asked for.
    pub(crate) entered: Counter,
    pub(crate) submitted: Counter,
    pub(crate) accepted: Counter,
    pub(crate) completed: Counter,
    pub(crate) blocked: Counter,
    pub(crate) dropped: Counter,
    pub(crate) rejected: Counter,
    pub(crate) timed_out_space: Counter,
    pub(crate) timed_out_worker: Counter,
    pub(crate) abandoned: Counter,
    pub(crate) wait_us: Histogram,

    pub(crate) succeeded: Counter,
    pub(crate) failed: Counter,
    pub(crate) timed_out: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) results_discarded: Counter,
    /// Attempts made again here, and requests that left for another target.
    pub(crate) retries: Counter,
    pub(crate) fallbacks: Counter,
    /// How long each job waited and was served.
    pub(crate) service: Paired,
    pub(crate) first_token_us: Histogram,
    pub(crate) tokens_in: Counter,
    pub(crate) tokens_out: Counter,

    pub(crate) garbage_events: Counter,

    /// What is measured of each model.
    pub(crate) series: Series,

    pub(crate) spawned: Counter,
    pub(crate) retired: Counter,
    pub(crate) panics: Counter,

    pub(crate) evaluations: Counter,
    pub(crate) ups: Counter,
    pub(crate) downs: Counter,
    pub(crate) workers_added: Counter,
    pub(crate) workers_removed: Counter,
    pub(crate) held: [Counter; Hold::ALL.len()],
}

impl Deref for Figures {
    type Target = Totals;

    fn deref(&self) -> &Totals {
        &self.totals
    }
}

/// The last rate limit that the provider told of; none until it has.
#[derive(Debug, Default)]
pub(crate) struct RateLimit(AtomicU64);

impl RateLimit {
    /// The provider told of this many requests a second, which is more than none.
    pub(crate) fn set(&self, per_second: f64) {
        self.0.store(per_second.to_bits(), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Option<f64> {
        let per_second = f64::from_bits(self.0.load(Ordering::Relaxed));
        (per_second > 0.0).then_some(per_second)
    }
}

impl Figures {
    /// Figures of a pool that takes the place of another, if there is one: what only grows goes on from there.
    pub(crate) fn following(before: Option<&Self>) -> Self {
        let totals = before.map(|before| Arc::clone(&before.totals)).unwrap_or_default();
        Self { totals, ..Self::default() }
    }

    /// Counts the times of a job that has ended: one short lock, as a histogram alone would take.
    pub(crate) fn note_service(&self, wait: Duration, service: Duration) {
        self.service.record(micros_of(wait), micros_of(service));
    }
}

/// How an attempt ended before a worker took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unserved {
    Dropped,
    Rejected,
    TimedOutSpace,
    TimedOutWorker,
    Abandoned,
}

/// An attempt that was handed in and that no worker has taken yet.
#[derive(Debug)]
pub(crate) struct Entry {
    figures: Arc<Figures>,
    waiting: Option<CountGuard>,
    open: bool,
}

impl Entry {
    /// Opens an entry: counts one submission.
    pub(crate) fn open(figures: &Arc<Figures>) -> Self {
        figures.submitted.inc();
        Self { figures: Arc::clone(figures), waiting: None, open: true }
    }

    /// It has its place and waits for a worker.
    pub(crate) fn accepted(&mut self) {
        self.figures.accepted.inc();
        self.waiting = Some(self.figures.waiting.enter());
    }

    /// It ends without a worker.
    pub(crate) fn settle(mut self, outcome: Unserved) {
        self.count(outcome);
    }

    /// A worker took it, at `taken`.
    pub(crate) fn taken(mut self, asked: Asked, taken: Instant) -> Running {
        self.open = false;
        self.waiting = None;
        self.figures.completed.inc();
        Running { figures: Arc::clone(&self.figures), asked, taken, open: true }
    }

    fn count(&mut self, outcome: Unserved) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        let figures = &self.figures;
        match outcome {
            Unserved::Dropped => figures.dropped.inc(),
            Unserved::Rejected => figures.rejected.inc(),
            Unserved::TimedOutSpace => figures.timed_out_space.inc(),
            Unserved::TimedOutWorker => figures.timed_out_worker.inc(),
            Unserved::Abandoned => figures.abandoned.inc(),
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.count(Unserved::Abandoned);
    }
}

/// How an attempt that a worker took ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobOutcome {
    Succeeded,
    Failed,
    TimedOut,
    Cancelled,
}

impl JobOutcome {
    /// The outcome that goes with an error.
    pub(crate) fn of(error: &crate::Error) -> Self {
        match error.code() {
            Code::UpstreamTimeout | Code::FirstTokenTimeout | Code::StreamIdleTimeout | Code::StreamTooLong => {
                Self::TimedOut
            }
            Code::ClientClosed | Code::ClientTooSlow | Code::ShuttingDown => Self::Cancelled,
            _ => Self::Failed,
        }
    }
}

/// An attempt that a worker is at.
#[derive(Debug)]
pub(crate) struct Running {
    figures: Arc<Figures>,
    asked: Asked,
    taken: Instant,
    open: bool,
}

impl Running {
    /// The provider has begun to answer well.
    pub(crate) fn accepted(&mut self) {
        self.asked.accepted(&self.figures.series);
    }

    /// The provider has counted its tokens.
    pub(crate) fn note_usage(&self, usage: Usage) {
        self.figures.tokens_in.add(usage.input);
        self.figures.tokens_out.add(usage.output);
        self.asked.note_usage(&self.figures.series, usage);
    }

    /// It was a stream, whose chunks came so.
    pub(crate) fn note_chunks(&self, chunks: &Chunks) {
        self.asked.note_chunks(&self.figures.series, chunks);
    }

    /// It ended well, so long after it was taken.
    pub(crate) fn succeed(mut self, took: Duration) {
        self.count(JobOutcome::Succeeded, None, took);
    }

    /// It ended with `error`, so long after it was taken.
    pub(crate) fn fail(mut self, error: &crate::Error, took: Duration) {
        if error.code() == Code::ShuttingDown {
            self.figures.cut.inc();
        }
        self.count(JobOutcome::of(error), Some(error.code()), took);
    }

    fn count(&mut self, outcome: JobOutcome, failed: Option<Code>, took: Duration) {
        self.open = false;
        self.asked.note_attempt(&self.figures.series, failed, took);
        if std::thread::panicking() && !PANIC_NOTED.replace(true) {
            self.figures.panics.inc();
        }
        match outcome {
            JobOutcome::Succeeded => {
                self.figures.succeeded.inc();
                self.figures.served.inc();
            }
            JobOutcome::Failed => self.figures.failed.inc(),
            JobOutcome::TimedOut => self.figures.timed_out.inc(),
            JobOutcome::Cancelled => self.figures.cancelled.inc(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.open {
            self.count(JobOutcome::Failed, Some(Code::Internal), now().saturating_duration_since(self.taken));
        }
    }
}

impl Figures {
    /// Counts the panic that this thread caught, unless its job's end has: the caller is answered on the way to whoever
    /// catches it, and is to find it counted.
    pub(crate) fn note_panic(&self) {
        if !PANIC_NOTED.replace(false) {
            self.panics.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Operation;

    #[test]
    fn an_entry_counts_exactly_once_whatever_becomes_of_it() {
        let figures = Arc::new(Figures::default());
        drop(Entry::open(&figures));
        Entry::open(&figures).settle(Unserved::Rejected);
        let mut entry = Entry::open(&figures);
        entry.accepted();
        assert_eq!(figures.waiting.get(), 1);
        let running = entry.taken(Asked::of(&Operation::ChatCompletions, &"m".into()), now());
        assert_eq!(figures.waiting.get(), 0);
        drop(running);
        let ends = [&figures.abandoned, &figures.rejected, &figures.completed, &figures.failed].map(Counter::get);
        assert_eq!((figures.submitted.get(), ends), (3, [1, 1, 1, 1]));
    }

    #[test]
    fn a_pool_that_follows_counts_on_and_has_its_own_under_way() {
        let old = Arc::new(Figures::default());
        let mut entry = Entry::open(&old);
        entry.accepted();
        let new = Arc::new(Figures::following(Some(&old)));
        drop(Entry::open(&new));
        assert_eq!((new.submitted.get(), new.waiting.get(), old.waiting.get()), (2, 0, 1));
        drop(entry);
        assert_eq!((new.abandoned.get(), old.submitted.get()), (2, 2), "the sums hold over both");
    }
}
