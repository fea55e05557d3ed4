//! Full queues under each policy, with and without a fallback: what is the gateway's own is not tried again.

use std::time::Duration;

use serde_json::json;

use super::{Part, Scene, Stage, body, end, outcomes, script, well};
use crate::client::Client;
use crate::faults::upstream::Act;
use crate::house::{FUSE, SLACK, eventually, ms};

/// How long places and workers are waited for.
const WAIT: Duration = Duration::from_millis(300);

pub(super) const SCENES: &[Scene] = &[
    Scene {
        name: "queue full, block",
        needs: &[],
        specified: "504 queue_timeout after wait_timeout, not retried",
        play: || refused("block", false, 504, "queue_timeout"),
    },
    Scene {
        name: "queue full, error",
        needs: &[],
        specified: "429 queue_full at once, not retried",
        play: || refused("error", false, 429, "queue_full"),
    },
    Scene {
        name: "queue full, drop",
        needs: &[],
        specified: "503 request_dropped at once, not retried",
        play: || refused("drop", false, 503, "request_dropped"),
    },
    Scene {
        name: "queue full, drop_oldest",
        needs: &[],
        specified: "503 request_dropped for the one that waits longest; the newcomer has its place",
        play: || evicted(false),
    },
    Scene {
        name: "queue full, block, fallback",
        needs: &[Part::Routes],
        specified: "200 from the fallback after wait_timeout",
        play: || refused("block", true, 200, "ok"),
    },
    Scene {
        name: "queue full, error, fallback",
        needs: &[Part::Routes],
        specified: "200 from the fallback at once",
        play: || refused("error", true, 200, "ok"),
    },
    Scene {
        name: "queue full, drop, fallback",
        needs: &[Part::Routes],
        specified: "503 request_dropped: load is shed, and it ends a chain",
        play: || refused("drop", true, 503, "request_dropped"),
    },
    Scene {
        name: "queue full, drop_oldest, fallback",
        needs: &[Part::Routes],
        specified: "503 request_dropped for the evicted one, which had a fallback",
        play: || evicted(true),
    },
];

/// One worker, one place, both taken by requests of clients who stay.
fn full(policy: &str) -> (Stage, [Client; 2]) {
    // Only the policy that waits has a short wait: the holder of the place is to stay under the others.
    let wait = if policy == "block" { WAIT } else { FUSE };
    let queue = json!({ "queue": { "policy": policy, "wait_timeout": format!("{}ms", wait.as_millis()) } });
    let stage = Stage::set(vec![("a", script(|_| Act::Hang), queue), ("b", well(), json!({}))]);
    let mut clients = [stage.client(), stage.client()];
    clients[0].chat(&[], &body("a/m", json!({})));
    eventually("the worker is busy", || stage.upstreams[0].in_flight() == 1);
    clients[1].chat(&[], &body("a/m", json!({})));
    eventually("the place is taken", || stage.stat("/providers/a/queue/depth") == 1);
    (stage, clients)
}

fn fallbacks(given: bool) -> serde_json::Value {
    if given { json!({ "fallbacks": ["b/m"] }) } else { json!({}) }
}

/// A third request, streamed and not.
fn refused(policy: &str, fallback: bool, status: u16, code: &str) -> String {
    let mut measured = Vec::new();
    for streamed in [false, true] {
        let (stage, holders) = full(policy);
        let start = sluicegate::time::now();
        let mut change = fallbacks(fallback);
        change["stream"] = json!(streamed);
        let answer = stage.ask("a/m", change);
        let took = sluicegate::time::now() - start;
        assert_eq!(end(&answer), (status, code.to_owned()));
        if status >= 400 {
            assert_eq!(outcomes(&answer), [code]);
            assert!(answer.header("retry-after").is_some() && answer.header("retry-after-ms").is_some(), "{answer:?}");
            assert_eq!(answer.header("x-sluicegate-attempts"), Some("1"));
        } else {
            assert_eq!(answer.header("x-sluicegate-provider"), Some("b"));
            assert_eq!(answer.header("x-sluicegate-attempts"), Some("2"));
        }
        let waits = policy == "block";
        assert!(!waits || took >= WAIT, "{took:?}");
        assert!(took < if waits { WAIT * SLACK } else { ms(100) * SLACK }, "{took:?}");
        let (first, second) = (stage.came(0), stage.came(1));
        assert_eq!((first, second), (1, usize::from(status == 200)), "the holder's alone came, and the fallback's");
        measured.push(format!("{} ms, upstream {first} / {second}", took.as_millis()));
        over(stage, holders);
    }
    measured.join("; streamed ")
}

/// The one that waits is evicted by the third.
fn evicted(fallback: bool) -> String {
    let queue = json!({ "queue": { "policy": "drop_oldest", "wait_timeout": "10s" } });
    let stage = Stage::set(vec![("a", script(|_| Act::Hang), queue), ("b", well(), json!({}))]);
    let mut clients = [stage.client(), stage.client(), stage.client()];
    clients[0].chat(&["x-sluicegate-timeout: 1500ms"], &body("a/m", json!({})));
    eventually("the worker is busy", || stage.upstreams[0].in_flight() == 1);
    clients[1].chat(&[], &body("a/m", fallbacks(fallback)));
    eventually("the place is taken", || stage.stat("/providers/a/queue/depth") == 1);
    clients[2].chat(&["x-sluicegate-timeout: 1s"], &body("a/m", json!({})));
    let answer = clients[1].answer();
    assert_eq!(end(&answer), (503, "request_dropped".to_owned()));
    assert_eq!(outcomes(&answer), ["request_dropped"]);
    assert_eq!(stage.came(1), 0, "no fallback is tried");
    let [_, _, newcomer] = clients;
    let last = { newcomer }.answer();
    assert_eq!(end(&last), (504, "queue_timeout".to_owned()), "it waited where the other had");
    stage.calm();
    format!("evicted {}, newcomer {}", answer.code(), last.code())
}

/// The clients leave, and everything is free.
fn over(stage: Stage, holders: [Client; 2]) {
    drop(holders);
    stage.calm();
    // The one that waited may have been sent before its client was seen to leave; then that ends it upstream.
    let aborted = stage.upstreams[0].asked(|asked| asked.aborted).len();
    assert_eq!(aborted, stage.came(0), "the upstream saw the callers leave");
}
