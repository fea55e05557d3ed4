//! Overload: what the gateway gets done, and how fast it refuses the rest, at one, two and five times what it can do.
//!
//! ```text
//! cargo bench --bench overload                 five seconds a load, about half a minute
//! cargo bench --bench overload -- --quick      one second a load: a look, not a result
//! cargo bench --bench overload -- --secs 20
//! ```
//! JSON goes to standard output, a table to standard error; exit code 1 if a request that was let in failed, or the
//! gateway's own count is another.
//!
//! **What runs.** The release gateway as a process of its own, the simulated provider in it, and the load generator here: one
//! thread, many connections, in an open loop, since clients of an overloaded server do not wait for each other.
//!
//! **The scene.** Each answer takes 100 ms, there are 64 workers, 96 requests may be under way (`max_in_flight`): capacity is a
//! matter of concurrency, as it is with language models. Where it is the processors', two of them tell nothing: the generator
//! and the provider take most of both, and of a refusal's cost most is the generator's.
//!
//! **How to read it.** Capacity is first measured in a closed loop of as many connections as may be under way. Goodput counts
//! whole good answers a second while requests are sent, half a second after the first; its share is that of the best load's, the closed loop among them.
//! Times run from when a request was due, so a generator that was late (`late_p99`) charges the gateway for it.
//! `cpu_us` is the gateway's CPU time for a request in the closed loop, the simulated provider's part in it, and for a refusal
//! what the load needed beyond its good answers at that price. Wanted: a share of at least 0.95, refusals within 10 ms at p99, no connection closed, nothing failed.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the bench is a program of its own: it reads the clock, sleeps and prints"
)]

#[path = "overload/load.rs"]
mod load;
#[path = "overload/served.rs"]
mod served;

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use load::{Load, Tally};
use served::Served;

/// Why the run ended: told as text, since nothing is decided by it.
type Error = Box<dyn std::error::Error>;

/// What is wanted: the least share of goodput, and the longest refusal at p99, in microseconds.
const WANTED: (f64, u64) = (0.95, 10_000);

/// How long each gateway is warmed up before anything counts.
const WARM_UP: Duration = Duration::from_secs(1);

/// Workers, requests at a time, and what is asked of them.
const WORKERS: usize = 64;
const MAX_IN_FLIGHT: usize = 96;
const MODEL: &str = "sim/echo+slow-100ms";

/// What is offered, in capacities.
const TIMES: [f64; 3] = [1.0, 2.0, 5.0];

/// One load's figures.
struct Point {
    name: String,
    offered: Option<f64>,
    tally: Tally,
    /// CPU time of the gateway, in microseconds.
    cpu_us: u64,
}

/// The value that `share` of them do not pass; 0 of none.
fn quantile(values: &mut [u64], share: f64) -> u64 {
    values.sort_unstable();
    values.get(((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1))).copied().unwrap_or(0)
}

fn request(model: &str) -> Vec<u8> {
    let body = json!({ "model": model, "messages": [{ "role": "user", "content": "x".repeat(700) }] }).to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n";
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn run(secs: Duration) -> Result<(Value, bool), Error> {
    let workers = json!({ "concurrency": WORKERS, "min_concurrency": WORKERS, "buffer_size": 1000 });
    let served = Served::start(&json!({
        "server": { "max_in_flight": MAX_IN_FLIGHT },
        "providers": { "sim": { "concurrency_and_buffer_size": workers } },
    }))?;
    let number = |stats: &Value, path: &str| stats.pointer(path).and_then(Value::as_u64).unwrap_or(0);
    let cpu = || Ok::<_, Error>(number(&served.stats()?, "/process/cpu_us"));
    let mut load = Load::new(served.data, request(MODEL))?;
    let mut seen = Seen::default();
    seen.add(&load.closed(MAX_IN_FLIGHT, WARM_UP)?);
    let before = cpu()?;
    let tally = load.closed(MAX_IN_FLIGHT, secs)?;
    let capacity = tally.goodput();
    let mut points = vec![Point { name: "closed".into(), offered: None, tally, cpu_us: cpu()? - before }];
    for times in TIMES {
        let (offered, before) = (capacity * times, cpu()?);
        let tally = load.open(offered, secs)?;
        points.push(Point { name: format!("{times}x"), offered: Some(offered), tally, cpu_us: cpu()? - before });
    }
    points.iter().for_each(|point| seen.add(&point.tally));
    let peak = points.iter().map(|point| point.tally.goodput()).fold(0.0, f64::max);
    let each = points[0].cpu_us as f64 / points[0].tally.good_us.len().max(1) as f64;
    let rows: Vec<Value> = points.iter_mut().map(|point| row(point, peak, each)).collect();
    let stats = served.stats()?;
    let own = ["/requests/received_total", "/requests/succeeded_total", "/errors/overloaded"];
    let own = own.map(|path| number(&stats, path));
    let agrees = own == [seen.sent, seen.good, seen.refused];
    if !agrees {
        eprintln!("the gateway counted {own:?} received, succeeded and overloaded, and seen was {seen:?}");
    }
    served.stop()?;
    let result = json!({ "workers": WORKERS, "max_in_flight": MAX_IN_FLIGHT, "model": MODEL, "cpu_us_per_request": each, "loads": rows });
    Ok((result, agrees && seen.failed == 0))
}

/// What was seen in all.
#[derive(Debug, Default)]
struct Seen {
    sent: u64,
    good: u64,
    refused: u64,
    failed: u64,
}

impl Seen {
    fn add(&mut self, tally: &Tally) {
        self.sent += tally.sent;
        self.good += tally.good_us.len() as u64;
        self.refused += tally.refused_us.len() as u64;
        self.failed += tally.failed;
    }
}

fn row(point: &mut Point, peak: f64, cpu_each: f64) -> Value {
    let (goodput, per_s) = (point.tally.goodput(), point.tally.refused_per_s());
    let (offered, tally) = (point.offered, &mut point.tally);
    let (share, refused) = (goodput / peak, tally.refused_us.len());
    let spare = point.cpu_us as f64 - cpu_each * tally.good_us.len() as f64;
    // Of a few refusals it would be noise.
    let refusal_us = (refused > 1000).then(|| spare / refused as f64);
    let [good_p50, good_p99] = [0.50, 0.99].map(|share| quantile(&mut tally.good_us, share));
    let [refused_p50, refused_p99] = [0.50, 0.99].map(|share| quantile(&mut tally.refused_us, share));
    let late_p99 = quantile(&mut tally.late_us, 0.99);
    let held = share >= WANTED.0 && refused_p99 <= WANTED.1 && tally.failed == 0 && tally.closed == 0;
    eprintln!(
        "{:<7} offered {:>8} /s  goodput {goodput:>8.1} /s  share {share:.3}  refused {per_s:>8.1} /s  \
         p50 {refused_p50:>6} p99 {refused_p99:>6} µs  good p50 {good_p50:>7} p99 {good_p99:>7} µs  late p99 {late_p99:>5} µs  \
         cpu {cpu_each:.0} µs a request, {} a refusal  failed {} closed {}  {}",
        point.name,
        offered.map_or_else(|| "-".to_owned(), |offered| format!("{offered:.1}")),
        refusal_us.map_or_else(|| "-".to_owned(), |us| format!("{us:.0} µs")),
        tally.failed,
        tally.closed,
        if held { "held" } else { "MISSED" },
    );
    json!({
        "load": point.name, "offered_per_s": offered, "sent": tally.sent, "goodput_per_s": goodput, "share_of_peak": share,
        "refused_per_s": per_s, "cpu_us_per_refusal": refusal_us, "refused_p50_us": refused_p50, "refused_p99_us": refused_p99, "good_p50_us": good_p50,
        "good_p99_us": good_p99, "late_p99_us": late_p99, "failed": tally.failed, "closed": tally.closed, "held": held,
    })
}

fn bench() -> Result<bool, Error> {
    served::hold_if_asked()?;
    let mut secs = Duration::from_secs(5);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => secs = Duration::from_secs(1),
            "--secs" => secs = Duration::from_secs(args.next().ok_or("--secs needs a number")?.parse()?),
            // What cargo adds of itself.
            "--bench" => {}
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let (result, good) = run(secs)?;
    println!(
        "{:#}",
        json!({ "secs": secs.as_secs(), "wanted": { "share": WANTED.0, "refused_p99_us": WANTED.1 }, "result": result })
    );
    Ok(good)
}

fn main() -> ExitCode {
    match bench() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("overload: {error}");
            ExitCode::FAILURE
        }
    }
}
