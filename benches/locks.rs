//! What a lock costs that nobody else wants: each kind of ours beside a plain mutex, in the same run.
//!
//! ```text
//! cargo bench --bench locks
//! ```
//! A plain `parking_lot::Mutex` is the floor: everything of ours stands on one, or on a channel. What ours add is the book of
//! what the thread holds, and a word that says who holds the lock. The contenders take turns round by round, so that
//! they see the same machine; a ratio is the median of those of the rounds. Prints JSON, and a table on standard error.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark reads the clock itself, and its result is its output"
)]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sluicegate::sync::locks::{ChannelLock, Leaf, LockTimes, Ranked, Wait, classes, lock_all};

/// How often the contenders take turns.
const ROUNDS: usize = 201;

/// How often each locks and unlocks in a round: long enough for the clock, short enough to be left alone by the others.
const TURNS: u32 = 10_000;

/// A contender: what it is, which other it is held against, and a round of it.
type Contender<'a> = (&'static str, usize, Box<dyn Fn() + 'a>);

fn main() -> ExitCode {
    // `cargo test --benches` starts every bench without this.
    if !std::env::args().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    let (plain, second) = (Mutex::new(0u64), Mutex::new(0u64));
    let leaf = Leaf::new(&classes::TEST_LEAF, 0u64);
    let (outer, inner) = (Ranked::new(&classes::TEST_OUTER, 0u64), Ranked::new(&classes::TEST_INNER, 0u64));
    let channel = ChannelLock::new(&classes::TEST_OUTER, LockTimes::DEFAULT, 0u64);
    let contenders: Vec<Contender<'_>> = vec![
        ("parking_lot::Mutex", 0, Box::new(|| *black_box(&plain).lock() += 1)),
        ("Leaf", 0, Box::new(|| *black_box(&leaf).lock() += 1)),
        ("Ranked", 0, Box::new(|| had(black_box(&outer).lock(Wait::DEFAULT).map(|mut value| *value += 1)))),
        ("ChannelLock", 0, Box::new(|| had(black_box(&channel).lock(Wait::DEFAULT).map(|mut value| *value += 1)))),
        (
            "two parking_lot::Mutex",
            4,
            Box::new(|| {
                let (mut first, mut second) = (black_box(&plain).lock(), black_box(&second).lock());
                *first += 1;
                *second += 1;
            }),
        ),
        (
            "Ranked, and a Leaf under it",
            4,
            Box::new(|| {
                had(black_box(&outer).lock(Wait::DEFAULT).map(|mut value| {
                    *value += 1;
                    *black_box(&leaf).lock() += 1;
                }));
            }),
        ),
        (
            "lock_all of two Ranked",
            4,
            Box::new(|| {
                had(lock_all([black_box(&inner), black_box(&outer)], Wait::DEFAULT)
                    .map(|mut both| both.iter_mut().for_each(|value| *value += 1)));
            }),
        ),
    ];
    let mut rounds = vec![Vec::with_capacity(ROUNDS); contenders.len()];
    for _ in 0..ROUNDS {
        for ((_, _, once), times) in contenders.iter().zip(&mut rounds) {
            times.push(nanos_each(once));
        }
    }
    let rows = contenders.iter().enumerate().map(|(at, (name, floor, _))| {
        let ratios = rounds[at].iter().zip(&rounds[*floor]).map(|(own, floor)| own / floor).collect();
        (*name, contenders[*floor].0, median(rounds[at].clone()), median(ratios))
    });
    let rows: Vec<_> = rows.collect();
    eprintln!("{:<28} {:>8} {:>8}  against", "uncontended lock and unlock", "ns", "ratio");
    for (name, floor, ns, ratio) in &rows {
        eprintln!("{name:<28} {ns:>8.1} {ratio:>8.2}  {floor}");
    }
    let told = rows.iter().map(|(name, floor, ns, ratio)| {
        serde_json::json!({ "lock": name, "ns": round(*ns), "ratio": round(*ratio), "against": floor })
    });
    println!("{}", serde_json::json!({ "rounds": ROUNDS, "turns": TURNS, "locks": told.collect::<Vec<_>>() }));
    ExitCode::SUCCESS
}

/// A free lock is had; anything else is a defect that no figure should come out of.
fn had<E: std::fmt::Debug>(result: Result<(), E>) {
    result.expect("nobody else wants it");
}

fn nanos_each(once: &dyn Fn()) -> f64 {
    let begun = Instant::now();
    for _ in 0..TURNS {
        once();
    }
    let took: Duration = begun.elapsed();
    took.as_secs_f64() * 1e9 / f64::from(TURNS)
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
