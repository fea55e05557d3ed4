//! Vital signs of a provider: the age of the queue's head, and what its workers are at.

use std::sync::Arc;
use std::thread::scope;
use std::time::Duration;

use crossbeam_channel::bounded;
use sluicegate::config::Pools;
use sluicegate::events::Events;
use sluicegate::gateway::CallOptions;
use sluicegate::ids::RequestId;
use sluicegate::provider::{AttemptSettings, PoolSettings, Progress, Provider, Stock};
use sluicegate::queue::ByteBudget;
use sluicegate::recycle::Limits;
use sluicegate::sync::{CancelToken, Threads};
use sluicegate::time::{Deadline, now};
use sluicegate::transport::{Body, Incoming, MemoryTransport};
use sluicegate::wire::openai;

use crate::house::{FUSE, chat, eventually, ms, reply};

/// A provider `p` of one worker.
fn provider(threads: &Threads, transport: MemoryTransport) -> Provider {
    let pool = PoolSettings::fixed("p", 1, 8);
    let minute = Duration::from_secs(60);
    let attempt = AttemptSettings::within(minute);
    let limits = Limits { initial: 0, max_idle: 8, idle_max_age: minute, alert_below: 0.0 };
    let stock = Stock::new(&Pools::alike(limits));
    let (transport, bytes) = (Arc::new(transport), ByteBudget::new(1 << 20));
    Provider::start(None, pool, attempt, transport, threads, Events::new(), stock, bytes, ms(0)).expect("it starts")
}

fn end(provider: Provider) {
    let halted = Provider::halt_all(&[Arc::new(provider)]);
    assert!(halted.into_iter().all(|halt| halt.join(Deadline::after(FUSE)).stragglers.is_empty()));
}

#[test]
fn the_queues_head_and_what_runs_are_told_with_their_ages() {
    let (open, opened) = bounded::<()>(0);
    let transport = MemoryTransport::new(move |_, _| {
        // Longer than all that is waited for meanwhile, each with a fuse of its own.
        let _ = opened.recv_timeout(8 * FUSE);
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Ok(Incoming { status: 200, headers, body: Body::from_bytes(reply("well")) })
    });
    let threads = Threads::new(64, 2 << 20);
    let provider = provider(&threads, transport);
    let signs = |ahead: u64| provider.vitals(now() + ms(ahead));
    assert!(signs(0).queue_head.is_none() && signs(0).running.is_empty());

    let ask = |id: &str, token: &CancelToken| {
        let body = chat("m", false).into_bytes();
        let fields = openai::parse_chat(&body).expect("good");
        let options = CallOptions::new().request_id(RequestId::from_client(id).expect("good")).cancel(token.clone());
        let call = options.call(body, fields, now()).expect("good");
        provider.attempt(&Arc::new(call), &"m".into(), &Progress::default(), None)
    };
    scope(|scope| {
        let (ask, stays, leaves) = (&ask, CancelToken::new(), CancelToken::new());
        let running = scope.spawn({
            let stays = stays.clone();
            move || ask("running", &stays)
        });
        eventually("it runs", || !signs(0).running.is_empty());
        let first = scope.spawn({
            let leaves = leaves.clone();
            move || ask("leaves", &leaves)
        });
        eventually("one waits", || signs(0).queue_head.is_some());
        let before = now();
        let second = scope.spawn(move || ask("stays", &stays));
        eventually("two wait", || provider.stats().queue.depth == 2);

        let ahead = signs(3000);
        assert!(ahead.queue_head.is_some_and(|age| age >= ms(3000)), "{ahead:?}");
        assert_eq!(ahead.wait_timeout, ms(5000));
        let [job] = &*ahead.running else { panic!("one runs: {ahead:?}") };
        assert_eq!((job.thread.as_str(), job.request_id.as_str(), job.streams), ("p-worker-1", "running", false));
        assert!(job.age >= ms(3000));

        // Who has left leaves a shell; past the time that anybody waits it counts no more, but for who stays.
        leaves.cancel();
        assert!(first.join().expect("no panic").result.is_err());
        let late = signs(6000).queue_head.expect("one waits still");
        assert!(late <= ms(6000) + before.elapsed(), "{late:?} is the age of a shell");
        drop(open);
        assert!(running.join().expect("no panic").result.is_ok());
        assert!(second.join().expect("no panic").result.is_ok());
    });
    // A worker tidies up after it has answered.
    eventually("nobody runs or waits", || signs(0).queue_head.is_none() && signs(0).running.is_empty());
    end(provider);
}

/// A queue that stands because its worker is busy all the time is not stalled, whenever it is looked at.
#[test]
fn a_worker_between_two_jobs_does_not_wait_for_one() {
    const CALLERS: usize = 6;
    let (_never, silence) = bounded::<()>(0);
    let transport = MemoryTransport::new(move |_, _| {
        let _ = silence.recv_timeout(ms(1));
        Ok(Incoming { status: 200, headers: Vec::new(), body: Body::from_bytes(reply("well")) })
    });
    let threads = Threads::new(64, 2 << 20);
    let provider = provider(&threads, transport);
    let (mut seen, until) = (0, Deadline::after(ms(1000)));
    scope(|scope| {
        for _ in 0..CALLERS {
            let provider = &provider;
            scope.spawn(move || {
                while !until.passed() {
                    let body = chat("m", false).into_bytes();
                    let fields = openai::parse_chat(&body).expect("good");
                    let call = Arc::new(CallOptions::new().call(body, fields, now()).expect("good"));
                    provider.attempt(&call, &"m".into(), &Progress::default(), None).result.expect("it is answered");
                }
            });
        }
        while !until.passed() {
            let vitals = provider.vitals(now());
            // One that has stood for a while was there before anybody was counted.
            if vitals.queue_head.is_some_and(|age| age >= ms(1)) {
                seen += 1;
                assert_eq!(vitals.idle, 0, "{vitals:?}");
            }
        }
    });
    assert!(seen > 100, "{seen}");
    end(provider);
}
