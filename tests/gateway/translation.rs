//! Library callers, and plugins, where a provider speaks Anthropic's shape or a request is a message.

use std::sync::Arc;
use std::thread::scope;

use serde_json::{Value, json};
use sluicegate::gateway::Gateway;
use sluicegate::model::Operation;
use sluicegate::plugin::{Context, Flow, Outcome, Plugin, PluginError, Reply, Request};
use sluicegate::testing::{Canned, Script};
use sluicegate::wire::openai::ChatRequest;
use sluicegate::{CallOptions, Code};

use crate::anthropic::{events, told};
use crate::house::{CANARY, Gate, House, feed, number, provider};

/// A gateway on one provider, `p`, of Anthropic's shape, with these plugins.
fn house(plugins: Value) -> (House, Gate) {
    let gate = Gate::new();
    let config = json!({ "providers": { "p": provider(json!({ "kind": "anthropic" })) }, "plugins": plugins });
    (House::with(config, &[("p", &gate)]), gate)
}

fn asked(words: &str, stream: bool) -> Vec<u8> {
    let messages = json!([{ "role": "user", "content": words }]);
    json!({ "model": "p/m", "max_tokens": 9, "messages": messages, "stream": stream }).to_string().into_bytes()
}

/// What a stream's blocks say, all together.
fn said(gateway: &Gateway, body: Vec<u8>) -> String {
    let stream = gateway.raw_stream(Operation::Messages, body).expect("it begins");
    let text = |data: Value| data.pointer("/delta/text").and_then(Value::as_str).unwrap_or_default().to_owned();
    stream.map(|event| text(serde_json::from_slice(&event.expect("good").data).expect("JSON"))).collect()
}

#[test]
fn typed_chats_reach_a_provider_of_anthropics_shape() {
    let (house, gate) = house(json!([]));
    scope(|scope| {
        let asking = scope.spawn(|| house.gateway().chat(&ChatRequest::new("p/m", "hi")));
        let arrived = gate.next();
        assert_eq!((arrived.path.as_str(), &arrived.json()["messages"][0]["content"]), ("/v1/messages", &json!("hi")));
        arrived.respond(200, &[], told("well"));
        let reply = asking.join().expect("no panic").expect("an answer");
        assert_eq!((reply.text(), reply.usage.map(|usage| (usage.input, usage.output))), ("well", Some((3, 4))));

        let streaming = scope.spawn(|| {
            let stream = house.gateway().chat_stream(&ChatRequest::new("p/m", "hi")).expect("it begins");
            stream.collect_reply().map(|reply| reply.text().to_owned())
        });
        feed(&gate.next().stream(), &events(&["one ", "two"]).concat());
        assert_eq!(streaming.join().expect("no panic").expect("whole"), "one two");
    });
    let error = house.gateway().raw(Operation::Embeddings, r#"{"model":"p/m","input":"x"}"#).expect_err("it has none");
    assert_eq!(error.code(), Code::Unsupported);
}

#[test]
fn a_library_caller_sends_messages_and_sees_what_was_dropped() {
    let (house, gate) = house(json!([]));
    let body = r#"{"model":"p/m","messages":[{"role":"user","content":"x"}],"seed":1,"user":"u"}"#;
    scope(|scope| {
        let asking = scope.spawn(|| house.gateway().raw(Operation::Messages, asked("hi", false)));
        gate.next().respond(200, &[], told("well"));
        let answer = asking.join().expect("no panic").expect("an answer");
        assert_eq!((&answer.body[..], answer.usage.map(|usage| usage.output)), (told("well").as_bytes(), Some(4)));
        let streaming = scope.spawn(|| said(house.gateway(), asked("hi", true)));
        feed(&gate.next().stream(), &events(&["one ", "two"]).concat());
        assert_eq!(streaming.join().expect("no panic"), "one two");
        let asking = scope.spawn(|| house.gateway().raw(Operation::ChatCompletions, body));
        gate.next().respond(200, &[], told("well"));
        let answer = asking.join().expect("no panic").expect("an answer");
        let dropped = answer.headers.iter().find(|(name, _)| name == "x-sluicegate-dropped");
        assert_eq!(dropped.map(|(_, value)| value.as_str()), Some("seed"));
    });
}

/// Answers by itself, before a provider is asked or after one has failed.
struct Own {
    before: bool,
}

impl Plugin for Own {
    fn name(&self) -> &str {
        "own"
    }

    fn pre(&self, _: &mut Request<'_>, _: &mut Context<'_>) -> Result<Flow, PluginError> {
        Ok(if self.before { Flow::Answer(Reply::chat("by itself")) } else { Flow::Continue })
    }

    fn post(&self, outcome: &mut Outcome, _: &mut Context<'_>) -> Result<(), PluginError> {
        if outcome.error().is_some() {
            outcome.answer_with(Reply::chat("afterwards"));
        }
        Ok(())
    }
}

#[test]
fn a_plugins_answer_to_a_chat_is_one_to_a_message_too() {
    for (before, words) in [(true, "by itself"), (false, "afterwards")] {
        let gateway = Gateway::builder().plugin(Arc::new(Own { before })).build().expect("it starts");
        let body = |stream: bool| {
            let body = String::from_utf8(asked("hi", stream)).expect("text");
            body.replace("p/m", "sim/fail-400").into_bytes()
        };
        let answer = gateway.raw(Operation::Messages, body(false)).expect("an answer");
        let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!((&answer["type"], &answer["content"][0]["text"]), (&json!("message"), &json!(words)));
        let events: Vec<_> = gateway.raw_stream(Operation::Messages, body(true)).expect("it begins").collect();
        let names: Vec<_> = events.iter().map(|event| event.as_ref().expect("good").name.as_str()).collect();
        assert_eq!((names.first(), names.last()), (Some(&"message_start"), Some(&"message_stop")), "{names:?}");
        let chat = gateway.ask("sim/fail-400", "hi").expect("an answer");
        assert_eq!(chat, words);
    }
}

#[test]
fn a_cache_keeps_messages_apart_from_chats_and_streams_from_whole_ones() {
    let (house, gate) = house(json!([{ "name": "response_cache", "config": {} }]));
    scope(|scope| {
        let ask = || house.gateway().raw(Operation::Messages, asked("hi", false)).expect("an answer").body.into_vec();
        let asking = scope.spawn(ask);
        gate.next().respond(200, &[], told("well"));
        assert_eq!(asking.join().expect("no panic"), ask(), "the second was kept");
        let chat = asked("hi", false);
        let asking = scope.spawn(|| house.gateway().raw(Operation::ChatCompletions, chat));
        gate.next().respond(200, &[], told("a chat"));
        let answer = asking.join().expect("no panic").expect("an answer");
        assert!(String::from_utf8_lossy(&answer.body).contains("chat.completion"), "the same body is another request");
        let streaming = scope.spawn(|| said(house.gateway(), asked("hi", true)));
        feed(&gate.next().stream(), &events(&["one ", "two"]).concat());
        assert_eq!(streaming.join().expect("no panic"), "one two");
        assert_eq!(said(house.gateway(), asked("hi", true)), "one two");
        for _ in 0..2 {
            let count = scope.spawn(|| house.gateway().raw(Operation::CountTokens, asked("hi", false)));
            gate.next().respond(200, &[], r#"{"input_tokens":2}"#);
            count.join().expect("no panic").expect("an answer");
        }
    });
    let own = &house.stats()["plugins"]["response_cache"]["own"];
    assert_eq!((number(own, "/hits_total"), number(own, "/stored_total")), (2, 3), "{own}");
}

#[test]
fn what_is_taken_out_of_a_message_comes_back_whole_and_in_pieces() {
    let (house, gate) = house(json!([{ "name": "redaction", "config": {} }]));
    let prompt = "Write to bob@example.org";
    scope(|scope| {
        let asking = scope.spawn(|| house.gateway().raw(Operation::Messages, asked(prompt, false)));
        let arrived = gate.next();
        assert_eq!(arrived.json()["messages"][0]["content"], "Write to [EMAIL_1]");
        arrived.respond(200, &[], told("Dear [EMAIL_1]"));
        let answer = asking.join().expect("no panic").expect("an answer");
        assert!(String::from_utf8_lossy(&answer.body).contains("Dear bob@example.org"));
        let streaming = scope.spawn(|| said(house.gateway(), asked(prompt, true)));
        feed(&gate.next().stream(), &events(&["Dear [EM", "AIL_1", "], [EMAIL_1", "] [EM"]).concat());
        assert_eq!(streaming.join().expect("no panic"), "Dear bob@example.org, bob@example.org [EM");
        // A chat that is translated is redacted before, and given back after.
        let asking = scope.spawn(|| house.gateway().ask("p/m", prompt));
        let arrived = gate.next();
        assert!(!String::from_utf8_lossy(&arrived.body).contains("bob@"));
        arrived.respond(200, &[], told("Dear [EMAIL_1]"));
        assert_eq!(asking.join().expect("no panic").expect("an answer"), "Dear bob@example.org");
    });
}

#[test]
fn a_messages_fallbacks_may_come_beside_it() {
    let (house, gate) = house(json!([]));
    let options = CallOptions::new().fallbacks(["p/n"]);
    scope(|scope| {
        let asking = scope.spawn(|| house.gateway().with(&options).raw(Operation::Messages, asked("hi", false)));
        gate.next().respond(529, &[], "{}");
        let second = gate.next();
        assert_eq!(second.json()["model"], "n");
        second.respond(200, &[], told("well"));
        assert_eq!(asking.join().expect("no panic").expect("an answer").served.fallbacks, 1);
    });
}

#[test]
fn a_message_reaches_what_speaks_openais_shape_in_the_program_itself() {
    let script = Script::new().then(Canned::text("played")).then(Canned::stream(["one ", "two"]));
    let gateway = Gateway::builder().transport("p", Arc::new(script.clone())).build().expect("it starts");
    let answer = gateway.raw(Operation::Messages, asked("hi", false)).expect("an answer");
    let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!((&answer["type"], &answer["content"][0]["text"]), (&json!("message"), &json!("played")));
    assert_eq!(said(&gateway, asked("hi", true)), "one two");
    assert_eq!((script.requests()[0].model(), script.left()), ("m", 0));
}

#[test]
fn whether_it_is_there_is_asked_with_its_key_and_version() {
    let gate = Gate::new();
    let settings = provider(json!({ "kind": "anthropic", "health": { "on_start": true, "interval": 0 } }));
    scope(|scope| {
        let starting = scope.spawn(|| House::new(json!({ "p": settings }), &[("p", &gate)]));
        let arrived = gate.next();
        assert_eq!((arrived.method, arrived.path.as_str()), ("GET", "/v1/models"));
        assert_eq!(arrived.header("x-api-key"), Some(CANARY));
        assert_eq!(arrived.header("anthropic-version"), Some("2023-06-01"));
        arrived.respond(200, &[], "{}");
        drop(starting.join().expect("no panic"));
    });
}
