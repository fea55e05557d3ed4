//! Another configuration for a gateway that runs: who goes on as he was, who is replaced, and that nobody is lost by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::scope;
use std::time::Duration;

use crossbeam_channel::bounded;
use serde_json::{Value, json};
use sluicegate::config::Config;
use sluicegate::gateway::{CallOptions, Gateway, Phase, ReloadError};
use sluicegate::model::Operation;
use sluicegate::time::Deadline;
use sluicegate::wire::openai::ChatRequest;
use sluicegate::{Code, Error};

use super::streams::open;
use crate::house::{
    DONE, FUSE, Gate, House, STOP, USAGE, chat, code, eventually, feed, ms, number, provider, sim, word,
};

fn config(document: &Value) -> Config {
    Config::from_json(&document.to_string(), &|_: &str| None).unwrap_or_else(|error| panic!("{error}"))
}

fn of(providers: Value) -> Config {
    config(&json!({ "providers": providers }))
}

/// Provider `p` with this key and so many workers.
fn keyed(key: &str, workers: usize) -> Value {
    provider(json!({
        "keys": [{ "name": "k", "value": key }],
        "concurrency_and_buffer_size": { "concurrency": workers, "min_concurrency": workers, "buffer_size": 4 },
    }))
}

fn ask(gateway: &Gateway, model: &str) -> Result<(), Error> {
    gateway.raw(Operation::ChatCompletions, chat(model, false).into_bytes()).map(drop)
}

#[test]
fn who_is_unchanged_keeps_everything_and_who_is_changed_counts_on() {
    let (one, other) = (Gate::new(), Gate::new());
    let settings = |workers| json!({ "p": keyed("sk-old-key", 1), "q": keyed("sk-other", workers) });
    let house = House::new(settings(1), &[("p", &one), ("q", &other)]);
    let gateway = house.gateway();
    let serve = |model: &str, gate: &Gate| {
        scope(|scope| {
            let call = scope.spawn(|| ask(gateway, model));
            gate.next().answer();
            call.join().expect("no panic").expect("an answer");
        });
    };
    serve("p/m", &one);
    serve("q/m", &other);
    let before = house.at_rest();
    let changes = gateway.reload(of(settings(3))).expect("it is right");
    let found = &changes.providers;
    assert_eq!((&*found.unchanged, found.changed[0].name.as_str()), (&["p".to_owned()][..], "q"));
    assert_eq!(found.changed[0].settings, ["concurrency_and_buffer_size"]);
    assert!(gateway.is_ready(), "a reload is no pause");
    serve("q/m", &other);
    let after = house.at_rest();
    let get = |stats: &Value, path: &str| number(stats, &format!("/providers/{path}"));
    for path in ["p/workers/spawned_total", "p/queue/submitted_total", "p/scaling/evaluations_total"] {
        assert!(get(&after, path) >= get(&before, path), "{path}");
    }
    assert_eq!((get(&after, "p/workers/spawned_total"), get(&after, "p/workers/retired_total")), (1, 0));
    assert_eq!((get(&after, "q/workers/spawned_total"), get(&after, "q/workers/retired_total")), (4, 1));
    assert_eq!((get(&after, "q/workers/max"), get(&after, "q/queue/submitted_total")), (3, 2));
    assert_eq!((get(&after, "q/jobs/succeeded_total"), get(&after, "q/jobs/service_us/count")), (2, 2));
    let events = after["events"].as_array().expect("a list");
    let told = events.iter().rfind(|event| event["kind"] == "reload").expect("an event");
    let message = told["message"].as_str().expect("words");
    assert!(message.contains("providers changed: q (concurrency_and_buffer_size)"), "{message}");
}

#[test]
fn what_is_under_way_keeps_what_it_started_with() {
    let (house, gate) = House::gated(keyed("sk-old-key", 2));
    let gateway = house.gateway();
    let (stream, pieces) = open(&house, &gate);
    scope(|scope| {
        let running = scope.spawn(|| house.ask());
        let held = gate.next();
        let queued = scope.spawn(|| house.ask());
        house.queued(1);
        gateway.reload(of(json!({ "p": keyed("sk-new-key", 2) }))).expect("it is right");
        assert_eq!(house.p("queue/depth"), 0, "the queue that is shown is the new one's");
        let new = scope.spawn(|| house.ask());
        let arrived = gate.next();
        assert_eq!(arrived.header("authorization"), Some("Bearer sk-new-key"));
        arrived.answer();
        assert!(new.join().expect("no panic").is_ok());
        assert_eq!(held.header("authorization"), Some("Bearer sk-old-key"));
        held.answer();
        let last = gate.next();
        assert_eq!(last.header("authorization"), Some("Bearer sk-old-key"), "it waited in the old queue");
        last.answer();
        assert!(running.join().expect("no panic").is_ok() && queued.join().expect("no panic").is_ok());
    });
    // One stream still runs in the old pool, whose idle worker goes.
    eventually("one of the old ones is left", || house.p("workers/retired_total") == 1);
    feed(&pieces, &word("second"));
    feed(&pieces, &format!("{STOP}{USAGE}{DONE}"));
    drop(pieces);
    let text: String = stream.map(|chunk| chunk.expect("good").text().to_owned()).collect();
    assert_eq!(text, "firstsecond");
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/p/jobs/succeeded_total"), 4);
    assert_eq!((house.p("workers/spawned_total"), house.p("workers/retired_total")), (4, 2));
}

#[test]
fn a_removed_provider_finishes_what_it_has_and_is_gone_then() {
    let gate = Gate::new();
    let house = House::new(json!({ "p": keyed("sk-old-key", 1), "sim": sim(json!({})) }), &[("p", &gate)]);
    let gateway = house.gateway();
    scope(|scope| {
        let running = scope.spawn(|| house.ask());
        let held = gate.next();
        let queued = scope.spawn(|| house.ask());
        house.queued(1);
        let changes = gateway.reload(of(json!({ "sim": sim(json!({})) }))).expect("it is right");
        assert_eq!(changes.providers.removed, ["p"]);
        assert_eq!(code(&house.ask()), Code::ModelNotFound);
        assert!(!gateway.models().iter().any(|model| model.provider == "p") && gateway.is_ready());
        let stats = house.stats();
        assert_eq!((&stats["providers"]["p"]["phase"], house.p("queue/depth")), (&json!("draining"), 1));
        held.answer();
        gate.next().answer();
        assert!(running.join().expect("no panic").is_ok() && queued.join().expect("no panic").is_ok());
    });
    eventually("it is gone", || house.stats()["providers"].get("p").is_none());
    let threads = gateway.threads().list();
    assert!(!threads.iter().any(|row| row.name.starts_with("p-")), "{threads:?}");
    gateway.reload(of(json!({ "p": keyed("sk-old-key", 1) }))).expect("it comes again");
    assert_eq!(house.p("queue/submitted_total"), 0, "as a new one");
}

/// Between a request's head and its body there is time for a reload.
#[test]
fn a_request_whose_body_is_still_coming_is_served_as_it_arrived() {
    let (house, gate) = House::gated(keyed("sk-old-key", 1));
    let gateway = house.gateway();
    let body = chat("p/m", false);
    let guard = gateway.begin(sluicegate::time::now());
    gateway.reload(of(json!({ "sim": sim(json!({})) }))).expect("it is right");
    let fields = sluicegate::wire::openai::parse_chat(body.as_bytes()).expect("a body");
    let call = Arc::new(CallOptions::new().call(body.into_bytes(), fields, guard.arrived()).expect("good"));
    scope(|scope| {
        let handled = scope.spawn(|| gateway.handle(&call, guard, None));
        gate.next().answer();
        let handled = handled.join().expect("no panic");
        assert!(matches!(handled, sluicegate::gateway::Handled::Answer(..)), "{handled:?}");
    });
}

#[test]
fn what_cannot_be_used_changes_nothing_and_is_told_of_until_something_can() {
    let gate = Gate::new();
    let house = House::new(json!({ "p": keyed("sk-old-key", 1) }), &[("p", &gate)]);
    let gateway = house.gateway();
    let before = gateway.config();
    // An admin plane that already listens beyond loopback must keep its key; here the certificates of a provider are none.
    let bad = of(json!({
        "p": keyed("sk-new-key", 2),
        "x": provider(json!({ "network_config": {
            "base_url": "https://example.com", "ca_cert_pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" } })),
    }));
    let error = gateway.reload(bad).expect_err("its certificates are none");
    assert!(matches!(error, ReloadError::Start(_)) && error.to_string().contains("provider x"), "{error}");
    assert!(Arc::ptr_eq(&before, &gateway.config()));
    assert!(matches!(gateway.reread(), Err(ReloadError::NoSource)));
    let alert = || house.stats()["alerts"].as_array().expect("a list").iter().any(|a| a["kind"] == "reload_refused");
    assert!(alert());
    let events = house.stats()["events"].clone();
    let told = events.as_array().expect("a list").iter().any(|event| {
        event["kind"] == "reload" && event["message"].as_str().is_some_and(|text| text.contains("provider x"))
    });
    assert!(told, "{events:#}");
    scope(|scope| {
        let call = scope.spawn(|| house.ask());
        let arrived = gate.next();
        assert_eq!(arrived.header("authorization"), Some("Bearer sk-old-key"));
        arrived.answer();
        assert!(call.join().expect("no panic").is_ok());
    });
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/p/workers/active"), 1, "those that were started for nothing have ended");
    let changes = gateway.reload(of(json!({ "p": keyed("sk-old-key", 1) }))).expect("it is right");
    assert!(changes.is_empty() && !alert(), "{changes:?}");
}

#[test]
fn what_has_to_wait_for_a_restart_is_warned_of_and_stays() {
    let house = House::with(json!({ "providers": { "sim": sim(json!({})) } }), &[]);
    let gateway = house.gateway();
    let new = config(&json!({
        "server": { "max_in_flight": 7, "shutdown_timeout": "9s" }, "threads": { "max": 999 },
        "providers": { "sim": sim(json!({})) },
    }));
    let changes = gateway.reload(new).expect("it is right");
    assert_eq!(changes.settings, ["server.shutdown_timeout"]);
    let waits: Vec<_> = changes.warnings.iter().filter(|text| text.contains("restart")).collect();
    assert!(waits.len() == 2 && waits[0].starts_with("server.max_in_flight:"), "{changes:?}");
    let config = gateway.config();
    assert_eq!((config.server.max_in_flight, config.server.shutdown_timeout), (None, Duration::from_secs(9)));
}

/// A gateway whose next reload waits in its middle until the other end is dropped.
fn halting(document: &Value) -> (Gateway, crossbeam_channel::Receiver<()>, crossbeam_channel::Sender<()>) {
    let (is_in, inside) = bounded(8);
    let (let_go, gate) = bounded::<()>(0);
    let first = AtomicBool::new(true);
    let look = move |_: &Config| {
        if !first.swap(false, Ordering::SeqCst) {
            let _ = is_in.send(());
            let _ = gate.recv_timeout(FUSE);
        }
    };
    (Gateway::builder().config(config(document)).on_config(look).build().expect("it starts"), inside, let_go)
}

#[test]
fn of_two_reloads_at_once_the_second_waits_and_is_made_of_what_the_first_left() {
    let both = |locks: Value| json!({ "locks": locks, "providers": { "sim": sim(json!({})) } });
    let more = |name: &str| of(json!({ "sim": sim(json!({})), name: sim(json!({})) }));
    let (gateway, inside, let_go) = halting(&both(json!({})));
    scope(|scope| {
        let first = scope.spawn(|| gateway.reload(more("a")));
        inside.recv_timeout(FUSE).expect("it is in");
        let second = scope.spawn(|| gateway.reload(more("b")));
        assert!(ask(&gateway, "sim/echo").is_ok(), "requests wait for neither");
        drop(let_go);
        assert_eq!(first.join().expect("no panic").expect("it is right").providers.added, ["a"]);
        let changes = second.join().expect("no panic").expect("it is right");
        assert_eq!((changes.providers.added, changes.providers.removed), (vec!["b".to_owned()], vec!["a".to_owned()]));
    });
    drop(gateway);
    let (gateway, inside, let_go) = halting(&both(json!({ "default_timeout": "20ms", "max_timeout": "20ms" })));
    scope(|scope| {
        let first = scope.spawn(|| gateway.reload(more("a")));
        inside.recv_timeout(FUSE).expect("it is in");
        let error = gateway.reload(more("b")).expect_err("it waits no longer than any lock");
        assert!(matches!(error, ReloadError::Busy(_)), "{error}");
        drop(let_go);
        assert!(first.join().expect("no panic").is_ok());
    });
}

#[test]
fn an_end_in_the_middle_of_a_reload_ends_what_was_started_too() {
    let (gateway, inside, let_go) = halting(&json!({ "providers": { "sim": sim(json!({})) } }));
    let threads = gateway.threads().clone();
    let (report, reloaded) = scope(|scope| {
        let reload = scope.spawn(|| gateway.reload(of(json!({ "other": sim(json!({})) }))));
        inside.recv_timeout(FUSE).expect("it is in");
        let ending = scope.spawn(|| gateway.shutdown(FUSE));
        eventually("it drains", || gateway.phase() >= Phase::Draining);
        drop(let_go);
        (ending.join().expect("no panic"), reload.join().expect("no panic"))
    });
    assert!(matches!(reloaded, Err(ReloadError::NotRunning(_))), "{reloaded:?}");
    assert!(report.stragglers.is_empty(), "{report:?}");
    assert!(matches!(gateway.reload(of(json!({}))), Err(ReloadError::NotRunning(Phase::Stopped))));
    drop(gateway);
    eventually("every thread has ended", || threads.active() == 0);
}

#[test]
fn the_end_of_a_gateway_is_the_end_of_pools_that_were_replaced() {
    let (house, gate) = House::gated(keyed("sk-old-key", 1));
    let (stream, _pieces) = open(&house, &gate);
    house.gateway().reload(of(json!({ "p": keyed("sk-new-key", 1) }))).expect("it is right");
    let report = house.shutdown(ms(20));
    assert_eq!((report.finished, report.cut, report.swept), (0, 1, 0), "{report:?}");
    assert!(report.stragglers.is_empty(), "{report:?}");
    let error = stream.last().expect("an end").expect_err("it was cut");
    assert_eq!(error.code(), Code::ShuttingDown);
}

/// A worker that hears of nothing: its old pool is not waited for longer than its own limits say, and the thread is named.
#[test]
fn a_replaced_pool_that_does_not_end_by_its_limits_is_cut_and_who_is_stuck_is_named() {
    let short = provider(json!({
        "queue": { "wait_timeout": "20ms" },
        "network_config": {
            "default_request_timeout_in_seconds": "10ms", "stream_max_duration": "10ms", "max_retries": 0,
            "retry_backoff_initial": 0, "retry_backoff_max": 0, "retry_after_patience": 0,
        },
    }));
    let gate = Gate::new();
    // Each provider of the old house may have been a target: this one is alone there.
    let document = |providers: Value| json!({ "server": { "body_timeout": "10ms" }, "providers": providers });
    let house = House::with(document(json!({ "p": short })), &[("p", &gate)]);
    let (let_go, until) = bounded(0);
    gate.be_deaf(&until);
    eventually("its worker is stuck", || house.ask().is_err() && house.p("workers/busy") == 1);
    house.gateway().reload(config(&document(json!({ "sim": sim(json!({})) })))).expect("it is right");
    let told = || {
        let events = house.stats()["events"].clone();
        let is_it = |event: &Value| event["kind"] == "reload" && event["subject"] == "p";
        events.as_array().expect("a list").iter().find(|event| is_it(event)).cloned()
    };
    eventually("it is given up", || told().is_some());
    let message = told().expect("an event")["message"].as_str().expect("words").to_owned();
    assert!(message.contains("did not end: p-worker-1"), "{message}");
    assert!(house.stats()["providers"].get("p").is_none(), "nobody waits for it any more");
    drop(let_go);
}

#[test]
fn a_paused_provider_takes_nothing_new_also_after_a_reload_until_it_is_let_go_on() {
    let (house, gate) = House::gated(keyed("sk-old-key", 1));
    let gateway = house.gateway();
    let serve = || {
        scope(|scope| {
            let call = scope.spawn(|| house.ask());
            gate.next().answer();
            assert!(call.join().expect("no panic").is_ok());
        });
    };
    assert!(!gateway.pause("nobody"));
    scope(|scope| {
        let running = scope.spawn(|| house.ask());
        let held = gate.next();
        assert!(gateway.pause("p"));
        let refused = house.ask();
        assert_eq!(code(&refused), Code::CircuitOpen);
        let error = refused.expect_err("paused");
        assert!(error.retry_after().is_some() && error.message().contains("paused"), "{error}");
        held.answer();
        assert!(running.join().expect("no panic").is_ok(), "what is under way goes on");
    });
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/p/queue/submitted_total"), 1, "a refusal is never submitted");
    assert_eq!((&stats["alerts"][0]["kind"], &stats["alerts"][0]["subject"]), (&json!("provider_paused"), &json!("p")));
    gateway.reload(of(json!({ "p": keyed("sk-new-key", 1) }))).expect("it is right");
    assert_eq!(code(&house.ask()), Code::CircuitOpen);
    assert!(gateway.resume("p"));
    serve();
    assert_eq!(house.stats()["alerts"], json!([]));
}

/// What callers in a storm of reloads came to.
#[derive(Default)]
struct Ledger {
    served: AtomicU64,
    unknown: AtomicU64,
}

/// Four callers, streamed and not, at a provider that stays, one that changes and one that comes and goes, while good and
/// bad configurations come; each call must be answered, and only where a provider goes may it be unknown.
fn storm(reloads: u32) {
    let sized =
        |buffer: usize| sim(json!({ "concurrency_and_buffer_size": { "min_concurrency": 2, "buffer_size": buffer } }));
    let document = |round: u32| {
        let mut providers = json!({ "stays": sized(64), "changes": sized(64 + (round % 7) as usize) });
        if round.is_multiple_of(2) {
            providers["goes"] = sized(64);
        }
        if round % 5 == 3 {
            // A provider that cannot be started, behind others that can.
            providers["bad"] = provider(json!({ "network_config": {
                "base_url": "https://example.com", "ca_cert_pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" } }));
        }
        config(&json!({ "providers": providers }))
    };
    let house = {
        let document = json!({ "providers": { "stays": sized(64), "changes": sized(64), "goes": sized(64) } });
        House::with(document, &[])
    };
    let (gateway, ledger, over) = (house.gateway(), Ledger::default(), AtomicBool::new(false));
    let fuse = Deadline::after(Duration::from_secs(60));
    let (good, bad) = scope(|scope| {
        for caller in 0..4 {
            let (ledger, over) = (&ledger, &over);
            scope.spawn(move || {
                let mut turn = caller;
                while !over.load(Ordering::SeqCst) {
                    assert!(!fuse.passed(), "it goes on for too long");
                    turn += 1;
                    let name = ["stays", "changes", "goes"][turn % 3];
                    let ended = if turn % 2 == 0 {
                        ask(gateway, &format!("{name}/slow-5ms"))
                    } else {
                        let request = ChatRequest::new(format!("{name}/lorem-4+gap-3ms"), "hi");
                        gateway
                            .chat_stream(&request)
                            .and_then(|mut stream| stream.try_for_each(|chunk| chunk.map(drop)))
                    };
                    match ended {
                        Ok(()) => ledger.served.fetch_add(1, Ordering::SeqCst),
                        Err(error) => {
                            assert!(error.code() == Code::ModelNotFound && name == "goes", "{name}: {error}");
                            ledger.unknown.fetch_add(1, Ordering::SeqCst)
                        }
                    };
                }
            });
        }
        let (mut good, mut bad, mut totals) = (0, 0, [0; 3]);
        for round in 1..=reloads {
            match gateway.reload(document(round)) {
                Ok(_) => good += 1,
                Err(error) => {
                    assert!(error.to_string().contains("provider bad"), "{error}");
                    bad += 1;
                }
            }
            if round.is_multiple_of(4) {
                let stats = house.stats();
                let now = ["queue/submitted_total", "connections/opened_total", "workers/spawned_total"]
                    .map(|path| number(&stats, &format!("/providers/changes/{path}")));
                assert!(now.iter().zip(&totals).all(|(now, then)| now >= then), "from {totals:?} to {now:?}");
                totals = now;
            }
        }
        over.store(true, Ordering::SeqCst);
        (good, bad)
    });
    let (served, unknown) = (ledger.served.into_inner(), ledger.unknown.into_inner());
    let stats = house.at_rest();
    let requests = |what: &str| number(&stats, &format!("/requests/{what}_total"));
    assert_eq!((requests("received"), requests("succeeded")), (served + unknown, served), "{stats:#}");
    assert_eq!(requests("failed"), unknown);
    assert!(bad == (reloads + 2) / 5 && good + bad == reloads && served > 0, "{good}, {bad}, {served}");
}

#[test]
fn two_hundred_reloads_under_load_lose_no_request() {
    storm(200);
}
