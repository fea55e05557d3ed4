//! Pooled objects under requests that end in every way: nothing of one ever reaches another, and everything comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::scope;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::Gateway;
use sluicegate::config::Config;
use sluicegate::error::Code;
use sluicegate::events::Events;
use sluicegate::model::Operation;
use sluicegate::provider::Stock;
use sluicegate::recycle::FEWEST;
use sluicegate::time::now;
use sluicegate::transport::{Body, Incoming, MemoryTransport};
use sluicegate::wire::openai::ChatReply;

use crate::house::{House, cancellable, eventually, ms, number, provider, reply, sim, unrest};

const POOLS: [&str; 4] = ["reply_channel", "job", "response", "buffer"];

/// What a caller says: its own words, as long as `length`, so that bodies of every size share their memory.
fn words(caller: u64, number: u64, length: usize) -> String {
    format!("<{caller}-{number}>").repeat(length.max(1))
}

/// A provider that repeats what it is told, late now and then, and hears of no cancel: its answer always comes.
fn deaf() -> MemoryTransport {
    let (_never, silence) = crossbeam_channel::bounded::<()>(0);
    let count = AtomicU64::new(0);
    MemoryTransport::new(move |request, _| {
        let late = count.fetch_add(1, Ordering::Relaxed) % 4;
        let _ = silence.recv_timeout(Duration::from_micros(late * 400));
        let asked: Value = serde_json::from_slice(request.body).expect("what arrives is whole");
        let said = asked["messages"][0]["content"].as_str().expect("text");
        // Half of the answers say how long they are, half do not.
        let body = match late {
            0 | 1 => Body::from_bytes(reply(said)),
            _ => Body::from_pieces(std::iter::once(Ok(reply(said).into_bytes()))),
        };
        Ok(Incoming { status: 200, headers: Vec::new(), body })
    })
}

#[test]
fn a_late_reply_never_reaches_another_request_and_nobody_sees_anothers_bytes() {
    const CALLERS: u64 = 8;
    const CALLS: u64 = 60;
    let pools = json!({ "initial": 0, "max_idle": 3 });
    let config = json!({
        "providers": { "p": provider(json!({ "concurrency_and_buffer_size": { "concurrency": 3, "buffer_size": 100 } })) },
        "pools": { "reply_channel": pools, "job": pools, "response": pools, "buffer": pools },
    });
    let config = Config::from_json(&config.to_string(), &|_: &str| None).expect("it is right");
    let gateway = Gateway::builder().config(config).transport("p", Arc::new(deaf())).build().expect("it starts");
    let (own, left) = (AtomicU64::new(0), AtomicU64::new(0));
    scope(|scope| {
        for caller in 0..CALLERS {
            let (gateway, own, left) = (&gateway, &own, &left);
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(caller);
                for number in 0..CALLS {
                    let said = words(caller, number, random.usize(..3000));
                    let (mut options, token) = cancellable();
                    let leaves = random.u8(..3);
                    if leaves == 1 {
                        let limit = Duration::from_micros(random.u64(50..3000));
                        options = options.deadline(limit);
                    }
                    let body = json!({ "model": "p/m", "messages": [{ "role": "user", "content": said }] }).to_string();
                    let outcome = std::thread::scope(|inner| {
                        if leaves == 2 {
                            let patience = Duration::from_micros(random.u64(..3000));
                            inner.spawn(move || {
                                std::thread::park_timeout(patience);
                                token.cancel();
                            });
                        }
                        gateway.with(&options).raw(Operation::ChatCompletions, body.into_bytes())
                    });
                    match outcome {
                        Ok(answer) => {
                            let got = ChatReply::from_answer(&answer).expect("an answer").text().to_owned();
                            assert!(got == said, "the caller of {said:.20} got {got:.20}");
                            own.fetch_add(1, Ordering::Relaxed);
                            // Now and then the bytes are kept for good.
                            if number % 7 == 0 {
                                assert!(answer.body.into_vec() == reply(&said).into_bytes());
                            }
                        }
                        Err(error) => {
                            let early = [Code::ClientClosed, Code::UpstreamTimeout, Code::QueueTimeout];
                            assert!(leaves > 0 && early.contains(&error.code()), "{error:?}");
                            left.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let (own, left) = (own.into_inner(), left.into_inner());
    assert!(own > CALLERS * CALLS / 4 && left > 0, "{own} stayed, {left} left");
    let stats = || serde_json::to_value(gateway.stats()).expect("JSON");
    eventually("everything has come back", || unrest(&stats()).is_none());
    let stats = stats();
    assert!(number(&stats, "/providers/p/jobs/results_discarded_total") > 0, "none was late: {left} left");
    for pool in POOLS {
        assert!(number(&stats, &format!("/pools/{pool}/hits_total")) > 0, "{pool}");
        assert!(number(&stats, &format!("/pools/{pool}/idle")) <= 3, "{pool}");
    }
}

#[test]
fn a_steady_run_reaches_the_typical_ratio_of_each_pool() {
    // Nothing is made beforehand: what is hit was used and given back.
    let house =
        House::with(json!({ "client": { "initial_pool_size": 0 }, "providers": { "sim": sim(json!({})) } }), &[]);
    for _ in 0..100 {
        house.gateway().ask("sim/echo", "again").expect("it is served");
    }
    let stats = house.at_rest();
    for (pool, typical) in POOLS.into_iter().zip([0.85, 0.80, 0.70, 0.70]) {
        let ratio = stats["pools"][pool]["hit_ratio"].as_f64().expect("a ratio");
        assert!(ratio >= typical, "{pool}: {ratio}");
        assert!(number(&stats, &format!("/pools/{pool}/bytes_reused_total")) > 0, "{pool}");
        assert_eq!(stats["pools"][pool]["alert"], false);
    }
}

#[test]
fn each_starved_pool_raises_its_alert_in_the_stats() {
    let pools = json!({ "initial": 0, "max_idle": 0 });
    let pools = json!({ "reply_channel": pools, "job": pools, "response": pools, "buffer": pools });
    let house = House::with(json!({ "pools": pools, "providers": { "sim": sim(json!({})) } }), &[]);
    for _ in 0..FEWEST {
        house.gateway().ask("sim/echo", "x").expect("it is served");
    }
    house.at_rest();
    let mut expected = POOLS;
    expected.sort_unstable();
    // The watchdog looks once a second.
    eventually("each has its alert", || {
        let alerts = house.gateway().events().alerts();
        alerts.iter().map(|alert| alert.subject.as_str()).eq(expected)
    });
    let stats = house.stats();
    assert!(stats["alerts"].as_array().is_some_and(|alerts| alerts.len() == POOLS.len()), "{stats:#}");
    for pool in POOLS {
        assert_eq!((&stats["pools"][pool]["alert"], &stats["pools"][pool]["hit_ratio"]), (&json!(true), &json!(0.0)));
    }
}

#[test]
fn tending_the_stock_sweeps_alerts_and_clears_by_the_time_it_is_told() {
    let config = json!({
        "providers": { "sim": {} },
        "client": { "initial_pool_size": 5 },
        "pools": { "buffer": { "max_idle": 5 } },
    });
    let config = Config::from_json(&config.to_string(), &|_: &str| None).expect("it is right");
    let (stock, events, start) = (Stock::new(&config.pools), Events::new(), now());
    // Sixty at a time from a pool that keeps five: starved.
    drop((0..60).map(|_| stock.buffers().buffer()).collect::<Vec<_>>());
    stock.tend(start + ms(1000), &events);
    let alerts = events.alerts();
    assert_eq!(
        alerts.iter().map(|alert| (alert.kind, alert.subject.as_str())).collect::<Vec<_>>(),
        [("pool_hit_ratio", "buffer")]
    );
    // One at a time finds one: the misses leave the window after a minute, and the alert with them.
    for second in 2..=62 {
        (0..60).for_each(|_| drop(stock.buffers().buffer()));
        stock.tend(start + ms(1000 * second), &events);
    }
    assert_eq!(events.alerts(), []);
    assert!(!stock.stats().buffer.alert);
    // Ten minutes later nothing stands idle any more.
    stock.tend(start + ms(600_000), &events);
    let stats = stock.stats();
    for pool in [&stats.reply_channel, &stats.job, &stats.response, &stats.buffer] {
        assert_eq!((pool.idle, pool.live, pool.bytes_held, pool.sweeps_total), (0, 0, 0, 63));
        assert_eq!(pool.evicted_total + pool.discarded_total, pool.created_total);
    }
}
