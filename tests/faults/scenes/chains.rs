//! Chains of targets: what is tried, in which order, and what the caller is told when all has failed.

use serde_json::json;

use super::{Part, Scene, Stage, body, end, outcomes, script, well};
use crate::faults::upstream::{Act, Asked};
use crate::house::ms;

pub(super) const SCENES: &[Scene] = &[
    Scene {
        name: "every target fails",
        needs: &[Part::Routes],
        specified: "the first target's last upstream error, all attempts listed in order",
        play: all_fail,
    },
    Scene {
        name: "the first target's queue is full, the second fails",
        needs: &[Part::Routes],
        specified: "429 queue_full: the first target's own, since nothing of its came from upstream",
        play: own_first,
    },
    Scene {
        name: "three targets, the third answers",
        needs: &[Part::Routes],
        specified: "200, 2 fallbacks; a silent target costs one attempt",
        play: third,
    },
    Scene {
        name: "the context is too long for two of three",
        needs: &[Part::Routes],
        specified: "the same model elsewhere is passed over, another model answers",
        play: another_model,
    },
    Scene {
        name: "content policy ends a chain in its middle",
        needs: &[Part::Routes],
        specified: "the third target is not asked",
        play: refused_midway,
    },
    Scene {
        name: "a fallback that leads nowhere",
        needs: &[Part::Routes],
        specified: "400 invalid_request before anything is sent",
        play: unknown,
    },
    Scene {
        name: "the same target twice in a chain",
        needs: &[Part::Routes],
        specified: "it is tried once",
        play: twice,
    },
    Scene {
        name: "a stream broke after its first event",
        needs: &[Part::Routes],
        specified: "nothing else is tried, whatever the fallbacks",
        play: begun,
    },
];

fn down(_: &Asked) -> Act {
    Act::error(503, Some("down"), Vec::new())
}

fn broken(_: &Asked) -> Act {
    Act::error(500, Some("broken"), Vec::new())
}

fn too_long(_: &Asked) -> Act {
    Act::error(400, Some("context_length_exceeded"), Vec::new())
}

fn chain(names: &[&str]) -> serde_json::Value {
    json!({ "fallbacks": names })
}

fn all_fail() -> String {
    let stage = Stage::set(vec![("a", script(down), json!({})), ("b", script(broken), json!({}))]);
    let answer = stage.ask("a/m", chain(&["b/m"]));
    assert_eq!(end(&answer), (503, "upstream_error".to_owned()));
    assert_eq!(answer.json()["error"]["code"], "down");
    let json = answer.json();
    let attempts = json["sluicegate"]["attempts"].as_array().expect("a list");
    let listed: Vec<_> = attempts.iter().map(|row| (row["provider"].as_str(), row["status"].as_u64())).collect();
    let wanted = [("a", 503), ("a", 503), ("a", 503), ("b", 500), ("b", 500), ("b", 500)];
    assert_eq!(listed, wanted.map(|(name, status)| (Some(name), Some(status))));
    assert_eq!((stage.came(0), stage.came(1)), (3, 3));
    let headers = ["attempts", "fallbacks", "provider"].map(|name| answer.header(&format!("x-sluicegate-{name}")));
    assert_eq!(headers, [Some("6"), Some("1"), Some("a")]);
    stage.calm();
    "503 of the first, upstream 3 / 3".to_owned()
}

fn own_first() -> String {
    let queue = json!({ "queue": { "policy": "error" } });
    let stage = Stage::set(vec![("a", script(|_| Act::Hang), queue), ("b", script(down), json!({}))]);
    let mut holders = [stage.client(), stage.client()];
    for (n, client) in holders.iter_mut().enumerate() {
        client.chat(&[], &body("a/m", json!({})));
        let taken = || stage.stat("/providers/a/queue/places_taken") == n as u64 + 1;
        crate::house::eventually("it has its place", taken);
    }
    let answer = stage.ask("a/m", chain(&["b/m"]));
    assert_eq!(end(&answer), (429, "queue_full".to_owned()));
    assert_eq!(outcomes(&answer), ["queue_full", "upstream_error", "upstream_error", "upstream_error"]);
    drop(holders);
    stage.calm();
    "429 queue_full, 4 attempts listed".to_owned()
}

fn third() -> String {
    let short = json!({ "network_config": { "default_request_timeout_in_seconds": "150ms" } });
    let stage =
        Stage::set(vec![("a", script(|_| Act::Hang), short), ("b", script(down), json!({})), ("c", well(), json!({}))]);
    let answer = stage.ask("a/m", chain(&["b/m", "c/m"]));
    assert_eq!(answer.status, 200);
    let headers = ["attempts", "fallbacks", "provider"].map(|name| answer.header(&format!("x-sluicegate-{name}")));
    assert_eq!(headers, [Some("5"), Some("2"), Some("c")]);
    assert_eq!([0, 1, 2].map(|n| stage.came(n)), [1, 3, 1]);
    let upstream: u64 = answer.header("x-sluicegate-upstream-us").and_then(|us| us.parse().ok()).expect("a number");
    assert!(upstream >= u64::try_from(ms(150).as_micros()).expect("small"), "it is the sum over all attempts");
    stage.calm();
    "200 of the third, upstream 1 / 3 / 1".to_owned()
}

fn another_model() -> String {
    let stage = Stage::set(vec![
        ("a", script(too_long), json!({})),
        ("b", script(too_long), json!({})),
        ("c", well(), json!({})),
    ]);
    let answer = stage.ask("a/m", chain(&["b/m", "c/larger"]));
    assert_eq!(answer.status, 200);
    assert_eq!([0, 1, 2].map(|n| stage.came(n)), [1, 0, 1]);
    stage.calm();
    "upstream 1 / 0 / 1".to_owned()
}

fn refused_midway() -> String {
    let unwanted = |_: &Asked| Act::error(400, Some("content_policy_violation"), Vec::new());
    let stage =
        Stage::set(vec![("a", script(down), json!({})), ("b", script(unwanted), json!({})), ("c", well(), json!({}))]);
    let answer = stage.ask("a/m", chain(&["b/m", "c/m"]));
    assert_eq!(end(&answer), (503, "upstream_error".to_owned()), "the first target's error");
    assert_eq!([0, 1, 2].map(|n| stage.came(n)), [3, 1, 0]);
    stage.calm();
    "upstream 3 / 1 / 0".to_owned()
}

fn unknown() -> String {
    let stage = Stage::set(vec![("a", well(), json!({}))]);
    for wrong in ["nowhere/m", "m"] {
        let answer = stage.ask("a/m", chain(&[wrong]));
        assert_eq!(end(&answer), (400, "invalid_request".to_owned()), "{wrong}");
    }
    assert_eq!(stage.came(0), 0);
    stage.calm();
    "400, upstream 0".to_owned()
}

fn twice() -> String {
    let stage = Stage::set(vec![("a", script(down), json!({})), ("b", script(broken), json!({}))]);
    let answer = stage.ask("a/m", chain(&["b/m", "a/m", "b/m"]));
    assert_eq!(answer.status, 503);
    assert_eq!((stage.came(0), stage.came(1)), (3, 3));
    stage.calm();
    "upstream 3 / 3".to_owned()
}

fn begun() -> String {
    use crate::faults::upstream::Ending;
    let cut = |_: &Asked| Act::Stream(vec![crate::house::word("one ")], Ending::Cut);
    let stage = Stage::set(vec![("a", script(cut), json!({})), ("b", well(), json!({}))]);
    let mut change = chain(&["b/m"]);
    change["stream"] = json!(true);
    let answer = stage.ask("a/m", change);
    assert_eq!((answer.status, answer.complete, answer.last_error().as_str()), (200, false, "stream_cut"));
    assert_eq!((stage.came(0), stage.came(1)), (1, 0));
    stage.calm();
    "stream_cut, upstream 1 / 0".to_owned()
}
