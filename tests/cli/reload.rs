//! Another configuration for a `serve` that runs: by SIGHUP, by `POST /reload`, and by a file that a value stands in.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::scope;

use rustix::process::Signal;
use serde_json::{Value, json};
use sluicegate::time::Deadline;

use super::process::{FUSE, Process, ask, chat, request, sluicegate};

/// Where chat is asked for.
const CHAT: &str = "/v1/chat/completions";

/// A gateway that serves a file of this test's.
struct Served {
    process: Process,
    data: SocketAddr,
    admin: SocketAddr,
    folder: tempfile::TempDir,
}

impl Served {
    fn on(document: &Value) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gateway.json");
        std::fs::write(&path, document.to_string()).expect("it is written");
        let path = path.display().to_string();
        let process =
            sluicegate(&["serve", "--config", &path, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).start();
        let (data, admin) = process.addresses();
        Self { process, data, admin, folder }
    }

    fn write(&self, document: &Value) {
        replace(&self.folder.path().join("gateway.json"), &document.to_string());
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn post(&self, path: &str) -> (u16, Value) {
        post(self.admin, path, "")
    }

    fn events(&self) -> Vec<String> {
        let (_, text) = ask(self.admin, "GET", "/events", "");
        let body: Value = serde_json::from_str(text.split_once("\r\n\r\n").expect("a head").1).expect("JSON");
        let events = body["events"].as_array().expect("a list").iter().filter(|event| event["kind"] == "reload");
        events.map(|event| event["message"].as_str().expect("words").to_owned()).collect()
    }

    fn chat(&self, model: &str) -> u16 {
        ask(self.data, "POST", CHAT, &chat(model, false)).0
    }
}

/// As an editor or a deployment does it: whole, by renaming.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("it is written");
    std::fs::rename(&new, path).expect("it is renamed");
}

fn post(admin: SocketAddr, path: &str, lines: &str) -> (u16, Value) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect_timeout(&admin, FUSE).expect("it listens");
    stream.set_read_timeout(Some(FUSE)).expect("a time-out");
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\nx-sluicegate-admin: 1\r\n{lines}content-length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it is sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it ends");
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(text.split_once("\r\n\r\n").expect("a head").1).expect("JSON"))
}

fn sims(names: &[&str]) -> Value {
    let sim = json!({ "kind": "sim", "concurrency_and_buffer_size": { "min_concurrency": 2 } });
    json!({ "providers": names.iter().map(|name| ((*name).to_owned(), sim.clone())).collect::<serde_json::Map<_, _>>() })
}

#[test]
fn a_post_reads_the_file_again_and_says_what_it_changed_or_what_is_wrong() {
    let served = Served::on(&sims(&["a", "b"]));
    let mut document = sims(&["b", "c"]);
    document["providers"]["b"]["queue"] = json!({ "policy": "error" });
    document["server"] = json!({ "listen": "127.0.0.1:1", "max_connections": 5, "cors_origins": ["*"] });
    served.write(&document);
    let (status, answer) = served.post("/reload");
    assert_eq!(status, 200, "{answer:#}");
    let changes = &answer["changes"];
    let expected = json!({
        "added": ["c"], "changed": [{ "name": "b", "settings": ["queue"] }], "removed": ["a"], "unchanged": [],
    });
    assert_eq!((&answer["reloaded"], &changes["providers"]), (&json!(true), &expected), "{answer:#}");
    assert_eq!(changes["settings"], json!(["server.cors_origins"]));
    let warnings = changes["warnings"].as_array().expect("a list");
    assert_eq!(warnings.len(), 1, "where it listens is the command line's word: {warnings:?}");
    assert!(warnings[0].as_str().is_some_and(|text| text.starts_with("server.max_connections: ")), "{warnings:?}");
    assert_eq!((served.chat("a/echo"), served.chat("b/echo"), served.chat("c/echo")), (404, 200, 200));

    document["server"] = json!({ "max_connektions": 5 });
    document["providers"]["c"] = json!({ "kind": "nothing" });
    served.write(&document);
    let (status, answer) = served.post("/reload");
    assert_eq!((status, &answer["reloaded"]), (400, &json!(false)), "{answer:#}");
    let problems = answer["error"]["problems"].as_array().expect("a list");
    let paths: Vec<_> = problems.iter().filter_map(|problem| problem["path"].as_str()).collect();
    assert_eq!(paths, ["server.max_connektions", "providers.c.kind"]);
    assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains("gateway.json")), "{answer:#}");
    assert_eq!((served.chat("b/echo"), served.chat("c/echo")), (200, 200), "nothing has changed");
    assert!(served.events().last().is_some_and(|text| text.contains("max_connektions") && text.contains("kind")));
    let told = |log: String| log.contains("max_connektions") && log.contains("providers.c.kind");
    served.process.until("what is wrong is logged", |process| told(process.stderr()).then_some(()));

    std::fs::remove_file(served.file("gateway.json")).expect("it was there");
    assert_eq!(served.post("/reload").0, 400);
    assert_eq!(ask(served.admin, "GET", "/reload", "").0, 405);
    let (status, _) = served.post("/drain");
    assert_eq!((status, served.post("/reload").0), (202, 409), "who drains takes nothing new");
}

#[test]
fn a_hangup_reads_the_file_again_and_ends_nobody() {
    let served = Served::on(&sims(&["a"]));
    let mut stream = request(served.data, "POST", CHAT, &chat("a/lorem-30+gap-20ms", true));
    stream.read_until("data: ");
    served.write(&sims(&["b"]));
    served.process.signal(Signal::HUP);
    served.process.until("it is reloaded", |process| process.stderr().contains("reloaded: ").then_some(()));
    let note = served.process.stderr();
    assert!(note.contains("providers added: b; providers removed: a"), "{note}");
    assert_eq!((served.chat("a/echo"), served.chat("b/echo")), (404, 200));
    let rest = stream.rest();
    assert!(rest.contains("[DONE]"), "the stream goes on: {rest}");
    std::fs::write(served.file("gateway.json"), "{ no JSON").expect("it is written");
    served.process.signal(Signal::HUP);
    served.process.until("it is refused", |process| process.stderr().contains("nothing was changed").then_some(()));
    assert_eq!(served.chat("b/echo"), 200);
    served.process.signal(Signal::TERM);
    served.process.wait().exits(0);
}

#[test]
fn a_value_in_a_file_is_read_again_when_the_file_changes() {
    let key = |folder: &Path| format!("file:{}", folder.join("key").display());
    let folder = tempfile::tempdir().expect("a folder");
    replace(&folder.path().join("key"), "gateway-key-one\n");
    let mut document = sims(&["a"]);
    document["server"] = json!({ "keys": [key(folder.path())] });
    let served = Served::on(&document);
    let models = |key: &str| {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect_timeout(&served.data, FUSE).expect("it listens");
        let head =
            format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("it is sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it ends");
        text.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()).expect("a status")
    };
    assert_eq!((models("gateway-key-one"), models("gateway-key-two")), (200, 401));
    replace(&folder.path().join("key"), "gateway-key-two\n");
    served.process.until("the new key is in force", |_| (models("gateway-key-two") == 200).then_some(()));
    assert_eq!(models("gateway-key-one"), 401);
    assert_eq!(served.events(), ["settings changed: server.keys"]);
    replace(&folder.path().join("key"), "");
    let refused = |process: &Process| process.stderr().contains("server.keys[0].value").then_some(());
    served.process.until("an empty key is refused", refused);
    assert_eq!(models("gateway-key-two"), 200, "the one before it stays");
}

#[test]
fn a_provider_is_paused_and_resumed_by_its_name() {
    let served = Served::on(&sims(&["a", "b"]));
    assert_eq!(served.post("/providers/a/pause"), (200, json!({ "provider": "a", "paused": true })));
    let (status, text) = ask(served.data, "POST", CHAT, &chat("a/echo", false));
    assert!(status == 503 && text.contains("circuit_open") && text.contains("retry-after: "), "{text}");
    assert_eq!(served.chat("b/echo"), 200);
    assert_eq!(served.post("/providers/a/resume").0, 200);
    assert_eq!(served.chat("a/echo"), 200);
    let (status, answer) = served.post("/providers/nobody/pause");
    assert!(status == 404 && answer["error"]["message"].as_str().is_some_and(|text| text.contains("a, b")), "{answer}");
    assert_eq!(ask(served.admin, "GET", "/providers/a/pause", "").0, 405);
    assert_eq!(ask(served.admin, "POST", "/providers/a/pause", "").0, 403, "without our own header");
}

/// Reloads and requests over sockets, and SIGTERM in the middle of them.
#[test]
fn reloads_under_load_lose_no_request_and_sigterm_among_them_drains() {
    let served = Served::on(&sims(&["stays", "goes"]));
    let over = AtomicBool::new(false);
    let fuse = Deadline::after(FUSE);
    scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|caller| {
                let (served, over) = (&served, &over);
                scope.spawn(move || {
                    let mut count = 0;
                    while !over.load(Ordering::SeqCst) {
                        let stream = (caller + count) % 2 == 0;
                        let text = request(served.data, "POST", CHAT, &chat("stays/lorem-5+gap-1ms", stream)).rest();
                        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
                        assert!(!stream || text.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"), "{text}");
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for round in 0..20u32 {
            assert!(!fuse.passed(), "it goes on for too long");
            let mut document = sims(if round % 2 == 0 { &["stays", "comes"] } else { &["stays", "goes"] });
            document["providers"]["stays"]["concurrency_and_buffer_size"]["buffer_size"] = (100 + round % 3).into();
            if round % 4 == 3 {
                document["providers"]["stays"]["queue"] = json!({ "policy": "whatever" });
            }
            served.write(&document);
            assert_eq!(served.post("/reload").0, if round % 4 == 3 { 400 } else { 200 });
        }
        over.store(true, Ordering::SeqCst);
        assert!(callers.into_iter().map(|caller| caller.join().expect("no panic")).sum::<i32>() > 0);
        served.write(&sims(&["stays", "last"]));
        served.process.signal(Signal::HUP);
        served.process.signal(Signal::TERM);
    });
    let done = served.process.wait().exits(0);
    assert!(done.stderr.contains("drained: ") && !done.stderr.contains("did not end"), "{}", done.stderr);
}
