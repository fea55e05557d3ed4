//! Chaos with a seed: callers of every kind, faults at random, panics of workers, clients who leave, reloads good and bad;
//! then the ledger: each request has exactly one end, its caller's and the counters' are the same, and nothing is left.
//!
//! `make faults` has 200 callers for 30 s, `make test` fewer for some seconds. `SLUICEGATE_FAULTS_SEED` tries another seed.

use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;
use serde_json::{Value, json};
use sluicegate::time::Deadline;

use super::matrix::is_full;
use super::rows::{AWAITS, Part};
use crate::cli::process::{Served, ask, ask_with, chat, serve_for};
use crate::house::{merge, number, sim};
use crate::storm::{Seen, Target, over_sockets};
use crate::stress::{CALM, calm, size};

/// The seed, if none is given.
const SEED: u64 = 2026;

/// How any request may end beside what its model says: providers break, cool, are full, are gone.
const REFUSALS: &[&str] = &["queue_full", "request_dropped", "circuit_open", "rate_limited", "model_not_found"];

const PROVIDERS: &[(&str, &[&str])] =
    &[("block", REFUSALS), ("error", REFUSALS), ("drop", REFUSALS), ("drop-oldest", REFUSALS), ("fleeting", REFUSALS)];

fn config() -> Value {
    let provider = |name: &str| {
        sim(json!({
            "concurrency_and_buffer_size": { "concurrency": 6, "min_concurrency": 1, "buffer_size": 6 },
            "scaling": { "min_interval": "1ms" },
            "network_config": {
                "default_request_timeout_in_seconds": "400ms", "first_token_timeout": "300ms",
                "stream_idle_timeout_in_seconds": "300ms", "stream_max_duration": "2s", "idle_connection_timeout": "200ms",
                "retry_backoff_initial": "5ms", "retry_backoff_max": "20ms", "retry_after_patience": "50ms",
            },
            "queue": { "policy": if name == "fleeting" { "block".to_owned() } else { name.replace('-', "_") }, "wait_timeout": "250ms" },
        }))
    };
    let providers = PROVIDERS.iter().map(|(name, _)| ((*name).to_owned(), provider(name)));
    json!({
        "server": { "max_buffered_bytes": 16 << 20, "max_body_bytes": 1 << 20 },
        "threads": { "idle_timeout": "200ms" },
        "providers": providers.collect::<serde_json::Map<_, _>>(),
    })
}

/// What a reload brings.
fn changed(random: &mut Rng) -> (String, bool) {
    let mut changed = config();
    match random.u8(..5) {
        // One provider less.
        0 => drop(changed["providers"].as_object_mut().expect("an object").remove("fleeting")),
        // One of other sizes.
        1 => {
            let sizes =
                json!({ "concurrency": random.u32(2..8), "min_concurrency": 1, "buffer_size": random.u32(2..8) });
            merge(&mut changed["providers"]["error"]["concurrency_and_buffer_size"], sizes);
        }
        // Other limits.
        2 => changed["providers"]["drop"]["network_config"]["max_retries"] = json!(random.u32(..4)),
        3 => return ("{ \"providers\": ".to_owned(), false),
        _ => changed["providers"]["block"]["queue"]["policy"] = json!("nonsense"),
    }
    let is_good = changed["providers"]["block"]["queue"]["policy"] != "nonsense";
    (changed.to_string(), is_good)
}

/// Reloads until the time is over, last of all what it began with; how many good and bad ones there were.
fn reload(served: &Served, seed: u64, until: Deadline) -> [usize; 2] {
    let mut random = Rng::with_seed(seed);
    let mut counts = [0, 0];
    while !until.passed() {
        let (text, is_good) = changed(&mut random);
        served.process.write("sluicegate.json", &text);
        if random.bool() {
            served.process.signal(Signal::HUP);
        } else {
            let (status, said) = ask_with(served.admin, "POST", "/reload", &["x-sluicegate-admin: 1"], "");
            assert_eq!(status < 400, is_good, "{said}");
        }
        counts[usize::from(!is_good)] += 1;
        std::thread::park_timeout(Duration::from_millis(random.u64(20..250)));
    }
    served.process.write("sluicegate.json", &config().to_string());
    let (status, said) = ask_with(served.admin, "POST", "/reload", &["x-sluicegate-admin: 1"], "");
    assert!(status < 400, "{said}");
    counts
}

#[test]
fn in_chaos_each_request_has_one_end_and_the_ledger_balances() {
    let (callers, length) = if is_full() { (200, 30) } else { (40, 4) };
    let length = Duration::from_secs(length);
    let seed = std::env::var("SLUICEGATE_FAULTS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let served = serve_for(&config().to_string(), length + 3 * CALM);
    let target =
        Target { providers: PROVIDERS, hasty: true, rescue: (!AWAITS.contains(&Part::Routes)).then_some("block/echo") };
    for (name, _) in PROVIDERS {
        assert_eq!(ask(served.data, "POST", "/v1/chat/completions", &chat(&format!("{name}/echo"), false)).0, 200);
    }
    let base = size(&calm(served.admin, None));
    let until = Deadline::after(length);
    let (seen, reloads) = std::thread::scope(|scope| {
        let served = &served;
        // Numbers of callers are their seeds, so each run of a seed draws the same.
        let first = seed * 1_000;
        let callers: Vec<_> = (first..first + callers)
            .map(|caller| scope.spawn(move || over_sockets(served.data, target, caller, until)))
            .collect();
        let reloads = if AWAITS.contains(&Part::Reload) { [0, 0] } else { reload(served, seed, until) };
        let seen = callers.into_iter().map(|caller| caller.join().expect("no caller was answered wrongly"));
        (seen.fold(Seen::default(), Seen::add), reloads)
    });
    let stats = calm(served.admin, Some(base));
    let warm_up = PROVIDERS.len() as u64;
    let all = seen.add(Seen { sent: warm_up, ends: [("ok".to_owned(), warm_up)].into(), ..Seen::default() });
    all.matches(&stats);
    let panics = number(&stats, "/threads/panics_total");
    println!(
        "\n## Chaos, seed {seed}: {callers} callers for {length:?}\n\n\
         | sent | left | ended | reloads good / bad | panics | threads, descriptors before and after | |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n\
         | {} | {} | {} | {} / {} | {panics} | {}, {} | {} |",
        all.sent,
        all.left,
        all.ends.iter().map(|(end, count)| format!("{end} {count}")).collect::<Vec<_>>().join(", "),
        reloads[0],
        reloads[1],
        base.0,
        base.1,
        if AWAITS.contains(&Part::Reload) { "reloads: awaiting" } else { "the ledger balances" },
    );
    assert!(all.whole() > 0 && all.failed() > 0 && all.left > 0 && panics > 0, "{all:?}");
    served.process.signal(Signal::TERM);
    let done = served.process.wait().exits(0);
    assert!(!done.stderr.contains("did not end"), "{}", done.stderr);
}
