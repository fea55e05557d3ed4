//! The circuit breaker and the checks of a provider's health, as callers and operators see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::thread::scope;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::model::{Answer, Operation};
use sluicegate::provider::BreakerMode;
use sluicegate::time::now;
use sluicegate::transport::{Body, Incoming, MemoryTransport, TransportError, TransportErrorKind as Kind};
use sluicegate::wire::openai::ChatRequest;
use sluicegate::{Code, Error};

use crate::house::{
    Arrived, FUSE, Gate, House, Piece, SLACK, STOP, cancellable, chat, code, eventually, feed, ms, number, provider,
    reply, within, word,
};

/// A provider whose circuits open after three failures, for long enough that a test sees it and not longer.
fn breaking(change: Value) -> Value {
    let mut settings = provider(json!({ "concurrency_and_buffer_size": { "concurrency": 8, "buffer_size": 64 } }));
    settings["breaker"] = json!({ "open_for": "2s", "consecutive_failures": 3 });
    settings["breaker"].as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
    settings
}

/// Asks once while `play` answers.
fn ask(house: &House, play: impl FnOnce()) -> sluicegate::Result<Answer> {
    scope(|scope| {
        let call = scope.spawn(|| house.ask());
        play();
        call.join().expect("no panic")
    })
}

fn fail(arrived: Arrived) {
    arrived.respond(503, &[], json!({ "error": { "message": "down" } }).to_string());
}

/// Has the calls of `p/m` fail until its circuit opens.
fn open(house: &House, gate: &Gate) -> Error {
    (0..3).for_each(|_| assert_eq!(code(&ask(house, || fail(gate.next()))), Code::UpstreamError));
    house.ask().expect_err("the fourth is not sent")
}

fn breaker(house: &House) -> Value {
    house.stats()["providers"]["p"]["breaker"].clone()
}

fn alerts(house: &House) -> Vec<(String, String)> {
    let text = |alert: &Value, key: &str| alert[key].as_str().expect("a text").to_owned();
    let stats = house.stats();
    let alerts = stats["alerts"].as_array().expect("a list");
    alerts.iter().map(|alert| (text(alert, "kind"), text(alert, "subject"))).collect()
}

#[test]
fn what_fails_in_a_row_is_given_a_rest_and_comes_back_by_one_probe() {
    let (house, gate) = House::gated(breaking(json!({})));
    let error = open(&house, &gate);
    assert_eq!((error.code(), error.status(), error.provider()), (Code::CircuitOpen, 503, Some("p")));
    let after = error.retry_after().expect("a time");
    assert!(after > ms(1000) && after <= ms(2000), "{after:?} of two seconds");
    assert!(gate.is_empty());
    let stats = house.stats();
    assert_eq!(number(&stats, "/providers/p/queue/submitted_total"), 3, "a refusal is never submitted");
    let shown = breaker(&house);
    assert_eq!((&shown["state"], &shown["open_for_ms"]), (&json!("closed"), &json!(2000)));
    assert_eq!((&shown["opened_total"], &shown["short_circuited_total"]), (&json!(1), &json!(1)));
    assert_eq!(shown["models"]["m"]["state"], "open");
    assert_eq!(alerts(&house), [("breaker_open".to_owned(), "p/m".to_owned())]);

    eventually("it half-opens by itself", || breaker(&house)["models"]["m"]["state"] == "half_open");
    let probe = ask(&house, || {
        let probe = gate.next();
        assert_eq!(code(&house.ask()), Code::CircuitOpen, "one probe at a time");
        probe.answer();
    });
    assert!(probe.is_ok() && alerts(&house).is_empty());
    assert!(ask(&house, || gate.next().answer()).is_ok());
    let shown = breaker(&house);
    let totals = ["opened_total", "half_opened_total", "closed_total", "short_circuited_total"];
    assert_eq!(totals.map(|total| shown[total].as_u64()), [Some(1), Some(1), Some(1), Some(2)]);
    let told = house.gateway().events().list();
    let told: Vec<_> = told.iter().filter(|event| event.kind == "breaker").map(|event| &*event.message).collect();
    let begin = |message: &&str| message.split(':').next().unwrap_or_default().to_owned();
    assert_eq!(told.iter().map(begin).collect::<Vec<_>>(), ["open", "half_open", "closed"], "{told:?}");
}

#[test]
fn a_model_that_fails_leaves_the_providers_others_alone() {
    let (house, gate) = House::gated(breaking(json!({})));
    open(&house, &gate);
    scope(|scope| {
        let other = scope.spawn(|| house.gateway().raw(Operation::ChatCompletions, chat("p/n", false).into_bytes()));
        gate.next().answer();
        assert!(other.join().expect("no panic").is_ok());
    });
}

#[test]
fn a_provider_that_is_out_of_reach_is_given_a_rest_whole_and_is_not_ready() {
    let (house, gate) = House::gated(breaking(json!({ "open_for": "1h" })));
    assert!(house.gateway().is_ready());
    (0..3).for_each(|_| drop(ask(&house, || gate.next().fail(Kind::Refused))));
    let other = house.gateway().raw(Operation::ChatCompletions, chat("p/n", false).into_bytes());
    assert_eq!(code(&other), Code::CircuitOpen);
    assert_eq!(breaker(&house)["state"], "open");
    assert!(!house.gateway().is_ready(), "its only provider is out of use");
    let after = other.expect_err("open").retry_after().expect("a time");
    assert_eq!(after, Duration::from_secs(60), "an hour, cut to what a client is told at most");
}

#[test]
fn neither_a_clients_fault_nor_its_leaving_nor_a_429_counts() {
    let (house, gate) = House::gated(breaking(json!({ "consecutive_failures": 2, "min_requests": 1 })));
    for status in [400, 404, 413, 422, 400, 404] {
        drop(ask(&house, || gate.next().respond(status, &[], "{}")));
    }
    let (options, token) = cancellable();
    scope(|scope| {
        scope.spawn(|| house.ask_with(&options));
        let held = gate.next();
        token.cancel_for(sluicegate::sync::CancelReason::ClientGone);
        held.wait_over();
    });
    let mut late = 0;
    while late < 3 {
        // On a busy machine its time may be over before a worker is at it.
        match code(&house.ask_with(&within(ms(50)))) {
            Code::UpstreamTimeout => late += 1,
            other => assert_eq!(other, Code::QueueTimeout, "its own time was short"),
        }
    }
    eventually("all has ended", || house.p("workers/busy") == 0);
    assert_eq!(breaker(&house)["opened_total"], 0);

    // Its key may rest, but that is no word of the breaker's.
    let upstream = Arc::new(Upstream::default());
    upstream.answers(429);
    let house = upstream.house(breaking(json!({ "consecutive_failures": 2, "min_requests": 1 })));
    (0..9).for_each(|_| assert_ne!(code(&house.ask()), Code::CircuitOpen));
    assert_eq!(breaker(&house)["opened_total"], 0);
}

#[test]
fn a_probe_whose_caller_leaves_gives_its_place_to_the_next() {
    let (house, gate) = House::gated(breaking(json!({})));
    open(&house, &gate);
    eventually("it half-opens", || breaker(&house)["models"]["m"]["state"] == "half_open");
    for _ in 0..3 {
        let (options, token) = cancellable();
        scope(|scope| {
            let call = scope.spawn(|| house.ask_with(&options));
            let held = gate.next();
            token.cancel_for(sluicegate::sync::CancelReason::ClientGone);
            assert_eq!(code(&call.join().expect("no panic")), Code::ClientClosed);
            held.wait_over();
        });
        eventually("its worker has let go", || house.p("workers/busy") == 0);
    }
    assert!(ask(&house, || gate.next().answer()).is_ok());
}

/// What waited for a worker when the circuit opened does not go to a provider that is down.
#[test]
fn what_is_queued_when_it_opens_is_refused_and_not_sent() {
    let mut settings = breaking(json!({ "open_for": "1h" }));
    settings["concurrency_and_buffer_size"] = json!({ "concurrency": 1, "buffer_size": 64 });
    let (house, gate) = House::gated(settings);
    scope(|scope| {
        let calls: Vec<_> = (0..20).map(|_| scope.spawn(|| house.ask())).collect();
        eventually("all are in", || house.p("queue/submitted_total") == 20);
        (0..3).for_each(|_| fail(gate.next()));
        let codes: Vec<_> = calls.into_iter().map(|call| code(&call.join().expect("no panic"))).collect();
        let refused = codes.iter().filter(|code| **code == Code::CircuitOpen).count();
        assert_eq!((refused, gate.is_empty()), (17, true), "{codes:?}");
    });
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/p/queue/rejected_total"), 17);
    assert_eq!(number(&stats, "/providers/p/breaker/short_circuited_total"), 17);
}

#[test]
fn a_stream_that_is_cut_counts_against_its_model_and_one_that_begins_well_closes_a_probe() {
    let (house, gate) = House::gated(breaking(json!({})));
    let gateway = house.gateway();
    let request = ChatRequest::new("p/m", "go on");
    let begin = || {
        scope(|scope| {
            let stream = scope.spawn(|| gateway.chat_stream(&request));
            let pieces = gate.next().stream();
            feed(&pieces, &word("well"));
            (stream.join().expect("no panic").expect("it begins"), pieces)
        })
    };
    for _ in 0..3 {
        let (stream, pieces) = begin();
        pieces.send_timeout(Piece::Fail(Kind::Cut), FUSE).map_err(drop).expect("a worker reads");
        assert!(stream.last().expect("an end").is_err());
    }
    eventually("it opens", || breaker(&house)["models"]["m"]["state"] == "open");
    eventually("it half-opens", || breaker(&house)["models"]["m"]["state"] == "half_open");
    let (stream, pieces) = begin();
    eventually("it closes", || breaker(&house)["models"]["m"]["state"] == "closed");
    feed(&pieces, STOP);
    drop(pieces);
    assert!(stream.last().expect("an end").is_ok());
}

#[test]
fn an_operator_opens_and_closes_by_hand() {
    let (house, gate) = House::gated(breaking(json!({})));
    let gateway = house.gateway();
    assert!(!gateway.set_breaker("nobody", BreakerMode::Open));
    assert!(gateway.set_breaker("p", BreakerMode::Open));
    assert_eq!((code(&house.ask()), gateway.is_ready()), (Code::CircuitOpen, false));
    assert_eq!((breaker(&house)["state"].clone(), breaker(&house)["mode"].clone()), (json!("open"), json!("open")));
    assert!(gateway.set_breaker("p", BreakerMode::Closed));
    (0..9).for_each(|_| assert_eq!(code(&ask(&house, || fail(gate.next()))), Code::UpstreamError));
    assert!(gateway.set_breaker("p", BreakerMode::Auto));
    assert_eq!(open(&house, &gate).code(), Code::CircuitOpen);
}

#[test]
fn switched_off_it_lets_everything_through() {
    let (house, gate) = House::gated(breaking(json!({ "enabled": false })));
    (0..9).for_each(|_| assert_eq!(code(&ask(&house, || fail(gate.next()))), Code::UpstreamError));
    assert_eq!(breaker(&house)["opened_total"], 0);
}

/// A provider that answers with a status, or not at all if that is 0, and counts what it is asked.
#[derive(Default)]
struct Upstream {
    status: AtomicU16,
    looks: AtomicU64,
    calls: AtomicU64,
}

impl Upstream {
    fn house(self: &Arc<Self>, settings: Value) -> House {
        let upstream = Arc::clone(self);
        House::answered(
            settings,
            MemoryTransport::new(move |request, _| {
                match request.path {
                    "/v1/models" => drop(upstream.looks.fetch_add(1, Ordering::SeqCst)),
                    _ => drop(upstream.calls.fetch_add(1, Ordering::SeqCst)),
                }
                match upstream.status.load(Ordering::SeqCst) {
                    0 => Err(TransportError::new(Kind::Refused, "as the test says")),
                    status => {
                        Ok(Incoming { status, headers: Vec::new(), body: Body::from_bytes(reply("well").into_bytes()) })
                    }
                }
            }),
        )
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn looks(&self) -> u64 {
        self.looks.load(Ordering::SeqCst)
    }
}

fn health(house: &House) -> Value {
    house.stats()["providers"]["p"]["health"].clone()
}

#[test]
fn a_provider_that_is_down_sees_single_probes_and_is_in_use_soon_after_it_is_back() {
    let upstream = Arc::new(Upstream::default());
    let house = upstream.house(breaking(json!({ "open_for": "300ms" })));
    let open_for = ms(300);
    // A hundred calls a second and more, whatever becomes of them.
    let call = || {
        std::thread::park_timeout(ms(5));
        house.ask().map_err(|error| error.code())
    };
    let calls = || upstream.calls.load(Ordering::SeqCst);
    eventually("it opens", || matches!(call(), Err(Code::CircuitOpen)));
    let (opened, before) = (now(), calls());
    while now() < opened + ms(1500) {
        assert!(call().is_err());
    }
    upstream.answers(200);
    let (back, probes) = (now(), calls() - before);
    let most = back.saturating_duration_since(opened).as_millis() / open_for.as_millis() + 1;
    assert!(u128::from(probes) <= most, "{probes} probes while it was down, of at most {most}");
    eventually("it is in use again", || call().is_ok());
    let after = now().saturating_duration_since(back);
    assert!(after < open_for * SLACK, "{after:?} after it was back");
}

#[test]
fn the_start_waits_for_a_look_at_the_models_that_no_figure_counts() {
    let upstream = Arc::new(Upstream::default());
    upstream.answers(401);
    let mut settings = breaking(json!({}));
    settings["health"] = json!({ "on_start": true, "interval": "1h" });
    let house = upstream.house(settings.clone());
    assert_eq!(
        (upstream.looks(), &health(&house)["state"]),
        (1, &json!("healthy")),
        "it answers: that it does is enough"
    );
    let stats = house.at_rest();
    assert_eq!((&stats["providers"]["p"]["phase"], house.gateway().is_ready()), (&json!("ready"), true));
    assert!(stats["providers"]["p"]["startup_us"]["check"].is_u64());
    for counted in ["queue/submitted_total", "queue/high_water", "jobs/succeeded_total", "jobs/service_us/count"] {
        assert_eq!(house.p(counted), 0, "{counted}");
    }
    assert_eq!(number(&stats, "/requests/received_total"), 0);

    let down = Arc::new(Upstream::default());
    let house = down.house(settings);
    assert_eq!(health(&house)["state"], "unhealthy");
    assert_eq!((health(&house)["failures_total"].clone(), house.gateway().is_ready()), (json!(1), false));
    eventually("an operator is told", || alerts(&house).contains(&("provider_unhealthy".to_owned(), "p".to_owned())));
    down.answers(200);
    assert!(house.ask().is_ok(), "whoever asks is let through all the same");
    eventually("what a call shows is believed", || health(&house)["state"] == "healthy" && house.gateway().is_ready());
    eventually("it is over", || alerts(&house).is_empty());
}

#[test]
fn a_look_is_had_at_intervals_and_soon_again_where_nobody_answered() {
    let upstream = Arc::new(Upstream::default());
    upstream.answers(503);
    let mut settings = breaking(json!({}));
    settings["health"] = json!({ "on_start": false, "interval": "1h" });
    let house = upstream.house(settings.clone());
    assert_eq!(health(&house)["state"], "unknown");
    assert!(house.gateway().is_ready(), "nothing speaks against it");
    settings["health"]["interval"] = json!("100ms");
    let house = upstream.house(settings);
    eventually("it has been looked at twice", || health(&house)["failures_total"].as_u64() >= Some(2));
    assert_eq!(health(&house)["state"], "unhealthy");
    upstream.answers(200);
    eventually("it is there again", || health(&house)["state"] == "healthy");
}

/// A check that hangs holds up neither the start for long nor the end.
#[test]
fn a_check_that_hangs_ends_with_its_time_or_its_pool() {
    let gate = Gate::new();
    let mut settings = breaking(json!({}));
    settings["health"] = json!({ "on_start": true, "interval": 0 });
    let begun = now();
    let house = House::new(json!({ "p": settings }), &[("p", &gate)]);
    let took = now().saturating_duration_since(begun);
    assert!(took >= ms(1900) && took < ms(2000) * SLACK, "{took:?}");
    gate.next().wait_over();
    assert_eq!(house.stats()["providers"]["p"]["phase"], "ready");
    // The worker takes note a moment after it has left the gate.
    eventually("that nobody answered is known", || health(&house)["state"] == "unhealthy");

    let mut settings = breaking(json!({}));
    settings["health"] = json!({ "on_start": false, "interval": "1ms" });
    let gate = Gate::new();
    let house = House::new(json!({ "p": settings }), &[("p", &gate)]);
    let held = gate.next();
    let begun = now();
    house.shutdown(ms(0));
    held.wait_over();
    assert!(now().saturating_duration_since(begun) < ms(2000), "the end cancels it");
}

#[test]
fn the_simulated_provider_of_this_process_is_healthy_at_once_and_never_looked_at() {
    let house = House::new(json!({ "sim": crate::house::sim(json!({})) }), &[]);
    assert_eq!(house.stats()["providers"]["sim"]["health"]["state"], "healthy");
    assert!(house.gateway().sim_stats().is_none(), "it starts with its first request");
}
