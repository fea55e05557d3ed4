//! P6: the binary at its most talkative, with a canary for every kind of secret, through success and every failure; then
//! everything that it said to anybody is searched.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use rustls::ClientConfig;
use serde_json::json;
use sluicegate::sync::{Role, Threads};

use super::process::{FUSE, Process, ask, chat, sluicegate};
use crate::canary::{ADMIN, GATEWAY, HEADER, Search, UPSTREAM, WRONG};
use crate::certificates::{Authority, Files, Pair, connect};
use crate::house::number;

/// What takes a moment alone takes long beside all the other tests.
const LONG_FUSE: Duration = Duration::from_secs(120);

/// The models of the echoing provider, each another way to give away what it was sent. `%` stands for that.
const WAYS: [(&str, &str); 12] = [
    (
        "well",
        "200\r\nx-ratelimit-limit-requests: %\r\ncontent-type: application/json\r\n\r\n{\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"well\"},\"finish_reason\":\"stop\"}]}",
    ),
    (
        "words",
        "401\r\ncontent-type: application/json\r\n\r\n{\"error\":{\"message\":\"no such key: %\",\"type\":\"%\",\"param\":\"%\",\"code\":\"%\"}}",
    ),
    ("text", "500\r\n\r\nTraceback: request to https://host/v1?key=% failed"),
    (
        "header",
        "429\r\nretry-after: 1\r\nx-ratelimit-reset-requests: %\r\nopenai-version: %\r\nset-cookie: %\r\n\r\n{}",
    ),
    ("redirect", "302\r\nlocation: https://elsewhere.example/?key=%\r\n\r\n"),
    ("malformed", "200\r\nbad header %\r\n\r\n{}"),
    ("no-json", "200\r\ncontent-type: application/json\r\n\r\n{ % "),
    (
        "event",
        "200\r\ncontent-type: text/event-stream\r\n\r\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\ndata: {\"error\":{\"message\":\"%\"}}\n\n",
    ),
    (
        "first-event",
        "200\r\ncontent-type: text/event-stream\r\n\r\nevent: error\ndata: {\"error\":{\"message\":\"%\",\"code\":\"%\"}}\n\n",
    ),
    (
        "garbage-event",
        "200\r\ncontent-type: text/event-stream\r\n\r\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\ndata: % is no JSON\n\n",
    ),
    ("cut", "200\r\ncontent-length: 9999\r\nx-ratelimit-note: %\r\n\r\n{\"%"),
    ("reset", ""),
];

/// A provider that answers with what it was sent: the key and the header, each as it is, in base64, in hexadecimal, and as in a
/// URL. It goes on until the tests end.
fn echoing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("bound");
    let answer = move || {
        for socket in listener.incoming().flatten() {
            // One that breaks off is the gateway's way to leave.
            let _ = echo(socket);
        }
    };
    Threads::new(1, 2 << 20).spawn(Role::Sim, "echo", answer).expect("room");
    addr
}

fn echo(mut socket: TcpStream) -> std::io::Result<()> {
    socket.set_read_timeout(Some(FUSE))?;
    let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
    let text = loop {
        let n = socket.read(&mut piece)?;
        seen.extend_from_slice(&piece[..n]);
        let text = String::from_utf8_lossy(&seen).into_owned();
        let is_look = text.starts_with("GET ") && text.contains("\r\n\r\n");
        if n == 0 || is_look || text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.ends_with('}')) {
            break text;
        }
    };
    let header = |name: &str| {
        let line = text.lines().find(|line| line.to_ascii_lowercase().starts_with(name));
        line.and_then(|line| line.rsplit_once(' ')).map_or(String::new(), |(_, value)| value.to_owned())
    };
    let sent = [header("authorization:"), header("x-team:")];
    assert_eq!(sent, [UPSTREAM, HEADER], "what is sent is what is configured");
    let given: Vec<String> = sent.iter().flat_map(|secret| dressed(secret)).collect();
    let way = WAYS.iter().find(|(name, _)| text.contains(&format!("\"{name}\"")));
    // Without a way it is a look at the models: a check of the provider's health.
    let looked = "503\r\ncontent-type: application/json\r\n\r\n{\"error\":{\"message\":\"%\"}}";
    let answer = way.map_or(looked, |(_, answer)| *answer);
    if !answer.is_empty() {
        write!(
            socket,
            "HTTP/1.1 {}",
            answer.replacen("\r\n", " X\r\nconnection: close\r\n", 1).replace('%', &given.join(" "))
        )?;
    }
    Ok(())
}

/// Ways to write a secret that a provider is known to have.
fn dressed(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let url: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let mut given = vec![secret.to_owned(), format!("Bearer {secret}"), hex, url];
    given.extend(["", "u", "u:"].map(|before| crate::canary::base64(format!("{before}{secret}").as_bytes())));
    given
}

fn config(upstream: SocketAddr, files: &Files) -> String {
    let provider = |more: serde_json::Value| {
        let mut provider = json!({
            "kind": "openai", "keys": [{ "name": "a", "value": "env.THE_KEY" }],
            "network_config": { "base_url": format!("http://{upstream}"), "extra_headers": { "x-team": "env.THE_HEADER" },
                                "default_request_timeout_in_seconds": "5s", "max_retries": 0 },
        });
        provider.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        provider
    };
    json!({
        "server": { "keys": [{ "name": "client", "value": "env.THE_CLIENTS_KEY" }], "admin_key": "file:admin.key",
                    "max_body_bytes": 100_000, "header_timeout": "5s",
                    "tls": { "cert_file": files.path("cert.pem"), "key_file": files.path("key.pem") } },
        "providers": { "echo": provider(json!({})), "strict": provider(json!({ "stream_garbage": "fail" })),
                       "sim": { "network_config": { "max_retries": 0 }, "breaker": { "enabled": false } } },
    })
    .to_string()
}

/// A gateway at its most talkative.
struct Talkative {
    process: Process,
    data: SocketAddr,
    admin: SocketAddr,
    client: Arc<ClientConfig>,
    /// Everything that anybody was answered.
    heard: Vec<u8>,
}

impl Talkative {
    fn start(format: &str, upstream: SocketAddr, files: &Files, authority: &Authority) -> Self {
        let process =
            sluicegate(&["--log-format", format, "serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
                .file("sluicegate.json", &config(upstream, files))
                .file("admin.key", ADMIN)
                .env("THE_KEY", UPSTREAM)
                .env("THE_HEADER", HEADER)
                .env("THE_CLIENTS_KEY", GATEWAY)
                .env("RUST_LOG", "trace")
                .start();
        let (data, admin) = process.addresses();
        Self { process, data, admin, client: Arc::new(authority.client()), heard: Vec::new() }
    }

    /// Sends to the data plane and keeps the answer.
    fn say(&mut self, head: &str, key: &str, body: &str) -> String {
        let mut stream = connect(self.data, &self.client);
        let text = format!(
            "{head} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nx-api-key: {key}\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        // What is refused early may be cut while it is still being sent.
        let _ = stream.write_all(text.as_bytes());
        self.hear(&mut stream)
    }

    fn hear(&mut self, from: &mut dyn Read) -> String {
        let mut answer = Vec::new();
        let _ = from.read_to_end(&mut answer);
        self.heard.extend_from_slice(&answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn chat(&mut self, model: &str, stream: bool) -> String {
        self.say("POST /v1/chat/completions", GATEWAY, &chat(model, stream))
    }

    /// Asks the admin plane and keeps the answer.
    fn administer(&mut self, head: &str, key: &str) -> String {
        let mut socket = TcpStream::connect(self.admin).expect("it listens");
        socket.set_read_timeout(Some(FUSE)).expect("connected");
        let text = format!(
            "{head} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\nx-sluicegate-admin: 1\r\n\
             connection: close\r\ncontent-length: 0\r\n\r\n"
        );
        socket.write_all(text.as_bytes()).expect("connected");
        self.hear(&mut socket)
    }

    fn pages(&mut self) {
        for page in
            ["", "stats", "stats?fresh=1", "config", "threads", "events", "metrics", "health", "sim/stats", "nowhere"]
        {
            self.administer(&format!("GET /{page}"), ADMIN);
        }
    }

    /// Waits for an event of this kind.
    fn until_event(&mut self, kind: &str) {
        let fuse = sluicegate::time::Deadline::after(FUSE);
        while !self.administer("GET /events", ADMIN).contains(&format!("\"kind\":\"{kind}\"")) {
            assert!(!fuse.passed(), "no event {kind}");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}

/// The lines of a key file that are the key.
fn body_of(pair: &Pair) -> Vec<&str> {
    pair.key.lines().filter(|line| !line.starts_with('-')).collect()
}

fn provoke_everything(gateway: &mut Talkative) {
    for (way, _) in WAYS {
        for provider in if way == "garbage-event" { &["echo", "strict"][..] } else { &["echo"] } {
            // The bytes of a good answer pass untouched, whatever they are; without streaming, these are none.
            for stream in if way == "no-json" { &[false][..] } else { &[false, true] } {
                let answer = gateway.chat(&format!("{provider}/{way}"), *stream);
                assert!(answer.starts_with("HTTP/1.1 "), "{way}: {answer}");
            }
        }
    }
    let sim = [
        "echo",
        "fail-401",
        "fail-503",
        "error-in-200",
        "reset",
        "cut-2+lorem-9",
        "garbage-1+lorem-3",
        "panic",
        "no-such-word",
    ];
    for words in sim {
        gateway.chat(&format!("sim/{words}"), false);
        gateway.chat(&format!("sim/{words}"), true);
    }
    // Wrong keys, wrong requests, and what a client might send in the wrong place.
    assert!(gateway.say("POST /v1/chat/completions", WRONG, &chat("sim/echo", false)).starts_with("HTTP/1.1 401"));
    for (head, body) in [
        ("GET /nowhere", ""),
        ("PUT /v1/chat/completions", ""),
        ("POST /v1/chat/completions", "{"),
        ("POST /v1/chat/completions", "{\"model\":\"nobody/m\",\"messages\":[]}"),
        ("POST /v1/messages", "{}"),
    ] {
        gateway.say(head, GATEWAY, body);
    }
    gateway.say("POST /v1/chat/completions", GATEWAY, &" ".repeat(200_000));
    gateway.say(&format!("GET /livez?key={GATEWAY}"), GATEWAY, "");
    gateway.administer("GET /stats", WRONG);
    gateway.administer("POST /reload", ADMIN);
    for bytes in [&b"\x16\x03\x01\x00\x06z\0\0\x02zz"[..], b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"\0\0\0\0\0\0"] {
        let mut socket = TcpStream::connect(gateway.data).expect("it listens");
        socket.set_read_timeout(Some(FUSE)).expect("connected");
        socket.write_all(bytes).expect("connected");
        gateway.hear(&mut socket);
    }
    gateway.pages();
}

#[test]
fn no_secret_is_said_to_anybody_whatever_goes_wrong() {
    let authority = Authority::new("root");
    let (pair, other) = (authority.issue(), authority.issue());
    let mut secrets = body_of(&pair);
    secrets.extend(body_of(&other));
    let keys = Search::of(&secrets);
    std::thread::scope(|scope| {
        for format in ["text", "json"] {
            let (authority, pair, other, keys) = (&authority, &pair, &other, &keys);
            scope.spawn(move || live_through_everything(format, authority, [pair, other], keys));
        }
    });
}

/// A gateway's life with every trouble in it; at its end everything that it said is searched.
fn live_through_everything(format: &str, authority: &Authority, [pair, other]: [&Pair; 2], keys: &Search) {
    let (files, upstream) = (Files::of(pair), echoing());
    let mut gateway = Talkative::start(format, upstream, &files, authority);
    provoke_everything(&mut gateway);
    // The files of TLS change, badly and well.
    files.write("key.pem", &other.key);
    gateway.until_event("certificate_refused");
    files.put(other);
    gateway.until_event("reload");
    gateway.chat("echo/words", false);
    // A drain with a stream in the middle.
    let mut stream = connect(gateway.data, &gateway.client);
    let body = chat("sim/lorem-1000+gap-20ms", true);
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\napi-key: {GATEWAY}\r\nconnection: close\r\n");
    stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).expect("connected");
    let mut first = [0; 16];
    stream.read_exact(&mut first).expect("it begins");
    gateway.process.signal(Signal::TERM);
    gateway.chat("echo/words", true);
    gateway.pages();
    // Its client leaves once all was asked, which ends the drain.
    drop(stream);
    let Talkative { process, heard, .. } = gateway;
    let done = process.wait().exits(0);
    assert!(done.stderr.len() > 100_000, "it was to talk: {} bytes", done.stderr.len());
    assert!(done.stderr.contains("TRACE"), "at its finest level");
    let heard = String::from_utf8_lossy(&heard).into_owned();
    assert!(heard.contains("no such key: [redacted] Bearer [redacted] [redacted]"), "it was echoed, and masked");
    for (what, text) in [("an answer", &heard), ("stdout", &done.stdout), ("stderr", &done.stderr)] {
        Search::known().assert_clean(what, text);
        Search::fragments().assert_clean(what, text);
        keys.assert_clean(what, text);
    }
}

#[test]
fn commands_that_end_by_themselves_keep_secrets_too() {
    let upstream = echoing();
    let (authority, url) = (Authority::new("root"), format!("http://{upstream}"));
    let pair = authority.issue();
    let files = Files::of(&pair);
    let keys = Search::of(&body_of(&pair));
    let run = |args: &[&str], config: &str| {
        let done = sluicegate(args)
            .file("sluicegate.json", config)
            .file("admin.key", ADMIN)
            .env("THE_KEY", UPSTREAM)
            .env("THE_HEADER", HEADER)
            .env("THE_CLIENTS_KEY", GATEWAY)
            .env("OPENAI_API_KEY", UPSTREAM)
            .env("OPENAI_BASE_URL", &url)
            .env("RUST_LOG", "trace")
            .fuse(LONG_FUSE)
            .run();
        for text in [&done.stdout, &done.stderr] {
            Search::known().assert_clean(args[0], text);
            keys.assert_clean(args[0], text);
        }
        done
    };
    let right = config(upstream, &files);
    for (way, stream) in [("well", false), ("words", false), ("redirect", true), ("event", true), ("malformed", true)] {
        let stream = if stream { &["chat", "--stream"][..] } else { &["chat"] };
        run(&[stream, &["-m", &format!("echo/{way}"), "Hello"]].concat(), &right);
    }
    run(&["check"], &right).exits(0);
    run(&["stats", "--admin", "http://127.0.0.1:1"], &right).exits(1);
    // Whether it holds beside all the other tests, and so talkative, is not what is asked here.
    run(&["demo"], &right);
    // Secrets where they do not belong, and files that are not what they should be.
    let put = |key: &str, value: &str| right.replacen(key, value, 1);
    let path = files.path("key.pem").display().to_string();
    for wrong in [
        put("\"env.THE_KEY\"", "{ \"deep\": \"env.THE_KEY\" }"),
        put("\"5s\"", "\"env.THE_KEY\""),
        put("\"openai\"", "\"env.THE_KEY\""),
        put(&format!("\"{path}\""), &format!("\"file:{path}\"")),
        put(&format!("\"{path}\""), &json!(pair.key).to_string()),
        put(&format!("\"{}\"", files.path("cert.pem").display()), &format!("\"{path}\"")),
        put(&format!("\"http://{upstream}\""), &format!("\"http://user:{UPSTREAM}@{upstream}\"")),
    ] {
        assert_ne!(wrong, right);
        run(&["check"], &wrong).exits(2);
    }
}

/// The process's view of itself must go on: `/stats` reads `/proc/self`.
#[test]
fn no_core_is_dumped_and_stats_still_knows_the_process() {
    for user in [None, Some(NOBODY)] {
        let Some(process) = start_as(user) else { continue };
        let (_, admin) = process.addresses();
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).expect("it runs");
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
        assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
        if user.is_some() {
            // What belongs to a process that can be dumped belongs to its user; of others it belongs to root.
            use std::os::unix::fs::MetadataExt as _;
            let owner = std::fs::metadata(format!("/proc/{}/environ", process.id())).expect("it runs").uid();
            assert_eq!(owner, 0, "its memory lies open to its user's other processes");
        }
        let (status, stats) = ask(admin, "GET", "/stats?fresh=1", "");
        let stats: serde_json::Value =
            serde_json::from_str(stats.split_once("\r\n\r\n").expect("a head").1).expect("JSON");
        assert_eq!(status, 200);
        for figure in ["rss_bytes", "cpu_us", "open_fds", "threads"] {
            assert!(number(&stats, &format!("/process/{figure}")) > 0, "{figure}");
        }
        process.signal(Signal::TERM);
        process.wait().exits(0);
    }
}

/// A user who is not root, if these tests are.
const NOBODY: u32 = 65_534;

/// `serve`, as this user; none if that one may not run it.
fn start_as(user: Option<u32>) -> Option<Process> {
    let setup = sluicegate(&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .file("sluicegate.json", r#"{ "providers": { "sim": {} } }"#);
    match user {
        None => Some(setup.start()),
        Some(_) if !rustix::process::getuid().is_root() => None,
        Some(user) => setup.of_user(user).try_start().ok(),
    }
}
