//! The plugin `request_log`: what stands in its lines, where they go, and what a line that cannot be written costs.

use std::path::Path;
use std::thread::scope;

use serde_json::{Value, json};
use sluicegate::config::Config;
use sluicegate::gateway::{CallOptions, Gateway, ReloadError, StartError};
use sluicegate::wire::openai::ChatRequest;

use crate::house::{DONE, Gate, House, STOP, USAGE, chat, feed, number, provider, sim, word};

fn log_to(path: &Path, more: Value) -> Value {
    let mut config = json!({ "path": path });
    crate::house::merge(&mut config, more);
    json!([{ "name": "request_log", "config": config }])
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("it is there");
    assert!(text.is_empty() || text.ends_with('\n'), "a line was cut: {text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
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
        assert!(lines(&path).is_empty(), "it has not ended");
        q.next().answer();
        asking.join().expect("no panic").expect("it is answered");
    });
    let [line] = &lines(&path)[..] else { panic!("one line: {:?}", lines(&path)) };
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
    assert_eq!(number(&house.stats(), "/plugins/request_log/own/written_total"), 1);
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
    let [line] = &lines(&path)[..] else { panic!("one line: {:?}", lines(&path)) };
    assert_eq!((&line["status"], &line["error"]), (&json!(418), &json!("upstream_error")), "{line}");
    assert_eq!((&line["provider"], &line["attempts"]), (&json!("p"), &json!(1)), "{line}");
    assert_eq!((&line["tokens_in"], &line["bytes_out"]), (&Value::Null, &json!(0)), "{line}");
    let unknown = house.gateway().chat(&ChatRequest::new("nobody/m", "Hello"));
    unknown.expect_err("there is no such provider");
    assert_eq!(lines(&path).len(), 1, "what did not come as far as the plugins has no line");
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
    let [whole, streamed] = &lines(&path)[..] else { panic!("two lines: {:?}", lines(&path)) };
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
    assert_eq!(lines(&path).len(), 1, "and so does its log");
}

#[test]
fn a_line_that_cannot_be_written_is_told_of_once_and_costs_no_request() {
    let config =
        json!({ "providers": { "sim": sim(json!({})) }, "plugins": log_to(Path::new("/dev/full"), json!({})) });
    let house = House::with(config, &[]);
    for _ in 0..3 {
        assert_eq!(house.gateway().ask("sim/echo", "Hello").expect("it is answered"), "Hello");
    }
    let stats = house.at_rest();
    let of = |path: &str| number(&stats, &format!("/plugins/request_log/{path}"));
    assert_eq!((of("own/failed_total"), of("own/written_total"), of("errors_total")), (3, 0, 1));
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
    let ids: std::collections::BTreeSet<_> = lines(&path).iter().map(|line| line["request_id"].to_string()).collect();
    assert_eq!(ids.len(), 40, "each has one line");
}
