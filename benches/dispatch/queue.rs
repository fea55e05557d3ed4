//! What a job's way into and out of the queue costs beside a raw crossbeam bounded channel: permit, lane, histogram.
//!
//! Twice: on one thread, which is the bare price, and from one thread to another, as it is used. Rounds of both contenders
//! alternate; the ratio is that of the medians.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::{Value, json};
use sluicegate::metrics::Histogram;
use sluicegate::model::Priority;
use sluicegate::queue::{Lanes, Permit, Permits, Queued, Shift, Taken};
use sluicegate::sync::{CancelToken, Quit, QuitSignal};
use sluicegate::time::Deadline;

use super::{median, rounded};

/// Jobs in a round, and rounds of each contender.
const JOBS: u32 = 100_000;
const ROUNDS: usize = 21;

/// Places, and slots of the raw channel.
const PLACES: usize = 256;

const FUSE: Duration = Duration::from_secs(60);

/// A job as large as the real one's handle, with its place.
struct Job {
    _permit: Permit,
    submitted: Instant,
}

impl Queued for Job {
    fn is_tombstone(&self) -> bool {
        false
    }

    fn priority(&self) -> Priority {
        Priority::Interactive
    }

    fn since(&self) -> Option<Instant> {
        Some(self.submitted)
    }
}

struct House {
    permits: Permits,
    lanes: Lanes<Job>,
    waits: Histogram,
    cancel: CancelToken,
}

impl House {
    fn new() -> Self {
        Self {
            permits: Permits::new(PLACES),
            lanes: Lanes::new(PLACES, 0.125),
            waits: Histogram::default(),
            cancel: CancelToken::new(),
        }
    }

    /// Submits one job, after a wait for a place if there is none, as under policy `block` and as the raw channel does. The
    /// clock is read once a round: what reading it costs is no matter of the queue's.
    fn submit(&self, submitted: Instant) -> bool {
        let Ok(permit) = self.permits.take(Deadline::from(submitted, FUSE), &self.cancel) else { return false };
        self.lanes.push(Job { _permit: permit, submitted }).is_ok()
    }

    fn take(&self, seat: &sluicegate::queue::Seat<Job>, shift: &mut Shift, quit: &QuitSignal, now: Instant) -> bool {
        match self.lanes.take(seat, shift, quit, FUSE) {
            Taken::Job(job) => {
                self.waits.record_micros(now.saturating_duration_since(job.submitted));
                true
            }
            Taken::Tick | Taken::Quit => false,
        }
    }
}

/// Nanoseconds a job of a round.
fn each(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(JOBS)
}

fn raw_alone((sender, receiver): &(Sender<u64>, Receiver<u64>)) -> Option<f64> {
    let begun = Instant::now();
    for job in 0..u64::from(JOBS) {
        sender.try_send(job).ok()?;
        std::hint::black_box(receiver.try_recv().ok()?);
    }
    Some(each(begun))
}

fn ours_alone(house: &House, quit: &QuitSignal) -> Option<f64> {
    let (seat, mut shift) = (house.lanes.seat(), Shift::default());
    let begun = Instant::now();
    for _ in 0..JOBS {
        (house.submit(begun) && house.take(&seat, &mut shift, quit, begun)).then_some(())?;
    }
    Some(each(begun))
}

fn raw_across() -> Option<f64> {
    let (sender, receiver) = bounded::<u64>(PLACES);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let taker = scope.spawn(move || (0..JOBS).all(|_| receiver.recv().is_ok()));
        let sent = (0..u64::from(JOBS)).all(|job| sender.send(job).is_ok());
        (taker.join().ok()? && sent).then(|| each(begun))
    })
}

fn ours_across(quit: &QuitSignal) -> Option<f64> {
    let house = House::new();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let taker = scope.spawn(|| {
            let (seat, mut shift) = (house.lanes.seat(), Shift::default());
            (0..JOBS).all(|_| house.take(&seat, &mut shift, quit, begun))
        });
        let sent = (0..JOBS).all(|_| house.submit(begun));
        (taker.join().ok()? && sent).then(|| each(begun))
    })
}

/// The figures; `None` if a contender failed.
pub(super) fn measure() -> Option<Value> {
    let quit = Quit::new();
    let (signal, house, channel) = (quit.watch(), House::new(), bounded(PLACES));
    let mut ns: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        let round = [raw_alone(&channel)?, ours_alone(&house, &signal)?, raw_across()?, ours_across(&signal)?];
        ns.iter_mut().zip(round).for_each(|(all, one)| all.push(one));
    }
    let [raw_alone, ours_alone, raw_across, ours_across] = ns.map(|mut all| median(&mut all));
    Some(json!({
        "one_thread": { "raw_ns": rounded(raw_alone), "ours_ns": rounded(ours_alone), "ratio": rounded(ours_alone / raw_alone) },
        "two_threads": { "raw_ns": rounded(raw_across), "ours_ns": rounded(ours_across), "ratio": rounded(ours_across / raw_across) },
    }))
}
