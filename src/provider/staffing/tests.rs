//! A pool whose workers are told to go again and again while jobs come: nothing is lost, and nobody is idle while one waits.

use std::sync::atomic::AtomicBool;

use super::*;
use crate::config::{Policy, Pools, Scaling, StreamGarbage};
use crate::events::Events;
use crate::gateway::CallOptions;
use crate::model::Call;
use crate::provider::roster::Roster;
use crate::provider::{AttemptSettings, Provider, Stock};
use crate::queue::ByteBudget;
use crate::recycle::Limits;
use crate::sync::{LockTimes, Threads};
use crate::time::now;
use crate::transport::{Body, Incoming, MemoryTransport};
use crate::wire::openai;

fn provider(threads: &Threads) -> Provider {
    let minute = Duration::from_secs(60);
    let settings = PoolSettings {
        name: "p".into(),
        concurrency: 12,
        min_concurrency: 1,
        buffer_size: 100,
        sizing: Sizing::Given,
        scaling: Scaling::default(),
        optimization: Optimization::default(),
        policy: Policy::Block,
        wait_timeout: Duration::from_secs(10),
        batch_share: 0.125,
        locks: LockTimes::DEFAULT,
    };
    let attempt = AttemptSettings {
        key: None,
        chat_path: "/v1/chat/completions".to_owned(),
        headers: Vec::new(),
        request_timeout: minute,
        connect_timeout: minute,
        first_token_timeout: minute,
        stream_idle_timeout: minute,
        stream_max_duration: minute,
        stream_garbage: StreamGarbage::Skip,
        early_keepalive: false,
    };
    let transport = MemoryTransport::new(|_, _| {
        Ok(Incoming { status: 200, headers: Vec::new(), body: Body::from_bytes(&br#"{"choices":[]}"#[..]) })
    });
    let limits = Limits { initial: 8, max_idle: 64, idle_max_age: minute, alert_below: 0.0 };
    let stock = Stock::new(&Pools { reply_channel: limits, job: limits, response: limits, buffer: limits });
    let (transport, bytes) = (Arc::new(transport), ByteBudget::new(1 << 20));
    Provider::start(settings, attempt, None, transport, threads, Events::new(), stock, bytes, Duration::ZERO)
        .expect("it starts")
}

fn call() -> Arc<Call> {
    let body = br#"{"model":"m","messages":[]}"#.to_vec();
    let fields = openai::parse_chat(&body).expect("a request");
    Arc::new(CallOptions::default().call(body, fields, now()))
}

/// Has the pool shrink by `by`, as if the scaler had said so.
fn shrink(roster: &Roster, by: usize) {
    let mut control = roster.staffing.control.lock(SCALING_WAIT).expect("it is had");
    let from = roster.staffing.wanted();
    let to = from.saturating_sub(by).max(1);
    if to < from {
        let change = Change { direction: Direction::Down, from, to, reason: Reason::Utilisation };
        roster.staffing.carry_out(roster, &mut control, now(), change, &mut false);
    }
}

#[test]
fn no_job_is_lost_while_workers_retire_and_come_under_load() {
    const CALLERS: u64 = 6;
    const JOBS: u32 = 400;
    let threads = Threads::new(64, 512 << 10);
    let provider = provider(&threads);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|seed| {
                let provider = &provider;
                scope.spawn(move || {
                    let (mut random, model) = (fastrand::Rng::with_seed(seed), "m".into());
                    for _ in 0..JOBS {
                        let outcome = provider.attempt(&call(), &model, 1, None);
                        outcome.result.expect("it is answered");
                        if random.u8(0..4) == 0 {
                            std::thread::park_timeout(Duration::from_micros(random.u64(0..500)));
                        }
                    }
                })
            })
            .collect();
        let (provider, over) = (&provider, &over);
        scope.spawn(move || {
            while !over.load(Ordering::SeqCst) {
                shrink(&provider.pool.roster, 3);
                std::thread::park_timeout(Duration::from_micros(200));
            }
        });
        let ended: Vec<_> = callers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::SeqCst);
        assert!(ended.iter().all(Result::is_ok), "a job was lost");
    });
    let stats = provider.stats();
    assert_eq!(stats.jobs.succeeded_total, CALLERS * u64::from(JOBS));
    assert!(stats.scaling.down_total > 0 && stats.scaling.up_total > 0, "{:?}", stats.scaling);
    // Whoever waited for a worker waited for its thread to start, not for a look.
    assert!(stats.queue.wait_us.p999 < 250_000 * 5, "{:?}", stats.queue.wait_us);
    let providers = [Arc::new(provider)];
    for halt in Provider::halt_all(&providers) {
        let end = halt.join(crate::time::Deadline::after(Duration::from_secs(5)));
        assert!(end.stragglers.is_empty(), "{end:?}");
    }
    assert_eq!(threads.active(), 0);
}

#[test]
fn growth_on_demand_that_goes_on_is_one_decision_until_it_is_told() {
    let threads = Threads::new(64, 512 << 10);
    let provider = provider(&threads);
    let roster = &provider.pool.roster;
    let (before, told) = (provider.stats().scaling, || roster.shared.events.list().len());
    let mut control = roster.staffing.control.lock(SCALING_WAIT).expect("it is had");
    let events = told();
    for (from, to) in [(1, 3), (3, 4), (4, 9)] {
        let change = Change { direction: Direction::Up, from, to, reason: Reason::Demand };
        roster.staffing.record(&mut control, now(), change);
    }
    assert_eq!(told(), events, "it goes on");
    let scaling = provider.stats().scaling;
    assert_eq!(scaling.up_total - before.up_total, 1);
    assert_eq!(scaling.workers_added_total - before.workers_added_total, 8);
    assert_eq!(scaling.last.map(|last| (last.change.from, last.change.to)), Some((1, 9)));
    let down = Change { direction: Direction::Down, from: 9, to: 5, reason: Reason::LoadEnded };
    roster.staffing.record(&mut control, now(), down);
    let messages: Vec<_> = roster.shared.events.list().into_iter().skip(events).map(|event| event.message).collect();
    assert_eq!(messages, ["1 -> 9 workers (demand)", "9 -> 5 workers (load_ended)"]);
}
