//! Keys that cool, that are refused, and limits that were configured: rotation at once, and what is told when none is left.

use serde_json::{Value, json};

use super::{Part, Scene, Stage, end, script, well};
use crate::faults::upstream::{Act, Asked};
use crate::house::ms;

pub(super) const SCENES: &[Scene] = &[
    Scene {
        name: "429 for one of two keys",
        needs: &[Part::Keys],
        specified: "the other key at once, without a pause; the first one rests for its Retry-After",
        play: one_cools,
    },
    Scene {
        name: "every key cools",
        needs: &[Part::Keys],
        specified: "the provider's 429; then 429 rate_limited with the earliest time, and nothing is sent",
        play: all_cool,
    },
    Scene {
        name: "a key cools for one model",
        needs: &[Part::Keys],
        specified: "another model of the provider is asked with it",
        play: another_models,
    },
    Scene {
        name: "one of two keys is refused (401)",
        needs: &[Part::Keys],
        specified: "the other key at once; the refused one is not used again",
        play: one_refused,
    },
    Scene {
        name: "every key is refused (401)",
        needs: &[Part::Keys],
        specified: "502 credentials_exhausted; later requests do not hammer",
        play: all_refused,
    },
    Scene {
        name: "every key is refused, fallback",
        needs: &[Part::Keys, Part::Routes],
        specified: "200 from the fallback",
        play: refused_elsewhere,
    },
    Scene {
        name: "requests_per_minute: 60, and 150 come",
        needs: &[Part::Limits],
        specified: "60 a minute reach the provider; who would wait too long is told 429 rate_limited with a time",
        play: limited,
    },
];

const KEYS: [&str; 2] = ["sk-scene-one", "sk-scene-two"];

fn keyed(change: Value) -> Value {
    let mut settings = json!({
        "keys": [{ "name": "one", "value": KEYS[0] }, { "name": "two", "value": KEYS[1] }],
        // A pause would be seen.
        "network_config": { "retry_after_patience": "500ms", "retry_backoff_initial": "20s", "retry_backoff_max": "20s" },
    });
    crate::house::merge(&mut settings, change);
    settings
}

fn busy(seconds: u32) -> Act {
    Act::error(429, Some("rate_limit_exceeded"), vec![("retry-after", seconds.to_string())])
}

fn refuses(_: &Asked) -> Act {
    Act::error(401, Some("invalid_api_key"), Vec::new())
}

/// The keys that came, in order.
fn keys(stage: &Stage) -> Vec<String> {
    stage.upstreams[0].asked(|_| true).into_iter().map(|asked| asked.key.expect("a key")).collect()
}

fn one_cools() -> String {
    let first = |asked: &Asked| if asked.number == 0 { busy(30) } else { Act::good(asked) };
    let stage = Stage::set(vec![("a", script(first), keyed(json!({})))]);
    let answer = stage.ask("a/m", json!({}));
    assert_eq!((answer.status, answer.header("x-sluicegate-attempts")), (200, Some("2")));
    (0..8).for_each(|_| assert_eq!(stage.ask("a/m", json!({})).status, 200));
    let (asked, keys) = (stage.upstreams[0].asked(|_| true), keys(&stage));
    let waited = asked[1].at - asked[0].at;
    assert!(waited < ms(200) * crate::house::SLACK, "{waited:?}");
    assert!(keys[1..].iter().all(|key| *key == keys[1]) && keys[0] != keys[1], "{keys:?}");
    stage.calm();
    format!("the other key after {} ms", waited.as_millis())
}

fn all_cool() -> String {
    let stage = Stage::set(vec![("a", script(|_| busy(30)), keyed(json!({})))]);
    let answer = stage.ask("a/m", json!({}));
    assert_eq!(end(&answer), (429, "upstream_error".to_owned()));
    let keys = keys(&stage);
    assert!(keys.len() == 2 && keys[0] != keys[1], "{keys:?}");
    let later = stage.ask("a/m", json!({}));
    assert_eq!(end(&later), (429, "rate_limited".to_owned()));
    let after: u64 = later.header("retry-after").and_then(|after| after.parse().ok()).expect("it is told");
    assert!((20..=30).contains(&after), "{after}");
    assert_eq!((stage.came(0), stage.stat("/providers/a/queue/submitted_total")), (2, 2));
    stage.calm();
    format!("2 came, then rate_limited, again in {after} s")
}

fn another_models() -> String {
    let one = |asked: &Asked| if asked.model == "m" { busy(30) } else { Act::good(asked) };
    let keys = json!({ "keys": [{ "name": "one", "value": KEYS[0] }] });
    let stage = Stage::set(vec![("a", script(one), keys)]);
    assert_eq!(stage.ask("a/m", json!({})).status, 429);
    assert_eq!(stage.ask("a/n", json!({})).status, 200);
    stage.calm();
    "429, then 200 for the other model".to_owned()
}

fn one_refused() -> String {
    let one = |asked: &Asked| if asked.key.as_deref() == Some(KEYS[0]) { refuses(asked) } else { Act::good(asked) };
    let stage = Stage::set(vec![("a", script(one), keyed(json!({})))]);
    (0..30).for_each(|_| assert_eq!(stage.ask("a/m", json!({})).status, 200));
    let refused = keys(&stage).iter().filter(|key| *key == KEYS[0]).count();
    assert!(refused <= 2, "{refused}: the first time, and a probe at most");
    stage.calm();
    format!("30 requests, the refused key was used {refused} times")
}

fn all_refused() -> String {
    let stage = Stage::set(vec![("a", script(refuses), keyed(json!({})))]);
    for _ in 0..5 {
        assert_eq!(end(&stage.ask("a/m", json!({}))), (502, "credentials_exhausted".to_owned()));
    }
    let came = stage.came(0);
    assert!((2..=3).contains(&came), "{came} came: both keys once, and a probe at most");
    stage.calm();
    format!("5 requests, {came} reached the provider")
}

fn refused_elsewhere() -> String {
    let stage = Stage::set(vec![("a", script(refuses), keyed(json!({}))), ("b", well(), json!({}))]);
    let answer = stage.ask("a/m", json!({ "fallbacks": ["b/m"] }));
    assert_eq!((answer.status, answer.header("x-sluicegate-provider")), (200, Some("b")));
    assert_eq!((stage.came(0), stage.came(1)), (2, 1));
    stage.calm();
    "upstream 2 / 1".to_owned()
}

fn limited() -> String {
    let limits = json!({
        "rate_limit": { "requests_per_minute": 60 }, "queue": { "wait_timeout": "50ms" },
        // One for each caller, so that nobody waits for anything but the limit.
        "concurrency_and_buffer_size": { "concurrency": 10, "min_concurrency": 10, "buffer_size": 64 },
    });
    let stage = Stage::set(vec![("a", well(), limits)]);
    let refused: usize = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..10)
            .map(|_| {
                scope.spawn(|| {
                    let answers = (0..15).map(|_| stage.ask("a/m", json!({})));
                    let refused = answers.filter(|answer| match end(answer) {
                        (200, _) => false,
                        end => {
                            assert_eq!(end, (429, "rate_limited".to_owned()));
                            assert!(answer.header("retry-after").is_some(), "{answer:?}");
                            true
                        }
                    });
                    refused.count()
                })
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().expect("no panic")).sum()
    });
    let came = stage.came(0);
    // A burst of the whole minute at most, and what the seconds of a busy machine bring.
    assert!(came <= 75, "{came} came");
    assert_eq!(came + refused, 150);
    assert_eq!(stage.stat("/providers/a/queue/submitted_total"), came as u64);
    stage.calm();
    format!("{came} came, {refused} were refused")
}
