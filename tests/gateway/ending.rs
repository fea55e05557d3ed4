//! The end: a drain that lets everything finish, a shutdown that answers everything, a last handle dropped anywhere.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::scope;
use std::time::Duration;

use serde_json::json;
use sluicegate::Code;
use sluicegate::gateway::{CallOptions, Gateway, Handled, Phase};
use sluicegate::model::{Operation, Sink, SinkError, StreamEnd, StreamHead};
use sluicegate::time::now;
use sluicegate::wire::openai::parse_chat;

use super::streams::open;
use crate::house::{FUSE, House, STOP, cancellable, chat, code, eventually, feed, ms, number, provider, sim, word};

#[test]
fn a_drain_lets_what_is_under_way_finish_and_takes_nothing_new() {
    let (house, gate) = House::gated(provider(json!({
        "concurrency_and_buffer_size": { "concurrency": 2, "buffer_size": 4 },
    })));
    let (stream, pieces) = open(&house, &gate);
    let report = scope(|scope| {
        let running = scope.spawn(|| house.ask());
        let held = gate.next();
        let queued: Vec<_> = (0..3).map(|_| scope.spawn(|| house.ask())).collect();
        house.queued(3);
        let ending = scope.spawn(|| house.shutdown(FUSE));
        eventually("it drains", || house.gateway().phase() == Phase::Draining);
        assert!(!house.gateway().is_ready());
        assert_eq!(code(&house.ask()), Code::ShuttingDown);
        held.answer();
        (0..3).for_each(|_| gate.next().answer());
        feed(&pieces, STOP);
        drop(pieces);
        assert!(running.join().expect("no panic").is_ok());
        queued.into_iter().for_each(|call| assert!(call.join().expect("no panic").is_ok()));
        ending.join().expect("no panic")
    });
    assert_eq!((report.finished, report.cut, report.swept), (5, 0, 0), "{report:?}");
    assert!(report.stragglers.is_empty(), "{report:?}");
    assert_eq!(stream.collect::<Result<Vec<_>, _>>().expect("good").len(), 2);
    assert_eq!(house.gateway().phase(), Phase::Stopped);
    assert_eq!(code(&house.ask()), Code::ShuttingDown);
    assert_eq!(house.shutdown(FUSE).cut, 0, "a second time nothing is left to do");
}

#[test]
fn at_the_deadline_each_job_gets_one_answer_wherever_it_stands() {
    let (house, gate) = House::gated(provider(json!({
        "concurrency_and_buffer_size": { "concurrency": 2, "buffer_size": 3 },
    })));
    let (mut stream, pieces) = open(&house, &gate);
    stream.next().expect("a chunk").expect("good");
    let report = scope(|scope| {
        let running = scope.spawn(|| house.ask());
        let held = gate.next();
        let queued: Vec<_> = (0..3).map(|_| scope.spawn(|| house.ask())).collect();
        house.queued(3);
        let outside = scope.spawn(|| house.ask());
        eventually("one waits for a place", || house.p("queue/blocked_total") == 1);
        let began = now();
        let report = house.shutdown(ms(100));
        let took = now() - began;
        assert!(took >= ms(100) && took < ms(100) + ms(500), "{took:?}");
        let calls = queued.into_iter().chain([running, outside]);
        calls.for_each(|call| assert_eq!(code(&call.join().expect("no panic")), Code::ShuttingDown));
        held.wait_over();
        report
    });
    assert_eq!((report.finished, report.cut, report.swept), (0, 2, 3), "{report:?}");
    assert!(report.stragglers.is_empty(), "{report:?}");
    let error = stream.next().expect("a last word").expect_err("it was cut");
    assert_eq!(error.code(), Code::ShuttingDown);
    assert!(stream.next().is_none());
    drop(pieces);
    let stats = house.at_rest();
    assert_eq!(stats["errors"]["shutting_down"], 6);
    assert_eq!(number(&stats, "/providers/p/queue/abandoned_total"), 4);
    assert_eq!(number(&stats, "/providers/p/jobs/cancelled_total"), 2);
}

/// A provider that hears no cancel must not keep its callers: they are answered, and the worker is named.
#[test]
fn a_worker_that_does_not_end_is_named_and_keeps_nobody() {
    let (go, stuck) = crossbeam_channel::bounded::<()>(0);
    let transport = sluicegate::transport::MemoryTransport::new(move |_, _| {
        let _ = stuck.recv_timeout(FUSE);
        Err(sluicegate::transport::TransportError::new(sluicegate::transport::TransportErrorKind::NoAnswer, "late"))
    });
    let config = json!({ "providers": { "p": provider(json!({})) } }).to_string();
    let config = sluicegate::config::Config::from_json(&config, &|_: &str| None).expect("good");
    let gateway = Gateway::builder().config(config).transport("p", Arc::new(transport)).build().expect("it starts");
    let threads = gateway.threads().clone();
    scope(|scope| {
        let call = scope.spawn(|| gateway.raw(Operation::ChatCompletions, chat("p/m", false).into_bytes()));
        eventually("it runs", || {
            let stats = serde_json::to_value(gateway.stats()).expect("JSON");
            number(&stats, "/providers/p/workers/busy") == 1
        });
        let report = gateway.shutdown(Duration::ZERO);
        assert_eq!(report.stragglers.len(), 1, "{report:?}");
        assert!(report.stragglers[0].starts_with("p-worker-"), "{report:?}");
        assert_eq!(code(&call.join().expect("no panic")), Code::ShuttingDown);
    });
    drop(gateway);
    drop(go);
    eventually("the worker ends in the end", || threads.active() == 0);
}

/// Pools end side by side: one whose provider hears no cancel keeps no other's threads or streams.
#[test]
fn a_stuck_provider_does_not_hold_up_the_end_of_the_others() {
    let (go, stuck) = crossbeam_channel::bounded::<()>(0);
    let transport: Arc<dyn sluicegate::transport::Transport> =
        Arc::new(sluicegate::transport::MemoryTransport::new(move |_, _| {
            let _ = stuck.recv_timeout(FUSE);
            Err(sluicegate::transport::TransportError::new(sluicegate::transport::TransportErrorKind::NoAnswer, "late"))
        }));
    let names = ["a", "b", "c"];
    let providers: serde_json::Map<_, _> =
        names.map(|name| (name.to_owned(), provider(json!({})))).into_iter().collect();
    let config = json!({ "providers": providers }).to_string();
    let config = sluicegate::config::Config::from_json(&config, &|_: &str| None).expect("good");
    let builder = Gateway::builder().config(config);
    let builder = names.iter().fold(builder, |builder, name| builder.transport(name, Arc::clone(&transport)));
    let gateway = builder.build().expect("it starts");
    let threads = gateway.threads().clone();
    scope(|scope| {
        let calls = names.map(|name| {
            let gateway = &gateway;
            let body = chat(&format!("{name}/m"), false).into_bytes();
            scope.spawn(move || gateway.raw(Operation::ChatCompletions, body))
        });
        eventually("all run", || {
            let stats = serde_json::to_value(gateway.stats()).expect("JSON");
            names.iter().all(|name| number(&stats, &format!("/providers/{name}/workers/busy")) == 1)
        });
        let began = now();
        let report = gateway.shutdown(Duration::ZERO);
        assert!(now() - began < ms(3500), "{:?}", now() - began);
        assert_eq!((report.stragglers.len(), report.cut), (3, 3), "{report:?}");
        for call in calls {
            assert_eq!(code(&call.join().expect("no panic")), Code::ShuttingDown);
        }
    });
    drop(gateway);
    drop(go);
    eventually("the workers end in the end", || threads.active() == 0);
}

/// Callers who come, queue, leave and are answered while the gateway ends: nobody is stranded behind the sweep.
#[test]
fn nobody_is_stranded_by_a_shutdown_at_any_moment() {
    for seed in 0..60u64 {
        let house = House::new(
            json!({ "sim": sim(json!({ "concurrency_and_buffer_size": { "concurrency": 2, "buffer_size": 6 } })) }),
            &[],
        );
        house.gateway().ask("sim/echo", "warm").expect("it is served");
        let served = AtomicUsize::new(0);
        let slowest = scope(|scope| {
            let callers: Vec<_> = (0..8u64)
                .map(|number| {
                    let (house, served) = (&house, &served);
                    scope.spawn(move || {
                        let mut random = fastrand::Rng::with_seed(seed * 8 + number);
                        let mut slowest = Duration::ZERO;
                        loop {
                            let (mut options, token) = cancellable();
                            if number == 0 {
                                token.cancel();
                            } else if number < 4 {
                                let limit = Duration::from_micros(random.u64(100..3000));
                                options = options.deadline(limit);
                            }
                            let model = if number % 2 == 0 { "sim/echo+slow-1ms" } else { "sim/echo" };
                            let began = now();
                            let result = house
                                .gateway()
                                .with(&options)
                                .raw(Operation::ChatCompletions, chat(model, false).into_bytes());
                            slowest = slowest.max(now() - began);
                            match result {
                                Ok(_) => served.fetch_add(1, Ordering::Relaxed),
                                Err(error) if error.code() == Code::ShuttingDown => return slowest,
                                Err(_) => 0,
                            };
                        }
                    })
                })
                .collect();
            eventually("some were served", || served.load(Ordering::Relaxed) > seed as usize % 20);
            let report = house.shutdown(Duration::from_millis(seed % 3));
            assert!(report.stragglers.is_empty(), "{report:?}");
            callers.into_iter().map(|caller| caller.join().expect("no panic")).max()
        });
        assert!(slowest.expect("callers") < ms(2000), "somebody was forgotten: {slowest:?}");
        house.at_rest();
    }
}

/// A sink that holds the last handle of the gateway that it is served by.
struct Owner(#[expect(dead_code, reason = "it is held to be dropped")] Gateway);

impl Sink for Owner {
    fn begin(&mut self, _head: StreamHead) -> Result<(), SinkError> {
        Ok(())
    }

    fn event(&mut self, _bytes: &[u8]) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(self: Box<Self>, _end: StreamEnd) {}

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

#[test]
fn the_last_handle_may_be_dropped_on_a_worker_of_its_own() {
    let (mut house, gate) = House::gated(provider(json!({})));
    let gateway = house.take();
    let began = scope(|scope| {
        let handling = scope.spawn(move || {
            let body = chat("p/m", true).into_bytes();
            let fields = parse_chat(&body).expect("good");
            let guard = gateway.begin(now());
            let call = Arc::new(CallOptions::new().call(body, fields, guard.arrived()).expect("good"));
            let owner = Owner(gateway.clone());
            assert!(matches!(gateway.handle(&call, guard, Some(Box::new(owner))), Handled::Streaming));
        });
        let pieces = gate.next().stream();
        feed(&pieces, &word("first"));
        handling.join().expect("no panic");
        feed(&pieces, STOP);
        now()
    });
    // The house's own drop sees every thread end.
    drop(house);
    assert!(now() - began < ms(3000), "{:?}", now() - began);
}

/// Fewer workers than wished are better than none, and the statistics say so.
#[test]
fn a_pool_that_gets_too_few_threads_starts_with_those() {
    let config = json!({
        "threads": { "max": 40 },
        "providers": {
            "p": provider(json!({ "concurrency_and_buffer_size": { "concurrency": 30, "min_concurrency": 30 } })),
            "q": provider(json!({ "concurrency_and_buffer_size": { "concurrency": 30, "min_concurrency": 30 } })),
        },
    });
    let config = sluicegate::config::Config::from_json(&config.to_string(), &|_: &str| None).expect("good");
    let gateway = Gateway::builder().config(config).build().expect("it starts");
    let stats = serde_json::to_value(gateway.stats()).expect("JSON");
    let active = |name: &str| number(&stats, &format!("/providers/{name}/workers/active"));
    assert!(active("p") == 30 && (1..30).contains(&active("q")), "{stats:#}");
    assert!(number(&stats, "/providers/q/scaling/held_total/thread_limit") > 0, "{stats:#}");
    let threads = gateway.threads().clone();
    drop(gateway);
    eventually("every thread has ended", || threads.active() == 0);
}
