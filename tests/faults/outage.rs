//! A provider that is down under load: how little it sees of the load, what its callers see, how soon it is back in use.
//!
//! `make faults` has it down for a minute under 50 requests a second, `make test` for some seconds. Every other caller
//! brings a fallback; the others are told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use sluicegate::time::now;

use super::matrix::is_full;
use super::rows::{AWAITS, Part};
use super::scenes::{Stage, body, end, script, well};
use super::upstream::{Act, Asked};

/// How long an open breaker stays open.
const OPEN_FOR: Duration = Duration::from_secs(4);

/// How soon after its recovery a provider is to be in use again.
const BACK: Duration = Duration::from_secs(5);

/// What may still be on its way when the breaker opens.
const ON_ITS_WAY: Duration = Duration::from_millis(250);

/// How soon an attempt whose connection was stale comes again on a fresh one.
const STALE: Duration = Duration::from_millis(50);

/// Callers, of whom each waits for its answer: enough for the rate while answers take a third of a second.
const CALLERS: usize = 20;

/// How a storm goes.
#[derive(Clone, Copy)]
struct Storm {
    /// Requests a second.
    rate: u32,
    before: Duration,
    down: Duration,
    after: Duration,
}

const SMALL: Storm = Storm {
    rate: 50,
    before: Duration::from_millis(700),
    down: Duration::from_millis(5_300),
    after: Duration::from_millis(5_500),
};

const FULL: Storm =
    Storm { before: Duration::from_secs(3), down: Duration::from_secs(60), after: Duration::from_secs(12), ..SMALL };

type Down = fn(&Asked) -> Act;

/// How a provider is down.
const KINDS: [(&str, Down); 3] = [
    ("answers 503", |_| Act::error(503, None, Vec::new())),
    ("closes connections", |_| Act::Close),
    ("says nothing", |_| Act::Hang),
];

/// What came of one request.
struct Told {
    sent: Instant,
    at: Instant,
    by_chain: bool,
    status: u16,
    code: String,
}

#[test]
fn a_provider_that_is_down_sees_single_probes_and_is_back_in_use_soon() {
    let storm = if is_full() { FULL } else { SMALL };
    let Storm { rate, down, .. } = storm;
    println!("\n## A provider down for {down:?} under {rate} requests a second, open_for {OPEN_FOR:?}\n");
    println!("| it | sent | until open | probes | most in a second | told meanwhile | rescued | back after | |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    if let Some(part) = AWAITS.iter().find(|part| matches!(part, Part::Breaker | Part::Routes)) {
        KINDS.iter().for_each(|(name, _)| println!("| {name} | | | | | | | | awaits {part:?} |"));
        return;
    }
    let rows: Vec<_> = std::thread::scope(|scope| {
        let raging: Vec<_> = KINDS.iter().map(|(_, down)| scope.spawn(move || rage(*down, storm))).collect();
        raging.into_iter().map(|raging| raging.join()).collect()
    });
    let mut missed = Vec::new();
    for ((name, _), row) in KINDS.iter().zip(rows) {
        let (row, wrong) = row.unwrap_or_else(|panic| ("| | | | | | |".to_owned(), vec![super::run::said(&*panic)]));
        let verdict = if wrong.is_empty() { "ok".to_owned() } else { format!("MISSED: {}", wrong.join("; ")) };
        println!("| {name} {row} {verdict} |");
        missed.extend(wrong.into_iter().map(|wrong| format!("{name}: {wrong}")));
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// One storm: its row, and what in it is not as promised.
fn rage(down: Down, storm: Storm) -> (String, Vec<String>) {
    let is_down = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_down);
    let settings = json!({
        "breaker": { "enabled": true, "open_for": format!("{}s", OPEN_FOR.as_secs()) },
        "network_config": { "default_request_timeout_in_seconds": "300ms", "retry_backoff_initial": "500ms", "retry_backoff_max": "5s" },
        "concurrency_and_buffer_size": { "concurrency": 16, "buffer_size": 100 },
    });
    let plays = move |asked: &Asked| if switch.load(Ordering::Acquire) { down(asked) } else { Act::good(asked) };
    let roomy = json!({ "concurrency_and_buffer_size": { "concurrency": 16, "buffer_size": 100 } });
    let stage = Stage::set(vec![("a", script(plays), settings), ("b", well(), roomy)]);
    let told = Mutex::new(Vec::<Told>::new());
    let start = now();
    let (fails, recovers) = (start + storm.before, start + storm.before + storm.down);
    let ends = recovers + storm.after;
    // Each second has its share of requests, whoever is free sends them: a queue of moments, at most two seconds deep.
    let (due, ticks) = crossbeam_channel::bounded::<u32>(2 * storm.rate as usize);
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            let (ticks, stage, told) = (ticks.clone(), &stage, &told);
            scope.spawn(move || {
                let mut client = stage.client();
                for n in ticks {
                    let by_chain = n % 2 == 1;
                    let change = if by_chain { json!({ "fallbacks": ["b/m"] }) } else { json!({}) };
                    let sent = now();
                    let answer = client.chat(&[], &body("a/m", change)).answer();
                    let (status, code) = end(&answer);
                    told.lock().expect("no panic under it").push(Told { sent, at: now(), by_chain, status, code });
                }
            });
        }
        let mut n = 0;
        while now() < ends {
            let next = start + Duration::from_secs(1) * n / storm.rate;
            let _ = crossbeam_channel::at(next).recv();
            is_down.store(next >= fails && next < recovers, Ordering::Release);
            // Callers who are all kept waiting lose a request: it is their number that bounds what waits.
            let _ = due.try_send(n);
            n += 1;
        }
        drop(due);
    });
    let told = told.into_inner().expect("no panic under it");
    stage.calm();
    judge(&stage, &told, storm, fails, recovers)
}

fn judge(stage: &Stage, told: &[Told], storm: Storm, fails: Instant, recovers: Instant) -> (String, Vec<String>) {
    let opened = told.iter().filter(|told| told.code == "circuit_open").map(|told| told.at).min();
    let opened = opened.expect("the breaker opened") + ON_ITS_WAY;
    let upstream = &stage.upstreams[0];
    let arrivals: Vec<_> = upstream.asked(|_| true).into_iter().map(|asked| asked.at).collect();
    let until_open = arrivals.iter().filter(|at| **at >= fails && **at < opened).count();
    let is_meanwhile = |at: &&Instant| **at >= opened && **at < recovers;
    let checks = upstream.checks().iter().filter(is_meanwhile).count();
    let mut probes: Vec<_> = arrivals.iter().filter(is_meanwhile).copied().collect();
    // One attempt comes twice if the connection that it was sent on, left by a check, turned out to have ended.
    probes.dedup_by(|later, first| *later - *first < STALE);
    let second = Duration::from_secs(1);
    let within = |at: &Instant| probes.iter().filter(|other| *other >= at && **other < *at + second).count();
    let most = probes.iter().map(within).max().unwrap_or(0);
    let good = |told: &&Told| told.status == 200;
    let alone = |told: &&Told| !told.by_chain;
    let back = told.iter().filter(good).filter(alone).map(|told| told.at).find(|at| *at >= recovers);
    let back = back.expect("it was back in use") - recovers;
    // Those who came before it opened may have been told what the provider said, and so are those who probe.
    let shut_out = || told.iter().filter(|told| told.sent >= opened && told.at < recovers).filter(alone);
    let (all, refused) = (shut_out().count(), shut_out().filter(|told| told.code == "circuit_open").count());
    let chains = told.iter().filter(|told| told.by_chain).count();
    let rescued = told.iter().filter(|told| told.by_chain).filter(good).count();
    let last = told.iter().map(|told| told.at).max().unwrap_or(recovers);
    // The load of the last second: the ramp is over.
    let at_the_end = arrivals.iter().filter(|at| **at + second >= last).count();
    let row = format!(
        "| {} | {until_open} | {}, and {checks} checks | {most} | {refused} of {all} circuit_open | {rescued} of {chains} | {} ms, {at_the_end} in the last second |",
        told.len(),
        probes.len(),
        back.as_millis(),
    );
    let cycles = storm.down.as_secs_f64() / OPEN_FOR.as_secs_f64();
    let promises = [
        (most <= 1, format!("{most} probes in one second")),
        (probes.len() as f64 <= cycles + 1.0, format!("{} probes in {cycles:.1} times open_for", probes.len())),
        (back <= BACK, format!("back in use after {back:?}")),
        (rescued == chains, format!("of {chains} with a fallback {rescued} were served")),
        (all - refused <= probes.len(), format!("of {all} shut out, {refused} were told so at once")),
        (at_the_end >= storm.rate as usize / 2, format!("{at_the_end} requests in the last second: it is not used")),
    ];
    (row, promises.into_iter().filter(|(holds, _)| !holds).map(|(_, wrong)| wrong).collect())
}
