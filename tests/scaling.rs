//! Workers that come with the load and go with it: growth on demand, shrinking, limits, and the sizes by the formula.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluicegate::Code;
use sluicegate::time::{Deadline, now};
use sluicegate::transport::{Body, Incoming, MemoryTransport};

use crate::house::{FUSE, Gate, House, SLACK, code, eventually, ms, number, provider, reply};

/// A pool of 10 to 64 workers that may be changed every 20 ms.
fn adaptive(change: Value) -> Value {
    let mut settings = provider(json!({
        "concurrency_and_buffer_size": { "concurrency": 64, "min_concurrency": 10, "buffer_size": 500 },
        "scaling": { "min_interval": "20ms" },
    }));
    for (section, keys) in change.as_object().expect("an object") {
        for (key, value) in keys.as_object().expect("an object") {
            settings[section][key] = value.clone();
        }
    }
    settings
}

/// Sends `callers` requests at once, each from a thread of its own; `then` runs while they are under way.
fn at_once<T>(house: &House, callers: usize, then: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..callers).map(|_| scope.spawn(|| house.ask())).collect();
        let value = then();
        for caller in asked {
            caller.join().expect("no panic").expect("it is answered");
        }
        value
    })
}

/// The kinds and messages of the events about scaling.
fn told(stats: &Value) -> Vec<String> {
    let events = stats["events"].as_array().expect("a list").iter();
    let scaling = events.filter(|event| event["kind"] == "scaling" && event["subject"] == "p");
    scaling.map(|event| event["message"].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn a_pool_starts_with_the_fewest_workers_and_a_fixed_one_with_all() {
    for (settings, workers) in [
        (adaptive(json!({})), [10, 10, 64]),
        (adaptive(json!({ "scaling": { "enabled": false } })), [64, 64, 64]),
        (adaptive(json!({ "concurrency_and_buffer_size": { "min_concurrency": 64 } })), [64, 64, 64]),
    ] {
        let (house, _gate) = House::gated(settings);
        let found = ["configured", "min", "max"].map(|what| house.p(&format!("workers/{what}")));
        assert_eq!(found, workers);
        assert_eq!([house.p("workers/active"), house.p("workers/spawned_total")], [workers[0]; 2]);
    }
}

#[test]
fn a_burst_has_its_workers_at_once_and_they_go_when_it_is_over() {
    const BURST: usize = 54;
    // Without growth ahead of demand, which a slow machine leaves time for.
    let (house, gate) = House::gated(adaptive(json!({ "scaling": { "up_threshold": 1.0 } })));
    let start = now();
    let over = at_once(&house, BURST, || {
        let arrived: Vec<_> = (0..BURST).map(|_| gate.next()).collect();
        let took = now().saturating_duration_since(start);
        // The supervisor looks each quarter of a second by itself.
        assert!(took < ms(250) * SLACK, "the last worker came after {took:?}");
        // What is wanted is there a moment before what is said of it.
        eventually("as many workers as callers", || house.p("scaling/workers_added_total") == (BURST - 10) as u64);
        eventually("it says so", || house.stats()["providers"]["p"]["scaling"]["last"]["to"] == BURST);
        assert_eq!(house.p("workers/configured"), BURST as u64);
        let stats = house.stats();
        let scaling = &stats["providers"]["p"]["scaling"];
        assert_eq!(scaling["last"]["reason"], "demand", "{scaling}");
        assert_eq!((&scaling["last"]["direction"], &scaling["last"]["to"]), (&"up".into(), &BURST.into()), "{scaling}");
        // A decision goes on until the next look: a few looks may have come in between, but not one a caller.
        assert!(number(scaling, "/up_total") <= 10, "{scaling}");
        arrived.into_iter().for_each(super::house::Arrived::answer);
        now()
    });
    eventually("it begins to shrink", || house.p("scaling/down_total") > 0);
    let began = now().saturating_duration_since(over);
    assert!(began < (Duration::from_secs(2) + ms(20)) * SLACK, "it began to shrink after {began:?}");
    eventually("the fewest are left", || house.p("scaling/workers_removed_total") == (BURST - 10) as u64);
    eventually("it says so", || house.stats()["providers"]["p"]["scaling"]["last"]["to"] == 10);
    let stats = house.at_rest();
    let scaling = &stats["providers"]["p"]["scaling"];
    assert_eq!(scaling["workers_removed_total"], BURST - 10, "{scaling}");
    assert_eq!((&scaling["last"]["direction"], &scaling["last"]["to"]), (&"down".into(), &10.into()), "{scaling}");
    assert!(scaling["last"]["reason"].is_string() && scaling["last"]["ms_ago"].is_u64(), "{scaling}");
    assert!(number(scaling, "/evaluations_total") > 0, "{scaling}");
    eventually("it says why there are no fewer", || house.p("scaling/held_total/at_min") > 0);
    assert_eq!(number(&stats, "/providers/p/workers/retired_total"), (BURST - 10) as u64);
    let told = told(&stats);
    assert!(told.iter().any(|text| text.contains("-> 54 workers (demand)")), "{told:?}");
    assert!(told.iter().any(|text| text.contains("(load_ended)")), "{told:?}");
    assert!(told.len() < 30, "{told:?}");
}

#[test]
fn the_oldest_workers_stay() {
    let (house, gate) = House::gated(adaptive(json!({ "concurrency_and_buffer_size": { "min_concurrency": 2 } })));
    at_once(&house, 12, || (0..12).map(|_| gate.next()).collect::<Vec<_>>().into_iter().for_each(|a| a.answer()));
    eventually("two are left", || house.p("workers/active") == 2);
    let stats = house.at_rest();
    let ids: Vec<_> =
        stats["providers"]["p"]["per_worker"].as_array().expect("a list").iter().map(|w| &w["id"]).collect();
    assert_eq!(ids, [&json!(1), &json!(2)]);
}

#[test]
fn growth_stops_at_the_most_and_admission_is_exact_all_the_same() {
    let settings = adaptive(json!({
        "concurrency_and_buffer_size": { "concurrency": 6, "min_concurrency": 1, "buffer_size": 4 },
        "queue": { "policy": "error" },
    }));
    let (house, gate) = House::gated(settings);
    at_once(&house, 10, || {
        let arrived: Vec<_> = (0..6).map(|_| gate.next()).collect();
        house.queued(4);
        assert_eq!(code(&house.ask()), Code::QueueFull);
        assert_eq!((house.p("workers/active"), house.p("workers/busy")), (6, 6));
        eventually("it says why there are no more", || house.p("scaling/held_total/at_max") > 0);
        arrived.into_iter().for_each(|arrived| arrived.answer());
        (0..4).for_each(|_| gate.next().answer());
    });
}

#[test]
fn a_busy_pool_grows_before_anybody_waits() {
    // At half, so that a worker more or less, which a slow machine may come to need, does not keep it from growing.
    let (house, gate) = House::gated(adaptive(json!({ "scaling": { "up_threshold": 0.5 } })));
    at_once(&house, 10, || {
        let arrived: Vec<_> = (0..10).map(|_| gate.next()).collect();
        eventually("half as many more", || house.p("workers/configured") >= 15);
        eventually("it says why", || told(&house.stats()).iter().any(|text| text.contains("(utilisation)")));
        assert_eq!(house.p("queue/blocked_total") + house.p("queue/depth"), 0);
        arrived.into_iter().for_each(|arrived| arrived.answer());
    });
}

#[test]
fn every_row_adds_up_while_workers_come_and_go() {
    let house = House::answered(
        adaptive(json!({ "concurrency_and_buffer_size": { "min_concurrency": 1 } })),
        MemoryTransport::new(|_, _| {
            std::thread::park_timeout(ms(2));
            Ok(Incoming { status: 200, headers: Vec::new(), body: Body::from_bytes(reply("well")) })
        }),
    );
    let until = Deadline::after(Duration::from_secs(3));
    std::thread::scope(|scope| {
        for seed in 0..12 {
            let house = &house;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                while !until.passed() {
                    house.ask().expect("it is answered");
                    std::thread::park_timeout(ms(random.u64(0..40)));
                }
            });
        }
        while !until.passed() {
            let stats = house.stats();
            let workers = |what: &str| number(&stats, &format!("/providers/p/workers/{what}"));
            assert_eq!(workers("active"), workers("busy") + workers("idle"));
            assert!(workers("active") <= 64 && (1..=64).contains(&workers("configured")), "{stats:#}");
            std::thread::park_timeout(ms(1));
        }
    });
    assert!(house.p("scaling/workers_added_total") > 0);
}

#[test]
fn where_no_more_threads_are_to_be_had_growth_is_held_and_says_so() {
    let gate = Gate::new();
    let config = json!({ "threads": { "max": 32 }, "providers": { "p": adaptive(json!({
        "concurrency_and_buffer_size": { "concurrency": 32, "min_concurrency": 4 },
    })) } });
    let house = House::with(config, &[("p", &gate)]);
    at_once(&house, 40, || {
        let mut arrived = vec![gate.next()];
        eventually("it is held", || house.p("scaling/held_total/thread_limit") > 2);
        let present = house.p("workers/active");
        assert!((5..32).contains(&present), "{present}");
        eventually("no more are wanted than there are", || house.p("workers/configured") == house.p("workers/active"));
        let told = told(&house.stats());
        let episodes = told.iter().filter(|text| text.contains("thread_limit")).count();
        assert_eq!(episodes, 1, "it is told once: {told:?}");
        arrived.extend((1..present).map(|_| gate.next()));
        arrived.into_iter().for_each(|arrived| arrived.answer());
        (present..40).for_each(|_| gate.next().answer());
    });
}

#[test]
fn a_pool_that_ends_while_it_grows_leaves_no_thread() {
    for round in 0..10u64 {
        let (house, _gate) = House::gated(adaptive(json!({})));
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| house.ask());
            }
            eventually("some are there", || house.p("queue/submitted_total") > 4 * round);
            let report = house.shutdown(Duration::ZERO);
            assert!(report.stragglers.is_empty(), "{report:?}");
        });
        assert_eq!(house.p("workers/active"), 0);
    }
}

#[test]
fn a_worker_that_panics_at_the_fewest_is_replaced() {
    let settings = adaptive(json!({ "concurrency_and_buffer_size": { "concurrency": 4, "min_concurrency": 1 } }));
    let (house, gate) = House::gated(settings);
    for _ in 0..3 {
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| house.ask());
            gate.next().panic();
            assert_eq!(code(&asked.join().expect("no panic")), Code::Internal);
        });
    }
    at_once(&house, 1, || gate.next().answer());
}

/// A provider that takes 20 ms and says that it takes 100 requests a second.
fn telling() -> MemoryTransport {
    let headers = [("x-ratelimit-limit-requests", "100"), ("x-ratelimit-reset-requests", "1s")];
    let headers: Vec<_> = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    MemoryTransport::new(move |_, control| {
        let end: Instant = now() + ms(20);
        let _ = control.cancel.channel().recv_deadline(end);
        Ok(Incoming { status: 200, headers: headers.clone(), body: Body::from_bytes(reply("well")) })
    })
}

#[test]
fn what_is_observed_of_a_provider_is_shown_with_what_follows_from_it() {
    let house = House::answered(adaptive(json!({})), telling());
    let unknown = house.stats()["providers"]["p"]["optimization"].clone();
    assert!(unknown.as_object().expect("an object").values().all(Value::is_null), "{unknown}");
    (0..20).for_each(|_| drop(house.ask().expect("it is answered")));
    let figures = || house.stats()["providers"]["p"]["optimization"].clone();
    eventually("the figures are there", || figures()["optimal_workers"].is_u64());
    let figures = figures();
    assert_eq!((&figures["rate_limit"], &figures["error_rate"]), (&json!(100.0), &json!(0.0)), "{figures}");
    let latency = figures["avg_latency"].as_f64().expect("milliseconds");
    assert!((20.0..20.0 * f64::from(SLACK) * 2.0).contains(&latency), "{figures}");
    let workers = (100.0 * latency / 1000.0).ceil() as u64;
    assert!(number(&figures, "/optimal_workers").abs_diff(workers) <= 1, "{figures}");
    assert_eq!(number(&figures, "/optimal_buffer"), 3 * number(&figures, "/optimal_workers"));
    assert_eq!(figures["timeout_config"], 1000.0, "{figures}");
    assert_eq!(house.p("workers/max"), 64, "what was given stays");
}

#[test]
fn auto_sizes_by_the_formula_from_what_the_configuration_knows() {
    let settings = adaptive(json!({
        "concurrency_and_buffer_size": { "concurrency": "auto", "buffer_size": null },
        "optimization": { "rate_limit": 100, "avg_latency": "500ms", "error_rate": 0.05 },
        "queue": { "policy": "error" },
    }));
    let (house, gate) = House::gated(settings);
    eventually("the formula's sizes", || (house.p("workers/max"), house.p("queue/capacity")) == (53, 159));
    assert_eq!(house.p("workers/min"), 10);
    at_once(&house, 53 + 159, || {
        let arrived: Vec<_> = (0..53).map(|_| gate.next()).collect();
        house.queued(159);
        assert_eq!(code(&house.ask()), Code::QueueFull);
        arrived.into_iter().for_each(|arrived| arrived.answer());
        (0..159).for_each(|_| gate.next().answer());
    });
}

#[test]
fn auto_begins_with_the_defaults_and_follows_what_is_observed() {
    let settings = adaptive(json!({
        "concurrency_and_buffer_size": { "concurrency": "auto", "min_concurrency": 1, "buffer_size": null },
    }));
    let house = House::answered(settings, telling());
    assert_eq!((house.p("workers/max"), house.p("queue/capacity")), (64, 500));
    let fuse = Deadline::after(FUSE);
    while house.p("workers/max") == 64 {
        house.ask().expect("it is answered");
        assert!(!fuse.passed(), "it is never sized: {:#}", house.stats()["providers"]["p"]["optimization"]);
    }
    let max = house.p("workers/max");
    assert!((2..=20).contains(&max) && house.p("queue/capacity") == 3 * max, "{max}");
    let told = told(&house.stats());
    assert!(told.iter().any(|text| text.contains("sized to at most")), "{told:?}");
}
