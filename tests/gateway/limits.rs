//! What a provider may be asked for in a minute: what goes at once, what waits, what is refused, and what gives its share back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::scope;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::gateway::CallOptions;
use sluicegate::model::Operation;
use sluicegate::sync::CancelReason;
use sluicegate::time::now;
use sluicegate::transport::{Body, Incoming, MemoryTransport};
use sluicegate::{Code, Result};

use crate::house::{FUSE, House, cancellable, chat, code, eventually, ms, number, provider, reply, within};

/// A provider of these limits, whose callers wait as long as they must.
fn limited(rate_limit: &Value) -> Value {
    provider(json!({ "rate_limit": rate_limit, "queue": { "wait_timeout": "10m" } }))
}

/// Who waits no longer than a moment.
fn hasty() -> CallOptions {
    within(ms(50))
}

/// Answers everything at once with these headers, and counts what it is asked.
fn counting(headers: &'static [(&'static str, &'static str)]) -> (MemoryTransport, Arc<AtomicU64>) {
    let asked = Arc::<AtomicU64>::default();
    let count = Arc::clone(&asked);
    let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let transport = MemoryTransport::new(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(Incoming { status: 200, headers: headers.clone(), body: Body::from_bytes(reply("well")) })
    });
    (transport, asked)
}

/// Checks that a request was refused for a limit whose path it names, and gives when it could go.
fn refused<T: std::fmt::Debug>(result: &Result<T>, path: &str) -> Duration {
    let error = result.as_ref().expect_err("it is over the limit");
    assert_eq!((error.code(), error.status(), error.provider()), (Code::RateLimited, 429, Some("p")), "{error}");
    assert!(error.message().contains(path), "{path}: {error}");
    error.retry_after().expect("it says when to come again")
}

#[test]
fn a_minutes_worth_goes_at_once_and_who_comes_then_is_told_when_it_could() {
    let (transport, asked) = counting(&[]);
    let house = House::answered(limited(&json!({ "requests_per_minute": 3 })), transport);
    (0..3).for_each(|_| drop(house.ask().expect("within the limit")));
    let after = refused(&house.ask_with(&hasty()), "rate_limit.requests_per_minute is 3");
    assert!(after > ms(15_000) && after <= ms(20_000), "{after:?}");
    let stats = house.at_rest();
    assert_eq!((asked.load(Ordering::SeqCst), number(&stats, "/providers/p/queue/submitted_total")), (3, 3));
    assert_eq!(stats["errors"]["rate_limited"], 1);
}

#[test]
fn who_can_go_in_time_waits_and_is_told_how_long_it_did() {
    let (transport, asked) = counting(&[]);
    let house = House::answered(limited(&json!({ "requests_per_minute": 120 })), transport);
    let start = now();
    for _ in 0..120 {
        house.ask().expect("within the limit");
    }
    let answer = house.ask().expect("it waits for its share");
    let (took, served) = (now() - start, answer.served);
    assert!(took >= ms(500), "the one past a minute's worth goes half a second after the first: {took:?}");
    assert!(served.overhead <= took - served.timing.queue, "what it waited is queue and not overhead: {served:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 121);
}

#[test]
fn a_model_and_a_key_have_limits_of_their_own() {
    let (transport, _) = counting(&[]);
    let mut settings = limited(&json!({ "requests_per_minute": 100, "models": { "m": { "requests_per_minute": 1 } } }));
    settings["keys"][0]["rate_limit"] = json!({ "requests_per_minute": 2 });
    let house = House::answered(settings, transport);
    let other = || house.gateway().with(hasty()).raw(Operation::ChatCompletions, chat("p/other", false).into_bytes());
    assert!(house.ask().is_ok());
    refused(&house.ask_with(&hasty()), "rate_limit.models.m.requests_per_minute is 1");
    assert!(other().is_ok(), "another model goes on");
    refused(&other(), "keys[0].rate_limit.requests_per_minute is 2");
}

#[test]
fn tokens_are_counted_by_what_answers_took() {
    let (transport, asked) = counting(&[]);
    let house = House::answered(limited(&json!({ "tokens_per_minute": 600 })), transport);
    // At the first guess there would be room for two.
    for _ in 0..100 {
        house.ask_with(&hasty()).expect("each took three tokens");
    }
    let long = json!({ "model": "p/m", "messages": [{ "role": "user", "content": "x".repeat(2400) }] });
    let result = house.gateway().with(hasty()).raw(Operation::ChatCompletions, long.to_string().into_bytes());
    refused(&result, "rate_limit.tokens_per_minute is 600");
    assert_eq!(asked.load(Ordering::SeqCst), 100);
}

#[test]
fn what_a_provider_says_of_its_own_limit_is_waited_for() {
    let headers = &[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "300ms")];
    let (transport, asked) = counting(headers);
    let house = House::answered(limited(&json!({ "requests_per_minute": 1000 })), transport);
    let start = now();
    house.ask().expect("nothing was said yet");
    refused(&house.ask_with(&hasty()), "nothing is left of its own limit");
    house.ask().expect("it waits");
    assert!(now() - start >= ms(300));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn who_leaves_while_it_waits_leaves_its_share_to_the_next() {
    let (transport, asked) = counting(&[]);
    let house = House::answered(limited(&json!({ "requests_per_minute": 2 })), transport);
    (0..2).for_each(|_| drop(house.ask().expect("within the limit")));
    let (options, cancel) = cancellable();
    scope(|scope| {
        let waiting = scope.spawn(|| house.ask_with(&options));
        eventually("it waits", || refused(&house.ask_with(&hasty()), "is 2") > ms(30_000));
        cancel.cancel_for(CancelReason::ClientGone);
        assert_eq!(code(&waiting.join().expect("no panic")), Code::ClientClosed);
    });
    let after = refused(&house.ask_with(&hasty()), "is 2");
    assert!(after <= ms(30_000), "as if nobody had waited: {after:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn an_attempt_that_was_never_sent_leaves_its_share_to_the_next() {
    let (house, gate) = House::gated(limited(&json!({ "requests_per_minute": 2 })));
    let (options, cancel) = cancellable();
    scope(|scope| {
        let running = scope.spawn(|| house.ask());
        let held = gate.next();
        let queued = scope.spawn(|| house.ask_with(&options));
        house.queued(1);
        refused(&house.ask_with(&hasty()), "is 2");
        let waiting = scope.spawn(|| house.ask());
        cancel.cancel_for(CancelReason::ClientGone);
        assert_eq!(code(&queued.join().expect("no panic")), Code::ClientClosed);
        // Half a minute early.
        house.queued(1);
        held.answer();
        gate.next().answer();
        assert!(running.join().expect("no panic").is_ok() && waiting.join().expect("no panic").is_ok());
    });
    refused(&house.ask_with(&hasty()), "is 2");
}

#[test]
fn nobody_waits_for_its_share_beyond_the_end() {
    let (transport, _) = counting(&[]);
    let house = House::answered(limited(&json!({ "requests_per_minute": 2 })), transport);
    (0..2).for_each(|_| drop(house.ask().expect("within the limit")));
    scope(|scope| {
        let waiting = scope.spawn(|| house.ask());
        eventually("it waits", || refused(&house.ask_with(&hasty()), "is 2") > ms(30_000));
        let start = now();
        house.shutdown(Duration::ZERO);
        assert_eq!(code(&waiting.join().expect("no panic")), Code::ShuttingDown);
        assert!(now() - start < FUSE);
    });
}
