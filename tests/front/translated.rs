//! A client of one shape before a provider of another: what each of the two sees, whole and streamed, well and failing.

use serde_json::{Value, json};

use super::{Client, Station};
use crate::anthropic::{event, events, told};
use crate::house::{DONE, Gate, House, STOP, USAGE, feed, number, provider, reply, wait_left, word};

/// A gateway on a provider of each shape, `o` and `a`, behind gates.
fn station() -> (Station, Gate, Gate) {
    let (o, a) = (Gate::new(), Gate::new());
    let providers = json!({ "o": provider(json!({})), "a": provider(json!({ "kind": "anthropic" })) });
    (Station::on(House::new(providers, &[("o", &o), ("a", &a)])), o, a)
}

fn message(model: &str, more: Value) -> String {
    let mut body = json!({ "model": model, "max_tokens": 50, "messages": [{ "role": "user", "content": "one two" }] });
    crate::house::merge(&mut body, more);
    body.to_string()
}

fn chat(model: &str, more: Value) -> String {
    let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": "one two" }] });
    crate::house::merge(&mut body, more);
    body.to_string()
}

fn messages<'a>(client: &'a mut Client, body: &str) -> &'a mut Client {
    client.ask("POST", "/v1/messages", &["anthropic-beta: a-1", "openai-beta: o-1"], body)
}

/// The data of events, by their types.
fn data_of(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

#[test]
fn a_message_reaches_a_provider_of_openais_shape_and_its_answer_comes_back_as_one() {
    let (station, o, _) = station();
    let mut client = station.client();
    let tool = json!({ "name": "f", "input_schema": { "type": "object" } });
    let more = json!({ "system": "be brief", "tools": [tool], "fallbacks": ["a/m"] });
    messages(&mut client, &message("o/m", more));
    let arrived = o.next();
    assert_eq!((arrived.method, arrived.path.as_str()), ("POST", "/v1/chat/completions"));
    assert_eq!((arrived.header("openai-beta"), arrived.header("anthropic-beta")), (Some("o-1"), None));
    assert_eq!((arrived.header("anthropic-version"), arrived.header("x-api-key")), (None, None));
    let sent = arrived.json();
    assert_eq!(sent["model"], "m");
    assert_eq!(sent["messages"][0], json!({ "role": "system", "content": "be brief" }));
    assert_eq!(sent["tools"][0]["function"]["name"], "f");
    assert!(sent.get("fallbacks").is_none() && sent.get("system").is_none(), "{sent}");
    arrived.respond(200, &[("content-type", "application/json; charset=utf-8"), ("x-ratelimit-x", "1")], reply("well"));
    let answer = client.answer();
    let body = answer.json();
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!((&body["type"], &body["role"]), (&json!("message"), &json!("assistant")), "{body}");
    assert_eq!((&body["content"][0]["text"], &body["stop_reason"]), (&json!("well"), &json!("end_turn")), "{body}");
    assert_eq!((&body["usage"]["input_tokens"], &body["usage"]["output_tokens"]), (&json!(1), &json!(2)), "{body}");
    assert_eq!((answer.header("x-sluicegate-provider"), answer.header("x-ratelimit-x")), (Some("o"), Some("1")));
    assert_eq!(answer.header("request-id"), answer.header("x-request-id"));
    assert_eq!(answer.header("x-sluicegate-dropped"), None);
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/providers/o/jobs/tokens_out_total"), 2);
}

#[test]
fn a_chat_reaches_a_provider_of_anthropics_shape_and_its_answer_comes_back_as_one() {
    let (station, _, a) = station();
    let mut client = station.client();
    let headers = ["anthropic-beta: a-1", "anthropic-version: 2099-01-01", "openai-organization: org"];
    client.chat(&headers, &chat("a/m", json!({ "seed": 5, "stop": ["x"] })));
    let arrived = a.next();
    assert_eq!((arrived.method, arrived.path.as_str()), ("POST", "/v1/messages"));
    assert_eq!((arrived.header("anthropic-beta"), arrived.header("openai-organization")), (Some("a-1"), None));
    assert_eq!(arrived.header("anthropic-version"), Some("2023-06-01"), "that of what is written");
    let sent = arrived.json();
    assert_eq!(
        (&sent["model"], &sent["max_tokens"], &sent["stop_sequences"]),
        (&json!("m"), &json!(4096), &json!(["x"]))
    );
    assert!(sent.get("seed").is_none(), "{sent}");
    arrived.respond(200, &[("content-type", "application/json"), ("request-id", "req_1")], told("well"));
    let answer = client.answer();
    let body = answer.json();
    assert_eq!((&body["object"], &body["model"]), (&json!("chat.completion"), &json!("claude")), "{body}");
    assert_eq!(body["choices"][0]["message"]["content"], "well");
    assert_eq!((&body["choices"][0]["finish_reason"], &body["usage"]["total_tokens"]), (&json!("stop"), &json!(7)));
    assert_eq!((answer.header("x-sluicegate-dropped"), answer.header("request-id")), (Some("seed"), Some("req_1")));
}

#[test]
fn a_stream_of_openais_comes_as_a_message_event_by_event() {
    let (station, o, _) = station();
    for done in [DONE, ""] {
        let mut client = station.client();
        messages(&mut client, &message("o/m", json!({ "stream": true })));
        let arrived = o.next();
        assert_eq!(arrived.json()["stream_options"]["include_usage"], true);
        let pieces = arrived.stream();
        feed(&pieces, &word("one "));
        client.wait_for("one ");
        for text in [": comment\n\n", &word("two"), STOP, USAGE, done] {
            feed(&pieces, text);
        }
        drop(pieces);
        let answer = client.answer();
        assert!(answer.complete, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
        let data = data_of(answer.text());
        let types: Vec<_> = data.iter().map(|data| data["type"].as_str().expect("a type")).collect();
        let wanted = [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ];
        assert_eq!(types, wanted, "{}", answer.text());
        assert_eq!(data[5]["usage"]["output_tokens"], 2, "{}", data[5]);
        assert!(!answer.text().contains("[DONE]") && answer.text().contains(": comment\n\n"));
    }
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/providers/o/jobs/tokens_out_total"), 4);
    assert_eq!(number(&stats, "/providers/o/jobs/first_token_us/count"), 2);
}

#[test]
fn a_message_comes_as_a_stream_of_openais_however_its_bytes_fall() {
    let (station, _, a) = station();
    let all: String = events(&["one ", "two"]).concat();
    for (usage, step) in [(false, 1), (true, 7), (true, all.len())] {
        let mut client = station.client();
        let more = json!({ "stream": true, "stream_options": { "include_usage": usage }, "seed": 5 });
        client.chat(&[], &chat("a/m", more));
        let arrived = a.next();
        assert_eq!((&arrived.json()["stream"], arrived.header("accept")), (&json!(true), Some("text/event-stream")));
        let pieces = arrived.stream();
        all.as_bytes().chunks(step).for_each(|piece| feed(&pieces, std::str::from_utf8(piece).expect("ASCII")));
        drop(pieces);
        let answer = client.answer();
        assert!(answer.complete && answer.text().ends_with(DONE), "{}", answer.text());
        assert_eq!((answer.words().as_str(), answer.header("x-sluicegate-dropped")), ("one two", Some("seed")));
        let data = data_of(answer.text());
        assert!(data.iter().all(|data| data["object"] == "chat.completion.chunk" && data["id"] == "msg_1"));
        let last = data.last().expect("one");
        match usage {
            true => assert_eq!((&last["choices"], &last["usage"]["total_tokens"]), (&json!([]), &json!(7))),
            false => assert_eq!(last["choices"][0]["finish_reason"], "stop"),
        }
    }
}

#[test]
fn a_stream_that_breaks_is_told_of_in_the_clients_shape() {
    let (station, o, a) = station();
    let cut: String = events(&["one"])[..4].concat();
    let mut client = station.client();
    client.chat(&[], &chat("a/m", json!({ "stream": true })));
    feed(&a.next().stream(), &cut);
    let answer = client.answer();
    assert!(!answer.complete && answer.last_error() == "stream_cut", "{}", answer.text());
    let overloaded = event(json!({ "type": "error", "error": { "type": "overloaded_error", "message": "theirs" } }));
    let mut client = station.client();
    client.chat(&[], &chat("a/m", json!({ "stream": true })));
    feed(&a.next().stream(), &(cut + &overloaded));
    let answer = client.answer();
    let last: Value = serde_json::from_str(answer.events().last().expect("one")).expect("JSON");
    assert_eq!((&last["error"]["message"], &last["error"]["type"]), (&json!("theirs"), &json!("overloaded_error")));

    let mut client = station.client();
    messages(&mut client, &message("o/m", json!({ "stream": true })));
    let pieces = o.next().stream();
    feed(&pieces, &word("one"));
    drop(pieces);
    let answer = client.answer();
    assert_eq!((answer.complete, answer.last_error().as_str()), (false, "stream_cut"));
    assert!(
        answer.text().contains("event: error\ndata: {\"type\":\"error\"") && !answer.text().contains("message_stop")
    );
}

#[test]
fn errors_keep_the_providers_words_and_take_the_clients_shape() {
    let (station, o, a) = station();
    let mut client = station.client();
    messages(&mut client, &message("o/m", json!({})));
    let words = json!({ "error": { "message": "theirs", "type": "their_type", "param": "p", "code": "their_code" } });
    o.next().respond(422, &[], words.to_string());
    let answer = client.answer();
    assert_eq!((answer.status, &answer.json()["type"]), (422, &json!("error")));
    assert_eq!(answer.json()["error"], json!({ "type": "their_type", "message": "theirs" }));
    client.chat(&[], &chat("a/m", json!({})));
    let words = json!({ "type": "error", "error": { "type": "overloaded_error", "message": "theirs" } });
    a.next().respond(529, &[], words.to_string());
    let answer = client.answer();
    assert_eq!((answer.status, &answer.json()["error"]["message"]), (529, &json!("theirs")));
    assert_eq!(
        (&answer.json()["error"]["type"], answer.code().as_str()),
        (&json!("overloaded_error"), "upstream_error")
    );
    // What is no answer is none in any shape.
    client.chat(&[], &chat("a/m", json!({})));
    a.next().respond(200, &[], "{\"content\":5}");
    assert_eq!(client.answer().code(), "upstream_bad_response");
}

#[test]
fn what_cannot_be_said_is_refused_by_its_name_before_it_is_sent() {
    let (station, o, a) = station();
    let mut client = station.client();
    for (path, body, param) in [
        ("/v1/chat/completions", chat("a/m", json!({ "n": 2 })), Some("n")),
        ("/v1/chat/completions", chat("a/m", json!({ "unheard_of": true })), Some("unheard_of")),
        ("/v1/messages", message("o/m", json!({ "top_k": 5 })), Some("top_k")),
        ("/v1/messages", message("o/m", json!({ "unheard_of": true })), Some("unheard_of")),
        ("/v1/embeddings", json!({ "model": "a/m", "input": "x" }).to_string(), None),
        ("/v1/completions", json!({ "model": "a/m", "prompt": "x" }).to_string(), None),
        ("/v1/responses", json!({ "model": "a/m", "input": "x" }).to_string(), None),
        ("/v1/messages/count_tokens", message("o/m", json!({})), None),
    ] {
        let answer = client.ask("POST", path, &[], &body).answer();
        assert_eq!((answer.status, answer.code().as_str()), (400, "unsupported"), "{path} {body}");
        let text = answer.json()["error"]["message"].as_str().expect("words").to_owned();
        let named = param.unwrap_or_else(|| path.strip_prefix("/v1").expect("it does"));
        assert!(text.contains(named), "{text}");
        assert_eq!(answer.header("x-sluicegate-provider"), Some(if body.contains("a/m") { "a" } else { "o" }));
    }
    let wrong = client.chat(&[], &chat("a/m", json!({ "temperature": "hot" }))).answer();
    assert_eq!(
        (wrong.status, wrong.code().as_str(), &wrong.json()["error"]["param"]),
        (400, "invalid_request", &json!("temperature"))
    );
    assert!(o.is_empty() && a.is_empty());
    let stats = station.house.at_rest();
    assert_eq!(stats["errors"], json!({ "unsupported": 8, "invalid_request": 1 }));
}

#[test]
fn a_request_falls_back_across_shapes_and_each_target_is_spoken_to_in_its_own() {
    let (station, o, a) = station();
    let mut client = station.client();
    for stream in [false, true] {
        messages(&mut client, &message("a/m", json!({ "fallbacks": ["o/n"], "stream": stream })));
        let first = a.next();
        assert_eq!(first.json()["max_tokens"], 50);
        first.respond(529, &[], r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#);
        let second = o.next();
        assert_eq!((second.path.as_str(), &second.json()["model"]), ("/v1/chat/completions", &json!("n")));
        if stream {
            let pieces = second.stream();
            [&word("hi"), STOP, DONE].into_iter().for_each(|text| feed(&pieces, text));
        } else {
            second.answer();
        }
        let answer = client.answer();
        assert_eq!((answer.status, answer.header("x-sluicegate-fallbacks")), (200, Some("1")), "{}", answer.text());
        assert!(answer.text().contains(if stream { "event: message_stop" } else { "\"type\":\"message\"" }));

        client.chat(&[], &chat("o/m", json!({ "fallbacks": ["a/n"], "stream": stream })));
        o.next().respond(503, &[], "{}");
        let second = a.next();
        assert_eq!(second.path, "/v1/messages");
        if stream {
            feed(&second.stream(), &events(&["hi"]).concat());
        } else {
            second.respond(200, &[], told("hi"));
        }
        let answer = client.answer();
        assert_eq!((answer.status, answer.header("x-sluicegate-provider")), (200, Some("a")), "{}", answer.text());
        assert!(answer.text().contains("\"object\":\"chat.completion"), "{}", answer.text());
    }
}

#[test]
fn a_stream_that_is_held_is_translated_whole() {
    let (station, o, _) = station();
    let mut client = station.client();
    let body = message("o/m", json!({ "stream": true, "fallbacks": ["o/n"] }));
    client.ask("POST", "/v1/messages", &["x-sluicegate-stream-recovery: buffer"], &body);
    let pieces = o.next().stream();
    feed(&pieces, &word("lost"));
    drop(pieces);
    let pieces = o.next().stream();
    [&word("kept"), STOP].into_iter().for_each(|text| feed(&pieces, text));
    drop(pieces);
    let answer = client.answer();
    assert!(answer.complete && answer.text().ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
    assert!(answer.text().contains("kept") && !answer.text().contains("lost"), "{}", answer.text());
}

#[test]
fn who_leaves_a_translated_stream_ends_it_upstream() {
    let (station, _, a) = station();
    let mut client = station.client();
    client.chat(&[], &chat("a/m", json!({ "stream": true })));
    let pieces = a.next().stream();
    feed(&pieces, &events(&["one"])[..4].concat());
    client.wait_for("one");
    drop(client);
    wait_left(&pieces);
}
