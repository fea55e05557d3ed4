//! The gateway's concurrent core, compiled as it stands against stand-ins that shuttle schedules, and its models.
//!
//! The modules below are the production files themselves, by path. `extern crate` gives them other crates under the names
//! that they use, `std` among them: read `stand_ins` for what those do. The models are in the files beside this one, named
//! for the protocol that each is about. Each runs some thousand schedules drawn from a fixed seed: half with at most
//! [`PREEMPTIONS`] preemptions, placed at random (probabilistic concurrency testing), half by a fair draw at every step.
//! What is printed is `cargo test`'s form, so that `tests/page.py` reads it.
//!
//! ```text
//! models [--times N] [--seed N] [WORD]      N times as many schedules, from another seed, of the models named so
//! ```

#![allow(
    dead_code,
    unused_imports,
    unexpected_cfgs,
    unfulfilled_lint_expectations,
    reason = "a part of a crate: what uses the rest is not here"
)]

extern crate stand_ins as crossbeam_channel;
extern crate stand_ins as parking_lot;
extern crate stand_ins as std;

macro_rules! thread_local {
    ($($declared:tt)*) => { std::thread_local!($($declared)*); };
}

#[path = "../../../src/calendar.rs"]
mod calendar;
#[path = "../../../src/error.rs"]
mod error;
#[path = "../../../src/ids/mod.rs"]
mod ids;
#[path = "../../../src/metrics/mod.rs"]
mod metrics;
#[path = "../../../src/secret/mod.rs"]
mod secret;
#[path = "../../../src/time.rs"]
mod time;

#[path = "../../../src/net.rs"]
mod net;
#[path = "../../../src/sync/mod.rs"]
mod sync;

#[path = "../../../src/config/mod.rs"]
mod config;
#[path = "../../../src/events/mod.rs"]
mod events;
#[path = "../../../src/model/mod.rs"]
mod model;
#[path = "../../../src/queue/mod.rs"]
mod queue;
#[path = "../../../src/recycle/mod.rs"]
mod recycle;

#[path = "../../../src/transport/mod.rs"]
mod transport;
#[path = "../../../src/wire/mod.rs"]
mod wire;

#[path = "../../../src/provider/mod.rs"]
mod provider;

use error::{Code, Error};

mod cancels;
mod counts;
mod lanes;
mod permits;
mod pools;
mod providers;
mod slots;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

/// The most preemptions of a schedule in the bounded half.
const PREEMPTIONS: usize = 4;

/// A model: its name, how many schedules of each kind are tried, and what one schedule runs.
type Model = (&'static str, usize, fn());

/// Every model there is.
const MODELS: &[&[Model]] =
    &[counts::MODELS, cancels::MODELS, slots::MODELS, permits::MODELS, lanes::MODELS, pools::MODELS, providers::MODELS];

struct Wish {
    times: usize,
    seed: u64,
    word: String,
}

fn main() -> ExitCode {
    let mut wish = Wish { times: 1, seed: 2026, word: String::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|text| text.parse::<u64>().ok()).expect("a number");
        match word.as_str() {
            "--times" => wish.times = number() as usize,
            "--seed" => wish.seed = number(),
            _ => wish.word = word,
        }
    }
    let (mut ran, mut failed) = (0, 0);
    for (name, schedules, model) in
        MODELS.iter().flat_map(|models| models.iter()).filter(|(name, ..)| name.contains(&wish.word))
    {
        let start = std::time::Instant::now();
        let passed = holds(schedules * wish.times, wish.seed, *model);
        let verdict = if passed { "ok" } else { "FAILED" };
        println!("test {name} ... {verdict}");
        eprintln!("     {} schedules in {:.1?}", 2 * schedules * wish.times, start.elapsed());
        ran += 1;
        failed += u32::from(!passed);
    }
    println!("\n{ran} models, {failed} failed");
    if failed == 0 && ran > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether a model holds in so many schedules of each kind. What fails says its schedule on standard error.
fn holds(schedules: usize, seed: u64, model: fn()) -> bool {
    fn run(scheduler: impl Scheduler + 'static, model: fn()) -> bool {
        let mut config = Config::new();
        // The production code's frames are larger than what shuttle expects of a model.
        config.stack_size = 1 << 20;
        catch_unwind(AssertUnwindSafe(|| Runner::new(scheduler, config).run(model))).is_ok()
    }
    run(PctScheduler::new_from_seed(seed, PREEMPTIONS, schedules), model)
        && run(RandomScheduler::new_from_seed(seed, schedules), model)
}
