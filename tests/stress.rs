//! Stress: 32 callers, every fault of the simulated provider, all four policies, for as long as `SLUICEGATE_STRESS_SECS` says;
//! then what the callers saw is what was counted, nothing is under way, and the process is as small as before.
//!
//! Most come over sockets to a `serve` of its own, so that its threads and descriptors are its own; the others call a gateway
//! in this process through the library.

use std::net::SocketAddr;
use std::thread::scope;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use sluicegate::time::Deadline;

use crate::cli::process::{ask, chat, serve_for};
use crate::house::{House, number, sim, unrest};
use crate::storm::{Seen, Target, over_sockets, through_the_library};

/// How many come over sockets, and how many through the library.
const CALLERS: (u64, u64) = (24, 8);

/// How long it may take until what the storm brought up has gone again.
pub(crate) const CALM: Duration = Duration::from_secs(20);

/// A provider for each policy, and how that policy may end a request.
const TARGET: Target = Target {
    providers: &[
        ("block", &[]),
        ("error", &["queue_full"]),
        ("drop", &["request_dropped"]),
        ("drop-oldest", &["request_dropped"]),
    ],
    hasty: true,
    rescue: None,
};

fn length() -> Duration {
    let given = std::env::var("SLUICEGATE_STRESS_SECS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(given.unwrap_or(5))
}

fn config() -> Value {
    let provider = |name: &str| {
        sim(json!({
            "concurrency_and_buffer_size": { "concurrency": 3, "min_concurrency": 1, "buffer_size": 2 }, "scaling": {"min_interval": "1ms"},
            "network_config": {
                "default_request_timeout_in_seconds": "400ms", "first_token_timeout": "300ms",
                "stream_idle_timeout_in_seconds": "300ms", "stream_max_duration": "2s", "idle_connection_timeout": "200ms",
            },
            "queue": { "policy": name.replace('-', "_"), "wait_timeout": "250ms" },
            // The storm is to reach the provider, not a circuit that has opened.
            "breaker": { "enabled": false },
        }))
    };
    let providers = TARGET.providers.iter().map(|(name, _)| ((*name).to_owned(), provider(name)));
    json!({
        "server": { "max_buffered_bytes": 8 << 20, "max_body_bytes": 1 << 20 },
        "threads": { "idle_timeout": "200ms" },
        "providers": providers.collect::<serde_json::Map<_, _>>(),
    })
}

fn json_of(admin: SocketAddr, path: &str) -> Value {
    let (status, text) = ask(admin, "GET", path, "");
    assert_eq!(status, 200, "{text}");
    let body = text.split_once("\r\n\r\n").expect("a head").1;
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What is not at rest yet, connections and their threads included.
fn unrest_of(admin: SocketAddr) -> (Value, Option<String>) {
    let stats = json_of(admin, "/stats?fresh=1");
    let threads = json_of(admin, "/threads");
    let conns = threads["threads"].as_array().expect("a list").iter();
    let conns = conns.filter(|row| row["name"].as_str().is_some_and(|name| name.starts_with("http-conn"))).count();
    let open = number(&stats, "/connections/open");
    let providers = stats["providers"].as_object().expect("an object").values();
    let upstream: u64 = providers.map(|provider| number(provider, "/connections/open")).sum();
    let moving = (conns as u64 + open + upstream > 0)
        .then(|| format!("{conns} threads of {open} clients' connections, {upstream} connections upstream"));
    let found = unrest(&stats).or(moving);
    (stats, found)
}

/// Waits until everything is at rest and there are no more threads and descriptors than `base`.
pub(crate) fn calm(admin: SocketAddr, base: Option<(u64, u64)>) -> Value {
    let fuse = Deadline::after(CALM);
    loop {
        let (stats, found) = unrest_of(admin);
        let size = size(&stats);
        let grown = base.filter(|base| size.0 > base.0 || size.1 > base.1);
        let found = found.or_else(|| grown.map(|base| format!("threads and descriptors {size:?}, before {base:?}")));
        match found {
            None => return stats,
            Some(what) => assert!(!fuse.passed(), "never at rest: {what}\n{stats:#}"),
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Its threads and its descriptors.
pub(crate) fn size(stats: &Value) -> (u64, u64) {
    (number(stats, "/process/threads"), number(stats, "/process/open_fds"))
}

#[test]
fn after_a_storm_of_every_fault_each_sum_balances_and_nothing_is_left() {
    let length = length();
    let served = serve_for(&config().to_string(), length + 3 * CALM);
    let house = House::with(config(), &[]);
    // Whatever is started at its first use, the simulated provider among it, belongs to the base.
    for (name, _) in TARGET.providers {
        assert_eq!(ask(served.data, "POST", "/v1/chat/completions", &chat(&format!("{name}/echo"), false)).0, 200);
    }
    let base = size(&calm(served.admin, None));
    let until = Deadline::after(length);
    let (over_http, by_calls) = scope(|scope| {
        let house = &house;
        let over: Vec<_> = (0..CALLERS.0)
            .map(|caller| scope.spawn(move || over_sockets(served.data, TARGET, caller, until)))
            .collect();
        let calls: Vec<_> = (CALLERS.0..CALLERS.0 + CALLERS.1)
            .map(|caller| scope.spawn(move || through_the_library(house.gateway(), TARGET, caller, until)))
            .collect();
        // An admin plane that answers in the storm, with figures that never pass their bounds.
        while !until.passed() {
            let stats = json_of(served.admin, "/stats?fresh=1");
            for (name, _) in TARGET.providers {
                let queue = |what: &str| number(&stats, &format!("/providers/{name}/queue/{what}"));
                assert!(queue("places_taken") <= 5 && queue("depth") <= 5, "{stats:#}");
                let workers = |what: &str| number(&stats, &format!("/providers/{name}/workers/{what}"));
                assert_eq!(workers("active"), workers("busy") + workers("idle"));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let sum = |callers: Vec<std::thread::ScopedJoinHandle<'_, Seen>>| {
            callers.into_iter().map(|caller| caller.join().expect("no panic")).fold(Seen::default(), Seen::add)
        };
        (sum(over), sum(calls))
    });
    let stats = calm(served.admin, Some(base));
    let warm_up = TARGET.providers.len() as u64;
    let all = over_http.add(Seen { sent: warm_up, ends: [("ok".to_owned(), warm_up)].into(), ..Seen::default() });
    all.matches(&stats);
    by_calls.matches(&house.at_rest());
    let mut panics = 0;
    for (name, _) in TARGET.providers {
        let correlation = stats.pointer(&format!("/providers/{name}/jobs/correlation")).expect("it is there");
        let buckets = correlation["buckets"].as_array().expect("a list");
        let paired: u64 = buckets.iter().map(|bucket| bucket["count"].as_u64().expect("a number")).sum();
        // A panic ends a job without a time.
        let jobs = |what: &str| number(&stats, &format!("/providers/{name}/{what}"));
        assert_eq!(paired + jobs("workers/panics_total"), jobs("queue/completed_total"), "{name}: {correlation:#}");
        panics += jobs("workers/panics_total");
        assert_eq!(paired, jobs("jobs/service_us/count"));
        assert!(correlation["r"].as_f64().is_some_and(|r| (-1.0..=1.0).contains(&r)), "{correlation:#}");
    }
    assert_eq!(number(&stats, "/threads/panics_total"), panics, "nobody but the workers panicked");
    println!(
        "{length:?}: {} threads and {} descriptors before and after\nover HTTP {all:?}\nby calls {by_calls:?}",
        base.0, base.1
    );
    served.process.signal(Signal::TERM);
    let done = served.process.wait().exits(0);
    assert!(!done.stderr.contains("did not end"), "{}", done.stderr);
}
