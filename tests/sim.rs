//! The simulated provider over real sockets: every word, streamed and not, and what it shows of what it saw.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluicegate::http::Watcher;
use sluicegate::model::{BodyFields, Operation};
use sluicegate::sim::Sim;
use sluicegate::sync::Threads;
use sluicegate::time::{Deadline, now};
use sluicegate::wire::openai::{EventStream, Step};
use sluicegate::wire::sse::Decoder;

/// How long anything may take before a test gives up.
const FUSE: Duration = Duration::from_secs(5);

struct Rig {
    sim: Option<Sim>,
    addr: SocketAddr,
    threads: Threads,
}

impl Rig {
    fn start() -> Self {
        let threads = Threads::new(256, 256 * 1024);
        let watcher = Watcher::start(&threads).expect("a watcher");
        let sim = Sim::start("127.0.0.1:0".parse().expect("an address"), threads.clone(), watcher).expect("it starts");
        Self { addr: sim.addr(), sim: Some(sim), threads }
    }

    fn stats(&self) -> Value {
        self.sim.as_ref().expect("it runs").stats()
    }

    /// Waits until `reached` says so of the figures.
    fn poll(&self, what: &str, reached: impl Fn(&Value) -> bool) {
        poll(what, || reached(&self.stats()));
    }

    fn connect(&self) -> Client {
        Client::new(self.addr)
    }

    fn chat(&self, model: &str, stream: bool) -> Answer {
        self.connect().ask("/v1/chat/completions", &chat(model, stream))
    }

    fn get(&self, path: &str) -> Answer {
        let mut client = self.connect();
        client.send("GET", path, b"");
        client.receive()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let stragglers = self.sim.take().map(|sim| sim.shutdown(Deadline::after(FUSE))).unwrap_or_default();
        assert!(stragglers.is_empty(), "{stragglers:?}");
        poll("every connection thread ends", || self.threads.list().iter().all(|row| !row.name.starts_with("sim-")));
    }
}

fn poll(what: &str, reached: impl Fn() -> bool) {
    let fuse = now() + FUSE;
    while !reached() {
        assert!(now() < fuse, "not within {FUSE:?}: {what}");
        std::thread::yield_now();
    }
}

fn chat(model: &str, stream: bool) -> String {
    let tool = json!({"type": "function", "function": {"name": "look", "parameters": {"type": "object",
        "properties": {"city": {"type": "string"}}}}});
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "one two"}], "tools": [tool]})
        .to_string()
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// As its framing says.
    Whole,
    /// Before that.
    Cut,
    /// By a reset.
    Reset,
}

#[derive(Debug)]
struct Answer {
    /// 0 if none came.
    status: u16,
    head: String,
    body: Vec<u8>,
    end: End,
    /// When the head was there.
    head_at: Instant,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// What the gateway would make of the stream: one letter an event, and whether it is complete.
    fn judged(&self) -> (String, bool) {
        let fields = BodyFields { include_usage: true, ..BodyFields::default() };
        let judge = EventStream::new(&Operation::ChatCompletions, &fields);
        let (mut decoder, mut stream, mut letters) = (Decoder::new(1 << 20), judge, String::new());
        decoder.push(&self.body);
        while let Some(event) = decoder.next() {
            letters.push(match stream.next(&event.expect("short")) {
                Step::Forward { first_content: true } => 'f',
                Step::Forward { .. } => '.',
                Step::Done => 'D',
                Step::Garbage => 'g',
                Step::Error(_) => 'E',
                other => panic!("{other:?}"),
            });
        }
        (letters, stream.is_complete())
    }

    /// The text of a stream's tokens.
    fn streamed_text(&self) -> String {
        let chunks = self.text().lines().filter_map(|line| line.strip_prefix("data: "));
        let chunks = chunks.filter_map(|data| serde_json::from_str::<Value>(data).ok());
        chunks.filter_map(|chunk| chunk.pointer("/choices/0/delta/content")?.as_str().map(str::to_owned)).collect()
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn new(addr: SocketAddr) -> Self {
        let socket = TcpStream::connect(addr).expect("it listens");
        socket.set_read_timeout(Some(FUSE)).expect("a socket");
        socket.set_nodelay(true).expect("a socket");
        Self(BufReader::new(socket))
    }

    fn send(&mut self, method: &str, path: &str, body: &[u8]) {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: sim\r\nAuthorization: Bearer sk-secret\r\nContent-Length: {length}\r\n\r\n"
        );
        self.0.get_mut().write_all(&[head.as_bytes(), body].concat()).expect("it is read");
    }

    fn ask(&mut self, path: &str, body: &str) -> Answer {
        self.send("POST", path, body.as_bytes());
        self.receive()
    }

    /// Reads one answer, to wherever it ends.
    fn receive(&mut self) -> Answer {
        let mut answer = Answer { status: 0, head: String::new(), body: Vec::new(), end: End::Whole, head_at: now() };
        if let Err(error) = self.read_answer(&mut answer) {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "no answer within {FUSE:?}: {answer:?}");
            answer.end = if error.kind() == ErrorKind::ConnectionReset { End::Reset } else { End::Cut };
        }
        answer
    }

    fn read_answer(&mut self, answer: &mut Answer) -> std::io::Result<()> {
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                break;
            }
            answer.head.push_str(&(line + "\n"));
        }
        answer.head_at = now();
        answer.status = answer.head[9..12].parse().expect("a status");
        if let Some(length) = answer.header("content-length") {
            let length = length.parse().expect("a length");
            let read = (&mut self.0).take(length).read_to_end(&mut answer.body)?;
            return if read as u64 == length { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) };
        }
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        loop {
            let size = usize::from_str_radix(&self.read_line()?, 16).expect("a chunk's size");
            let mut chunk = vec![0; size + 2];
            self.0.read_exact(&mut chunk)?;
            if size == 0 {
                return Ok(());
            }
            answer.body.extend_from_slice(&chunk[..size]);
        }
    }

    fn read_line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}

#[test]
fn words_that_give_a_whole_answer_give_it_whole_and_streamed() {
    let rig = Rig::start();
    for (model, text, events) in [
        ("echo", "one two", ".f..D"),
        ("lorem-3", "lorem ipsum dolor", ".f...D"),
        ("lorem-0", "", "..D"),
        ("json", r#"{"answer":"one two","words":2}"#, ".f..D"),
        ("echo+slow-2ms", "one two", ".f..D"),
        ("echo+ttft-2ms", "one two", ".f..D"),
        ("echo+gap-2ms", "one two", ".f..D"),
        ("flaky-0", "one two", ".f..D"),
        ("down-0s", "one two", ".f..D"),
        ("no-done", "one two", ".f.."),
    ] {
        let whole = rig.chat(model, false);
        assert_eq!((whole.status, whole.end), (200, End::Whole), "{model}");
        assert_eq!(whole.json()["choices"][0]["message"]["content"], text, "{model}");
        let stream = rig.chat(model, true);
        assert_eq!((stream.status, stream.end), (200, End::Whole), "{model}");
        assert_eq!(stream.judged(), (events.to_owned(), true), "{model}");
        assert_eq!(stream.streamed_text(), text, "{model}");
        assert_eq!(stream.header("content-type"), Some("text/event-stream; charset=utf-8"));
    }
}

#[test]
fn a_tool_is_called_whole_and_streamed() {
    let rig = Rig::start();
    let call = rig.chat("tool", false).json()["choices"][0]["message"]["tool_calls"][0]["function"].clone();
    assert_eq!(call, json!({"name": "look", "arguments": r#"{"city":"sim"}"#}));
    let stream = rig.chat("tool", true);
    assert_eq!(stream.judged(), ("f...D".to_owned(), true));
    let refused = rig.connect().ask("/v1/chat/completions", r#"{"model":"tool","messages":[]}"#);
    assert_eq!((refused.status, refused.json()["error"]["param"].as_str()), (400, Some("tools")));
}

#[test]
fn words_that_fail_answer_with_an_error_each_time_or_once() {
    let rig = Rig::start();
    for (model, first, second) in [
        ("fail-500", 500, 500),
        ("fail-529", 529, 529),
        ("fail-400-once", 400, 200),
        ("fail-429-after-1500ms", 429, 200),
        ("flaky-100", 503, 503),
        ("down-1m", 503, 503),
    ] {
        for stream in [false, true] {
            let model = format!("{model}+lorem-{}", u8::from(stream));
            let answers = [rig.chat(&model, stream), rig.chat(&model, stream)];
            assert_eq!(answers.each_ref().map(|answer| answer.status), [first, second], "{model}");
            assert_eq!(answers[0].json()["error"]["param"], Value::Null);
            let retry_after = (answers[0].header("retry-after"), answers[0].header("retry-after-ms"));
            assert_eq!(retry_after == (Some("2"), Some("1500")), first == 429, "{retry_after:?}");
        }
    }
}

#[test]
fn an_unknown_word_is_a_404_that_lists_the_known_ones() {
    let rig = Rig::start();
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let answer = rig.connect().ask(path, &chat("echo+wat", false));
        assert_eq!(answer.status, 404);
        let message = answer.json()["error"]["message"].as_str().expect("words").to_owned();
        assert!(message.contains("'wat'") && message.contains("fail-429-after-D"), "{message}");
    }
    assert_eq!(rig.chat("gpt-4o", false).json()["error"]["code"], "model_not_found");
}

#[test]
fn a_reset_is_a_reset_and_once_means_once() {
    let rig = Rig::start();
    for stream in [false, true] {
        let answer = rig.chat("reset", stream);
        assert_eq!((answer.status, answer.end), (0, End::Reset));
        let model = format!("reset-once+lorem-{}", u8::from(stream));
        assert_eq!(rig.chat(&model, stream).end, End::Reset);
        assert_eq!(rig.chat(&model, stream).status, 200);
    }
}

#[test]
fn a_cut_comes_after_its_tokens_and_is_never_a_complete_answer() {
    let rig = Rig::start();
    for (model, events) in
        [("lorem-5+cut-0", ""), ("lorem-5+cut-1", ".f"), ("lorem-5+cut-3", ".f.."), ("lorem-5+cut-9", ".f....")]
    {
        let stream = rig.chat(model, true);
        assert_eq!((stream.status, stream.end), (200, End::Cut), "{model}");
        assert_eq!(stream.judged(), (events.to_owned(), false), "{model}");
        let whole = rig.chat(model, false);
        assert_eq!((whole.status, whole.end), (200, End::Cut), "{model}");
        assert!(!whole.body.is_empty() && serde_json::from_slice::<Value>(&whole.body).is_err());
    }
}

#[test]
fn garbage_is_one_event_more_and_no_token_less() {
    let rig = Rig::start();
    for (model, events) in
        [("lorem-2+garbage-1", "g.f..D"), ("lorem-2+garbage-3", ".fg..D"), ("lorem-2+garbage-5", ".f..gD")]
    {
        let stream = rig.chat(model, true);
        assert_eq!((stream.judged(), stream.end), ((events.to_owned(), true), End::Whole), "{model}");
        assert_eq!(stream.streamed_text(), "lorem ipsum");
        let whole = rig.chat(model, false);
        assert_eq!(whole.end, End::Whole);
        assert!(serde_json::from_slice::<Value>(&whole.body).is_err());
    }
}

#[test]
fn an_error_inside_a_200_is_an_object_or_an_event() {
    let rig = Rig::start();
    let whole = rig.chat("error-in-200", false);
    assert_eq!((whole.status, whole.json()["error"]["type"].as_str()), (200, Some("server_error")));
    let stream = rig.chat("error-in-200", true);
    assert_eq!((stream.status, stream.judged(), stream.end), (200, ("E".to_owned(), false), End::Whole));
}

#[test]
#[cfg(debug_assertions)]
fn panic_marks_its_answer() {
    let rig = Rig::start();
    for stream in [false, true] {
        let answer = rig.chat("panic", stream);
        assert_eq!((answer.status, answer.header("x-sluicegate-sim")), (200, Some("panic")));
    }
}

#[test]
fn waits_take_their_time_and_the_head_comes_when_it_should() {
    let rig = Rig::start();
    let ms = Duration::from_millis;
    for (model, stream, head_after, whole_after) in [
        ("echo+slow-60ms", false, ms(60), ms(60)),
        ("echo+slow-60ms", true, ms(60), ms(60)),
        ("fail-500+slow-60ms", true, ms(60), ms(60)),
        ("echo+ttft-60ms", false, ms(60), ms(60)),
        ("echo+ttft-200ms", true, ms(0), ms(200)),
        ("lorem-4+gap-20ms", false, ms(60), ms(60)),
        ("lorem-4+gap-70ms", true, ms(0), ms(210)),
    ] {
        let start = now();
        let answer = rig.chat(model, stream);
        let (head, whole) = (answer.head_at - start, start.elapsed());
        assert!(head >= head_after && whole >= whole_after, "{model}: {head:?}, {whole:?}");
        assert!(head_after > ms(0) || head + ms(20) < whole, "{model}: the head came only after {head:?}");
    }
}

#[test]
fn down_ends_by_itself() {
    let rig = Rig::start();
    let start = now();
    assert_eq!(rig.chat("down-100ms", false).status, 503);
    poll("up again", || rig.chat("down-100ms", false).status == 200);
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[test]
fn a_peer_that_leaves_ends_every_wait_at_once() {
    let rig = Rig::start();
    let models = ["hang", "echo+slow-1h", "lorem-3+stall-1", "lorem-3+gap-1h", "echo+ttft-1h", "lorem-3+stall-0"];
    for (left, (model, stream)) in models.into_iter().flat_map(|model| [(model, false), (model, true)]).enumerate() {
        let mut client = rig.connect();
        client.send("POST", "/v1/chat/completions", chat(model, stream).as_bytes());
        rig.poll("it runs", |stats| stats["in_flight"] == 1);
        drop(client);
        let start = now();
        rig.poll(model, |stats| stats["in_flight"] == 0);
        assert!(start.elapsed() < Duration::from_millis(500), "{model}: {:?}", start.elapsed());
        assert_eq!(rig.stats()["aborted_by_peer"], left + 1, "{model}");
    }
    assert_eq!(rig.stats()["models"]["hang"]["aborted_by_peer"], 2);
}

#[test]
fn a_stall_says_its_tokens_first() {
    let rig = Rig::start();
    let mut client = rig.connect();
    client.send("POST", "/v1/chat/completions", chat("lorem-5+stall-2", true).as_bytes());
    let mut seen = String::new();
    while !seen.contains("ipsum") {
        seen = seen + &client.read_line().expect("it comes") + "\n";
    }
    client.0.get_ref().set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
    client.read_line().expect("the event's blank line");
    let _ = client.read_line();
    assert_eq!(client.read_line().expect_err("silence").kind(), ErrorKind::WouldBlock);
    assert!(!seen.contains("dolor"));
}

#[test]
fn shutting_down_ends_every_wait() {
    let mut rig = Rig::start();
    let mut clients: Vec<_> = ["hang", "echo+slow-1h", "lorem-3+stall-1", "lorem-3+gap-1h"]
        .into_iter()
        .map(|model| {
            let mut client = rig.connect();
            client.send("POST", "/v1/chat/completions", chat(model, true).as_bytes());
            client
        })
        .collect();
    rig.poll("they run", |stats| stats["in_flight"] == 4);
    let start = now();
    assert!(rig.sim.take().expect("it runs").shutdown(Deadline::after(FUSE)).is_empty());
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    for client in &mut clients {
        assert_ne!(client.receive().end, End::Whole);
    }
}

#[test]
fn usage_is_said_as_asked_for() {
    let rig = Rig::start();
    let body = json!({"model": "echo", "stream": true, "stream_options": {"include_usage": true},
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "one two three"}]});
    let answer = rig.connect().ask("/v1/chat/completions", &body.to_string());
    assert_eq!(answer.text().matches(r#""usage":null"#).count(), 5);
    assert!(
        answer.text().contains(r#""choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}}"#)
    );
    assert!(!rig.chat("echo", true).text().contains("usage"));
}

#[test]
fn the_other_shapes_are_spoken() {
    let rig = Rig::start();
    let message = rig.connect().ask("/v1/messages", &chat("echo", false)).json();
    assert_eq!((&message["type"], &message["content"][0]["text"]), (&json!("message"), &json!("one two")));
    let stream = rig.connect().ask("/v1/messages", &chat("echo", true));
    assert_eq!(stream.end, End::Whole);
    assert!(stream.text().ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"), "{}", stream.text());
    let failed = rig.connect().ask("/v1/messages", &chat("fail-529", false));
    assert_eq!((failed.status, failed.json()["error"]["type"].as_str()), (529, Some("overloaded_error")));
    let failed = rig.connect().ask("/v1/messages", &chat("error-in-200", true));
    assert!(failed.text().starts_with("event: error\ndata: {\"type\":\"error\""), "{}", failed.text());

    let text = rig.connect().ask("/v1/completions", r#"{"model":"echo","prompt":"a b"}"#).json();
    assert_eq!((&text["object"], &text["choices"][0]["text"]), (&json!("text_completion"), &json!("a b")));
    let stream = rig.connect().ask("/v1/completions", r#"{"model":"echo","prompt":"a b","stream":true}"#);
    assert_eq!(stream.judged(), ("f..D".to_owned(), true));

    let vectors = |model: &str| {
        let body = json!({"model": model, "input": ["a", "b"]}).to_string();
        rig.connect().ask("/v1/embeddings", &body).json()["data"].clone()
    };
    assert_eq!(vectors("echo"), vectors("lorem-5+slow-1ms"), "under any word");
    assert_ne!(vectors("echo")[0]["embedding"], vectors("echo")[1]["embedding"]);

    assert_eq!(rig.get("/v1/models").json()["data"][0]["id"], "echo");
    assert_eq!(rig.get("/v1/models/lorem-7+no-done").json()["id"], "lorem-7+no-done");
    assert_eq!(rig.get("/v1/models/gpt-4").status, 404);
}

#[test]
fn wrong_routes_methods_and_bodies_are_refused_in_its_shape() {
    let rig = Rig::start();
    assert_eq!(rig.get("/v2/nothing").status, 404);
    let wrong = rig.get("/v1/chat/completions");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
    for body in ["{", "[]", r#"{"model":"echo"}"#, r#"{"model":"echo","model":"echo","messages":[]}"#] {
        let answer = rig.connect().ask("/v1/chat/completions", body);
        assert_eq!(
            (answer.status, answer.json()["error"]["type"].as_str()),
            (400, Some("invalid_request_error")),
            "{body}"
        );
    }
}

#[test]
fn the_last_request_is_shown_as_it_arrived_but_for_keys() {
    let rig = Rig::start();
    assert_eq!(rig.get("/sim/last").json(), Value::Null);
    let body = "{ \"model\":\"echo\",\"messages\" : [],\"new_field\":{\"x\":1.0,\"é\":[ ]}}\n";
    rig.connect().ask("/v1/chat/completions?v=1", body);
    let last = rig.get("/sim/last").json();
    assert_eq!((last["body"].as_str(), last["path"].as_str()), (Some(body), Some("/v1/chat/completions?v=1")));
    assert_eq!((&last["truncated"], &last["utf8"], &last["method"]), (&json!(false), &json!(true), &json!("POST")));
    let headers = last["headers"].as_array().expect("a list");
    assert!(headers.contains(&json!(["host", "sim"])));
    assert!(
        headers.iter().any(|header| header[0] == "authorization" && header[1] == "Bearer sha256:746b4ad1"),
        "{headers:?}"
    );
    assert_eq!(rig.get("/sim/last/body").text(), body);
    let long = format!(r#"{{"model":"echo","messages":[],"pad":"{}"}}"#, "x".repeat(70_000));
    rig.connect().ask("/v1/chat/completions", &long);
    let last = rig.get("/sim/last").json();
    assert_eq!((&last["truncated"], &last["body_bytes"]), (&json!(true), &json!(long.len())));
}

#[test]
fn every_request_is_counted_once_under_load() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 25;
    let rig = Rig::start();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = rig.connect();
                for round in 0..ROUNDS {
                    let stream = round % 2 == 0;
                    let answer = client.ask("/v1/chat/completions", &chat("echo", stream));
                    assert_eq!((answer.status, answer.end), (200, End::Whole));
                    assert_eq!(rig.chat("fail-500", stream).status, 500);
                }
            });
        }
    });
    let stats = rig.stats();
    let each = CLIENTS * ROUNDS;
    assert_eq!((&stats["requests"], &stats["in_flight"]), (&json!(2 * each), &json!(0)), "{stats}");
    assert!((1..=CLIENTS as u64).contains(&stats["peak"].as_u64().expect("a number")), "{stats}");
    assert_eq!(stats["connections"], CLIENTS + each);
    let echo = &stats["models"]["echo"];
    assert_eq!((&echo["requests"], &echo["answered"], &echo["in_flight"]), (&json!(each), &json!(each), &json!(0)));
    assert_eq!(stats["models"]["fail-500"]["failed"], each);
    assert_eq!(echo["times_ms"].as_array().expect("a list").len(), each.min(256));
    assert_eq!(rig.get("/sim/stats").json()["requests"], 2 * each);
}

#[test]
fn a_dropped_simulator_stops() {
    let threads = Threads::new(16, 256 * 1024);
    let watcher = Watcher::start(&threads).expect("a watcher");
    let sim = Sim::start("127.0.0.1:0".parse().expect("an address"), threads.clone(), Arc::clone(&watcher));
    let addr = sim.expect("it starts").addr();
    poll("nobody listens", || TcpStream::connect(addr).is_err());
}
