//! What a caller asks of a gateway, with options and without, and the typed answers to it.

use std::thread::scope;

use serde_json::{Value, json};
use sluicegate::model::Operation;
use sluicegate::sync::CancelToken;
use sluicegate::{CallOptions, ChatReply, ChatRequest, Code, EmbedRequest, Message, Tool};

use crate::house::{House, chat, code, ms, number, provider, reply, sim};

fn simulated() -> House {
    House::new(json!({ "sim": sim(json!({})) }), &[])
}

#[test]
fn fallbacks_and_tags_of_the_options_stay_here() {
    let (house, gate) = House::gated(provider(json!({})));
    let options = CallOptions::new().fallbacks(["p/second"]).tag("team", "search");
    let reply = scope(|scope| {
        let call = scope.spawn(|| house.gateway().with(&options).chat(&ChatRequest::new("p/first", "hi")));
        let first = gate.next();
        assert_eq!(first.json()["model"], "first");
        first.respond(500, &[], "{}");
        let second = gate.next();
        let wanted = json!({ "model": "second", "stream": false, "messages": [{ "role": "user", "content": "hi" }] });
        assert_eq!(second.json(), wanted);
        assert!(!second.headers.iter().any(|(_, value)| value.contains("search")), "{:?}", second.headers);
        second.answer();
        call.join().expect("no panic").expect("it falls back")
    });
    let served = reply.served();
    assert_eq!((served.attempts, served.fallbacks, served.model.as_str()), (2, 1, "second"));
}

#[test]
fn what_the_request_names_itself_goes_before_the_options() {
    let house = simulated();
    let calls = house.gateway().with(CallOptions::new().fallbacks(["sim/nonsense"]));
    let request = ChatRequest::new("sim/fail-500", "Hello").with_fallback("sim/echo");
    assert_eq!(calls.chat(&request).expect("its own fallback answers").text(), "Hello");
}

#[test]
fn options_that_make_no_sense_fail_the_request_and_are_counted() {
    let house = simulated();
    for (options, param) in [
        (CallOptions::new().fallbacks(["nobody/x"]), "fallbacks"),
        (CallOptions::new().fallbacks([""]), "fallbacks"),
        (CallOptions::new().tag("no good", ""), "tags"),
    ] {
        let error = house.gateway().with(&options).ask("sim/echo", "Hello").expect_err("it is refused");
        assert_eq!((error.code(), error.param()), (Code::InvalidRequest, Some(param)), "{error}");
    }
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/requests/failed_total"), 3);
    assert_eq!(number(&stats, "/providers/sim/queue/submitted_total"), 0, "nothing was sent");
}

#[test]
fn a_deadline_runs_anew_for_each_call() {
    let house = simulated();
    let calls = house.gateway().with(CallOptions::new().deadline(ms(300)));
    for _ in 0..2 {
        assert_eq!(code(&calls.ask("sim/hang", "Hello")), Code::UpstreamTimeout);
    }
    assert_eq!(calls.ask("sim/echo", "Hello").expect("it has time of its own"), "Hello");
}

#[test]
fn a_token_cancels_the_call_that_it_goes_with() {
    let (house, gate) = House::gated(provider(json!({})));
    let token = CancelToken::new();
    let error = scope(|scope| {
        let call = scope.spawn(|| house.gateway().with(CallOptions::new().cancel(token.clone())).ask("p/m", "hi"));
        let held = gate.next();
        token.cancel();
        held.wait_over();
        call.join().expect("no panic").expect_err("it was cancelled")
    });
    assert_eq!(error.code(), Code::ClientClosed);
    assert_eq!(number(&house.at_rest(), "/requests/cancelled_total"), 1);
}

#[test]
fn a_conversation_goes_on_with_what_was_answered() {
    let house = simulated();
    let mut request = ChatRequest::to("sim/echo").with_message(Message::user("one"));
    for text in ["one", "two", "three"] {
        let reply = house.gateway().chat(&request).expect("an answer");
        assert_eq!((reply.text(), reply.model()), (text, "echo"));
        let next = if text == "one" { "two" } else { "three" };
        request.messages.extend([reply.message(), Message::user(next)]);
    }
    assert_eq!(request.messages.len(), 7);
}

#[test]
fn a_streamed_answer_put_together_is_the_whole_one() {
    let house = simulated();
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    let request = |model: &str| {
        ChatRequest::new(model, "What is the weather?")
            .with_tools([Tool::function("weather", "Tells it.", schema.clone())])
            .with("stream_options", json!({ "include_usage": true }))
    };
    for model in ["sim/tool", "sim/lorem-20", "sim/json"] {
        let mut whole_of = request(model);
        whole_of.extra.shift_remove("stream_options");
        let whole = house.gateway().chat(&whole_of).expect("an answer");
        let made = house.gateway().chat_stream(&request(model)).expect("it begins").collect_reply().expect("a whole");
        assert_eq!((made.text(), made.finish_reason()), (whole.text(), whole.finish_reason()), "{model}");
        let calls = |reply: &ChatReply| -> Vec<_> {
            reply.tool_calls().into_iter().map(|call| (call.name, call.arguments)).collect()
        };
        assert_eq!(calls(&made), calls(&whole), "{model}");
        assert_eq!((made.usage, made.model()), (whole.usage, whole.model()), "{model}");
        assert_eq!((&*made.served().provider, made.served().attempts), ("sim", 1));
        if model == "sim/tool" {
            assert_eq!(made.tool_calls()[0].name, "weather");
            assert!(made.tool_calls()[0].arguments_as::<Value>().expect("JSON").is_object());
        }
    }
}

#[test]
fn a_stream_that_is_cut_gives_no_whole_answer() {
    let house = simulated();
    let stream = house.gateway().chat_stream(&ChatRequest::new("sim/lorem-20+cut-3", "hi")).expect("it begins");
    assert_eq!(code(&stream.collect_reply()), Code::StreamCut);
}

#[test]
fn what_was_read_of_a_stream_before_is_in_the_whole_answer() {
    let house = simulated();
    let request = ChatRequest::new("sim/lorem-20", "hi");
    let whole = house.gateway().chat(&request).expect("an answer");
    for read in [0, 1, 7, usize::MAX] {
        let mut stream = house.gateway().chat_stream(&request).expect("it begins");
        let seen: String = stream.by_ref().take(read).map(|chunk| chunk.expect("good").text().to_owned()).collect();
        let made = stream.collect_reply().expect("a whole");
        assert!(made.text().starts_with(&seen), "{seen}");
        assert_eq!((made.text(), made.finish_reason()), (whole.text(), Some("stop")), "{read}");
    }
    assert_eq!(number(&house.at_rest(), "/requests/succeeded_total"), 5);
}

#[test]
fn an_error_that_a_stream_ended_by_is_told_again_to_who_wants_it_whole() {
    let house = simulated();
    let mut stream = house.gateway().chat_stream(&ChatRequest::new("sim/lorem-20+cut-3", "hi")).expect("it begins");
    let seen = stream.by_ref().last().expect("a last word").expect_err("it was cut");
    assert!(stream.next().is_none());
    let told = stream.collect_reply().expect_err("it was cut");
    assert_eq!((told.code(), told.message(), told.provider()), (Code::StreamCut, seen.message(), seen.provider()));
    let mut cancelled =
        house.gateway().chat_stream(&ChatRequest::new("sim/lorem-20+stall-3", "hi")).expect("it begins");
    cancelled.next().expect("a chunk").expect("good");
    cancelled.cancel();
    assert_eq!(code(&cancelled.collect_reply()), Code::ClientClosed);
    let stats = house.at_rest();
    assert_eq!((number(&stats, "/requests/failed_total"), number(&stats, "/requests/cancelled_total")), (1, 1));
}

#[test]
fn a_round_of_tools_ends_with_what_the_tool_came_to() {
    let house = simulated();
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    let mut request = ChatRequest::new("sim/tool", "What is the weather?").with_tools([Tool::function(
        "weather",
        "Tells it.",
        schema,
    )]);
    let called = house.gateway().chat(&request).expect("an answer");
    let calls = called.tool_calls();
    assert_eq!((calls.len(), called.finish_reason()), (1, Some("tool_calls")));
    request.messages.extend([called.message(), Message::tool(&calls[0].id, "rain, \"heavy\"")]);
    let said = house.gateway().chat(&request).expect("an answer");
    assert_eq!((said.text(), said.tool_calls().len(), said.finish_reason()), ("rain, \"heavy\"", 0, Some("stop")));
    let streamed = house.gateway().chat_stream(&request).expect("it begins").collect_reply().expect("a whole");
    assert_eq!((streamed.text(), streamed.tool_calls().len()), ("rain, \"heavy\"", 0));
    // Whoever asks something else after it begins another round.
    request.messages.extend([said.message(), Message::user("And tomorrow?")]);
    assert_eq!(house.gateway().chat(&request).expect("an answer").tool_calls().len(), 1);
}

#[test]
fn a_stream_of_another_shape_comes_event_by_event() {
    let house = simulated();
    let body = json!({ "model": "sim/echo", "stream": true, "input": "one two" }).to_string();
    let stream = house.gateway().raw_stream(Operation::Responses, body).expect("it begins");
    let events = stream.collect::<Result<Vec<_>, _>>().expect("good");
    assert_eq!(events.first().expect("an event").name, "response.created");
    assert_eq!(events.last().expect("an event").name, "response.completed");
    assert!(events.iter().all(|event| serde_json::from_slice::<Value>(&event.data).is_ok()));
    let unasked = house.gateway().raw_stream(Operation::ChatCompletions, chat("sim/echo", false));
    assert_eq!(unasked.expect_err("it asks for none").param(), Some("stream"));
    let asked = house.gateway().raw(Operation::ChatCompletions, chat("sim/echo", true));
    assert_eq!(asked.expect_err("it asks for one").param(), Some("stream"));
}

#[test]
fn vectors_come_in_the_order_of_their_texts_however_they_are_written() {
    let house = simulated();
    let request = EmbedRequest::new("sim/echo", ["one", "two", "one"]).with_dimensions(16);
    let plain = house.gateway().embed(&request).expect("vectors");
    let coded = house.gateway().embed(&request.with("encoding_format", "base64")).expect("vectors");
    assert_eq!(plain.vectors, coded.vectors);
    assert_eq!((plain.vectors.len(), plain.vectors[0].len()), (3, 16));
    assert!(plain.vectors[0] == plain.vectors[2] && plain.vectors[0] != plain.vectors[1]);
    let length: f32 = plain.vectors[1].iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-3, "{length}");
    assert_eq!((plain.usage.expect("counted").input, plain.served().attempts), (3, 1));
}

#[test]
fn vectors_that_are_too_few_are_a_bad_answer() {
    let (house, gate) = House::gated(provider(json!({})));
    let result = scope(|scope| {
        let call = scope.spawn(|| house.gateway().embed(&EmbedRequest::new("p/e", ["one", "two"])));
        let body = json!({ "data": [{ "index": 0, "embedding": [1.0] }], "model": "e" });
        gate.next().respond(200, &[("content-type", "application/json")], body.to_string());
        call.join().expect("no panic")
    });
    assert_eq!(code(&result), Code::UpstreamBadResponse);
}

#[test]
fn what_a_provider_adds_is_kept_and_what_it_leaves_out_is_empty() {
    let (house, gate) = House::gated(provider(json!({})));
    scope(|scope| {
        let call = scope.spawn(|| house.gateway().chat(&ChatRequest::new("p/m", "hi").with("their_field", 7)));
        let asked = gate.next();
        assert_eq!(asked.json()["their_field"], 7);
        let mut body: Value = serde_json::from_str(&reply("well")).expect("JSON");
        body["their_answer"] = json!([1]);
        asked.respond(200, &[("content-type", "application/json")], body.to_string());
        let reply = call.join().expect("no panic").expect("an answer");
        assert_eq!((reply.text(), &reply.raw["their_answer"]), ("well", &json!([1])));
        assert_eq!((reply.model(), reply.choices().count()), ("m", 1));
    });
}
