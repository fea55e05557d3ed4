//! The breaker: what opens it and what does not, one probe at a time, and health checks that cost nothing.

use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::time::now;

use super::{Part, Scene, Stage, end, script, well};
use crate::faults::upstream::{Act, Asked, Upstream};
use crate::house::{eventually, ms};

pub(super) const SCENES: &[Scene] = &[
    Scene {
        name: "a model fails 3 times on end",
        needs: &[Part::Breaker],
        specified: "then 503 circuit_open with Retry-After, never submitted; another model is served",
        play: opens,
    },
    Scene {
        name: "half of ten requests fail",
        needs: &[Part::Breaker],
        specified: "failure_ratio opens it though no three fail on end",
        play: ratio,
    },
    Scene {
        name: "many come at once when it half-opens",
        needs: &[Part::Breaker],
        specified: "one probe reaches the provider; its success closes the breaker",
        play: one_probe,
    },
    Scene {
        name: "a probe is cancelled",
        needs: &[Part::Breaker],
        specified: "its place is given back: the next request is a probe",
        play: probe_cancelled,
    },
    Scene {
        name: "400, 404, 422, 429 and clients that leave",
        needs: &[Part::Breaker],
        specified: "count for nothing",
        play: harmless,
    },
    Scene {
        name: "the circuit is open, fallback",
        needs: &[Part::Breaker, Part::Routes],
        specified: "200 from the fallback at once, nothing is sent to the first",
        play: elsewhere,
    },
    Scene {
        name: "health at the start",
        needs: &[Part::Breaker],
        specified: "checked by GET, all at once, never by a completion; one that hangs delays the start by 2 s at most",
        play: checked,
    },
];

const OPEN_FOR: Duration = Duration::from_millis(600);

fn breaking(change: Value) -> Value {
    let mut settings = json!({
        "network_config": { "max_retries": 0 },
        "breaker": { "enabled": true, "consecutive_failures": 3, "min_requests": 1000, "open_for": "600ms" },
        "concurrency_and_buffer_size": { "concurrency": 8, "buffer_size": 8 },
    });
    crate::house::merge(&mut settings, change);
    settings
}

fn down(_: &Asked) -> Act {
    Act::error(503, None, Vec::new())
}

/// The first three of each model fail.
fn thrice(asked: &Asked) -> Act {
    if asked.number < 3 { down(asked) } else { Act::good(asked) }
}

fn fail(stage: &Stage, times: usize) {
    for _ in 0..times {
        assert_eq!(end(&stage.ask("a/m", json!({}))), (503, "upstream_error".to_owned()));
    }
}

fn opens() -> String {
    let bad = |asked: &Asked| if asked.model == "m" { down(asked) } else { Act::good(asked) };
    let stage = Stage::set(vec![("a", script(bad), breaking(json!({ "breaker": { "open_for": "30s" } })))]);
    fail(&stage, 3);
    for _ in 0..5 {
        let answer = stage.ask("a/m", json!({}));
        assert_eq!(end(&answer), (503, "circuit_open".to_owned()));
        let after: u64 = answer.header("retry-after").and_then(|after| after.parse().ok()).expect("it is told");
        assert!((20..=30).contains(&after), "{after}");
        assert_eq!(super::outcomes(&answer), ["circuit_open"]);
    }
    assert_eq!(stage.ask("a/n", json!({})).status, 200, "the other model is well");
    assert_eq!((stage.came(0), stage.stat("/providers/a/queue/submitted_total")), (4, 4));
    assert_eq!(stage.stat("/providers/a/breaker/short_circuited_total"), 5);
    stage.calm();
    "3 came, 5 were short-circuited".to_owned()
}

fn ratio() -> String {
    let every_other = |asked: &Asked| if asked.number.is_multiple_of(2) { down(asked) } else { Act::good(asked) };
    let change = json!({ "breaker": { "min_requests": 10, "failure_ratio": 0.5, "open_for": "30s" } });
    let stage = Stage::set(vec![("a", script(every_other), breaking(change))]);
    let ends: Vec<_> = (0..14).map(|_| end(&stage.ask("a/m", json!({}))).1).collect();
    let came = stage.came(0);
    assert!((10..=11).contains(&came), "{ends:?}");
    assert!(ends[came..].iter().all(|end| end == "circuit_open"), "{ends:?}");
    stage.calm();
    format!("open after {came}")
}

/// Waits until the breaker lets a request through again.
fn half_open(opened: std::time::Instant) {
    let left = (opened + OPEN_FOR + ms(50)).saturating_duration_since(now());
    let _ = crossbeam_channel::after(left).recv();
}

fn one_probe() -> String {
    // Slow enough for all of the others to come meanwhile.
    let slowly = |asked: &Asked| {
        if asked.number >= 3 {
            let _ = crossbeam_channel::after(ms(300)).recv();
        }
        thrice(asked)
    };
    let stage = Stage::set(vec![("a", script(slowly), breaking(json!({})))]);
    fail(&stage, 3);
    half_open(now());
    let ends: Vec<_> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..8).map(|_| scope.spawn(|| end(&stage.ask("a/m", json!({}))).1)).collect();
        callers.into_iter().map(|caller| caller.join().expect("no panic")).collect()
    });
    let well = ends.iter().filter(|end| *end == "ok").count();
    assert!(ends.iter().all(|end| end == "ok" || end == "circuit_open") && well == 1, "{ends:?}");
    assert_eq!(stage.came(0), 4, "one probe");
    assert_eq!(stage.ask("a/m", json!({})).status, 200, "it has closed");
    stage.calm();
    "8 came, 1 reached the provider".to_owned()
}

fn probe_cancelled() -> String {
    let hangs = |asked: &Asked| if asked.number == 3 { Act::Hang } else { thrice(asked) };
    let stage = Stage::set(vec![("a", script(hangs), breaking(json!({})))]);
    fail(&stage, 3);
    half_open(now());
    let mut probe = stage.client();
    probe.chat(&[], &super::body("a/m", json!({})));
    eventually("the probe is there", || stage.came(0) == 4);
    drop(probe);
    eventually("it is over", || stage.upstreams[0].in_flight() == 0);
    stage.calm();
    assert_eq!(stage.ask("a/m", json!({})).status, 200, "its place is free");
    stage.calm();
    "the next one was let through".to_owned()
}

fn harmless() -> String {
    let bad = |asked: &Asked| match asked.model.as_str() {
        "hang" => Act::Hang,
        "well" => Act::good(asked),
        status => Act::error(status.parse().expect("a status"), None, vec![("retry-after-ms", "1".to_owned())]),
    };
    let stage = Stage::set(vec![("a", script(bad), breaking(json!({})))]);
    for status in [400u16, 404, 422, 429] {
        for _ in 0..6 {
            assert_eq!(stage.ask(&format!("a/{status}"), json!({})).status, status);
        }
    }
    for n in 1..=6 {
        let mut leaving = stage.client();
        leaving.chat(&[], &super::body("a/hang", json!({})));
        eventually("it is there", || stage.upstreams[0].asked(|asked| asked.model == "hang").len() == n);
        drop(leaving);
    }
    stage.calm();
    assert_eq!(stage.ask("a/well", json!({})).status, 200);
    let stats = stage.station.house.stats();
    assert_eq!(stats["providers"]["a"]["breaker"]["opened_total"], 0, "{}", stats["providers"]["a"]["breaker"]);
    "opened 0 times".to_owned()
}

fn elsewhere() -> String {
    let change = breaking(json!({ "breaker": { "open_for": "30s" } }));
    let stage = Stage::set(vec![("a", script(down), change), ("b", well(), json!({}))]);
    fail(&stage, 3);
    for _ in 0..5 {
        let answer = stage.ask("a/m", json!({ "fallbacks": ["b/m"] }));
        assert_eq!((answer.status, answer.header("x-sluicegate-provider")), (200, Some("b")));
        assert_eq!(answer.header("x-sluicegate-fallbacks"), Some("1"));
    }
    assert_eq!((stage.came(0), stage.came(1)), (3, 5));
    stage.calm();
    "upstream 3 / 5".to_owned()
}

fn checked() -> String {
    let start = now();
    let check = json!({ "health": { "on_start": true } });
    let stage = Stage::set(vec![("a", well(), check.clone()), ("b", well(), check.clone())]);
    let took = now() - start;
    assert!(took < Duration::from_secs(2), "{took:?}");
    eventually("each was checked", || stage.upstreams.iter().all(|upstream| !upstream.checks().is_empty()));
    assert_eq!((stage.came(0), stage.came(1)), (0, 0), "no completion is paid for");
    let checks: usize = stage.upstreams.iter().map(|upstream| upstream.checks().len()).sum();
    // Nobody answers there, and connecting is not refused either: a listener whose queue nobody empties.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = deaf.local_addr().expect("bound");
    let start = now();
    let silent =
        json!({ "network_config": { "base_url": format!("http://{address}") }, "health": { "on_start": true } });
    let other = Upstream::start(Act::good);
    let settings =
        json!({ "providers": { "silent": super::provider(&other, silent), "well": super::provider(&other, check) } });
    let house = crate::house::House::with(settings, &[]);
    let delayed = now() - start;
    assert!(delayed < Duration::from_secs(2) * crate::house::SLACK, "{delayed:?}");
    drop(house);
    format!("{checks} checks in {} ms, a silent one delays by {} ms", took.as_millis(), delayed.as_millis())
}
