//! The soak: ten minutes of every kind of request and of client, after which nothing has grown and nothing is left.
//!
//! ```text
//! make soak                     ten minutes;  make soak SOAK_SECS=3600  an hour
//! cargo bench --bench soak -- --secs 60
//! ```
//! JSON goes to standard output, a line each ten seconds to standard error. Exit code 1 if resident memory grew by more than
//! [`WANTED`] a minute, a sum of `/stats` does not balance at rest, threads or descriptors are not back where they were, or a
//! client was answered something that is no answer to what it sent.
//!
//! **What runs.** The release gateway as a process of its own, the simulated provider in it, every limit short. Against it
//! the callers of the stress test (`tests/storm.rs`: whole, streamed, failing in each way that the simulator knows, slow,
//! hanging, leaving in the middle, in both lanes), and beside them readers that do not read, heads and bodies that come
//! slowly or never whole, framing that is wrong, connections that lie idle, and bursts past `max_in_flight`.
//!
//! **How to read it.** Memory, threads and descriptors are read from `/proc` once a second. The slope is that of the straight
//! line through the resident sizes by least squares, from the end of the warm-up on: a fifth of the time, at most a minute,
//! in which pools, buffers and the allocator come to their size. A run of a minute shows the sums, not the slope.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the bench is a program of its own: it reads the clock, starts threads, sleeps and prints"
)]

#[path = "../tests/canary.rs"]
#[expect(dead_code, unused_imports, reason = "the house names its canaries; here nobody looks for them")]
mod canary;
#[path = "../tests/client.rs"]
#[expect(dead_code, reason = "the tests' client can do more than the soak asks of it")]
mod client;
#[path = "../tests/house.rs"]
#[expect(dead_code, reason = "of the tests' house only the sums are needed here, and what the storm is made of")]
mod house;
#[path = "../tests/front/client.rs"]
#[expect(dead_code, reason = "the tests' client can do more than the soak asks of it")]
mod planes;
#[path = "soak/rough.rs"]
mod rough;
#[path = "overload/served.rs"]
mod served;
#[path = "../tests/storm.rs"]
#[expect(dead_code, reason = "the library's callers are the stress test's")]
mod storm;

use std::process::ExitCode;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluicegate::time::Deadline;

use house::{number, unrest};
use served::Served;
use storm::Target;

/// Why the run ended: told as text, since nothing is decided by it.
type Error = Box<dyn std::error::Error>;

/// The most that resident memory may grow, in bytes a minute.
const WANTED: f64 = 1e6;

/// Callers of the storm.
const CALLERS: u64 = 6;

/// How long it may take at the end until everything is at rest.
const CALM: Duration = Duration::from_secs(20);

/// What the storm's callers go to, and how their requests may end beside what their models say.
const TARGET: Target = Target {
    providers: &[("block", &["overloaded"]), ("error", &["overloaded", "queue_full"])],
    hasty: true,
    rescue: None,
};

fn config() -> Value {
    let provider = |policy: &str| {
        json!({
            "kind": "sim",
            "concurrency_and_buffer_size": { "concurrency": 8, "min_concurrency": 2, "buffer_size": 8 },
            "network_config": {
                "default_request_timeout_in_seconds": "400ms", "first_token_timeout": "300ms",
                "stream_idle_timeout_in_seconds": "300ms", "stream_max_duration": "2s", "idle_connection_timeout": "500ms",
            },
            "queue": { "policy": policy, "wait_timeout": "250ms" },
        })
    };
    json!({
        "server": {
            "max_in_flight": 24, "max_body_bytes": 1 << 20, "header_timeout": "300ms", "body_timeout": "300ms",
            "idle_timeout": "1s", "write_timeout": "300ms",
        },
        "threads": { "idle_timeout": "500ms" },
        "providers": { "block": provider("block"), "error": provider("error") },
    })
}

/// What the process holds at one moment.
#[derive(Clone, Copy, Debug)]
struct Size {
    at: Duration,
    resident: u64,
    threads: u64,
    descriptors: u64,
}

impl Size {
    fn of(served: &Served, at: Duration) -> Result<Self, Error> {
        let pid = served.child.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> Option<u64> {
            status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
        };
        let kib = field("VmRSS:").ok_or("no VmRSS")?;
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
        Ok(Self { at, resident: kib * 1024, threads: field("Threads:").ok_or("no Threads")?, descriptors })
    }
}

/// The slope of the straight line through the resident sizes by least squares, in bytes a minute.
fn slope(sizes: &[Size]) -> f64 {
    let count = sizes.len() as f64;
    let mean = |of: &dyn Fn(&Size) -> f64| sizes.iter().map(of).sum::<f64>() / count;
    let (minutes, bytes) = (|size: &Size| size.at.as_secs_f64() / 60.0, |size: &Size| size.resident as f64);
    let (middle, level) = (mean(&minutes), mean(&bytes));
    let (mut up, mut across) = (0.0, 0.0);
    for size in sizes {
        up += (minutes(size) - middle) * (bytes(size) - level);
        across += (minutes(size) - middle).powi(2);
    }
    if across > 0.0 { up / across } else { 0.0 }
}

/// Waits until everything is at rest and there are no more threads and descriptors than `base`.
fn calm(served: &Served, base: Option<Size>) -> Result<Size, Error> {
    let until = Instant::now() + CALM;
    loop {
        let stats = served.stats()?;
        let open = number(&stats, "/connections/open");
        let upstream: u64 =
            ["block", "error"].map(|name| number(&stats, &format!("/providers/{name}/connections/open"))).iter().sum();
        let conns = number(&stats, "/threads/by_role/conn/active") + number(&stats, "/threads/by_role/sim/active");
        let size = Size::of(served, Duration::ZERO)?;
        let found = unrest(&stats)
            .or_else(|| (open + upstream > 0).then(|| format!("{open} connections, {upstream} upstream")))
            // The thread that accepts for the simulated provider has its role, too.
            .or_else(|| (conns > 1).then(|| format!("{conns} threads of connections")))
            .or_else(|| {
                let base = base.filter(|base| size.threads > base.threads || size.descriptors > base.descriptors)?;
                Some(format!("{size:?}, before {base:?}"))
            });
        match found {
            None => return Ok(size),
            Some(what) if Instant::now() > until => return Err(format!("never at rest: {what}").into()),
            Some(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn soak() -> Result<bool, Error> {
    served::hold_if_asked()?;
    let mut secs = 600;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--secs" => secs = args.next().ok_or("--secs needs a number")?.parse()?,
            // What cargo adds of itself.
            "--bench" => {}
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let served = Served::start(&config())?;
    for (name, _) in TARGET.providers {
        let answer =
            client::Client::connect(served.data).chat(&[], &house::chat(&format!("{name}/echo"), false)).answer();
        if answer.status != 200 {
            return Err(format!("{name} does not answer: {answer:?}").into());
        }
    }
    let base = calm(&served, None)?;
    eprintln!("soak: {secs} s; before: {base:?}");
    let length = Duration::from_secs(secs);
    let (addr, until) = (served.data, Deadline::after(length));
    let mut clients: Vec<JoinHandle<()>> = rough::all()
        .into_iter()
        .map(|client| {
            thread::spawn(move || {
                while !until.passed() {
                    client(addr)
                }
            })
        })
        .collect();
    let callers: Vec<_> =
        (0..CALLERS).map(|caller| thread::spawn(move || storm::over_sockets(addr, TARGET, caller, until))).collect();
    let (start, mut sizes) = (Instant::now(), Vec::new());
    while !until.passed() {
        thread::sleep(Duration::from_secs(1).min(until.remaining()));
        let size = Size::of(&served, start.elapsed())?;
        if sizes.len() % 10 == 0 {
            eprintln!("{size:?}");
        }
        sizes.push(size);
    }
    let mut seen = storm::Seen::default();
    let mut wrong = Vec::new();
    for caller in callers {
        match caller.join() {
            Ok(own) => seen = seen.add(own),
            // What it says stands on standard error already.
            Err(_) => wrong.push("a caller of the storm was answered wrongly".to_owned()),
        }
    }
    clients
        .drain(..)
        .filter_map(|client| client.join().err())
        .for_each(|_| wrong.push("a rough client, too".to_owned()));
    let after = calm(&served, Some(base)).map_err(|error| wrong.push(error.to_string())).ok();
    let warm = (length / 5).min(Duration::from_secs(60));
    let sizes: Vec<_> = sizes.into_iter().filter(|size| size.at >= warm).collect();
    let slope = slope(&sizes);
    if slope > WANTED {
        wrong.push(format!("memory grew by {:.2} MB a minute", slope / 1e6));
    }
    let stats = served.stats()?;
    let most = |of: &dyn Fn(&Size) -> u64| sizes.iter().map(of).max();
    println!(
        "{:#}",
        json!({
            "secs": secs, "slope_mb_per_minute": slope / 1e6, "wanted_mb_per_minute": WANTED / 1e6, "warm_up_secs": warm.as_secs(),
            "resident_mb": { "before": base.resident as f64 / 1e6, "most": most(&|size| size.resident).map(|b| b as f64 / 1e6),
                             "after": after.map(|size| size.resident as f64 / 1e6) },
            "threads": { "before": base.threads, "most": most(&|size| size.threads), "after": after.map(|size| size.threads) },
            "descriptors": { "before": base.descriptors, "most": most(&|size| size.descriptors), "after": after.map(|size| size.descriptors) },
            "storm": { "sent": seen.sent, "left": seen.left, "ends": seen.ends },
            "requests": { "received": stats["requests"]["received_total"], "errors": stats["errors"] },
            "connections": stats["connections"], "panics": stats["threads"]["panics_total"], "wrong": wrong,
        })
    );
    served.stop()?;
    wrong.iter().for_each(|what| eprintln!("soak: {what}"));
    Ok(wrong.is_empty())
}

fn main() -> ExitCode {
    match soak() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}
