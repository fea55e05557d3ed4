//! Requests that are handed over: their handles, what refuses them, how they end, and a gateway whose last clone goes meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::scope;
use std::time::Duration;

use crossbeam_channel::{Select, bounded};
use serde_json::{Value, json};
use sluicegate::gateway::{Gateway, Phase};
use sluicegate::sync::CancelToken;
use sluicegate::time::now;
use sluicegate::transport::{Body, Incoming, MemoryTransport};
use sluicegate::{CallOptions, ChatRequest, Code};

use crate::house::{
    FUSE, Gate, House, Piece, STOP, batch, cancellable, code, eventually, feed, ms, number, provider, reply, sim, word,
};

/// A provider of so many workers behind a gate.
fn roomy(workers: usize) -> Value {
    provider(json!({ "concurrency_and_buffer_size": { "concurrency": workers, "buffer_size": 16 } }))
}

fn request() -> ChatRequest {
    ChatRequest::new("p/m", "hi")
}

fn runners(house: &House) -> u64 {
    number(&house.stats(), "/threads/by_role/runner/active")
}

#[test]
fn a_handle_has_the_answer_when_it_is_there() {
    let (house, gate) = House::gated(roomy(2));
    let handle = house.gateway().submit(&request()).expect("it begins");
    let held = gate.next();
    assert!(handle.try_get().is_none() && handle.wait_timeout(ms(5)).is_none());
    assert!(handle.wait_deadline(now() + ms(5)).is_none());
    held.answer();
    let answer = handle.wait_timeout(FUSE).expect("in time").expect("it is answered");
    assert_eq!((answer.text(), answer.served().attempts), ("well", 1));
    assert_eq!(number(&house.stats(), "/requests/in_flight"), 0, "it is over when it is answered");
    assert_eq!(code(&handle.try_get().expect("a word")), Code::Internal, "it comes once");
    assert_eq!(code(&handle.wait()), Code::Internal);
    assert_eq!(number(&house.at_rest(), "/threads/by_role/runner/jobs_total"), 1);
}

#[test]
fn several_handles_are_waited_for_together() {
    let (house, gate) = House::gated(roomy(3));
    let handles: Vec<_> = (0..3)
        .map(|number| house.gateway().submit(&ChatRequest::new(format!("p/{number}"), "hi")).expect("it begins"))
        .collect();
    let mut held: Vec<_> = (0..3).map(|_| gate.next()).collect();
    let second = held.iter().position(|held| held.json()["model"] == "1").expect("it is there");
    held.swap_remove(second).answer();
    let mut select = Select::new();
    handles.iter().for_each(|handle| {
        select.recv(handle.receiver());
    });
    let ready = select.select_timeout(FUSE).expect("one is answered");
    assert_eq!(ready.index(), 1);
    assert!(ready.recv(handles[1].receiver()).expect("an answer").is_ok());
    held.into_iter().for_each(|held| held.answer());
    assert!(handles.iter().enumerate().all(|(at, handle)| at == 1 || handle.wait_timeout(FUSE).is_some()));
}

#[test]
fn a_handle_that_is_dropped_ends_its_request_at_the_provider() {
    let (house, gate) = House::gated(roomy(1));
    let running = house.gateway().submit(&request()).expect("it begins");
    let held = gate.next();
    let queued = house.gateway().submit(&request()).expect("it begins");
    house.queued(1);
    drop((queued, running));
    held.wait_over();
    let stats = house.at_rest();
    assert_eq!((number(&stats, "/requests/cancelled_total"), number(&stats, "/requests/received_total")), (2, 2));
    assert!(gate.is_empty(), "the other one was never sent");
}

#[test]
fn a_handle_can_be_cancelled_and_hears_of_it() {
    let (house, gate) = House::gated(roomy(1));
    let handle = house.gateway().submit(&request()).expect("it begins");
    let held = gate.next();
    handle.cancel();
    held.wait_over();
    let error = handle.wait().expect_err("it was cancelled");
    assert_eq!((error.code(), error.attempts().len()), (Code::ClientClosed, 1));
}

#[test]
fn a_token_of_the_options_cancels_and_an_answered_handle_leaves_it_alone() {
    let (house, gate) = House::gated(roomy(1));
    let (one, other) = (CancelToken::new(), CancelToken::new());
    let calls = |token: &CancelToken| house.gateway().with(CallOptions::new().cancel(token.clone())).submit(&request());
    let handle = calls(&one).expect("it begins");
    let held = gate.next();
    one.cancel();
    held.wait_over();
    assert_eq!(code(&handle.wait()), Code::ClientClosed);
    let handle = calls(&other).expect("it begins");
    gate.next().answer();
    assert!(handle.wait_timeout(FUSE).expect("in time").is_ok());
    drop(handle);
    assert!(!other.is_cancelled());
}

/// A token goes with any number of requests, and the end of one of them is none of the others' business.
#[test]
fn whoever_lets_go_of_a_request_leaves_those_that_share_its_token_alone() {
    let (house, gate) = House::gated(roomy(3));
    let (options, token) = cancellable();
    let calls = house.gateway().with(&options);
    let stays = calls.submit(&request()).expect("it begins");
    let held = gate.next();
    let dropped = calls.submit(&request()).expect("it begins");
    let left = gate.next();
    drop(dropped);
    left.wait_over();
    let (stream, pieces) = scope(|scope| {
        let opening = scope.spawn(|| calls.chat_stream(&request()));
        let pieces = gate.next().stream();
        feed(&pieces, &word("first"));
        (opening.join().expect("no panic").expect("it begins"), pieces)
    });
    drop(stream);
    eventually("nobody reads on", || house.p("workers/busy") == 1);
    drop(pieces);
    assert!(!token.is_cancelled());
    held.answer();
    assert!(stays.wait_timeout(FUSE).expect("in time").is_ok());
    let last = calls.submit(&request()).expect("it begins");
    let held = gate.next();
    token.cancel();
    held.wait_over();
    assert_eq!(code(&last.wait()), Code::ClientClosed);
    let stats = house.at_rest();
    assert_eq!((number(&stats, "/requests/succeeded_total"), number(&stats, "/requests/cancelled_total")), (1, 3));
}

#[test]
fn what_is_detached_goes_on_alone() {
    let (house, gate) = House::gated(roomy(1));
    house.gateway().submit(&request()).expect("it begins").detach();
    gate.next().answer();
    assert_eq!(number(&house.at_rest(), "/requests/succeeded_total"), 1);
}

#[test]
fn the_deadline_of_the_options_bounds_it_whole() {
    let (house, gate) = House::gated(roomy(1));
    let began = now();
    let handle = house.gateway().with(CallOptions::new().deadline(ms(100))).submit(&request()).expect("it begins");
    let _held = gate.next();
    assert_eq!(code(&handle.wait()), Code::UpstreamTimeout);
    let took = now() - began;
    assert!(took >= ms(100) && took < ms(500), "{took:?}");
}

#[test]
fn what_is_wrong_with_a_request_is_said_at_once_or_by_its_handle() {
    let house = House::new(json!({ "sim": sim(json!({})) }), &[]);
    let calls = house.gateway().with(CallOptions::new().tag("", "x"));
    assert_eq!(code(&calls.submit(&ChatRequest::new("sim/echo", "hi"))), Code::InvalidRequest);
    let handle = house.gateway().submit(&ChatRequest::new("nobody/x", "hi")).expect("it begins");
    let id = handle.request_id().clone();
    let error = handle.wait().expect_err("there is none");
    assert_eq!((error.code(), error.request_id()), (Code::ModelNotFound, Some(&id)));
    assert_eq!(number(&house.at_rest(), "/requests/failed_total"), 2);
}

#[test]
fn past_the_most_requests_at_a_time_it_is_refused_at_once() {
    let gate = Gate::new();
    let config = json!({ "server": { "max_in_flight": 2 }, "providers": { "p": roomy(4) } });
    let house = House::with(config, &[("p", &gate)]);
    let first = house.gateway().submit(&request()).expect("a place");
    assert_eq!(code(&house.gateway().with(batch()).submit(&request())), Code::Overloaded, "batch goes first");
    let second = house.gateway().submit(&request()).expect("a place");
    let error = house.gateway().submit(&request()).expect_err("no place");
    assert!(error.code() == Code::Overloaded && error.retry_after().is_some() && error.request_id().is_some());
    (0..2).for_each(|_| gate.next().answer());
    assert!(first.wait().is_ok());
    let third = house.gateway().submit(&request()).expect("the place is free once the answer is there");
    gate.next().answer();
    assert!(second.wait().is_ok() && third.wait().is_ok());
    let stats = house.at_rest();
    assert_eq!((number(&stats, "/requests/received_total"), &stats["errors"]), (5, &json!({ "overloaded": 2 })));
}

#[test]
fn without_a_thread_it_is_refused_at_once() {
    let gate = Gate::new();
    let config =
        json!({ "server": { "max_in_flight": 100 }, "threads": { "max": 32 }, "providers": { "p": roomy(1) } });
    let house = House::with(config, &[("p", &gate)]);
    let mut handles = Vec::new();
    let refused = loop {
        match house.gateway().submit(&request()) {
            Ok(handle) => handles.push(handle),
            Err(error) => break error,
        }
        assert!(handles.len() < 32, "there is no limit");
    };
    assert_eq!(refused.code(), Code::Overloaded);
    assert!(refused.message().contains("32 threads"), "{refused}");
    assert!(!handles.is_empty() && runners(&house) as usize == handles.len());
    let held = gate.next();
    drop(handles);
    held.wait_over();
    house.at_rest();
    eventually("there are threads again", || house.gateway().submit(&request()).is_ok());
}

#[test]
fn runners_are_used_again_and_retire_when_idle() {
    let config = json!({ "threads": { "idle_timeout": "200ms" }, "providers": { "sim": sim(json!({})) } });
    let house = House::with(config, &[]);
    let ask = || house.gateway().submit(&ChatRequest::new("sim/echo", "hi")).expect("it begins").wait();
    assert!(ask().is_ok() && ask().is_ok());
    let (jobs, active) = (number(&house.stats(), "/threads/by_role/runner/jobs_total"), runners(&house));
    assert!(jobs == 2 && (1..=2).contains(&active), "{jobs} jobs of {active} runners");
    eventually("all have retired", || runners(&house) == 0);
    assert!(ask().is_ok());
}

#[test]
fn a_drain_lets_what_was_handed_over_finish() {
    let (house, gate) = House::gated(roomy(1));
    let handles: Vec<_> = (0..3).map(|_| house.gateway().submit(&request()).expect("it begins")).collect();
    let held = gate.next();
    house.queued(2);
    scope(|scope| {
        let ending = scope.spawn(|| house.shutdown(FUSE));
        eventually("it drains", || house.gateway().phase() == Phase::Draining);
        assert_eq!(code(&house.gateway().submit(&request())), Code::ShuttingDown);
        held.answer();
        (0..2).for_each(|_| gate.next().answer());
        assert!(handles.into_iter().all(|handle| handle.wait().is_ok()));
        let report = ending.join().expect("no panic");
        assert!(report.finished == 3 && report.cut == 0 && report.stragglers.is_empty(), "{report:?}");
    });
    assert_eq!(runners(&house), 0, "their threads have ended, too");
}

#[test]
fn at_the_deadline_of_a_drain_each_handle_is_answered() {
    let (house, gate) = House::gated(roomy(1));
    let handles: Vec<_> = (0..4).map(|_| house.gateway().submit(&request()).expect("it begins")).collect();
    let held = gate.next();
    house.queued(3);
    let began = now();
    let report = house.shutdown(ms(50));
    assert!(now() - began < ms(1000), "{:?}", now() - began);
    assert_eq!((report.cut, report.swept, report.stragglers.len()), (1, 3, 0), "{report:?}");
    held.wait_over();
    handles.into_iter().for_each(|handle| assert_eq!(code(&handle.wait()), Code::ShuttingDown));
    assert_eq!(runners(&house), 0);
    assert_eq!(house.at_rest()["errors"]["shutting_down"], 4);
}

/// Whoever lets go of a handle just when its answer comes loses nothing and leaves nothing behind.
#[test]
fn handles_dropped_at_any_moment_leave_the_sums_in_order() {
    let house = House::new(json!({ "sim": sim(json!({})) }), &[]);
    let answered = AtomicUsize::new(0);
    scope(|scope| {
        for seed in 0..4 {
            let (house, answered) = (&house, &answered);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..60 {
                    let model = if random.bool() { "sim/echo" } else { "sim/echo+slow-1ms" };
                    let handle = house.gateway().submit(&ChatRequest::new(model, "hi")).expect("it begins");
                    let result = match random.u8(..3) {
                        0 => Some(handle.wait()),
                        1 => handle.wait_timeout(Duration::from_micros(random.u64(..2000))),
                        _ => handle.try_get(),
                    };
                    if let Some(result) = result {
                        assert_eq!(result.expect("nobody cancelled it").text(), "hi");
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/requests/received_total"), 240);
    assert!(number(&stats, "/requests/succeeded_total") >= answered.into_inner() as u64);
    assert_eq!(number(&stats, "/requests/failed_total"), 0);
}

#[test]
fn a_request_keeps_its_gateway_until_it_is_answered() {
    let (mut house, gate) = House::gated(roomy(1));
    let gateway = house.take();
    let handle = gateway.submit(&request()).expect("it begins");
    let held = gate.next();
    drop(gateway);
    held.answer();
    // The runner has the last clone, and ends the gateway behind its answer; the house's own drop sees every thread end.
    assert_eq!(handle.wait().expect("it is answered").text(), "well");
}

#[test]
fn a_gateway_dropped_under_a_detached_request_ends_behind_it() {
    let (mut house, gate) = House::gated(roomy(2));
    let gateway = house.take();
    let handles = [gateway.submit(&request()).expect("it begins"), gateway.submit(&request()).expect("it begins")];
    let held = [gate.next(), gate.next()];
    let [first, second] = handles;
    first.detach();
    drop((gateway, second));
    let [one, other] = held;
    let over = [one.over.clone(), other.over.clone()];
    // One of them was cancelled, and the other waits for its answer.
    one.answer();
    other.answer();
    assert!(over.iter().all(|over| over.recv_timeout(FUSE).is_err_and(|error| error.is_disconnected())));
}

/// What a worker does in the middle of a request, with a clone that it was given.
fn on_a_worker(hand: impl Fn(Option<Gateway>) + Send + Sync + 'static) -> (House, Arc<Mutex<Option<Gateway>>>) {
    let kept = Arc::new(Mutex::new(None::<Gateway>));
    let clone = Arc::clone(&kept);
    let transport = MemoryTransport::new(move |_, _| {
        let gateway = clone.lock().expect("no panic").take();
        hand(gateway);
        Ok(Incoming { status: 200, headers: Vec::new(), body: Body::from_bytes(reply("late")) })
    });
    (House::answered(roomy(1), transport), kept)
}

#[test]
fn the_last_clone_may_be_dropped_by_a_worker_at_its_work() {
    let (arrived, (go, wait)) = (bounded(1), bounded::<()>(0));
    let (mut house, kept) = on_a_worker(move |gateway| {
        arrived.0.send(()).expect("the test waits");
        // Deaf to its cancel, so that nobody but this worker has the gateway in the end.
        let _ = wait.recv_timeout(FUSE);
        drop(gateway);
    });
    let gateway = house.take();
    *kept.lock().expect("no panic") = Some(gateway.clone());
    let handle = gateway.submit(&request()).expect("it begins");
    arrived.1.recv_timeout(FUSE).expect("a worker has it");
    handle.cancel();
    assert_eq!(code(&handle.wait()), Code::ClientClosed);
    drop(gateway);
    let began = now();
    drop(go);
    drop(house);
    assert!(now() - began < ms(3000), "{:?}", now() - began);
}

#[test]
fn the_last_clone_may_be_dropped_inside_a_stream() {
    let (mut house, gate) = House::gated(roomy(1));
    let gateway = house.take();
    let mut stream = scope(|scope| {
        let opening = scope.spawn(|| gateway.chat_stream(&request()));
        let pieces = gate.next().stream();
        feed(&pieces, &word("first"));
        let stream = opening.join().expect("no panic").expect("it begins");
        scope.spawn(move || {
            // While the drop below drains, the rest comes.
            feed(&pieces, &word("second"));
            feed(&pieces, STOP);
        });
        stream
    });
    drop(gateway);
    let text: String = stream.by_ref().map(|chunk| chunk.expect("it was drained").text().to_owned()).collect();
    assert_eq!(text, "firstsecond");
}

#[test]
fn a_stream_that_outlasts_the_drain_of_the_last_clone_is_told() {
    let (mut house, gate) = House::gated(roomy(1));
    let gateway = house.take();
    let (mut stream, _pieces) = scope(|scope| {
        let opening = scope.spawn(|| gateway.chat_stream(&request()));
        let pieces = gate.next().stream();
        feed(&pieces, &word("first"));
        (opening.join().expect("no panic").expect("it begins"), pieces)
    });
    assert_eq!(stream.next().expect("a chunk").expect("good").text(), "first");
    let began = now();
    drop(gateway);
    assert!(now() - began < ms(2500), "it drains briefly: {:?}", now() - began);
    assert_eq!(stream.next().expect("a last word").expect_err("it was cut").code(), Code::ShuttingDown);
}

/// A stream whose own pieces hold the last clone: a worker drops it while it reads.
#[test]
fn the_last_clone_may_be_dropped_by_a_worker_that_relays() {
    let kept = Arc::new(Mutex::new(None::<Gateway>));
    let clone = Arc::clone(&kept);
    let (feeds, played) = bounded(1);
    let transport = MemoryTransport::new(move |_, _| {
        let (feed, pieces) = bounded::<Piece>(0);
        feeds.send(feed).expect("the test waits");
        let clone = Arc::clone(&clone);
        let texts = std::iter::from_fn(move || match pieces.recv_timeout(FUSE) {
            Ok(Piece::Bytes(bytes)) => Some(Ok(bytes)),
            _ => {
                drop(clone.lock().expect("no panic").take());
                None
            }
        });
        let headers = vec![("content-type".to_owned(), "text/event-stream".to_owned())];
        Ok(Incoming { status: 200, headers, body: Body::from_pieces(texts) })
    });
    let mut house = House::answered(roomy(1), transport);
    let gateway = house.take();
    *kept.lock().expect("no panic") = Some(gateway.clone());
    let (stream, pieces) = scope(|scope| {
        let opening = scope.spawn(|| gateway.chat_stream(&request()));
        let pieces = played.recv_timeout(FUSE).expect("a worker asks");
        feed(&pieces, &word("first"));
        (opening.join().expect("no panic").expect("it begins"), pieces)
    });
    drop(gateway);
    let began = now();
    drop(pieces);
    assert!(stream.last().expect("a word").is_err(), "it was never finished");
    drop(house);
    assert!(now() - began < ms(3500), "{:?}", now() - began);
}

#[test]
fn of_threads_that_race_to_drop_the_gateway_one_ends_it() {
    for round in 0..20 {
        let (mut house, gate) = House::gated(roomy(2));
        let gateway = house.take();
        let handle = gateway.submit(&request()).expect("it begins");
        let held = gate.next();
        let start = Arc::new(Barrier::new(3));
        scope(|scope| {
            for _ in 0..2 {
                let (gateway, start) = (gateway.clone(), Arc::clone(&start));
                scope.spawn(move || {
                    start.wait();
                    drop(gateway);
                });
            }
            drop(gateway);
            start.wait();
            // The runner is the third who may be last.
            if round % 2 == 0 { held.answer() } else { handle.cancel() }
        });
        let result = handle.wait();
        assert_eq!(result.is_ok(), round % 2 == 0, "{result:?}");
    }
}
