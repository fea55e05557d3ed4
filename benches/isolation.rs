//! Isolation: what one provider's trouble, and slow readers, do to the latency of those who have nothing to do with it.
//!
//! ```text
//! cargo bench --bench isolation                 ten rounds, about two minutes
//! cargo bench --bench isolation -- --quick      two short rounds: a look, not a result
//! ```
//! JSON goes to standard output, a table to standard error; exit code 1 if any of the measured requests failed.
//!
//! **Scenes.** `memory`: provider `a` hangs with every worker taken, its queue full, callers waiting for a place and others
//! being refused; a caller of provider `b` is timed, both on transports of memory. `http`: the same through the data plane
//! and the simulated provider's sockets. `readers`: 64 streams whose readers take a few bytes now and then; a caller of the
//! same provider is timed, through the data plane.
//!
//! **How to read it.** A round alternates short quiet and disturbed phases, the order turning from pair to pair, so that a
//! machine that grows busier or slower does so to both. A quiet phase starts as many threads as a disturbed one, which do
//! nothing, and both begin to count [`SETTLE`] later: what 29 new threads do to the kernel's idea of where a thread is best
//! woken made a p50 half as long again, with or without a gateway, for a tenth of a second. A round gives one p50 and one p99 of each kind; the ratio of two of
//! one round is one observation. The bound is the 95th percentile of the geometric mean of the ratios over resampled rounds
//! (paired bootstrap, seeded). Wanted: at most 1.10 for p50 and 1.25 for p99. Everything shares the same processors: with
//! others at work on the machine, the p99 is theirs.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the bench is a program of its own: it reads the clock, starts threads and prints"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::{Value, json};
use sluicegate::front::Front;
use sluicegate::gateway::CallOptions;
use sluicegate::model::Operation;
use sluicegate::sync::{CancelReason, CancelToken};
use sluicegate::time::Deadline;
use sluicegate::transport::{Body, Incoming, MemoryTransport, Outgoing, TransportError, TransportErrorKind};
use sluicegate::wire::openai::ChatRequest;
use sluicegate::{Config, Gateway};

/// Why the run ended: told as text, since nothing is decided by it.
type Error = Box<dyn std::error::Error>;

/// The hanging provider: its workers, its places beside them, and the callers past both.
const WORKERS: usize = 4;
const BUFFER: usize = 16;
const PAST: usize = 8;

/// Streams with a slow reader.
const READERS: usize = 64;

/// How long anything that must come is waited for.
const FUSE: Duration = Duration::from_secs(10);

/// How long a phase runs before it counts: the kernel's account of the threads that have just started has faded by then.
const SETTLE: Duration = Duration::from_millis(250);

/// The bounds that are wanted of p50 and p99.
const WANTED: [f64; 2] = [1.10, 1.25];

/// How often the rounds are resampled, and from what seed.
const RESAMPLES: usize = 10_000;
const SEED: u64 = 7;

/// Calls, each a request with its answer; `false` for one that failed.
type Caller<'a> = Box<dyn FnMut() -> bool + 'a>;

/// What is beside the caller during a phase, until it drops.
type Beside<'a> = Box<dyn Fn() -> Result<Box<dyn std::any::Any>, Error> + 'a>;

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    rounds: usize,
    /// Phases of each kind in a round.
    phases: usize,
    phase: Duration,
}

/// The latencies of one kind of phase in one round, in nanoseconds.
#[derive(Default)]
struct Sample(Vec<u64>);

impl Sample {
    /// p50 and p99.
    fn points(&mut self) -> [f64; 2] {
        self.0.sort_unstable();
        [0.50, 0.99].map(|q| {
            self.0
                .get(((self.0.len() as f64 * q) as usize).min(self.0.len().saturating_sub(1)))
                .map_or(f64::NAN, |ns| *ns as f64)
        })
    }
}

/// Measures one scene.
fn scene(name: &'static str, size: Size, mut call: Caller<'_>, beside: [Beside<'_>; 2]) -> Result<Value, Error> {
    let mut failed = 0u64;
    let mut measure = |sample: &mut Sample| {
        let settled = Instant::now() + SETTLE;
        while Instant::now() < settled {
            failed += u64::from(!call());
        }
        let until = Instant::now() + size.phase;
        while Instant::now() < until {
            let start = Instant::now();
            failed += u64::from(!call());
            sample.0.push(start.elapsed().as_nanos() as u64);
        }
    };
    measure(&mut Sample::default());
    let mut rounds = Vec::new();
    for round in 0..size.rounds {
        let mut samples = [Sample::default(), Sample::default()];
        for pair in 0..size.phases {
            let first = (round + pair) % 2;
            for kind in [first, 1 - first] {
                let held = beside[kind]()?;
                measure(&mut samples[kind]);
                drop(held);
            }
        }
        rounds.push(samples.each_mut().map(Sample::points));
    }
    let mut points = serde_json::Map::new();
    for (at, (point, wanted)) in ["p50", "p99"].into_iter().zip(WANTED).enumerate() {
        let ratios: Vec<f64> = rounds.iter().map(|[quiet, disturbed]| disturbed[at] / quiet[at]).collect();
        let micros = |kind: usize| median(rounds.iter().map(|kinds| kinds[kind][at] / 1000.0).collect());
        let (ratio, bound) = (mean(&ratios), upper_bound(&ratios));
        eprintln!(
            "{name:<8} {point}  quiet {:>8.1} µs  disturbed {:>8.1} µs  ratio {ratio:.3}  95 % bound {bound:.3}  wanted {wanted:.2}  {}",
            micros(0),
            micros(1),
            if bound <= wanted { "held" } else { "MISSED" }
        );
        points.insert(
            point.to_owned(),
            json!({ "quiet_us": micros(0), "disturbed_us": micros(1), "ratio": ratio, "bound_95": bound, "wanted": wanted,
                    "held": bound <= wanted, "ratios": ratios }),
        );
    }
    eprintln!("{name:<8} {failed} failed");
    Ok(json!({ "scene": name, "rounds": size.rounds, "failed": failed, "points": points }))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The geometric mean.
fn mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
}

/// The 95th percentile of the mean over rounds drawn with replacement.
fn upper_bound(ratios: &[f64]) -> f64 {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| mean(&ratios.iter().map(|_| ratios[random.usize(..ratios.len())]).collect::<Vec<_>>()))
        .collect();
    means.sort_by(f64::total_cmp);
    means[RESAMPLES * 95 / 100]
}

fn gateway(providers: Value, transports: Vec<(&str, MemoryTransport)>) -> Result<Gateway, Error> {
    let config = Config::from_json(&json!({ "providers": providers }).to_string(), &|_| None)?;
    let builder =
        transports.into_iter().fold(Gateway::builder(), |builder, (name, to)| builder.transport(name, Arc::new(to)));
    Ok(builder.config(config).build()?)
}

fn pool(concurrency: usize, buffer_size: usize) -> Value {
    json!({
        "kind": "sim",
        "concurrency_and_buffer_size": { "concurrency": concurrency, "min_concurrency": concurrency, "buffer_size": buffer_size },
        "queue": { "policy": "block", "wait_timeout": "60s" },
    })
}

/// Callers of the hanging provider; they are cancelled when this drops.
struct Hung {
    cancel: CancelToken,
    callers: Vec<JoinHandle<()>>,
}

/// Fills provider `a`: every worker and every place taken, further callers waiting, and one who is refused by a deadline of
/// its own again and again.
fn hang(gateway: &Gateway, model: &'static str) -> Result<Box<dyn std::any::Any>, Error> {
    let cancel = CancelToken::new();
    let start = |pause: Option<Duration>| {
        let (gateway, token) = (gateway.clone(), cancel.clone());
        thread::spawn(move || {
            let body = ChatRequest::new(model, "x").to_body(false);
            loop {
                let options = match pause {
                    None => CallOptions::new().cancel(token.clone()),
                    Some(pause) => CallOptions::new().deadline(pause),
                };
                let _ = gateway.with(&options).raw(Operation::ChatCompletions, body.clone());
                if pause.is_none() || token.is_cancelled() {
                    return;
                }
            }
        })
    };
    let mut callers: Vec<_> = (0..WORKERS + BUFFER + PAST).map(|_| start(None)).collect();
    let full = Instant::now() + FUSE;
    while stats(gateway, "a").is_none_or(|(busy, depth)| (busy, depth) != (WORKERS as u64, BUFFER as u64)) {
        if Instant::now() > full {
            return Err("the hanging provider does not fill up".into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    callers.push(start(Some(Duration::from_millis(20))));
    Ok(Box::new(Hung { cancel, callers }))
}

/// Threads that do nothing until this drops, as many as [`hang`] starts.
struct Bystanders {
    quit: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Bystanders {
    fn start() -> Result<Box<dyn std::any::Any>, Error> {
        let (quit, told) = bounded::<()>(0);
        let start = |told: &Receiver<()>| {
            let told = told.clone();
            thread::spawn(move || {
                let _ = told.recv();
            })
        };
        let threads = (0..=WORKERS + BUFFER + PAST).map(|_| start(&told)).collect();
        Ok(Box::new(Self { quit: Some(quit), threads }))
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        self.quit = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A provider's busy workers and waiting jobs.
fn stats(gateway: &Gateway, name: &str) -> Option<(u64, u64)> {
    let stats = serde_json::to_value(gateway.stats()).ok()?;
    let provider = &stats["providers"][name];
    Some((provider["workers"]["busy"].as_u64()?, provider["queue"]["depth"].as_u64()?))
}

impl Drop for Hung {
    fn drop(&mut self) {
        self.cancel.cancel();
        for caller in self.callers.drain(..) {
            let _ = caller.join();
        }
    }
}

const ANSWER: &str =
    "{\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"x\"},\"finish_reason\":\"stop\"}]}";

fn in_memory(size: Size) -> Result<Value, Error> {
    let never = MemoryTransport::new(|_: &Outgoing<'_>, control| {
        let _ = control.cancel.channel().recv_deadline(control.deadline.instant());
        Err(TransportError::new(TransportErrorKind::Cancelled(CancelReason::Caller), "the caller gave up"))
    });
    let at_once = MemoryTransport::new(|_: &Outgoing<'_>, _| {
        Ok(Incoming { status: 200, headers: Vec::new(), body: Body::from_bytes(ANSWER) })
    });
    let gateway = gateway(json!({ "a": pool(WORKERS, BUFFER), "b": pool(8, 64) }), vec![("a", never), ("b", at_once)])?;
    let call: Caller<'_> = Box::new(|| gateway.ask("b/x", "x").is_ok());
    scene("memory", size, call, [Box::new(Bystanders::start), Box::new(|| hang(&gateway, "a/x"))])
}

/// A client's connection to the data plane, kept alive.
struct Client {
    socket: BufReader<TcpStream>,
    request: Vec<u8>,
    line: String,
    body: Vec<u8>,
}

impl Client {
    fn new(addr: SocketAddr, model: &str) -> Result<Self, Error> {
        let socket = TcpStream::connect_timeout(&addr, FUSE)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(FUSE))?;
        Ok(Self {
            socket: BufReader::new(socket),
            request: request(model, false),
            line: String::new(),
            body: Vec::new(),
        })
    }

    /// One request and its whole answer; whether it was good.
    fn call(&mut self) -> Result<bool, Error> {
        self.socket.get_mut().write_all(&self.request)?;
        let (mut good, mut length) = (None, 0);
        loop {
            self.line.clear();
            self.socket.read_line(&mut self.line)?;
            let line = self.line.trim_end();
            if line.is_empty() {
                break;
            }
            good.get_or_insert(line.starts_with("HTTP/1.1 200"));
            if let Some((_, value)) =
                line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            {
                length = value.trim().parse()?;
            }
        }
        self.body.resize(length, 0);
        self.socket.read_exact(&mut self.body)?;
        Ok(good == Some(true) && length > 0)
    }
}

fn request(model: &str, stream: bool) -> Vec<u8> {
    let body =
        json!({ "model": model, "stream": stream, "messages": [{ "role": "user", "content": "x" }] }).to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n";
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn over_http(size: Size) -> Result<Value, Error> {
    let gateway = gateway(json!({ "a": pool(WORKERS, BUFFER), "b": pool(8, 64) }), Vec::new())?;
    let front = Front::start(&gateway, "127.0.0.1:0".parse()?)?;
    let mut client = Client::new(front.addr(), "b/echo")?;
    let call: Caller<'_> = Box::new(move || client.call().unwrap_or(false));
    let result = scene("http", size, call, [Box::new(Bystanders::start), Box::new(|| hang(&gateway, "a/hang"))]);
    front.shutdown(Deadline::after(FUSE));
    result
}

/// Streams that are read a few bytes at a time, until this drops.
struct Slow {
    quit: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What this process has used of the processors, in ticks of 10 ms: fields 14 and 15 of its line, counted behind its name.
fn ticks() -> Result<u64, Error> {
    let line = std::fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = line.rsplit_once(')').ok_or("no name")?;
    Ok(rest.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?)
}

fn slow_readers(addr: SocketAddr) -> Result<Box<dyn std::any::Any>, Error> {
    let mut sockets = Vec::new();
    for _ in 0..READERS {
        let socket = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None)?;
        // What it does not read is to press back, not to lie in its own buffer.
        socket.set_recv_buffer_size(4096)?;
        socket.connect_timeout(&addr.into(), FUSE)?;
        let mut socket = TcpStream::from(socket);
        socket.write_all(&request("s/lorem-200000", true))?;
        sockets.push(socket);
    }
    let (quit, told): (Sender<()>, Receiver<()>) = bounded(0);
    let thread = thread::spawn(move || {
        while told.recv_timeout(Duration::from_millis(50)).is_err_and(|error| error.is_timeout()) {
            for socket in &mut sockets {
                let _ = socket.read(&mut [0; 256]);
            }
        }
    });
    // Filling the kernel's buffers on their way is work, which is not what is asked about: it has to be over.
    let fuse = Instant::now() + 3 * FUSE;
    let mut before = ticks()?;
    loop {
        thread::sleep(Duration::from_millis(200));
        let now = ticks()?;
        if now - before <= 4 {
            break;
        }
        if Instant::now() > fuse {
            return Err("the slow readers' buffers do not fill up".into());
        }
        before = now;
    }
    Ok(Box::new(Slow { quit: Some(quit), thread: Some(thread) }))
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.quit = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn beside_readers(size: Size) -> Result<Value, Error> {
    let gateway = gateway(json!({ "s": pool(READERS + 8, 64) }), Vec::new())?;
    let front = Front::start(&gateway, "127.0.0.1:0".parse()?)?;
    let addr = front.addr();
    let mut client = Client::new(addr, "s/echo")?;
    let call: Caller<'_> = Box::new(move || client.call().unwrap_or(false));
    let disturb: Beside<'_> = Box::new(|| {
        let held = slow_readers(addr)?;
        match stats(&gateway, "s") {
            Some((busy, 0)) if busy >= READERS as u64 => Ok(held),
            other => Err(format!("{READERS} slow readers, but busy and waiting are {other:?}").into()),
        }
    });
    // Each disturbance takes its time to begin: fewer phases, as long in all.
    let size = Size { phases: 1, phase: size.phase * size.phases as u32, ..size };
    let result = scene("readers", size, call, [Box::new(|| Ok(Box::new(()))), disturb]);
    front.shutdown(Deadline::after(FUSE));
    result
}

fn main() -> ExitCode {
    let mut size = Size { rounds: 10, phases: 6, phase: Duration::from_millis(100) };
    let args: Vec<_> = std::env::args().skip(1).collect();
    // `cargo test --benches` starts every bench with no argument: that asks whether it builds.
    if args.is_empty() {
        return ExitCode::SUCCESS;
    }
    for arg in &args {
        match arg.as_str() {
            "--bench" => {}
            "--quick" => size = Size { rounds: 2, phases: 2, ..size },
            _ => {
                eprintln!("unknown option {arg}: see the head of benches/isolation.rs");
                return ExitCode::from(2);
            }
        }
    }
    let scenes: Result<Vec<_>, Error> =
        [in_memory, over_http, beside_readers].into_iter().map(|scene| scene(size)).collect();
    match scenes {
        Ok(scenes) => {
            let failed = scenes.iter().any(|scene| scene["failed"] != 0);
            println!("{}", json!({ "bench": "isolation", "seed": SEED, "scenes": scenes }));
            ExitCode::from(u8::from(failed))
        }
        Err(error) => {
            eprintln!("isolation: {error}");
            ExitCode::from(1)
        }
    }
}
