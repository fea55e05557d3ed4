//! What the binary logs: a line for each request that says nothing of its words, in both forms; and that nobody waits for
//! whoever reads it, or loses the last lines.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::Client;
use crate::house::number;

use super::process::{Process, Served, Setup, ask, chat, sluicegate};

/// What a caller says, which stands in no line.
const PROMPT: &str = "prompt-canary-5b1e";

const CHAT: &str = "/v1/chat/completions";

/// `serve` on the simulated provider, with these plugins if there are any.
fn serve(args: &[&str], plugins: Option<Value>) -> Setup {
    let mut config = json!({ "providers": { "sim": { "network_config": { "max_retries": 0 } } } });
    if let Some(plugins) = plugins {
        config["plugins"] = plugins;
    }
    let all = [args, &["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]].concat();
    sluicegate(&all).file("sluicegate.json", &config.to_string())
}

fn started(setup: Setup) -> Served {
    let process = setup.start();
    let (data, admin) = process.addresses();
    Served { process, data, admin }
}

/// Asks so many times over one connection, and gives the statuses.
fn flood(to: SocketAddr, count: usize, body: &str) -> Vec<u16> {
    let mut client = Client::connect(to);
    let one = format!("POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    (0..count).map(|_| client.send(&one).answer().status).collect()
}

/// Ends it, and gives the lines of its stderr.
fn ended(process: Process) -> Vec<String> {
    process.signal(Signal::TERM);
    let done = process.wait().exits(0);
    done.stderr.lines().map(str::to_owned).collect()
}

/// The lines that are about a request.
fn requests(lines: &[String]) -> Vec<Value> {
    let read = |line: &String| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    lines.iter().map(read).filter(|line| line["request_id"].is_string()).collect()
}

#[test]
fn each_request_has_one_line_of_json_by_default_whose_fields_stand_at_its_top() {
    let served = started(serve(&["--log-format", "json"], None));
    assert_eq!(ask(served.data, "POST", CHAT, &chat("sim/lorem-5", true)).0, 200);
    assert_eq!(flood(served.data, 50, &chat("sim/echo", false)), [200; 50]);
    assert_eq!(ask(served.data, "POST", CHAT, &chat("sim/fail-500", false)).0, 500);
    let lines = requests(&ended(served.process));
    assert_eq!(lines.len(), 52, "the last is written, though the end came at once");
    let ids: std::collections::BTreeSet<_> = lines.iter().map(|line| line["request_id"].as_str()).collect();
    assert_eq!(ids.len(), 52);
    for line in &lines {
        assert!(
            line["at_ms"].is_u64() && line["time"].is_string() && line["target"] == "sluicegate::requests",
            "{line}"
        );
        assert!(line["total_us"].is_u64() && line["queue_us"].is_u64() && line["provider"] == "sim", "{line}");
    }
    let of = |model: &str| lines.iter().find(|line| line["model"] == model).expect("a line");
    let stream = of("sim/lorem-5");
    assert_eq!((&stream["tokens_out"], &stream["attempts"]), (&json!(5), &json!(1)), "{stream}");
    assert!(stream["first_token_us"].is_u64(), "{stream}");
    let failed = of("sim/fail-500");
    let wanted = [
        ("outcome", json!("failed")),
        ("error", json!("upstream_error")),
        ("upstream_status", json!(500)),
        ("level", json!("WARN")),
    ];
    assert!(wanted.iter().all(|(key, wanted)| failed[key] == *wanted), "{failed}");
}

#[test]
fn under_pressure_lines_and_what_was_left_out_are_all_requests() {
    const REQUESTS: usize = 200;
    let few = json!([{ "name": "request_log", "config": { "max_lines_per_s": 5 } }]);
    let served = started(serve(&["--log-format", "json"], Some(few)));
    assert_eq!(flood(served.data, REQUESTS, &chat("sim/echo", false)), [200; REQUESTS]);
    let stats = ask(served.admin, "GET", "/stats?fresh=1", "").1;
    let stats: Value = serde_json::from_str(stats.split_once("\r\n\r\n").expect("a head").1).expect("JSON");
    let left_out = number(&stats, "/plugins/request_log/own/left_out_total");
    let lines = ended(served.process);
    assert_eq!(requests(&lines).len() as u64 + left_out, REQUESTS as u64, "{lines:#?}");
    let told =
        lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["left_out"]["succeeded"].as_u64());
    assert_eq!(told.sum::<u64>(), left_out, "{lines:#?}");
}

#[test]
fn what_a_caller_says_is_in_no_line_and_what_it_names_forges_none() {
    for format in ["text", "json"] {
        let served = started(serve(&["--log-format", format], None).env("TERM", "xterm"));
        let forged = "x\n2026-01-01T00:00:00.000Z ERROR forged\r\u{1b}[31m";
        for (model, stream) in
            [("sim/echo", false), ("sim/echo", true), ("sim/fail-400", false), (&*format!("sim/{forged}"), false)]
        {
            let body = json!({ "model": model, "stream": stream, "messages": [{ "role": "user", "content": PROMPT }] });
            ask(served.data, "POST", CHAT, &body.to_string());
        }
        let lines = ended(served.process);
        assert!(lines.iter().all(|line| !line.contains(PROMPT) && !line.contains('\u{1b}')), "{lines:#?}");
        assert!(
            lines.iter().any(|line| line.contains("forged"))
                && !lines.iter().any(|line| line.starts_with("2026-01-01"))
        );
        let outcomes = ["ok   200", "FAIL 400", "FAIL 404"];
        if format == "text" {
            assert!(outcomes.iter().all(|outcome| lines.iter().any(|line| line.contains(outcome))), "{lines:#?}");
        }
    }
}

#[test]
fn rust_log_and_the_list_of_plugins_say_what_has_a_line() {
    let none = json!([]);
    let other = json!([{ "name": "rate_limit", "config": {} }]);
    for (plugins, filter, wanted) in [
        (Some(none), None, 0),
        (Some(other), None, 0),
        (None, Some("off"), 0),
        (None, Some("sluicegate::requests=warn"), 1),
        (None, Some("info"), 2),
    ] {
        let setup = serve(&["--log-format", "json"], plugins);
        let served = started(if let Some(filter) = filter { setup.env("RUST_LOG", filter) } else { setup });
        for model in ["sim/echo", "sim/fail-500"] {
            ask(served.data, "POST", CHAT, &chat(model, false));
        }
        assert_eq!(requests(&ended(served.process)).len(), wanted, "{filter:?}");
    }
}

#[test]
fn colours_are_shown_where_they_are_asked_for() {
    let served = started(serve(&[], None).env("RUST_LOG_STYLE", "always"));
    ask(served.data, "POST", CHAT, &chat("sim/echo", false));
    let lines = ended(served.process);
    assert!(lines.iter().any(|line| line.contains("\u{1b}[32mok   200\u{1b}[0m")), "{lines:#?}");
}

/// A pipe holds 64 KiB, which are full long before the end.
#[test]
fn a_log_that_nobody_reads_stops_no_answer_and_no_end() {
    const REQUESTS: usize = 500;
    let served = started(serve(&[], None).stderr_unread());
    assert_eq!(flood(served.data, REQUESTS, &chat("sim/echo", false)), [200; REQUESTS]);
    assert_eq!(ask(served.admin, "GET", "/stats?fresh=1", "").0, 200);
    served.process.signal(Signal::TERM);
    let (took, done) = super::process::timed(|| served.process.wait());
    done.exits(0);
    assert!(took < Duration::from_secs(10), "it waited {took:?} for a reader");
}

#[test]
fn with_a_closed_stderr_it_answers_and_ends_as_ever() {
    let served = started(serve(&[], None).stderr_closed());
    assert_eq!(flood(served.data, 20, &chat("sim/echo", false)), [200; 20]);
    assert_eq!(ended(served.process), [""; 0]);
}
