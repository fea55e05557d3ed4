//! The plugin `redaction` between a caller and a provider: what goes upstream, and what comes back, whole and in a stream.

use std::thread::scope;

use serde_json::{Value, json};
use sluicegate::CallOptions;
use sluicegate::model::Operation;
use sluicegate::wire::openai::{ChatRequest, Message};

use crate::house::{Arrived, DONE, FUSE, Gate, House, STOP, eventually, feed, number, provider, reply, word};

fn house(config: Value) -> (House, Gate) {
    let gate = Gate::new();
    let plugins = json!([{ "name": "redaction", "config": config }]);
    let house = House::with(json!({ "providers": { "p": provider(json!({})) }, "plugins": plugins }), &[("p", &gate)]);
    (house, gate)
}

/// Asks with `prompt` while `play` plays the provider.
fn asked(house: &House, gate: &Gate, prompt: &str, play: impl FnOnce(Arrived)) -> String {
    scope(|scope| {
        let asking = scope.spawn(|| house.gateway().ask("p/m", prompt));
        play(gate.next());
        asking.join().expect("no panic").expect("it is answered")
    })
}

/// The text of a stream, each of whose pieces is an event.
fn streamed(house: &House, gate: &Gate, prompt: &str, events: &[String]) -> String {
    scope(|scope| {
        let request = ChatRequest::new("p/m", prompt);
        let reading = scope.spawn(move || {
            let stream = house.gateway().chat_stream(&request).expect("it begins");
            stream.map(|chunk| chunk.expect("good").text().to_owned()).collect::<String>()
        });
        let pieces = gate.next().stream();
        events.iter().for_each(|event| feed(&pieces, event));
        feed(&pieces, DONE);
        drop(pieces);
        reading.join().expect("no panic")
    })
}

#[test]
fn what_is_taken_out_of_a_request_comes_back_in_its_answer() {
    let (house, gate) = house(json!({}));
    let prompt = "Write to bob@example.org and eve@example.org, key sk-abcdefghij0123456789";
    let answer = asked(&house, &gate, prompt, |arrived| {
        let sent = arrived.json();
        assert_eq!(sent["messages"][0]["content"], "Write to [EMAIL_1] and [EMAIL_2], key [API_KEY_1]");
        assert_eq!((&sent["model"], &sent["messages"][0]["role"]), (&json!("m"), &json!("user")));
        arrived.respond(200, &[], reply("Dear [EMAIL_2], not [EMAIL_1] or [EMAIL_3]: [API_KEY_1]"));
    });
    assert_eq!(answer, "Dear eve@example.org, not bob@example.org or [EMAIL_3]: sk-abcdefghij0123456789");
    let own = &house.stats()["plugins"]["redaction"]["own"];
    assert_eq!((&own["requests"]["email"], &own["requests"]["api_key"]), (&json!(2), &json!(1)), "{own}");
    assert_eq!((&own["restored_total"], &own["answers"]["email"]), (&json!(3), &json!(0)), "{own}");
}

#[test]
fn a_request_without_anything_of_the_kind_keeps_its_bytes() {
    let (house, gate) = house(json!({}));
    asked(&house, &gate, "Hello at 12:30", |arrived| {
        let wanted = String::from_utf8(ChatRequest::new("p/m", "Hello at 12:30").to_body(false)).expect("text");
        assert_eq!(String::from_utf8_lossy(&arrived.body), wanted.replace("\"p/m\"", "\"m\""));
        arrived.answer();
    });
}

#[test]
fn without_restore_placeholders_stay_and_kinds_can_be_switched_off() {
    let (house, gate) = house(json!({ "restore": false, "kinds": { "email": false }, "literals": ["Falcon"] }));
    let answer = asked(&house, &gate, "bob@example.org of Falcon", |arrived| {
        assert_eq!(arrived.json()["messages"][0]["content"], "bob@example.org of [LITERAL_1]");
        arrived.respond(200, &[], reply("[LITERAL_1]"));
    });
    assert_eq!(answer, "[LITERAL_1]");
}

#[test]
fn a_placeholder_in_pieces_comes_back_as_what_it_stood_for() {
    let (house, gate) = house(json!({}));
    let pieces = ["Dear [E", "MAIL", "_1", "], see [2] and [EMAIL_", "9]; yours, [EMAIL_1", "] [EM"];
    let mut events: Vec<_> = pieces.iter().map(|piece| word(piece)).collect();
    events.push(STOP.to_owned());
    let text = streamed(&house, &gate, "I am bob@example.org", &events);
    assert_eq!(text, "Dear bob@example.org, see [2] and [EMAIL_9]; yours, bob@example.org [EM");
    // The last event has the rest, where no other is left to say it.
    events.pop();
    let text = streamed(&house, &gate, "I am bob@example.org", &events);
    assert!(text.ends_with("bob@example.org [EM"), "{text}");
    assert_eq!(number(&house.at_rest(), "/plugins/redaction/own/restored_total"), 4);
}

#[test]
fn arguments_of_a_tools_call_come_back_in_pieces_too_and_stay_json() {
    let (house, gate) = house(json!({ "patterns": [{ "name": "quoted", "pattern": "<[^>]*>" }] }));
    let call = |arguments: &str| {
        let calls = json!([{ "index": 0, "function": { "arguments": arguments } }]);
        format!("data: {}\n\n", json!({ "choices": [{ "index": 0, "delta": { "tool_calls": calls } }] }))
    };
    let request = ChatRequest::new("p/m", "about <say \"hi\">");
    let arguments: String = scope(|scope| {
        let reading = scope.spawn(|| {
            let stream = house.gateway().chat_stream(&request).expect("it begins");
            let piece = |chunk: Value| {
                let piece = chunk.pointer("/choices/0/delta/tool_calls/0/function/arguments")?;
                piece.as_str().map(str::to_owned)
            };
            stream.filter_map(|chunk| piece(serde_json::to_value(chunk.expect("good").raw).expect("JSON"))).collect()
        });
        let pieces = gate.next().stream();
        for event in [call("{\"a\":\"[QUO"), call("TED_1]\",\"b\":\"["), call("QUOTED_1]\"}["), STOP.to_owned()] {
            feed(&pieces, &event);
        }
        feed(&pieces, DONE);
        reading.join().expect("no panic")
    });
    assert_eq!(arguments, r#"{"a":"<say \"hi\">","b":"<say \"hi\">"}["#);
}

#[test]
fn what_a_model_says_is_redacted_if_that_is_asked_for_and_what_it_was_told_comes_back() {
    let (house, gate) = house(json!({ "answers": "redact" }));
    let said = "You are [EMAIL_1]; ask eve@example.org, card 4111 1111 1111 1111, or mallory@example.org";
    let wanted = "You are bob@example.org; ask [EMAIL], card [CREDIT_CARD], or [EMAIL]";
    let answer = asked(&house, &gate, "I am bob@example.org", |arrived| {
        arrived.respond(200, &[], reply(said));
    });
    assert_eq!(answer, wanted);
    for length in [1, 7] {
        let letters: Vec<char> = said.chars().collect();
        let pieces = letters.chunks(length).map(|piece| word(&String::from_iter(piece)));
        let events: Vec<_> = pieces.chain([STOP.to_owned()]).collect();
        assert_eq!(streamed(&house, &gate, "I am bob@example.org", &events), wanted, "in pieces of {length}");
    }
    let own = &house.stats()["plugins"]["redaction"]["own"];
    assert_eq!((&own["answers"]["email"], &own["answers"]["credit_card"]), (&json!(6), &json!(3)), "{own}");
}

#[test]
fn each_of_several_answers_and_each_of_many_requests_has_its_own() {
    let (house, gate) = house(json!({}));
    let at = |index: u64, text: &str| {
        format!("data: {}\n\n", json!({ "choices": [{ "index": index, "delta": { "content": text } }] }))
    };
    let stop = |index: u64| {
        format!("data: {}\n\n", json!({ "choices": [{ "index": index, "delta": {}, "finish_reason": "stop" }] }))
    };
    let request = ChatRequest::to("p/m").with_message(Message::user("a@x.org b@x.org")).with("n", 2);
    scope(|scope| {
        let reading = scope.spawn(|| {
            let mut texts = [String::new(), String::new()];
            for chunk in house.gateway().chat_stream(&request).expect("it begins") {
                let chunk = serde_json::to_value(chunk.expect("good").raw).expect("JSON");
                let choice = &chunk["choices"][0];
                let index = choice["index"].as_u64().expect("an index") as usize;
                texts[index].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
            }
            texts
        });
        let pieces = gate.next().stream();
        for event in
            [at(0, "[EM"), at(1, "[EMAIL"), at(0, "AIL_1]"), at(1, "_2]"), at(0, "["), at(1, "[E"), stop(1), stop(0)]
        {
            feed(&pieces, &event);
        }
        feed(&pieces, DONE);
        assert_eq!(reading.join().expect("no panic"), ["a@x.org[", "b@x.org[E"]);
    });
    let answer = asked(&house, &gate, "c@x.org", |arrived| arrived.respond(200, &[], reply("[EMAIL_1] [EMAIL_2]")));
    assert_eq!(answer, "c@x.org [EMAIL_2]", "nothing of another request's");
}

#[test]
fn what_cannot_be_read_may_pass_only_where_nothing_reads_it() {
    let (house, gate) = house(json!({ "unreadable": "pass" }));
    for unread in [r#""\ud800""#, "1e999"] {
        let body = format!(r#"{{"model":"p/m","messages":[{{"role":"user","content":"a@x.org"}}],"user":{unread}}}"#);
        let options = CallOptions::new().deadline(FUSE);
        let error = scope(|scope| {
            let asking = scope.spawn(|| house.gateway().with(&options).raw(Operation::ChatCompletions, body));
            eventually("it is over, or sent", || asking.is_finished() || !gate.is_empty());
            assert!(gate.is_empty(), "{unread}: it went upstream");
            asking.join().expect("no panic").expect_err("it is refused")
        });
        assert!(error.message().contains("no JSON"), "{error}");
    }
}
