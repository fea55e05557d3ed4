//! Dispatch: from a submit over an idle pool to a worker and back, against a raw crossbeam ping-pong in the same run.
//!
//! ```text
//! cargo bench --bench dispatch
//! ```
//! The ping-pong is the floor: two threads, two bounded channels, one wake-up each way. What the pool adds to it is
//! admission, the lanes, the pooled reply channel and the accounting, and a whole attempt on the worker (encode, a
//! transport that answers from memory, decode), since no part of the library submits without one.
//!
//! Idle means that the worker sleeps. A caller that asks again at once finds the other side still spinning, now and
//! then for a whole run: the same ping-pong then takes 0.3 µs instead of 10, and two equal ones differed by a factor of
//! 25. So the caller is busy elsewhere for a while before each trip, long enough for every contender's threads to have
//! gone to sleep; only the trip is timed. The contenders take turns trip by trip, so that both see the same machine. Prints
//! JSON; the ratio is the median of those of the sittings.
//!
//! Then the same with 10, 1,000 and 8,000 idle workers, where what thousands of sleeping threads cost the kernel shows; a
//! number past the machine's limit is left out, and said so. The bench changes nothing of its process, as the library does
//! not: `serve` asks for a wider futex table, which makes the last figure smaller there. Last, the queue by itself: `queue`.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the raw half is a thread and a clock without the library around them: that is what the other is held against"
)]

#[path = "dispatch/queue.rs"]
mod queue;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use sluicegate::config::Pools;
use sluicegate::events::Events;
use sluicegate::gateway::CallOptions;
use sluicegate::model::Call;
use sluicegate::provider::{AttemptSettings, PoolSettings, Progress, Provider, Reached, Stock};
use sluicegate::queue::ByteBudget;
use sluicegate::recycle::Limits;
use sluicegate::sync::{Threads, limits};
use sluicegate::transport::{Body, Incoming, MemoryTransport};
use sluicegate::wire::openai;

/// How often the contenders are started anew. Where the kernel puts a thread makes a difference of a fifth between two
/// equal ones for as long as they live.
const SITTINGS: usize = 15;

/// Workers of the crowded pools, and how often and for how many trips each is sat with.
const CROWDS: [usize; 3] = [10, 1000, 8000];
const CROWD_SITTINGS: usize = 3;

/// As many threads as there are between two sittings, and some to spare.
const FEW: usize = 8;

/// Trips of each contender in a sitting, and how many of them come first, uncounted.
const TRIPS: usize = 1500;
const WARM_UP: usize = 100;

/// How long the caller leaves everybody alone before a trip: crossbeam gives up spinning after a few microseconds.
const PAUSE: Duration = Duration::from_micros(60);

/// A thread that sends back what it is sent.
struct PingPong {
    there: Option<Sender<u64>>,
    back: Receiver<u64>,
    thread: Option<JoinHandle<()>>,
}

impl PingPong {
    fn start() -> Self {
        let (there, at_there) = bounded::<u64>(1);
        let (at_back, back) = bounded(1);
        let thread = thread::spawn(move || {
            while let Ok(value) = at_there.recv() {
                if at_back.send(value).is_err() {
                    return;
                }
            }
        });
        Self { there: Some(there), back, thread: Some(thread) }
    }

    fn round_trip(&self, value: u64) -> bool {
        let sent = self.there.as_ref().is_some_and(|there| there.send(value).is_ok());
        sent && self.back.recv() == Ok(value)
    }
}

impl Drop for PingPong {
    fn drop(&mut self) {
        // The thread ends when its channel does.
        self.there = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A provider whose workers answer from memory.
struct IdlePool {
    /// There until it is dropped.
    provider: Option<Provider>,
    model: Arc<str>,
}

/// Workers of the usual pool: they take turns, so each trip wakes the one that has slept longest.
const WORKERS: usize = 10;

const REQUEST: &[u8] = br#"{"model":"m","messages":[]}"#;
const ANSWER: &[u8] = br#"{"choices":[]}"#;

impl IdlePool {
    fn start(workers: usize) -> Option<Self> {
        let transport = MemoryTransport::new(|_, _| {
            Ok(Incoming { status: 200, headers: Vec::new(), body: Body::from_bytes(ANSWER.to_vec()) })
        });
        let pool = PoolSettings::fixed("pool", workers, 100);
        let minute = Duration::from_secs(60);
        let attempt = AttemptSettings::within(minute);
        let threads = Threads::new(workers as u64 + 64, 256 << 10);
        let limits = Limits { initial: 10, max_idle: 64, idle_max_age: minute, alert_below: 0.0 };
        let stock = Stock::new(&Pools::alike(limits));
        let transport = Arc::new(transport);
        let bytes = ByteBudget::new(1 << 20);
        let provider =
            Provider::start(None, pool, attempt, transport, &threads, Events::new(), stock, bytes, Duration::ZERO)
                .ok()?;
        Some(Self { provider: Some(provider), model: "m".into() })
    }

    /// A request as the front hands it over: parsed, and with a cancel token of its own.
    fn call(&self) -> Option<Arc<Call>> {
        let fields = openai::parse_chat(REQUEST).ok()?;
        CallOptions::new().call(REQUEST.to_vec(), fields, Instant::now()).ok().map(Arc::new)
    }

    fn round_trip(&self, call: &Arc<Call>) -> bool {
        let outcome = self
            .provider
            .as_ref()
            .map(|provider| provider.attempt(call, &self.model, &Progress::default(), None).result);
        matches!(outcome, Some(Ok(Reached::Answer(..))))
    }
}

impl Drop for IdlePool {
    /// Thousands of threads take their time to end; those of the next sitting would come on top of them, and past the
    /// machine's limit of memory maps.
    fn drop(&mut self) {
        drop(self.provider.take());
        let begun = Instant::now();
        let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
        while threads() > FEW && begun.elapsed() < Duration::from_secs(60) {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The microseconds of one trip that finds everybody asleep; `None` if it failed.
fn timed(trip: impl FnOnce() -> bool) -> Option<f64> {
    // Spinning, not sleeping: the caller's own wake-up is not to be part of it.
    let pause = Instant::now();
    while pause.elapsed() < PAUSE {
        std::hint::spin_loop();
    }
    let begun = Instant::now();
    trip().then(|| begun.elapsed().as_secs_f64() * 1e6)
}

fn main() -> ExitCode {
    // `cargo test --benches` starts every bench without this.
    if !std::env::args().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    let (mut raw_us, mut pool_us, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SITTINGS {
        let Some((raw, pool)) = sitting(WORKERS) else { return ExitCode::FAILURE };
        raw_us.push(raw);
        pool_us.push(pool);
        ratios.push(pool / raw);
    }
    let Some(crowds) = crowds() else { return ExitCode::FAILURE };
    let Some(queue) = queue::measure() else { return ExitCode::FAILURE };
    let result = serde_json::json!({
        "sittings": SITTINGS,
        "trips_per_sitting": TRIPS,
        "raw_p50_us": rounded(median(&mut raw_us)),
        "pool_p50_us": rounded(median(&mut pool_us)),
        "ratio": rounded(median(&mut ratios)),
        "ratios": ratios.into_iter().map(rounded).collect::<Vec<_>>(),
        "workers": crowds,
        "queue": queue,
    });
    println!("{result}");
    ExitCode::SUCCESS
}

/// The trip's time with each number of workers, and what the last costs against the first.
fn crowds() -> Option<serde_json::Value> {
    let (limit, set_by) = limits::derive();
    let mut figures = serde_json::Map::new();
    let mut medians = Vec::new();
    for workers in CROWDS {
        if workers as u64 + 64 > limit {
            let why = format!("left out: {limit} threads are the limit here, set by {set_by}");
            figures.insert(workers.to_string(), why.into());
            continue;
        }
        let mut sittings = Vec::with_capacity(CROWD_SITTINGS);
        for _ in 0..CROWD_SITTINGS {
            sittings.push(sitting(workers)?.1);
        }
        medians.push(median(&mut sittings));
        figures
            .insert(workers.to_string(), serde_json::json!({ "pool_p50_us": medians.last().map(|us| rounded(*us)) }));
    }
    if let [first, .., last] = medians[..] {
        figures.insert("last_to_first".to_owned(), rounded(last / first).into());
    }
    Some(figures.into())
}

/// To three places.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Starts both contenders anew and has them take turns: the median time of a trip of each, in microseconds.
fn sitting(workers: usize) -> Option<(f64, f64)> {
    let raw = PingPong::start();
    let pool = IdlePool::start(workers)?;
    let (mut raw_us, mut pool_us) = (Vec::with_capacity(TRIPS), Vec::with_capacity(TRIPS));
    for trip in 0..(TRIPS + WARM_UP) as u64 {
        let raw_time = timed(|| raw.round_trip(trip))?;
        let call = pool.call()?;
        let pool_time = timed(|| pool.round_trip(&call))?;
        if trip >= WARM_UP as u64 {
            raw_us.push(raw_time);
            pool_us.push(pool_time);
        }
    }
    Some((median(&mut raw_us), median(&mut pool_us)))
}

/// The middle one, as good as: the upper of the two of an even number.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
