//! A thousand requests of every outcome against a process of its own: afterwards it holds what it held before.
//!
//! Descriptors, threads and memory belong to a whole process, so they can only be counted where nothing else runs.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

use super::process::{FUSE, Served, ask, chat, serve};
use crate::house::{number, unrest};

/// How often each outcome is provoked.
const EACH: usize = 26;

/// Clients that do so at a time.
const CLIENTS: usize = 12;

/// How long a client that does not read is there at most; it goes when it is cut.
const STALL: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// Every limit short, so that what ends by a limit ends soon, and everything idle goes soon.
const CONFIG: &str = r#"{
    "server": { "idle_timeout": "300ms", "header_timeout": "100ms", "body_timeout": "100ms", "write_timeout": "50ms",
                "max_body_bytes": 65536, "max_header_bytes": 4096, "max_connections": 200 },
    "threads": { "idle_timeout": "200ms", "health_interval": "50ms" },
    "providers": {
        "sim": { "concurrency_and_buffer_size": { "concurrency": 8, "buffer_size": 200 },
                 "network_config": { "default_request_timeout_in_seconds": "150ms", "first_token_timeout": "100ms",
                                     "stream_idle_timeout_in_seconds": "100ms", "stream_max_duration": "400ms",
                                     "idle_connection_timeout": "200ms", "max_retries": 0 } },
        "error": { "kind": "sim", "concurrency_and_buffer_size": { "concurrency": 1, "buffer_size": 1 },
                   "network_config": { "idle_connection_timeout": "200ms" }, "queue": { "policy": "error" } },
        "drop": { "kind": "sim", "concurrency_and_buffer_size": { "concurrency": 1, "buffer_size": 1 },
                  "network_config": { "idle_connection_timeout": "200ms" }, "queue": { "policy": "drop" } },
        "wait": { "kind": "sim", "concurrency_and_buffer_size": { "concurrency": 1, "buffer_size": 1 },
                  "network_config": { "idle_connection_timeout": "200ms" }, "queue": { "wait_timeout": "10ms" } },
        "slow": { "kind": "sim", "concurrency_and_buffer_size": { "concurrency": 12, "buffer_size": 12 },
                  "network_config": { "idle_connection_timeout": "200ms" } },
        "refused": { "kind": "openai", "keys": [{ "name": "k", "value": "x" }],
                     "concurrency_and_buffer_size": { "concurrency": 1, "buffer_size": 64 },
                     "network_config": { "base_url": "http://127.0.0.1:1", "max_retries": 0 } },
        "nowhere": { "kind": "openai", "keys": [{ "name": "k", "value": "x" }],
                     "concurrency_and_buffer_size": { "concurrency": 1, "buffer_size": 64 },
                     "network_config": { "base_url": "http://nowhere.invalid:9", "max_retries": 0 } }
    }
}"#;

/// What a client does.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Asks and reads the answer.
    Whole(&'static str),
    /// Asks for a stream and reads it.
    Stream(&'static str),
    /// Asks with a time limit of the request's own.
    Within(&'static str),
    /// Asks and leaves at once, or after the first bytes.
    Leave(&'static str, bool),
    /// Asks for a long stream and reads no more than its beginning.
    Stall(&'static str),
    /// Asks more often at once than there are places.
    Burst(&'static str),
    /// Sends these bytes, which are no good request, and reads whatever comes.
    Raw(&'static str),
}

/// Every outcome that the simulated provider and a client can bring about. The words of `sim` are the interface's.
const ACTS: &[Act] = &[
    Act::Whole("sim/echo"),
    Act::Whole("sim/lorem-200"),
    Act::Stream("sim/lorem-20"),
    Act::Stream("sim/lorem-5+no-done"),
    Act::Stream("sim/lorem-5+garbage-2"),
    Act::Whole("sim/fail-400"),
    Act::Whole("sim/fail-401"),
    Act::Whole("sim/fail-429"),
    Act::Stream("sim/fail-503"),
    Act::Whole("sim/error-in-200"),
    Act::Stream("sim/error-in-200"),
    Act::Whole("sim/reset"),
    Act::Stream("sim/lorem-20+cut-3"),
    Act::Whole("sim/lorem-20+cut-3"),
    Act::Stream("sim/lorem-20+stall-3"),
    Act::Whole("sim/hang"),
    Act::Stream("sim/ttft-1s"),
    Act::Stream("sim/lorem-1000+gap-10ms"),
    Act::Whole("sim/panic"),
    Act::Stream("sim/panic"),
    Act::Whole("sim/no-such-word"),
    Act::Within("sim/slow-1s"),
    Act::Leave("sim/slow-1s", false),
    Act::Leave("sim/lorem-1000+gap-5ms", true),
    Act::Stall("slow/lorem-300000"),
    Act::Burst("error/slow-50ms"),
    Act::Burst("drop/slow-50ms"),
    Act::Burst("wait/slow-50ms"),
    Act::Whole("refused/m"),
    Act::Whole("nowhere/m"),
    Act::Whole("nobody/m"),
    Act::Raw("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n{x}"),
    Act::Raw("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n"),
    Act::Raw("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{"),
    Act::Raw("GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n"),
    Act::Raw("GET /v1/chat/completions HTTP/1.1\r\nhost: x\r\n\r\n"),
    Act::Raw("GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n"),
    Act::Raw("GET /livez HTTP/1.1\r\nx-slow: "),
    Act::Raw("\0\0\0"),
];

impl Act {
    fn run(self, to: SocketAddr) {
        if let Self::Burst(model) = self {
            return std::thread::scope(|scope| {
                (0..4).for_each(|_| drop(scope.spawn(move || Self::Whole(model).run(to))))
            });
        }
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        if matches!(self, Self::Stall(_)) {
            // So that the kernel holds little for it, and it is slow soon.
            socket.set_recv_buffer_size(4096).expect("a socket");
        }
        socket.connect(&to.into()).expect("it listens");
        let mut socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(FUSE)).expect("a time-out");
        let text = match self {
            Self::Whole(model) | Self::Burst(model) => request("", &chat(model, false)),
            Self::Stream(model) | Self::Leave(model, true) | Self::Stall(model) => request("", &chat(model, true)),
            Self::Within(model) => request("x-sluicegate-timeout: 20ms\r\n", &chat(model, false)),
            Self::Leave(model, false) => request("", &chat(model, false)),
            Self::Raw(text) => text.to_owned(),
        };
        // What is refused early may be reset while it is still being sent.
        let _ = socket.write_all(text.as_bytes());
        match self {
            Self::Leave(_, begun) => {
                if begun {
                    let _ = socket.read(&mut [0; 64]);
                }
            }
            Self::Stall(_) => {
                let _ = socket.read(&mut [0; 64]);
                let cut = PollFlags::HUP | PollFlags::ERR | PollFlags::RDHUP;
                let _ = poll(&mut [PollFd::new(&socket, cut)], Some(&STALL));
            }
            Self::Whole(_) | Self::Burst(_) | Self::Stream(_) | Self::Within(_) => {
                let mut all = Vec::new();
                let _ = socket.read_to_end(&mut all);
                assert!(all.starts_with(b"HTTP/1.1 "), "{self:?}: {:?}", String::from_utf8_lossy(&all));
            }
            Self::Raw(_) => {
                let _ = socket.shutdown(Shutdown::Write);
                let _ = socket.read_to_end(&mut Vec::new());
            }
        }
    }
}

fn request(headers: &str, body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Everything that must be back where it was: threads by role without the passing ones, descriptors, things lent out.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    threads: Vec<String>,
    descriptors: u64,
}

fn stats(served: &Served) -> Value {
    body(&ask(served.admin, "GET", "/stats?fresh=1", "").1)
}

fn body(text: &str) -> Value {
    serde_json::from_str(text.split_once("\r\n\r\n").expect("a body").1).expect("JSON")
}

/// What is held, once it is at rest: the connection that asks is there each time.
fn held(served: &Served) -> Option<Held> {
    let stats = stats(served);
    if unrest(&stats).is_some() || number(&stats, "/connections/open") > 0 {
        return None;
    }
    let rows = body(&ask(served.admin, "GET", "/threads", "").1);
    let rows = rows["threads"].as_array().expect("rows");
    let passing = |name: &str| name.contains("-conn-") || name.contains("-worker-");
    let mut threads: Vec<_> = rows.iter().filter_map(|row| row["name"].as_str()).map(str::to_owned).collect();
    // The simulated provider's threads linger by an idle time of its own; workers are replaced under other names.
    let workers = threads.iter().filter(|name| name.contains("-worker-")).count();
    let clients = threads.iter().filter(|name| name.starts_with("http-conn-")).count();
    threads.retain(|name| !passing(name));
    threads.push(format!("{workers} workers, {clients} of clients"));
    threads.sort_unstable();
    Some(Held { threads, descriptors: number(&stats, "/process/open_fds") })
}

fn storm(served: &Served, rounds: usize) {
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let to = served.data;
            scope.spawn(move || {
                for nth in (client..ACTS.len() * rounds).step_by(CLIENTS) {
                    // A different order each round, so that each meets all the others.
                    ACTS[(nth * 7 + nth / ACTS.len()) % ACTS.len()].run(to);
                }
            });
        }
    });
}

#[test]
fn after_a_thousand_requests_of_every_outcome_nothing_is_left_of_them() {
    let served = serve(CONFIG);
    // Once each, so that everything is up that is started when first needed.
    storm(&served, 1);
    let rest = |what: &str| served.process.until(what, |_| held(&served));
    let settled = |what: &str, of: &dyn Fn(&Held) -> bool| {
        served.process.until(what, |_| held(&served).filter(|held| of(held)));
    };
    settled("the clients' threads retire", &|held| held.threads.iter().any(|line| line.ends_with("0 of clients")));
    let before = rest("the base");
    let memory = number(&stats(&served), "/process/rss_bytes");
    storm(&served, EACH);
    let since = number(&stats(&served), "/requests/received_total");
    assert!(since >= 1000, "{since} requests");
    settled("threads and descriptors are back at their base", &|held| {
        held.threads == before.threads && held.descriptors <= before.descriptors
    });
    let stats = stats(&served);
    let errors = stats["errors"].as_object().expect("an object");
    for code in [
        "invalid_request",
        "model_not_found",
        "upstream_error",
        "upstream_connect_error",
        "upstream_timeout",
        "first_token_timeout",
        "stream_cut",
        "stream_idle_timeout",
        "stream_too_long",
        "queue_full",
        "request_dropped",
        "queue_timeout",
        "client_closed",
        "client_too_slow",
        "internal",
    ] {
        assert!(errors.contains_key(code), "{code} never came: {errors:?}");
    }
    assert!(number(&stats, "/requests/succeeded_total") > 2 * EACH as u64, "{}", stats["requests"]);
    assert_eq!(number(&stats, "/threads/stuck"), 0);
    let after = number(&stats, "/process/rss_bytes");
    assert!(after < memory + (64 << 20), "{memory} bytes before, {after} after");
}
