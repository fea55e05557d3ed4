//! Floods, stalls and shortages against a gateway of its own process: what each sends, what must come of it, and what the
//! gateway holds before, meanwhile and afterwards.
//!
//! The tests run these at a small size, `make attacks` at full size. After each attack the gateway must serve within a
//! second, and hold no more threads and descriptors than before within `threads.idle_timeout`, nor much more memory.

mod floods;
mod gateway;
mod shortages;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::time::{Deadline, now};

use gateway::{Gateway, Usage};

/// Why an attack could not be run, or what was wrong with its answers: told as text, since nothing is decided by it.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long anything that must come is waited for.
pub(crate) const FUSE: Duration = Duration::from_secs(60);

/// How soon a gateway must serve again.
const SERVING: Duration = Duration::from_secs(1);

/// How long it may take, beyond the idle time of threads, until everything is back: a connection that is being closed is
/// given two seconds to hear of it.
const CLOSING: Duration = Duration::from_secs(2);

/// How much more memory may be held afterwards, in KiB: what the allocator keeps for the next flood.
const KEPT_KIB: u64 = 48 << 10;

/// How large an attack is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Connections that only stand there.
    pub(crate) idle: usize,
    /// Connections that are slow, or refused.
    pub(crate) slow: usize,
    /// Requests on one connection.
    pub(crate) pipelined: usize,
    /// The limits for heads, bodies and writes.
    pub(crate) limit: Duration,
    /// How long threads stay without work.
    pub(crate) thread_idle: Duration,
    /// How many times longer than promised a time may be.
    pub(crate) slack: u32,
}

/// An attack.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// Changes of the configuration.
    config: fn(&mut Value),
    /// The most descriptors of the process.
    descriptors: Option<u32>,
    /// Attacks; says what was sent and what was answered.
    run: fn(&Gateway, &Size) -> Result<[String; 2], Error>,
}

/// What came of an attack.
pub(crate) struct Outcome {
    sent: String,
    answer: String,
    base: Usage,
    peak: Usage,
    after: Usage,
    serving: Duration,
    back: Duration,
    /// The promises that were broken.
    pub(crate) broken: Vec<String>,
}

impl Outcome {
    /// The table's row.
    pub(crate) fn row(&self, name: &str) -> String {
        let Self { sent, answer, base, peak, after, serving, back, .. } = self;
        let held = |of: fn(&Usage) -> u64| format!("{}/{}/{}", of(base), of(peak), of(after));
        format!(
            "| {name} | {sent} | {answer} | {} | {} | {} | {} ms | {} ms |",
            held(|usage| usage.threads),
            held(|usage| usage.descriptors),
            held(|usage| usage.rss_kib >> 10),
            serving.as_millis(),
            back.as_millis(),
        )
    }
}

fn usual(_: &mut Value) {}

/// Every attack.
pub(crate) const ATTACKS: [Attack; 14] = [
    Attack { name: "slow heads", config: usual, descriptors: None, run: floods::slow_heads },
    Attack { name: "dripped heads", config: usual, descriptors: None, run: floods::dripped_heads },
    Attack { name: "slow bodies", config: usual, descriptors: None, run: floods::slow_bodies },
    Attack { name: "unread streams", config: usual, descriptors: None, run: floods::unread_streams },
    Attack { name: "unread answers", config: usual, descriptors: None, run: floods::unread_answers },
    Attack { name: "idle connections", config: usual, descriptors: None, run: floods::idle },
    Attack { name: "all at once", config: usual, descriptors: None, run: floods::at_once },
    Attack { name: "resets before accept", config: usual, descriptors: None, run: floods::resets },
    Attack { name: "gigabytes announced", config: usual, descriptors: None, run: floods::gigabytes },
    Attack { name: "endless chunks", config: usual, descriptors: None, run: floods::endless_chunks },
    Attack { name: "pipelined", config: usual, descriptors: None, run: floods::pipelined },
    Attack { name: "slots", config: shortages::few_slots, descriptors: None, run: shortages::slots },
    Attack { name: "descriptors", config: usual, descriptors: Some(64), run: shortages::descriptors },
    Attack { name: "threads", config: shortages::few_threads, descriptors: None, run: shortages::threads },
];

/// Runs an attack against a gateway of its own.
pub(crate) fn run(attack: &Attack, program: &Path, size: &Size) -> Result<Outcome, Error> {
    let ms = |time: Duration| format!("{}ms", time.as_millis());
    let mut config = json!({
        "server": { "header_timeout": ms(size.limit), "body_timeout": ms(size.limit), "write_timeout": ms(size.limit),
                    "max_connections": 12_000 },
        "threads": { "idle_timeout": ms(size.thread_idle) },
        "providers": { "sim": {
            "concurrency_and_buffer_size": { "concurrency": 16, "min_concurrency": 16, "buffer_size": 500 },
            "network_config": { "idle_connection_timeout": "200ms" },
            "queue": { "wait_timeout": "60s" },
        } },
    });
    (attack.config)(&mut config);
    let gateway = Gateway::start(program, &config, attack.descriptors)?;
    if !gateway.serves() {
        return Err("it does not serve before the attack".into());
    }
    let base = gateway.settled(size.thread_idle + size.thread_idle / 4 + Duration::from_millis(100))?;
    let (told, peak) = gateway.watched(|| (attack.run)(&gateway, size))?;
    let relieved = now();
    let [sent, answer] = told?;
    let mut broken = Vec::new();
    let fuse = Deadline::after(FUSE);
    while !gateway.serves() && !fuse.passed() {
        gateway::pause(Duration::from_millis(10));
    }
    let serving = now() - relieved;
    if serving > SERVING * size.slack {
        broken.push(format!("it served again after {serving:?}"));
    }
    let asked = now();
    let is_back = |usage: Usage| usage.threads <= base.threads && usage.descriptors <= base.descriptors;
    let mut after = gateway.usage()?;
    while !is_back(after) && !fuse.passed() {
        gateway::pause(Duration::from_millis(10));
        after = gateway.usage()?;
    }
    let back = now() - asked;
    if back > (size.thread_idle + CLOSING) * size.slack {
        broken.push(format!("from {after:?} it was not back at {base:?} within {back:?}"));
    }
    if after.rss_kib > base.rss_kib + KEPT_KIB {
        broken.push(format!("it held {} KiB before, and {} KiB afterwards", base.rss_kib, after.rss_kib));
    }
    Ok(Outcome { sent, answer, base, peak, after, serving, back, broken })
}
