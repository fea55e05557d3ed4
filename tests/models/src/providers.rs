//! A whole provider on a transport of memory: submit, admission, lanes, worker, reply, sink, supervisor and halt, as they
//! ship; every attempt has exactly one outcome, and everything is given back.

use shuttle::rand::{Rng as _, thread_rng};
use shuttle::thread;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::Model;
use crate::config::{Breaker, Policy, Pools, Scope};
use crate::error::Code;
use crate::events::Events;
use crate::ids::RequestId;
use crate::model::{Call, Operation, Priority, Sink, SinkError, StreamEnd, StreamHead};
use crate::provider::{
    AttemptSettings, BreakerMode, BreakerState, Outcome, PoolSettings, Progress, Provider, Reached, Stock,
};
use crate::queue::ByteBudget;
use crate::recycle::Limits;
use crate::sync::{CancelReason, CancelToken, Threads};
use crate::time::{Deadline, now};
use crate::transport::{Body, Incoming, MemoryTransport};
use crate::wire::openai;

pub const MODELS: &[Model] = &[
    ("providers::a_job_has_one_answer_whoever_gets_there_first", 2400, answered),
    ("providers::a_stream_has_one_end_whoever_takes_its_sink", 10_000, streamed),
    ("providers::nobody_is_stranded_by_a_halt_at_any_moment", 60_000, halted),
    ("providers::a_late_reply_reaches_nobody_else", 2400, late),
    ("providers::a_workers_panic_is_one_answer_and_the_worker_is_replaced", 2400, panicking),
    ("providers::an_alert_stands_for_a_circuit_that_is_open_and_for_no_other", 2400, breaking),
];

/// A limit that never ends a wait, and one that may at any moment.
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(400);

/// What a provider answers: the words of the request's last message.
fn echo(body: &[u8]) -> Vec<u8> {
    let body: serde_json::Value = serde_json::from_slice(body).expect("JSON");
    let text = body["messages"][0]["content"].as_str().expect("text").to_owned();
    let message = serde_json::json!({ "role": "assistant", "content": text });
    serde_json::json!({ "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }] })
        .to_string()
        .into_bytes()
}

const EVENTS: [&str; 3] = [
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":null}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: [DONE]\n\n",
];

/// One worker, one place beside it, and a provider that takes a scheduler's moment to answer.
struct House {
    provider: Arc<Provider>,
    threads: Threads,
    stock: Stock,
    events: Events,
}

impl House {
    fn new(policy: Policy, wait_timeout: Duration) -> Self {
        Self::of(PoolSettings { policy, wait_timeout, ..PoolSettings::fixed("p", 1, 1) })
    }

    fn of(pool: PoolSettings) -> Self {
        let attempt = AttemptSettings::within(LONG);
        let transport = MemoryTransport::new(|request, _| {
            thread::yield_now();
            assert!(!request.body.windows(4).any(|bytes| bytes == b"boom"), "asked for by the model");
            let status = if request.body.windows(4).any(|bytes| bytes == b"down") { 503 } else { 200 };
            let streamed = request.body.windows(13).any(|bytes| bytes == b"\"stream\":true");
            let body = match streamed {
                true => Body::from_pieces(EVENTS.into_iter().map(|event| {
                    thread::yield_now();
                    Ok(event.as_bytes().to_vec())
                })),
                false => Body::from_bytes(echo(request.body)),
            };
            Ok(Incoming { status, headers: Vec::new(), body })
        });
        let limits = Limits { initial: 0, max_idle: 4, idle_max_age: LONG, alert_below: 0.0 };
        let stock = Stock::new(&Pools::alike(limits));
        let (threads, transport, bytes) = (Threads::new(64, 1 << 20), Arc::new(transport), ByteBudget::new(1 << 20));
        let (events, own) = (Events::new(), stock.clone());
        let told = events.clone();
        let provider = Provider::start(None, pool, attempt, transport, &threads, told, own, bytes, Duration::ZERO)
            .expect("there are threads");
        Self { provider: Arc::new(provider), threads, stock, events }
    }

    /// Makes one attempt on a thread of its own, perhaps cancelled at some moment.
    fn attempt(&self, text: &'static str, sink: Option<Box<dyn Sink>>, cancelled: bool) -> thread::JoinHandle<Outcome> {
        let provider = Arc::clone(&self.provider);
        let stream = sink.is_some();
        let body = format!(
            "{{\"model\":\"m\",\"stream\":{stream},\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}"
        );
        let body = body.into_bytes();
        let call = Arc::new(Call {
            request_id: RequestId::fresh(),
            operation: Operation::ChatCompletions,
            prefix: None,
            fields: openai::parse_chat(&body).expect("a request"),
            body: body.into(),
            headers: Vec::new(),
            scope: Scope::default(),
            key: None,
            trace: None,
            tags: Default::default(),
            priority: Priority::Interactive,
            arrived: now(),
            deadline: None,
            stream_recovery: None,
            cancel: CancelToken::new(),
        });
        if cancelled {
            let token = call.cancel.clone();
            thread::spawn(move || token.cancel());
        }
        thread::spawn(move || {
            let outcome = provider.attempt(&call, &Arc::from("m"), &Progress::default(), sink);
            if let Ok(Reached::Answer(answer, _)) = &outcome.result {
                let body = String::from_utf8_lossy(&answer.body);
                assert!(body.contains(text), "another request's answer: {body}");
            }
            outcome
        })
    }

    /// Ends everything and looks whether it adds up.
    fn end(&self) {
        halt(&self.provider);
        let stats = self.provider.stats();
        let (queue, jobs) = (&stats.queue, &stats.jobs);
        let timed_out = queue.timed_out_space_total + queue.timed_out_worker_total;
        let unserved = queue.dropped_total + queue.rejected_total + timed_out + queue.abandoned_total;
        assert_eq!(queue.submitted_total, queue.completed_total + unserved, "each submission ends once: {queue:?}");
        let served = jobs.succeeded_total + jobs.failed_total + jobs.timed_out_total + jobs.cancelled_total;
        assert_eq!(queue.completed_total, served, "each job ends once: {jobs:?}");
        assert_eq!((queue.depth, stats.workers.busy), (0, 0), "nothing is under way");
        let pools = self.stock.stats();
        for pool in [pools.reply_channel, pools.job, pools.response, pools.buffer] {
            assert_eq!(pool.live, pool.idle, "every object is back or gone: {pool:?}");
        }
        assert_eq!(self.threads.active(), 0, "every thread has ended: {:?}", self.threads.list());
    }
}

/// Ends the provider, whoever else does.
fn halt(provider: &Arc<Provider>) {
    for halt in Provider::halt_all(std::slice::from_ref(provider)) {
        let end = halt.join(Deadline::after(LONG));
        assert!(end.stragglers.is_empty(), "{end:?}");
    }
}

fn code(outcome: &Outcome) -> Option<Code> {
    outcome.result.as_ref().err().map(crate::Error::code)
}

/// Three attempts at a house of two places: one may time out, one is cancelled, whoever is answered is answered rightly.
fn answered() {
    let house = House::new(Policy::Block, if thread_rng().gen_bool(0.5) { SHORT } else { LONG });
    let attempts =
        [house.attempt("one", None, false), house.attempt("two", None, true), house.attempt("three", None, false)];
    for (attempt, cancelled) in attempts.into_iter().zip([false, true, false]) {
        let outcome = attempt.join().expect("no panic");
        match code(&outcome) {
            None | Some(Code::QueueTimeout) => {}
            Some(Code::ClientClosed) => assert!(cancelled),
            other => panic!("{other:?}"),
        }
    }
    house.end();
}

/// Every reply channel is used again, and a reply that nobody waits for any more reaches nobody.
fn late() {
    let house = House::new(Policy::Block, LONG);
    let first = house.attempt("first", None, true);
    let second = house.attempt("second", None, false);
    assert!(matches!(code(&first.join().expect("no panic")), None | Some(Code::ClientClosed)));
    let third = house.attempt("third", None, false);
    for attempt in [second, third] {
        assert!(matches!(attempt.join().expect("no panic").result, Ok(Reached::Answer(..))));
    }
    house.end();
}

/// A halt while requests are handed in: each is answered, and nothing is left over.
fn halted() {
    let house = House::new(Policy::Block, LONG);
    let attempts = ["one", "two", "three"].map(|text| house.attempt(text, None, false));
    let provider = Arc::clone(&house.provider);
    let halting = thread::spawn(move || halt(&provider));
    for attempt in attempts {
        let outcome = attempt.join().expect("no panic");
        assert!(matches!(code(&outcome), None | Some(Code::ShuttingDown)), "{outcome:?}");
    }
    halting.join().expect("no panic");
    house.end();
}

/// The only worker panics: its caller hears of it, and whoever waits behind is served by the next worker.
fn panicking() {
    let house = House::new(Policy::Block, LONG);
    let fatal = house.attempt("boom", None, false);
    let other = house.attempt("other", None, thread_rng().gen_bool(0.25));
    assert_eq!(code(&fatal.join().expect("no panic")), Some(Code::Internal));
    assert!(matches!(code(&other.join().expect("no panic")), None | Some(Code::ClientClosed)));
    house.end();
    assert_eq!(house.provider.stats().workers.panics_total, 1);
}

/// A sink that counts how often it was begun and finished.
#[derive(Clone, Default)]
struct Reader {
    begun: Arc<AtomicUsize>,
    finished: Arc<AtomicUsize>,
    complete: Arc<AtomicUsize>,
}

impl Sink for Reader {
    fn begin(&mut self, _: StreamHead) -> Result<(), SinkError> {
        assert_eq!(self.begun.fetch_add(1, Ordering::SeqCst), 0, "it was begun before");
        Ok(())
    }
    fn event(&mut self, _: &[u8]) -> Result<(), SinkError> {
        thread::yield_now();
        Ok(())
    }
    fn finish(self: Box<Self>, end: StreamEnd) {
        self.complete.fetch_add(usize::from(matches!(end, StreamEnd::Complete(_))), Ordering::SeqCst);
        self.finished.fetch_add(1, Ordering::SeqCst);
    }
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

/// A stream that is cancelled or timed out at some moment: either its waiter has the sink back unused, or its worker took
/// it, and then finishes it exactly once.
fn streamed() {
    let house = House::new(Policy::Block, if thread_rng().gen_bool(0.5) { SHORT } else { LONG });
    let count = thread_rng().gen_range(1..=2);
    let readers: Vec<_> = (0..count).map(|_| Reader::default()).collect();
    let attempts: Vec<_> =
        readers.iter().map(|reader| house.attempt("one", Some(Box::new(reader.clone())), true)).collect();
    let outcomes: Vec<_> = attempts.into_iter().map(|attempt| attempt.join().expect("no panic")).collect();
    house.end();
    for (outcome, reader) in outcomes.iter().zip(&readers) {
        let counts = [&reader.begun, &reader.finished].map(|count| count.load(Ordering::SeqCst));
        match &outcome.result {
            Ok(Reached::Streaming) => {
                assert!(outcome.sink.is_none(), "the sink is the worker's");
                assert_eq!(counts, [1, 1], "begun and finished once");
            }
            Err(error) => {
                assert!(outcome.sink.is_some(), "who is refused has its sink: {error:?}");
                assert_eq!(counts, [0, 0], "nobody used it");
            }
            Ok(Reached::Answer(answer, _)) => panic!("a whole answer to a stream: {answer:?}"),
        }
    }
}

/// Failures open a circuit while an operator closes and frees it: whoever tells last tells what is.
fn breaking() {
    let breaker = Breaker { consecutive_failures: 1, open_for: LONG, ..Breaker::default() };
    let house = House::of(PoolSettings { breaker, ..PoolSettings::fixed("p", 2, 2) });
    let failing = [house.attempt("down", None, false), house.attempt("down", None, false)];
    let provider = Arc::clone(&house.provider);
    let operator = thread::spawn(move || {
        [BreakerMode::Closed, BreakerMode::Auto, BreakerMode::Open, BreakerMode::Auto]
            .into_iter()
            .for_each(|mode| provider.set_breaker(mode));
    });
    for attempt in failing {
        let ended = code(&attempt.join().expect("no panic"));
        assert!(matches!(ended, Some(Code::UpstreamError | Code::CircuitOpen)), "{ended:?}");
    }
    operator.join().expect("no panic");
    let breaker = house.provider.stats().breaker;
    let alerts: Vec<_> = house.events.alerts().into_iter().map(|alert| alert.subject).collect();
    let of_model = breaker.models.get("m").is_some_and(|model| model.state != BreakerState::Closed);
    assert_eq!(alerts.contains(&"p/m".to_owned()), of_model, "{breaker:?}");
    assert_eq!(alerts.contains(&"p".to_owned()), breaker.state != BreakerState::Closed, "{breaker:?}");
    house.end();
}
