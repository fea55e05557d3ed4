//! A script in a provider's place: what it plays is what a gateway does with such a provider, without network or key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use sluicegate::error::Retry;
use sluicegate::testing::{Canned, Script};
use sluicegate::time::{Deadline, now};
use sluicegate::{ChatRequest, Code, Gateway, KeySetup, ProviderReply, ProviderSetup};

use crate::house::{FUSE, SLACK, code, eventually, ms};

/// A gateway on `script` under the name `p`.
fn on(script: &Script, setup: ProviderSetup) -> Gateway {
    let builder = Gateway::builder().provider(setup).transport("p", Arc::new(script.clone()));
    builder.build().unwrap_or_else(|error| panic!("{error}"))
}

fn p() -> ProviderSetup {
    ProviderSetup::openai_compatible("p", "http://localhost").max_retries(0)
}

fn words(gateway: &Gateway) -> Vec<sluicegate::Result<String>> {
    let stream = gateway.chat_stream(&ChatRequest::new("p/m", "x")).expect("it begins");
    stream.map(|chunk| chunk.map(|chunk| chunk.text().to_owned())).collect()
}

#[test]
fn a_provider_known_by_name_needs_neither_key_nor_network() {
    let script = Script::new().then(Canned::text("played"));
    let gateway = Gateway::builder().transport("openai", Arc::new(script.clone())).build().expect("it starts");
    assert!(gateway.is_ready());
    assert_eq!(gateway.ask("openai/gpt-4o", "x").expect("an answer"), "played");
    assert_eq!((script.requests().len(), script.left()), (1, 0));
    assert_eq!(script.requests()[0].model(), "gpt-4o");
}

#[test]
fn answers_come_in_order_and_rules_go_before_them() {
    let script = Script::new()
        .then(Canned::text("first"))
        .then(Canned::stream(["sec", "ond"]))
        .whenever(|request| request.model() == "ruled", Canned::json(200, json!({ "choices": [] })));
    let gateway = on(&script, p());
    assert_eq!(gateway.ask("p/ruled", "x").expect("an answer"), "");
    assert_eq!(gateway.ask("p/m", "x").expect("an answer"), "first");
    assert_eq!(gateway.ask("p/ruled", "x").expect("an answer"), "");
    assert_eq!(gateway.ask("p/m", "x").expect("an answer"), "second", "asked for whole, its pieces come as one");
    let dry = gateway.ask("p/m", "x").expect_err("it has run dry");
    assert_eq!(dry.message(), "the script has no answer left for request 5, POST /v1/chat/completions for \"m\"");
    let _ = script.clone().then(Canned::text("more"));
    assert_eq!(gateway.ask("p/m", "x").expect("an answer"), "more");
}

#[test]
fn looks_whether_the_provider_is_there_meet_no_rule_and_are_not_remembered() {
    let ruled = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&ruled);
    let script = Script::new().whenever(
        move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            true
        },
        Canned::error(400, "ruled"),
    );
    let gateway = on(&script, p().check_on_start(true).health_interval(ms(5)));
    let health = || serde_json::to_value(gateway.stats()).expect("JSON")["providers"]["p"]["health"].clone();
    eventually("it was looked at", || health()["state"] == "healthy");
    assert_eq!((ruled.load(Ordering::SeqCst), script.requests().len()), (0, 0));
    assert_eq!(gateway.ask("p/m", "x").expect_err("it is ruled").message(), "ruled");
    assert_eq!((ruled.load(Ordering::SeqCst), script.requests().len()), (1, 1));
    assert_eq!(health()["failures_total"], 0);
}

#[test]
fn a_stream_comes_in_its_pieces_and_is_cut_where_the_script_says() {
    let tool = ProviderReply::text("").with_tool_call("c", "f", &json!({ "a": 1 }));
    let script = Script::new()
        .then(Canned::stream(["a", "b"]))
        .then(Canned::reply(tool))
        .then(Canned::stream(["a", "b", "c"]).cut_after(2))
        .then(Canned::text("abcdef").cut_after(0));
    let gateway = on(&script, p());
    let whole: Vec<_> = words(&gateway).into_iter().map(|word| word.expect("good")).collect();
    assert_eq!(whole.concat(), "ab");
    let stream = gateway.chat_stream(&ChatRequest::new("p/m", "x")).expect("it begins");
    let reasons: Vec<_> = stream.filter_map(|chunk| chunk.expect("good").finish_reason().map(str::to_owned)).collect();
    assert_eq!(reasons, ["tool_calls"]);
    let cut = words(&gateway);
    assert_eq!(cut.len(), 3, "{cut:?}");
    assert_eq!((cut[1].as_deref().expect("good"), code(&cut[2])), ("b", Code::StreamCut));
    assert_eq!(code(&gateway.ask("p/m", "x")), Code::UpstreamBadResponse);
}

#[test]
fn errors_and_their_times_are_a_providers() {
    let script = Script::new().then(Canned::error(429, "slow down").with_retry_after(Duration::from_secs(3)));
    let gateway = on(&script, p().key(KeySetup::new("sk-canary-script")));
    let error = gateway.ask("p/m", "x").expect_err("too many");
    assert_eq!((error.status(), error.message()), (429, "slow down"));
    assert_eq!(error.retry(), Retry::After(Duration::from_secs(3)));
    assert_eq!(code(&gateway.ask("p/m", "x")), Code::RateLimited, "its key rests, and it is not asked");
    let requests = script.requests();
    assert_eq!(requests.len(), 1);
    let header = |name: &str| requests[0].headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value);
    assert_eq!((header("content-type"), header("authorization")), (Some("application/json"), Some("[redacted]")));
    assert!(!format!("{requests:?}").contains("canary"));
}

#[test]
fn a_provider_that_hangs_ends_by_its_limits_and_by_whoever_leaves() {
    let slow = Canned::text("slow").after(FUSE);
    let script = Script::new().then(Canned::hang()).then(Canned::hang()).then(slow);
    let gateway = on(&script, p().request_timeout(ms(40)));
    let fuse = Deadline::after(FUSE / SLACK);
    assert_eq!(code(&gateway.ask("p/m", "x")), Code::UpstreamTimeout);
    assert_eq!(code(&gateway.chat_stream(&ChatRequest::new("p/m", "x")).map(drop)), Code::FirstTokenTimeout);
    assert_eq!(code(&gateway.ask("p/m", "x")), Code::UpstreamTimeout);
    assert!(!fuse.passed(), "nothing was waited for longer than allowed");
    assert_eq!(gateway.shutdown(FUSE).stragglers.len(), 0);
}

#[test]
fn an_answer_that_is_to_come_later_does() {
    let gateway = on(&Script::new().then(Canned::text("slow").after(ms(5))), p());
    let asked = now();
    assert_eq!(gateway.ask("p/m", "x").expect("an answer"), "slow");
    assert!(now().duration_since(asked) >= ms(5));
}
