//! What passes between client and provider, seen at the provider's own socket: the destination, the key and the headers
//! are the configuration's, whatever a client sends (P8).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};

use crossbeam_channel::{Receiver, bounded};
use serde_json::{Value, json};
use sluicegate::sync::{Role, Thread, Threads};
use sluicegate::time::Deadline;

use super::Station;
use crate::house::{CANARY, FUSE, House, chat, provider, reply};

/// A provider that writes down each request as it came, and answers it with `head` and a whole answer.
struct Recorder {
    addr: SocketAddr,
    seen: Receiver<String>,
    thread: Option<Thread>,
}

impl Recorder {
    fn answering(requests: usize, head: impl Into<String>) -> Self {
        let head = head.into();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let (tell, seen) = bounded(requests);
        let work = move || {
            for _ in 0..requests {
                let (mut socket, _) = listener.accept().expect("a connection");
                socket.set_read_timeout(Some(FUSE)).expect("connected");
                let mut text = String::new();
                while !is_whole(&text) {
                    let mut buffer = [0; 4096];
                    let n = socket.read(&mut buffer).expect("a request");
                    assert!(n > 0, "the request is whole");
                    text.push_str(std::str::from_utf8(&buffer[..n]).expect("text"));
                }
                tell.send(text).expect("the test waits");
                let body = reply("well");
                let answer = format!("{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
                socket.write_all(answer.as_bytes()).expect("it is read");
            }
        };
        let threads = Threads::new(8, 1 << 20);
        let thread = threads.spawn(Role::Conn, "recorder", work).expect("a thread");
        Self { addr, seen, thread: Some(thread) }
    }

    fn station(&self, server: Value, network: Value) -> Station {
        let mut settings = provider(json!({ "network_config": network }));
        settings["network_config"]["base_url"] = format!("http://{}", self.addr).into();
        Station::on(House::with(json!({ "server": server, "providers": { "p": settings } }), &[]))
    }

    /// The next request: its head's lines, sorted, and its body.
    fn next(&self) -> (Vec<String>, String) {
        let text = self.seen.recv_timeout(FUSE).expect("a request");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let mut lines: Vec<_> = head.lines().map(str::to_owned).collect();
        lines[1..].sort();
        (lines, body.to_owned())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            assert!(thread.join(Deadline::after(FUSE)).is_ok(), "every request came");
        }
    }
}

fn is_whole(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json";

/// What goes upstream when the client sends nothing that passes.
fn usual(upstream: SocketAddr, body: usize) -> Vec<String> {
    vec![
        "POST /v1/chat/completions HTTP/1.1".to_owned(),
        "accept-encoding: identity".to_owned(),
        "accept: application/json".to_owned(),
        format!("authorization: Bearer {CANARY}"),
        format!("content-length: {body}"),
        "content-type: application/json".to_owned(),
        format!("host: {upstream}"),
    ]
}

#[test]
fn nothing_that_a_client_sends_chooses_destination_key_or_header() {
    let upstream = Recorder::answering(1, OK);
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("a free port");
    elsewhere.set_nonblocking(true).expect("a socket");
    let there = elsewhere.local_addr().expect("bound");
    let station = upstream.station(json!({ "keys": ["gateway"] }), json!({}));
    // Fields of the body that other gateways take for orders go upstream unchanged, and do nothing here.
    let orders = json!({
        "model": "p/m", "messages": [], "api_base": format!("http://{there}"), "base_url": format!("http://{there}"),
        "api_key": "sk-own", "extra_headers": { "x-evil": "1", "authorization": "Bearer sk-own" }, "headers": { "x-evil": "1" },
        "extra_body": { "a": 1 }, "organization": "o", "custom_llm_provider": "evil", "provider": { "url": "x" },
        "network_config": { "base_url": format!("http://{there}") }, "timeout": 0, "proxy": format!("http://{there}"),
    })
    .to_string();
    let host = format!("X-Forwarded-Host: {there}");
    let answer = station
        .client()
        .chat(
            &[
                "Authorization: Bearer gateway",
                "x-api-key: gateway",
                "Cookie: a=b",
                &host,
                "X-Forwarded-For: 192.0.2.1",
                "X-Forwarded-Proto: https",
                "Forwarded: for=192.0.2.1;host=evil",
                "X-Real-IP: 192.0.2.1",
                "Via: 1.1 x",
                "Proxy-Authorization: Basic eA==",
                "Proxy-Connection: keep-alive",
                "Keep-Alive: timeout=5",
                "TE: trailers",
                "Upgrade: h2c",
                "Connection: keep-alive, upgrade",
                "Accept-Encoding: gzip, br",
                "Accept: text/html",
                "Content-Type: text/plain",
                "User-Agent: canary",
                "Origin: https://app.example",
                "Referer: https://app.example/",
                "Idempotency-Key: k",
                "X-Stainless-OS: Linux",
                "baggage: a=b",
                "x-request-id: own",
                "x-sluicegate-priority: batch",
                "x-base-url: http://evil.example",
                "x-portkey-custom-host: http://evil.example",
                "helicone-openai-api-base: http://evil.example",
            ],
            &orders,
        )
        .answer();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let (lines, body) = upstream.next();
    let unchanged = orders.replace("\"p/m\"", "\"m\"");
    assert_eq!(body, unchanged);
    assert_eq!(lines, usual(upstream.addr, unchanged.len()));
    assert!(elsewhere.accept().is_err(), "nobody was led elsewhere");
}

#[test]
fn what_sdks_need_passes_upstream_and_the_configuration_goes_before_it() {
    let upstream = Recorder::answering(2, OK);
    let own = json!({ "extra_headers": { "OpenAI-Organization": "org-own" } });
    let station = upstream.station(json!({}), own);
    let parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-";
    let passing = [
        "Anthropic-Beta: a-1,b-2",
        "anthropic-version: 2023-06-01",
        "OpenAI-Beta: assistants=v2",
        "OpenAI-Project: proj",
        "tracestate: a=b\tc",
        "X-Client-Request-Id: mine",
    ];
    let trace = format!("{parent}b7ad6b7169203331-01");
    let sent: Vec<_> = passing.iter().copied().chain(["OpenAI-Organization: org-client", &trace]).collect();
    assert_eq!(station.client().chat(&sent, &chat("p/m", false)).answer().status, 200);
    let (mut lines, body) = upstream.next();
    // A step of its own in the same trace.
    let step = lines.iter().position(|line| line.starts_with(parent) && *line != trace).expect("a trace");
    lines.remove(step);
    let lower = |line: &&str| line.split_once(": ").map(|(name, value)| format!("{}: {value}", name.to_lowercase()));
    let mut wanted = usual(upstream.addr, body.len());
    wanted.extend(passing.iter().filter_map(lower));
    wanted.push("openai-organization: org-own".to_owned());
    wanted[1..].sort();
    assert_eq!(lines, wanted);
    // What Connection names is for this connection alone.
    let bound = ["Connection: keep-alive, traceparent", "traceparent: 00-x", "openai-beta: b"];
    assert_eq!(station.client().chat(&bound, &chat("p/m", false)).answer().status, 200);
    let (lines, _) = upstream.next();
    assert!(lines.contains(&"openai-beta: b".to_owned()) && !lines.iter().any(|line| line.starts_with("traceparent")));
}

#[test]
fn limits_come_back_and_what_is_the_providers_own_stays_behind() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-ratelimit-remaining-requests: 9\r\n\
        OpenAI-Processing-MS: 12\r\nanthropic-ratelimit-tokens-limit: 5\r\nrequest-id: req_1\r\nset-cookie: a=b\r\n\
        server: x\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nx-request-id: theirs\r\nx-sluicegate-provider: evil\r\nlocation: http://evil.example\r\n\
        openai-organization: org-own\r\nkeep-alive: timeout=5\r\naccess-control-allow-origin: *\r\n\
        strict-transport-security: max-age=1";
    let upstream = Recorder::answering(1, head);
    let station = upstream.station(json!({}), json!({}));
    let answer = station.client().chat(&["x-request-id: ours"], &chat("p/m", false)).answer();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut names: Vec<_> =
        answer.head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(n, _)| n).collect();
    names.sort_unstable();
    let wanted = [
        "anthropic-ratelimit-tokens-limit",
        "content-length",
        "content-type",
        "date",
        "openai-processing-ms",
        "request-id",
        "x-ratelimit-remaining-requests",
        "x-request-id",
        "x-sluicegate-attempts",
        "x-sluicegate-fallbacks",
        "x-sluicegate-model",
        "x-sluicegate-overhead-us",
        "x-sluicegate-provider",
        "x-sluicegate-queue-us",
        "x-sluicegate-upstream-us",
    ];
    assert_eq!(names, wanted);
    assert_ne!(answer.header("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"), "the time is the gateway's own");
    assert_eq!((answer.header("x-request-id"), answer.header("x-sluicegate-provider")), (Some("ours"), Some("p")));
    upstream.next();
}

#[test]
fn a_redirect_is_followed_nowhere() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("a free port");
    elsewhere.set_nonblocking(true).expect("a socket");
    let target = elsewhere.local_addr().expect("bound");
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let head = format!("HTTP/1.1 {status}\r\nlocation: http://{target}/v1/chat/completions");
        let upstream = Recorder::answering(1, head);
        let station = upstream.station(json!({}), json!({}));
        let answer = station.client().chat(&[], &chat("p/m", false)).answer();
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_bad_response"), "{status}");
        assert!(answer.header("location").is_none() && !answer.text().contains(&target.to_string()));
        upstream.next();
    }
    assert!(elsewhere.accept().is_err(), "nobody went there");
}

/// No line of a client's can become two on the way up, nor one of a provider's on the way down.
#[test]
fn no_header_line_breaks_into_two() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    for (value, status) in [
        (&b"a\r\nauthorization: Bearer x"[..], 200),
        (b"a\nauthorization: Bearer x", 400),
        (b"a\rauthorization: Bearer x", 400),
        (b"a\0b", 400),
        (b"a\x0bb", 400),
        (b"a\x7fb", 400),
        (b"a\xc3\xa9b", 400),
        (b"a\xffb", 400),
    ] {
        let body = chat("p/m", false);
        let mut client = station.client();
        let head =
            format!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nopenai-beta: ", body.len());
        client.send([head.as_bytes(), value, b"\r\n\r\n", body.as_bytes()].concat());
        if status == 200 {
            // That is two lines as it is sent, and the second does not pass.
            let arrived = gate.next();
            let own: Vec<_> = arrived.headers.iter().filter(|(name, _)| name == "authorization").collect();
            assert_eq!(own, [&("authorization".to_owned(), format!("Bearer {CANARY}"))]);
            arrived.answer();
        }
        let answer = client.answer();
        assert_eq!(answer.status, status, "{value:?}: {}", answer.text());
    }
    assert!(gate.is_empty());
    let mut client = station.client();
    client.chat(&[], &chat("p/m", false));
    gate.next().respond(200, &[("x-ratelimit-a", "1\r\nset-cookie: a=b\0")], reply("well"));
    let answer = client.answer();
    assert_eq!((answer.header("x-ratelimit-a"), answer.header("set-cookie")), (Some("1  set-cookie: a=b "), None));
}
