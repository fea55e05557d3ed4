//! The ledger: whatever the provider does and whenever clients leave, each request is answered once and every sum balances.

use std::time::Duration;

use fastrand::Rng;
use serde_json::json;
use sluicegate::Code;
use sluicegate::gateway::CallOptions;
use sluicegate::ids::RequestId;
use sluicegate::sync::{CancelReason, CancelToken};
use sluicegate::time::{Deadline, now};
use sluicegate::wire::openai::ChatRequest;

use super::{Client, Station};
use crate::house::{House, chat, eventually, ms, number, sim};

/// How long the storm lasts.
const STORM: Duration = Duration::from_secs(5);

/// How many come over sockets, and how many through the library.
const CALLERS: (u64, u64) = (10, 6);

/// What a model's answer may come to, beside the ends that any request can have: an error code, or none for a whole answer.
const MODELS: &[(&str, &[&str])] = &[
    ("echo", &["ok"]),
    ("lorem-40", &["ok"]),
    ("lorem-9+gap-1ms", &["ok"]),
    ("echo+slow-20ms", &["ok"]),
    ("lorem-5+no-done", &["ok"]),
    ("lorem-5+garbage-2", &["ok", "upstream_bad_response"]),
    ("fail-400", &["upstream_error"]),
    ("fail-429", &["upstream_error"]),
    ("fail-503", &["upstream_error"]),
    ("flaky-50", &["ok", "upstream_error"]),
    ("error-in-200", &["upstream_error"]),
    ("reset", &["upstream_connect_error"]),
    ("lorem-9+cut-3", &["stream_cut", "upstream_bad_response"]),
    ("hang", &["upstream_timeout", "first_token_timeout", "queue_timeout"]),
    ("lorem-9+stall-2", &["upstream_timeout", "stream_too_long", "first_token_timeout", "queue_timeout"]),
    ("panic", &["internal"]),
];

/// What one caller saw.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    sent: u64,
    whole: u64,
    failed: u64,
    /// They left, and saw no end.
    left: u64,
}

impl Seen {
    fn add(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            whole: self.whole + other.whole,
            failed: self.failed + other.failed,
            left: self.left + other.left,
        }
    }

    fn end(&mut self, model: &str, allowed: &[&str], end: &str) {
        assert!(allowed.contains(&end), "{model} ended with {end}");
        if end == "ok" { self.whole += 1 } else { self.failed += 1 }
    }
}

/// One request to come.
struct Plan {
    id: String,
    model: String,
    allowed: &'static [&'static str],
    stream: bool,
    limit: Option<Duration>,
    leaves: Option<Duration>,
}

impl Plan {
    fn draw(random: &mut Rng, caller: u64, count: u64) -> Self {
        let (name, allowed) = MODELS[random.usize(..MODELS.len())];
        // Panics are dear: each is a thread.
        let (name, allowed) = if name == "panic" && random.u8(..4) > 0 { MODELS[0] } else { (name, allowed) };
        let endless = name.contains("hang") || name.contains("stall");
        Self {
            id: format!("caller-{caller}-{count}"),
            model: format!("sim/{name}"),
            allowed,
            stream: random.bool(),
            limit: endless.then(|| ms(random.u64(10..60))),
            leaves: (random.u8(..6) == 0).then(|| Duration::from_micros(random.u64(..4000))),
        }
    }

    fn body(&self, random: &mut Rng) -> String {
        chat(&self.model, self.stream).replace("one two", &format!("{} {}", self.id, random.u32(..)))
    }
}

/// One caller over sockets.
fn over_sockets(station: &Station, caller: u64, until: Deadline) -> Seen {
    let mut random = Rng::with_seed(caller);
    let (mut seen, mut kept) = (Seen::default(), None::<Client>);
    while !until.passed() {
        let plan = Plan::draw(&mut random, caller, seen.sent);
        let mut client = kept.take().unwrap_or_else(|| station.client());
        let id = format!("x-request-id: {}", plan.id);
        let limit = plan.limit.map(|limit| format!("x-sluicegate-timeout: {}ms", limit.as_millis()));
        let headers: Vec<&str> = std::iter::once(&*id).chain(limit.as_deref()).collect();
        client.chat(&headers, &plan.body(&mut random));
        seen.sent += 1;
        if let Some(patience) = plan.leaves {
            std::thread::park_timeout(patience);
            seen.left += 1;
            continue;
        }
        let answer = client.answer();
        assert_eq!(answer.header("x-request-id"), Some(&*plan.id), "an answer of somebody else");
        let end = match (answer.status, plan.stream) {
            (200, false) => {
                assert!(answer.complete && !answer.text().contains("[DONE]"), "{}: {}", plan.model, answer.text());
                if plan.model.contains("echo") {
                    assert!(answer.text().contains(&plan.id), "an answer of somebody else: {}", answer.text());
                }
                "ok".to_owned()
            }
            (200, true) if answer.complete => {
                assert_eq!(answer.text().matches("[DONE]").count(), 1, "{}: {}", plan.model, answer.text());
                assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}: {}", plan.model, answer.text());
                "ok".to_owned()
            }
            (200, true) => {
                assert!(!answer.text().contains("[DONE]"), "{}: {}", plan.model, answer.text());
                answer.last_error()
            }
            _ => {
                assert_eq!(answer.json()["sluicegate"]["request_id"], *plan.id);
                answer.code()
            }
        };
        seen.end(&plan.model, plan.allowed, &end);
        if answer.complete && answer.header("connection").is_none() && random.u8(..10) > 0 {
            kept = Some(client);
        } else if !answer.complete {
            assert!(client.is_closed(), "a stream that was cut ends its connection");
        }
    }
    seen
}

/// One caller through the library.
fn through_the_library(house: &House, caller: u64, until: Deadline) -> Seen {
    let mut random = Rng::with_seed(caller);
    let mut seen = Seen::default();
    while !until.passed() {
        let mut plan = Plan::draw(&mut random, caller, seen.sent);
        // A typed stream takes no time limit: what never ends is asked for whole.
        plan.stream &= plan.limit.is_none();
        seen.sent += 1;
        if plan.stream {
            match house.gateway().chat_stream(&ChatRequest::new(plan.model.as_str(), plan.id.as_str())) {
                Err(error) => seen.end(&plan.model, plan.allowed, error.code().as_str()),
                Ok(mut stream) if plan.leaves.is_some() => {
                    let _ = stream.next();
                    seen.left += 1;
                }
                Ok(stream) => {
                    let last = stream.last().expect("an item");
                    seen.end(&plan.model, plan.allowed, last.err().map_or("ok", |error| error.code().as_str()));
                }
            }
            continue;
        }
        let token = CancelToken::new();
        let options = CallOptions {
            request_id: RequestId::from_client(&plan.id),
            cancel: Some(token.clone()),
            deadline: plan.limit.map(Deadline::after),
            ..CallOptions::default()
        };
        let result = std::thread::scope(|scope| {
            if let Some(patience) = plan.leaves {
                scope.spawn(move || {
                    std::thread::park_timeout(patience);
                    token.cancel(CancelReason::Caller);
                });
            }
            house.gateway().chat_raw(plan.body(&mut random).into_bytes(), &options)
        });
        match result {
            Ok(answer) => {
                if plan.model.contains("echo") {
                    let text = String::from_utf8(answer.body).expect("text");
                    assert!(text.contains(&plan.id), "an answer of somebody else: {text}");
                }
                seen.end(&plan.model, plan.allowed, "ok");
            }
            Err(error) if error.code() == Code::ClientClosed => {
                assert!(plan.leaves.is_some(), "nobody left");
                seen.left += 1;
            }
            Err(error) => {
                assert_eq!(error.request_id().map(RequestId::as_str), Some(&*plan.id));
                seen.end(&plan.model, plan.allowed, error.code().as_str());
            }
        }
    }
    seen
}

#[test]
fn in_a_storm_each_request_is_answered_once_and_everything_adds_up() {
    let settings = sim(json!({
        "concurrency_and_buffer_size": { "concurrency": 4, "buffer_size": 6 },
        "network_config": { "idle_connection_timeout": "100ms" },
        "queue": { "wait_timeout": "30s" },
    }));
    let config = json!({
        "threads": { "idle_timeout": "100ms" },
        "providers": { "sim": settings },
    });
    let station = Station::on(House::with(config, &[]));
    let by_role = |role: &str| number(&station.house.stats(), &format!("/threads/by_role/{role}/active"));
    assert_eq!(station.house.gateway().ask("sim/echo", "up").expect("it is served"), "up");
    let descriptors = || number(&station.house.stats(), "/process/open_fds");
    let before = descriptors();
    let until = Deadline::from(now(), STORM);
    let seen = std::thread::scope(|scope| {
        let station = &station;
        let sockets = (0..CALLERS.0).map(|caller| scope.spawn(move || over_sockets(station, caller, until)));
        let library = (CALLERS.0..CALLERS.0 + CALLERS.1)
            .map(|caller| scope.spawn(move || through_the_library(&station.house, caller, until)));
        let callers: Vec<_> = sockets.chain(library).collect();
        callers.into_iter().map(|caller| caller.join().expect("no panic")).fold(Seen::default(), Seen::add)
    });
    assert_eq!(seen.sent, seen.whole + seen.failed + seen.left, "{seen:?}");
    let stats = station.house.at_rest();
    let count = |what: &str| number(&stats, &format!("/requests/{what}_total"));
    // Who left before a whole head had been read was no request.
    // One more came before the storm.
    assert!(count("received") <= seen.sent + 1 && count("received") > seen.sent - seen.left, "{seen:?} {stats:#}");
    assert!(count("succeeded") > seen.whole && count("succeeded") <= seen.whole + seen.left + 1, "{seen:?} {stats:#}");
    assert!(count("failed") >= seen.failed && count("failed") <= seen.failed + seen.left, "{seen:?} {stats:#}");
    assert!(count("cancelled") <= seen.left, "{seen:?} {stats:#}");
    let panics = number(&stats, "/providers/sim/workers/panics_total");
    assert!(panics > 0, "{stats:#}");
    assert_eq!(number(&stats, "/threads/panics_total"), panics, "nobody but the workers panicked");
    assert!(seen.whole > 100 && seen.failed > 100 && seen.left > 10, "{seen:?}");

    // What the storm brought up goes again: clients' connections and the provider's, their threads, their descriptors.
    eventually("every client's connection is closed", || station.front().stats().open == 0);
    eventually("every connection to the provider is closed", || {
        let sim = station.house.gateway().sim_stats().expect("it runs");
        number(&station.house.stats(), "/providers/sim/connections/open") == 0 && sim["connections_open"] == 0
    });
    eventually("the threads of clients' connections have ended", || {
        let threads = station.house.gateway().threads().list();
        threads.iter().all(|row| !row.name.starts_with("http-conn"))
    });
    assert_eq!((by_role("worker"), by_role("supervisor"), by_role("watcher")), (4, 1, 1));
    // Other tests of this process have descriptors of their own: to be read where this one runs alone.
    println!("{seen:?}; descriptors before and after: {before}, {}", descriptors());
}
