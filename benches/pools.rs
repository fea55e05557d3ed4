//! Object pools: what acquiring and giving back cost beside plain allocation, and a whole request with pooling and without.
//!
//! ```text
//! cargo bench --bench pools
//! ```
//! The first part runs each pool's objects through an idle set that holds them all, on one thread and on two that share the
//! pool. `acquire` and `give_back` are timed apart, over a batch of objects, and as a pair on one object that stays warm,
//! which is what a request does; `plain` makes and drops the same thing. The second part sends requests over loopback to two
//! gateways of this process with a provider in memory, one with its pools and one with `max_idle: 0` for all four, which is
//! off. They take turns round by round, so that both see the same machine, and are started anew for each: where the kernel
//! puts a gateway's threads makes more of a difference than all the pools for as long as they live. An allocator that counts says what a request
//! allocates; the client allocates nothing while it is timed.
//!
//! Prints JSON on standard output and tables on standard error.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of its own, with threads and a clock without the library around them"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluicegate::Gateway;
use sluicegate::config::Config;
use sluicegate::front::Front;
use sluicegate::provider::{Job, ReplyChannel};
use sluicegate::recycle::{JointPool, Limits, Pool, Recycle};
use sluicegate::time::Deadline;
use sluicegate::transport::{Body, Incoming, MemoryTransport};

/// Counts what is asked of the system's allocator.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

fn count(bytes: usize) {
    ALLOCATIONS.fetch_add(1, Relaxed);
    BYTES.fetch_add(bytes as u64, Relaxed);
}

// SAFETY: every call goes to `System` with the very arguments that it came with, and what `System` gives is returned as it
// is, so `System`'s own keeping of the contract is ours. Counting touches two atomics: it allocates nothing, so it cannot
// come back here, and it does not unwind.
#[expect(unsafe_code, reason = "an allocator is an unsafe trait; the proof stands above")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.saturating_sub(layout.size()));
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Objects of a batch: as many as stand idle.
const BATCH: usize = 64;

/// Batches, or as many pairs as there are objects in them, of one thread in one round.
const BATCHES: usize = 300;

/// Rounds of each measurement; the median counts.
const ROUNDS: usize = 11;

/// What a body in these measurements holds, in bytes.
const REQUEST_BYTES: usize = 2 << 10;
const ANSWER_BYTES: usize = 6 << 10;

/// Requests of one connection in one round of the whole path.
const REQUESTS: usize = 1500;

const MINUTE: Duration = Duration::from_secs(60);

fn limits() -> Limits {
    Limits { initial: BATCH * 2, max_idle: 4096, idle_max_age: MINUTE, alert_below: 0.0 }
}

/// One kind of object: how it is had of its pool, and how it is made without one.
trait Kind: Sync {
    type Held;
    const NAME: &'static str;
    fn acquire(&self) -> Self::Held;
    fn give_back(held: Self::Held);
    fn plain();
}

struct Channels(Pool<ReplyChannel>);

impl Kind for Channels {
    type Held = sluicegate::recycle::Lease<ReplyChannel>;
    const NAME: &'static str = "reply_channel";
    fn acquire(&self) -> Self::Held {
        self.0.acquire()
    }
    fn give_back(held: Self::Held) {
        held.give_back();
    }
    fn plain() {
        drop(black_box(ReplyChannel::make()));
    }
}

struct Jobs(JointPool<Job>);

impl Kind for Jobs {
    type Held = sluicegate::recycle::Joint<Job>;
    const NAME: &'static str = "job";
    fn acquire(&self) -> Self::Held {
        self.0.acquire(|_| ())
    }
    fn give_back(held: Self::Held) {
        drop(held);
    }
    fn plain() {
        drop(black_box(Arc::new(Job::make())));
    }
}

/// `response` and `buffer` are pools of the same kind.
struct Bodies(sluicegate::recycle::Buffers);

impl Kind for Bodies {
    type Held = sluicegate::recycle::Buffer;
    const NAME: &'static str = "response, buffer";
    fn acquire(&self) -> Self::Held {
        let mut buffer = self.0.buffer();
        buffer.reserve(REQUEST_BYTES);
        buffer
    }
    fn give_back(held: Self::Held) {
        drop(held);
    }
    fn plain() {
        drop(black_box(Vec::<u8>::with_capacity(REQUEST_BYTES)));
    }
}

/// Nanoseconds of one object each: acquiring, giving back, both of a warm one, and without a pool.
struct Costs {
    acquire: f64,
    give_back: f64,
    pair: f64,
    plain: f64,
}

fn costs<K: Kind>(kind: &K) -> Costs {
    let mut held = Vec::with_capacity(BATCH);
    let (mut acquire, mut give_back) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..BATCHES {
        let start = Instant::now();
        held.extend((0..BATCH).map(|_| kind.acquire()));
        let between = Instant::now();
        held.drain(..).for_each(K::give_back);
        acquire += between - start;
        give_back += between.elapsed();
    }
    let each = |total: Duration| total.as_secs_f64() * 1e9 / (BATCHES * BATCH) as f64;
    let start = Instant::now();
    (0..BATCHES * BATCH).for_each(|_| K::give_back(black_box(kind.acquire())));
    let pair = start.elapsed();
    let start = Instant::now();
    (0..BATCHES * BATCH).for_each(|_| K::plain());
    Costs { acquire: each(acquire), give_back: each(give_back), pair: each(pair), plain: each(start.elapsed()) }
}

/// The medians of a kind's costs on so many threads at once.
fn measured<K: Kind>(kind: &K, threads: usize) -> Value {
    let mut rounds = Vec::with_capacity(ROUNDS * threads);
    for _ in 0..ROUNDS {
        let barrier = Barrier::new(threads);
        thread::scope(|scope| {
            let runs: Vec<_> = (0..threads)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        costs(kind)
                    })
                })
                .collect();
            rounds.extend(runs.into_iter().filter_map(|run| run.join().ok()));
        });
    }
    let middle = |of: fn(&Costs) -> f64| round(median(rounds.iter().map(of).collect()));
    json!({
        "pool": K::NAME,
        "threads": threads,
        "acquire_ns": middle(|costs| costs.acquire),
        "give_back_ns": middle(|costs| costs.give_back),
        "pair_ns": middle(|costs| costs.pair),
        "plain_ns": middle(|costs| costs.plain),
    })
}

fn main() -> ExitCode {
    // `cargo test --benches` starts every bench without this.
    if !std::env::args().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    let (channels, jobs) = (Channels(Pool::new(limits())), Jobs(JointPool::new(limits())));
    let bodies = Bodies(Pool::new(limits()));
    let mut objects = Vec::new();
    for threads in [1, 2] {
        objects.extend([measured(&channels, threads), measured(&jobs, threads), measured(&bodies, threads)]);
    }
    eprintln!("{:<18} {:>7} {:>11} {:>13} {:>9} {:>9}", "ns each", "threads", "acquire", "give back", "pair", "plain");
    for row in &objects {
        let number = |key: &str| row[key].as_f64().unwrap_or(f64::NAN);
        eprintln!(
            "{:<18} {:>7} {:>11} {:>13} {:>9} {:>9}",
            row["pool"].as_str().unwrap_or_default(),
            number("threads"),
            number("acquire_ns"),
            number("give_back_ns"),
            number("pair_ns"),
            number("plain_ns"),
        );
    }
    match requests() {
        Ok(requests) => {
            println!("{}", json!({ "objects": objects, "requests": requests }));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A gateway behind a listener, with a provider in memory.
struct Side {
    gateway: Gateway,
    front: Front,
}

/// What a request came to in one round.
struct Round {
    rate: f64,
    allocations: f64,
    bytes: f64,
}

impl Side {
    fn start(pools: &Value) -> io::Result<Self> {
        let settings = json!({
            "providers": { "p": { "kind": "sim", "concurrency_and_buffer_size": { "concurrency": 10, "buffer_size": 100 } } },
            "pools": { "reply_channel": pools, "job": pools, "response": pools, "buffer": pools },
        });
        let config = Config::from_json(&settings.to_string(), &|_| None).map_err(io::Error::other)?;
        let answer =
            format!(r#"{{"choices":[{{"message":{{"content":"{}"}}}}]}}"#, "a".repeat(ANSWER_BYTES)).into_bytes();
        let transport = MemoryTransport::new(move |_, _| {
            let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
            Ok(Incoming { status: 200, headers, body: Body::from_bytes(answer.clone()) })
        });
        let gateway =
            Gateway::builder().config(config).transport("p", Arc::new(transport)).build().map_err(io::Error::other)?;
        let front = Front::start(&gateway, SocketAddr::from(([127, 0, 0, 1], 0))).map_err(io::Error::other)?;
        Ok(Self { gateway, front })
    }

    /// One round of so many connections.
    fn round(&self, connections: usize) -> io::Result<Round> {
        let (address, barrier) = (self.front.addr(), Barrier::new(connections + 1));
        let (took, allocations, bytes) = thread::scope(|scope| {
            let clients: Vec<_> = (0..connections)
                .map(|_| {
                    scope.spawn(|| {
                        let mut client = Client::new(address)?;
                        let warm = client.exchange();
                        barrier.wait();
                        warm?;
                        let done = (0..REQUESTS).try_for_each(|_| client.exchange());
                        barrier.wait();
                        done
                    })
                })
                .collect();
            barrier.wait();
            let (start, allocations, bytes) = (Instant::now(), ALLOCATIONS.load(Relaxed), BYTES.load(Relaxed));
            barrier.wait();
            let counted = (start.elapsed(), ALLOCATIONS.load(Relaxed) - allocations, BYTES.load(Relaxed) - bytes);
            clients.into_iter().try_for_each(|client| client.join().unwrap_or(Err(io::ErrorKind::Other.into())))?;
            io::Result::Ok(counted)
        })?;
        let requests = (connections * REQUESTS) as f64;
        let (rate, each) = (requests / took.as_secs_f64(), |count: u64| count as f64 / requests);
        Ok(Round { rate, allocations: each(allocations), bytes: each(bytes) })
    }

    fn stop(self) {
        self.front.shutdown(Deadline::after(Duration::from_secs(5)));
        self.gateway.shutdown(Duration::from_secs(5));
    }
}

/// A connection that sends one request over and over, from and into memory of its own.
struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Client {
    fn new(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let content = "q".repeat(REQUEST_BYTES);
        let body = format!(r#"{{"model":"p/m","messages":[{{"role":"user","content":"{content}"}}]}}"#);
        let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: b\r\ncontent-type: application/json\r\ncontent-length:";
        let request = format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes();
        Ok(Self { stream, request, answer: vec![0; ANSWER_BYTES * 2] })
    }

    fn exchange(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.request)?;
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.answer[filled..])?;
            filled += read;
            let answer = &self.answer[..filled];
            if read == 0 || !answer.starts_with(b"HTTP/1.1 200 "[..filled.min(13)].as_ref()) {
                return Err(io::Error::other("the gateway did not answer 200"));
            }
            // The answer is one object, and no other brace closes a line of its head.
            if answer.ends_with(b"\"}}]}") {
                return Ok(());
            }
        }
    }
}

/// The whole path with pooling and without, by turns.
fn requests() -> io::Result<Vec<Value>> {
    let settings = [("on", json!({})), ("off", json!({ "initial": 0, "max_idle": 0 }))];
    let mut results = Vec::new();
    for connections in [1, 4] {
        let mut rounds = [Vec::new(), Vec::new()];
        for turn in 0..ROUNDS * 2 {
            // Who comes first takes turns, too.
            let which = (turn + turn / 2) % 2;
            let side = Side::start(&settings[which].1)?;
            rounds[which].push(side.round(connections)?);
            side.stop();
        }
        for ((name, _), rounds) in settings.iter().zip(&rounds) {
            let middle = |of: fn(&Round) -> f64| round(median(rounds.iter().map(of).collect()));
            results.push(json!({
                "pooling": name,
                "connections": connections,
                "requests_per_s": middle(|round| round.rate),
                "allocations_per_request": middle(|round| round.allocations),
                "bytes_allocated_per_request": middle(|round| round.bytes),
            }));
        }
    }
    eprintln!(
        "\n{:<8} {:>11} {:>12} {:>16} {:>14}",
        "pooling", "connections", "requests/s", "allocations each", "bytes each"
    );
    for row in &results {
        let number = |key: &str| row[key].as_f64().unwrap_or(f64::NAN);
        eprintln!(
            "{:<8} {:>11} {:>12.0} {:>16.1} {:>14.0}",
            row["pooling"].as_str().unwrap_or_default(),
            number("connections"),
            number("requests_per_s"),
            number("allocations_per_request"),
            number("bytes_allocated_per_request"),
        );
    }
    Ok(results)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
