//! The plugin `request_log`: what stands in its lines, where they go, and what a line that cannot be written costs.

use std::path::Path;
use std::thread::scope;

use serde_json::{Value, json};
use sluicegate::Trace;
use sluicegate::config::Config;
use sluicegate::gateway::{CallOptions, Gateway, ReloadError, StartError};
use sluicegate::wire::openai::ChatRequest;

use crate::house::{DONE, Gate, House, STOP, USAGE, chat, eventually, feed, number, provider, sim, word};

fn log_to(path: &Path, more: Value) -> Value {
    let mut config = json!({ "path": path });
    crate::house::merge(&mut config, more);
    json!([{ "name": "request_log", "config": config }])
}

/// The lines that are there.
fn present(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("it is there");
    // The last may be being written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// So many lines, once they are there: a thread of its own writes them.
fn lines(path: &Path, count: usize) -> Vec<Value> {
    eventually("the lines are written", || present(path).len() >= count);
    present(path)
}

#[test]
fn a_request_has_one_line_at_its_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("requests.log");
    let (p, q) = (Gate::new(), Gate::new());
    let config = json!({
        "providers": { "p": provider(json!({})), "q": provider(json!({})) },
        "plugins": log_to(&path, json!({})),
    });
    let house = House::with(config, &[("p", &p), ("q", &q)]);
    let options = CallOptions::new().tag("team", "search").fallbacks(["q/other"]);
    scope(|scope| {
        let asking = scope.spawn(|| house.ask_with(&options));
        p.next().respond(503, &[], "{}");
        assert!(present(&path).is_empty(), "it has not ended");
        q.next().answer();
        asking.join().expect("no panic").expect("it is answered");
    });
    let [line] = &lines(&path, 1)[..] else { panic!("one line: {:?}", present(&path)) };
    let is = |key: &str, wanted: Value| assert_eq!(line[key], wanted, "{key} in {line:#}");
    is("operation", json!("chat.completions"));
    is("model", json!("p/m"));
    is("provider", json!("q"));
    is("provider_model", json!("other"));
    is("stream", json!(false));
    is("status", json!(200));
    is("error", Value::Null);
    is("key", Value::Null);
    is("attempts", json!(2));
    is("fallbacks", json!(1));
    is("tokens_in", json!(1));
    is("tokens_out", json!(2));
    is("bytes_in", json!(chat("p/m", false).len()));
    is("bytes_out", json!(crate::house::reply("well").len()));
    is("tags", json!({ "team": "search" }));
    assert!(line.get("request").is_none() && line.get("answer").is_none(), "bodies are not asked for: {line}");
    assert!(line["total_us"].as_u64() >= line["upstream_us"].as_u64() && line["queue_us"].is_u64(), "{line}");
    let time = line["time"].as_str().expect("a time");
    assert!(time.len() == 24 && time.ends_with('Z') && time.starts_with("20"), "{time}");
    assert!(line["request_id"].as_str().is_some_and(|id| !id.is_empty()));
    eventually("it is counted", || number(&house.stats(), "/plugins/request_log/own/written_total") == 1);
}

#[test]
fn a_failure_has_its_code_and_who_failed_last() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("requests.log");
    let gate = Gate::new();
    let config = json!({ "providers": { "p": provider(json!({})) }, "plugins": log_to(&path, json!({})) });
    let house = House::with(config, &[("p", &gate)]);
    scope(|scope| {
        let asking = scope.spawn(|| house.ask());
        gate.next().respond(418, &[], "{}");
        asking.join().expect("no panic").expect_err("it is refused");
    });
    let [line] = &lines(&path, 1)[..] else { panic!("one line: {:?}", present(&path)) };
    assert_eq!((&line["status"], &line["error"]), (&json!(418), &json!("upstream_error")), "{line}");
    assert_eq!((&line["provider"], &line["attempts"]), (&json!("p"), &json!(1)), "{line}");
    assert_eq!((&line["tokens_in"], &line["bytes_out"]), (&Value::Null, &json!(0)), "{line}");
    let unknown = house.gateway().chat(&ChatRequest::new("nobody/m", "Hello"));
    unknown.expect_err("there is no such provider");
    // Its end waits for the last lines.
    drop(house);
    assert_eq!(present(&path).len(), 1, "what did not come as far as the plugins has no line");
}

#[test]
fn bodies_stand_in_it_if_they_are_asked_for_and_streams_as_their_events() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("requests.log");
    let gate = Gate::new();
    let bodies = json!({ "bodies": true, "max_body_bytes": 60 });
    let config = json!({ "providers": { "p": provider(json!({})) }, "plugins": log_to(&path, bodies) });
    let house = House::with(config, &[("p", &gate)]);
    scope(|scope| {
        let asking = scope.spawn(|| house.ask());
        gate.next().answer();
        asking.join().expect("no panic").expect("it is answered");
        let reading = scope.spawn(|| {
            let stream = house.gateway().chat_stream(&ChatRequest::new("p/m", "Hello")).expect("it begins");
            stream.map(|chunk| chunk.expect("good").text().to_owned()).collect::<String>()
        });
        let pieces = gate.next().stream();
        feed(&pieces, &format!("{}{STOP}{USAGE}{DONE}", word("one")));
        assert_eq!(reading.join().expect("no panic"), "one");
    });
    house.at_rest();
    let [whole, streamed] = &lines(&path, 2)[..] else { panic!("two lines: {:?}", present(&path)) };
    assert_eq!(whole["request"], chat("p/m", false)[..60], "{whole}");
    assert_eq!(whole["answer"], crate::house::reply("well")[..60], "{whole}");
    let first = word("one").trim().strip_prefix("data: ").expect("an event").to_owned();
    let heard = streamed["answer"].as_str().expect("a text");
    assert!(heard.len() == 60 && first.starts_with(&heard[..first.len().min(60)]), "{streamed}");
    assert_eq!((&streamed["stream"], &streamed["status"]), (&json!(true), &json!(200)), "{streamed}");
    assert_eq!((&streamed["tokens_in"], &streamed["tokens_out"]), (&json!(1), &json!(2)), "{streamed}");
}

#[test]
fn a_file_that_cannot_be_opened_is_told_at_the_start_and_changes_nothing_at_a_reload() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = |path: &Path| {
        let document = json!({ "providers": { "sim": sim(json!({})) }, "plugins": log_to(path, json!({})) });
        Config::from_json(&document.to_string(), &|_: &str| None).expect("a good configuration")
    };
    let nowhere = dir.path().join("none/requests.log");
    let error = Gateway::builder().config(config(&nowhere)).build().expect_err("the directory is not there");
    assert!(matches!(&error, StartError::Plugin { plugin: "request_log", .. }), "{error:?}");
    assert!(error.to_string().contains("none/requests.log (path): "), "{error}");
    let path = dir.path().join("requests.log");
    let gateway = Gateway::builder().config(config(&path)).build().expect("it starts");
    let refused = gateway.reload(config(&nowhere)).expect_err("the directory is not there");
    assert!(matches!(refused, ReloadError::Start(StartError::Plugin { .. })), "{refused:?}");
    assert_eq!(gateway.ask("sim/echo", "Hello").expect("it goes on"), "Hello");
    assert_eq!(lines(&path, 1).len(), 1, "and so does its log");
}

#[test]
fn a_line_that_cannot_be_written_is_told_of_once_and_costs_no_request() {
    let config =
        json!({ "providers": { "sim": sim(json!({})) }, "plugins": log_to(Path::new("/dev/full"), json!({})) });
    let house = House::with(config, &[]);
    for _ in 0..3 {
        assert_eq!(house.gateway().ask("sim/echo", "Hello").expect("it is answered"), "Hello");
    }
    let of = |path: &str| number(&house.stats(), &format!("/plugins/request_log/own/{path}"));
    eventually("the writes have failed", || of("failed_total") == 3);
    assert_eq!(of("written_total"), 0);
    let events = house.gateway().events().list();
    let told: Vec<_> = events.iter().filter(|event| event.subject == "request_log").collect();
    assert!(told.len() == 1 && told[0].message.contains("lines are lost from here on"), "{told:?}");
}

#[test]
fn lines_of_many_threads_do_not_mix() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("requests.log");
    let bodies = json!({ "bodies": true, "max_body_bytes": "16KiB" });
    let config = json!({ "providers": { "sim": sim(json!({})) }, "plugins": log_to(&path, bodies) });
    let house = House::with(config, &[]);
    scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    house.gateway().ask("sim/echo", &"word ".repeat(1000)).expect("it is answered");
                }
            });
        }
    });
    let ids: std::collections::BTreeSet<_> =
        lines(&path, 40).iter().map(|line| line["request_id"].to_string()).collect();
    assert_eq!(ids.len(), 40, "each has one line");
}

#[test]
fn where_there_are_too_many_some_have_no_line_and_each_of_those_is_counted_and_told_of() {
    const REQUESTS: u64 = 60;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("requests.log");
    let few = json!({ "max_lines_per_s": 2 });
    let house = House::with(json!({ "providers": { "sim": sim(json!({})) }, "plugins": log_to(&path, few) }), &[]);
    for _ in 0..REQUESTS {
        house.gateway().ask("sim/echo", "Hello").expect("it is answered");
    }
    let own = house.stats()["plugins"]["request_log"]["own"].clone();
    let left_out = number(&own, "/left_out_total");
    assert!(left_out > 0 && left_out == number(&own, "/left_out/succeeded"), "{own}");
    drop(house);
    let (told, requests): (Vec<_>, Vec<_>) =
        present(&path).into_iter().partition(|line| line.get("left_out").is_some());
    assert_eq!(requests.len() as u64 + left_out, REQUESTS);
    let sum: u64 = told.iter().map(|line| number(line, "/left_out/succeeded")).sum();
    assert_eq!(sum, left_out, "the last second is told of at the end");
    let message = told[0]["message"].as_str().expect("words");
    assert!(message.contains("requests have no line in this log") && message.contains("succeeded"), "{message}");
}

#[test]
fn slow_ones_and_failures_have_lines_where_plain_successes_have_none_left() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("requests.log");
    let few = json!({ "max_lines_per_s": 1, "slow_after": "1ms" });
    let gate = Gate::new();
    let plugins = log_to(&path, few);
    let config = json!({ "providers": { "sim": sim(json!({})), "p": provider(json!({})) }, "plugins": plugins });
    let house = House::with(config, &[("p", &gate)]);
    // More than one of them in one second, however the seconds fall.
    for _ in 0..3 {
        house.gateway().ask("sim/echo+slow-5ms", "Hello").expect("it is answered");
    }
    scope(|scope| {
        let asking = scope.spawn(|| house.ask());
        gate.next().respond(418, &[], "{}");
        asking.join().expect("no panic").expect_err("it is refused");
    });
    drop(house);
    let outcomes: Vec<_> = present(&path).iter().map(|line| line["outcome"].clone()).collect();
    assert_eq!(outcomes, ["succeeded", "succeeded", "succeeded", "failed"]);
}

#[test]
fn a_line_says_when_a_streams_first_event_came_and_which_trace_it_belongs_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("requests.log");
    let gate = Gate::new();
    let retried = provider(json!({ "network_config": { "max_retries": 1 } }));
    let config = json!({ "providers": { "p": retried }, "plugins": log_to(&path, json!({})) });
    let house = House::with(config, &[("p", &gate)]);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let trace = Trace::from_headers(parent, "a=b").expect("a trace");
    let options = CallOptions::new().trace(trace);
    let sent: Vec<String> = scope(|scope| {
        let reading = scope.spawn(|| {
            let calls = house.gateway().with(&options);
            calls.chat_stream(&ChatRequest::new("p/m", "Hello")).expect("it begins").collect_reply().expect("good");
        });
        let refused = gate.next();
        let mut sent = vec![refused.header("traceparent").expect("a trace").to_owned()];
        assert_eq!(refused.header("tracestate"), Some("a=b"));
        refused.respond(503, &[("retry-after-ms", "1")], "{}");
        let arrived = gate.next();
        sent.push(arrived.header("traceparent").expect("a trace").to_owned());
        feed(&arrived.stream(), &format!("{}{STOP}{USAGE}{DONE}", word("one")));
        reading.join().expect("no panic");
        sent
    });
    assert!(sent.iter().all(|sent| sent[..36] == parent[..36] && sent[52..] == parent[52..]), "{sent:?}");
    assert!(sent[0] != sent[1] && sent[0] != parent, "each attempt is a step of its own: {sent:?}");
    let line = &lines(&path, 1)[0];
    assert_eq!((&line["trace_id"], &line["span_id"]), (&json!(parent[3..35]), &json!(sent[1][36..52])), "{line}");
    assert_eq!((&line["attempts"], &line["outcome"]), (&json!(2), &json!("succeeded")));
    let us = |key: &str| line[key].as_u64().unwrap_or_else(|| panic!("{key} in {line}"));
    assert!(us("first_token_us") <= us("total_us") && us("first_token_us") >= us("upstream_us"), "{line}");
}
