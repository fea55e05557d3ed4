//! Vital signs of a provider: the age of the queue's head and the running job nearest to its limit, with their limits.

use std::sync::Arc;
use std::thread::scope;
use std::time::Duration;

use crossbeam_channel::bounded;
use sluicegate::config::{Policy, StreamGarbage};
use sluicegate::events::Events;
use sluicegate::gateway::CallOptions;
use sluicegate::ids::RequestId;
use sluicegate::provider::{AttemptSettings, PoolSettings, Provider};
use sluicegate::queue::ByteBudget;
use sluicegate::recycle;
use sluicegate::sync::{CancelReason, CancelToken, Threads};
use sluicegate::time::{Deadline, now};
use sluicegate::transport::{Body, Incoming, MemoryTransport};
use sluicegate::wire::openai;

use crate::house::{FUSE, chat, eventually, ms, reply};

#[test]
fn the_queues_head_and_the_job_nearest_its_limit_are_told_with_their_limits() {
    let (open, opened) = bounded::<()>(0);
    let transport = MemoryTransport::new(move |_, _| {
        let _ = opened.recv_timeout(FUSE);
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Ok(Incoming { status: 200, headers, body: Body::from_bytes(reply("well")) })
    });
    let pool = PoolSettings {
        name: "p".into(),
        concurrency: 1,
        buffer_size: 8,
        policy: Policy::Block,
        wait_timeout: ms(5000),
        batch_share: 0.0,
    };
    let minute = Duration::from_secs(60);
    let attempt = AttemptSettings {
        key: None,
        chat_path: "/chat".to_owned(),
        headers: Vec::new(),
        request_timeout: minute,
        connect_timeout: minute,
        first_token_timeout: minute,
        stream_idle_timeout: minute,
        stream_max_duration: minute,
        stream_garbage: StreamGarbage::Skip,
        early_keepalive: false,
    };
    let threads = Threads::new(64, 2 << 20);
    let (replies, bytes) = (recycle::Pool::new(0, 8), ByteBudget::new(1 << 20));
    let provider =
        Provider::start(pool, attempt, None, Arc::new(transport), &threads, Events::new(), replies, bytes, ms(0))
            .expect("it starts");
    let signs = |ahead: u64| provider.vital_signs(now() + ms(ahead));
    assert!(signs(0).queue_head.is_none() && signs(0).oldest_running.is_none());

    let ask = |id: &str, token: &CancelToken| {
        let body = chat("m", false).into_bytes();
        let fields = openai::parse_chat(&body).expect("good");
        let (request_id, cancel) = (RequestId::from_client(id), Some(token.clone()));
        let call = CallOptions { request_id, cancel, ..CallOptions::default() }.call(body, fields, now());
        provider.attempt(&Arc::new(call), &"m".into(), 1, None)
    };
    scope(|scope| {
        let (ask, stays, leaves) = (&ask, CancelToken::new(), CancelToken::new());
        let running = scope.spawn({
            let stays = stays.clone();
            move || ask("running", &stays)
        });
        eventually("it runs", || signs(0).oldest_running.is_some());
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
        let job = ahead.oldest_running.expect("one runs");
        assert_eq!((job.worker.as_str(), job.request_id.as_str(), job.limit), ("p-worker-1", "running", minute));
        assert!(job.age >= ms(3000));

        // Who has left leaves a shell; past the time that anybody waits it counts no more, but for who stays.
        leaves.cancel(CancelReason::Caller);
        assert!(first.join().expect("no panic").result.is_err());
        let late = signs(6000).queue_head.expect("one waits still");
        assert!(late <= ms(6000) + before.elapsed(), "{late:?} is the age of a shell");
        drop(open);
        assert!(running.join().expect("no panic").result.is_ok());
        assert!(second.join().expect("no panic").result.is_ok());
    });
    // A worker tidies up after it has answered.
    eventually("nobody runs or waits", || signs(0).queue_head.is_none() && signs(0).oldest_running.is_none());
    assert!(provider.halt().join(Deadline::after(FUSE)).stragglers.is_empty());
}
