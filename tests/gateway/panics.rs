//! A panic costs one request: its caller is told, its worker is replaced, the next one is served.

use std::any::Any;
use std::sync::Arc;
use std::thread::scope;

use crossbeam_channel::{Sender, bounded};
use serde_json::json;
use sluicegate::Code;
use sluicegate::gateway::{CallOptions, Handled};
use sluicegate::model::{Sink, SinkError, StreamEnd, StreamHead};
use sluicegate::time::now;
use sluicegate::wire::openai::{ChatRequest, parse_chat};

use crate::house::{FUSE, House, Piece, chat, code, eventually, feed, ms, number, provider, sim, word};

#[test]
fn a_workers_panic_is_told_to_its_caller_and_the_next_is_served() {
    let (house, gate) = House::gated(provider(json!({})));
    for _ in 0..5 {
        scope(|scope| {
            let call = scope.spawn(|| house.ask());
            gate.next().panic();
            let error = call.join().expect("the caller does not panic").expect_err("nobody answered");
            assert_eq!((error.code(), error.status(), error.provider()), (Code::Internal, 500, Some("p")));
            assert!(error.request_id().is_some() && error.attempts().len() == 1, "{error:?}");
            let began = now();
            let next = scope.spawn(|| house.ask());
            gate.next().answer();
            assert!(next.join().expect("no panic").is_ok());
            assert!(now() - began < ms(400), "a new worker is hired at once: {:?}", now() - began);
        });
    }
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/p/workers/panics_total"), 5);
    assert_eq!(number(&stats, "/providers/p/workers/spawned_total"), 6);
    assert_eq!(number(&stats, "/providers/p/jobs/failed_total"), 5);
    let events = stats["events"].as_array().expect("a list");
    assert_eq!(events.iter().filter(|event| event["kind"] == "panic" && event["subject"] == "p").count(), 5);
}

#[test]
fn when_every_worker_panics_at_once_the_pool_is_as_good_as_new() {
    let (house, gate) = House::gated(provider(json!({
        "concurrency_and_buffer_size": { "concurrency": 4, "buffer_size": 8 },
    })));
    scope(|scope| {
        for panics in [true, false] {
            let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| house.ask())).collect();
            let held: Vec<_> = (0..4).map(|_| gate.next()).collect();
            held.into_iter().for_each(|arrived| if panics { arrived.panic() } else { arrived.answer() });
            for call in calls {
                assert_eq!(call.join().expect("no panic").is_err(), panics);
            }
        }
    });
    eventually("each was replaced", || house.p("workers/idle") == 4);
}

/// Those who wait in the queue of a worker that panics are served by its successor.
#[test]
fn a_panic_costs_those_behind_it_nothing() {
    let (house, gate) = House::gated(provider(json!({})));
    scope(|scope| {
        let first = scope.spawn(|| house.ask());
        let held = gate.next();
        let behind: Vec<_> = (0..4).map(|_| scope.spawn(|| house.ask())).collect();
        house.queued(4);
        held.panic();
        assert_eq!(code(&first.join().expect("no panic")), Code::Internal);
        (0..4).for_each(|_| gate.next().answer());
        behind.into_iter().for_each(|call| assert!(call.join().expect("no panic").is_ok()));
    });
}

#[test]
fn a_panic_in_the_middle_of_a_stream_is_its_last_word() {
    let (house, gate) = House::gated(provider(json!({})));
    scope(|scope| {
        let call = scope.spawn(|| house.gateway().chat_stream(&ChatRequest::new("p/m", "hi")));
        let pieces = gate.next().stream();
        feed(&pieces, &word("one"));
        let mut stream = call.join().expect("no panic").expect("it began");
        assert_eq!(stream.next().expect("a chunk").expect("good").text(), "one");
        pieces.send_timeout(Piece::Panic, FUSE).map_err(drop).expect("a worker reads");
        let error = stream.next().expect("a last word").expect_err("it failed");
        assert_eq!(error.code(), Code::Internal);
        assert!(stream.next().is_none());
        let next = scope.spawn(|| house.ask());
        gate.next().answer();
        assert!(next.join().expect("no panic").is_ok());
    });
    let stats = house.at_rest();
    assert_eq!(stats["errors"]["internal"], 1);
    assert_eq!(number(&stats, "/providers/p/workers/panics_total"), 1);
}

/// A sink of the test's own, which panics where it says.
struct Panicky {
    at: &'static str,
    ended: Sender<Option<Code>>,
}

impl Panicky {
    fn step(&self, at: &str) {
        assert!(self.at != at, "as the test says");
    }
}

impl Sink for Panicky {
    fn begin(&mut self, _head: StreamHead) -> Result<(), SinkError> {
        self.step("begin");
        Ok(())
    }

    fn event(&mut self, _bytes: &[u8]) -> Result<(), SinkError> {
        self.step("event");
        Ok(())
    }

    fn finish(self: Box<Self>, end: StreamEnd) {
        let code = match &end {
            StreamEnd::Complete(_) => None,
            StreamEnd::Failed(error) => Some(error.code()),
        };
        self.ended.send(code).expect("the test listens");
        self.step("finish");
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

#[test]
fn a_sink_that_panics_costs_its_own_request_alone() {
    let house = House::new(json!({ "sim": sim(json!({})) }), &[]);
    for at in ["begin", "event", "finish"] {
        let body = chat("sim/lorem-3", true).into_bytes();
        let fields = parse_chat(&body).expect("good");
        let gateway = house.gateway();
        let guard = gateway.begin(now());
        let call = Arc::new(CallOptions::new().call(body, fields, guard.arrived()).expect("good"));
        let (ended, end) = bounded(4);
        match gateway.handle(&call, guard, Some(Box::new(Panicky { at, ended }))) {
            Handled::Streaming | Handled::Failed(_, None) => {}
            other => panic!("{at}: {other:?}"),
        }
        let told = end.recv_timeout(FUSE);
        assert_eq!(told, Ok(if at == "finish" { None } else { Some(Code::Internal) }), "{at}");
        assert!(end.recv_timeout(FUSE).is_err_and(|error| error.is_disconnected()), "{at}: it is finished once");
        assert_eq!(gateway.ask("sim/echo", "next").expect("it is served"), "next", "{at}");
    }
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/sim/workers/panics_total"), 3);
}

#[test]
fn the_simulated_provider_makes_a_worker_panic() {
    let house = House::new(json!({ "sim": sim(json!({})) }), &[]);
    for _ in 0..8 {
        assert_eq!(code(&house.gateway().ask("sim/panic", "x")), Code::Internal);
        let error = house.gateway().chat_stream(&ChatRequest::new("sim/panic", "x")).expect_err("it fails");
        assert_eq!(error.code(), Code::Internal);
    }
    assert_eq!(house.gateway().ask("sim/echo", "x").expect("it is served"), "x");
}
