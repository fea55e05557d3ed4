//! The routes beside chat: each operation whole and streamed, the models, and how each shape tells a cut.

use serde_json::{Value, json};
use sluicegate::model::Operation;
use sluicegate::transport::TransportErrorKind;

use super::Station;
use crate::house::{DONE, Piece, feed, number};

/// One event of a stream of responses.
fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().expect("a type"))
}

fn delta(text: &str) -> String {
    event(&json!({ "type": "response.output_text.delta", "delta": text }))
}

fn completed() -> String {
    let usage = json!({ "input_tokens": 3, "output_tokens": 4 });
    event(&json!({ "type": "response.completed", "response": { "error": null, "usage": usage } }))
}

#[test]
fn each_operation_goes_to_its_route_and_only_the_model_changes() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    let mut client = station.client();
    for (route, rest, answer, tokens) in [
        (
            "completions",
            r#""prompt":["a","b"],"n":2"#,
            r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
            (1, 2),
        ),
        (
            "embeddings",
            r#""input":[[1,2]],"stream":true"#,
            r#"{"data":[],"usage":{"prompt_tokens":5,"total_tokens":5}}"#,
            (5, 0),
        ),
        (
            "responses",
            r#""input":"x","stream_options":{"include_obfuscation":false}"#,
            r#"{"error":null,"usage":{"input_tokens":7,"output_tokens":8}}"#,
            (7, 8),
        ),
    ] {
        let before = station.house.stats();
        let body = format!(r#"{{ "x":1e400,"model" : "p/m", {rest},"fallbacks":[] }}"#);
        client.ask("POST", &format!("/v1/{route}"), &[], &body);
        let arrived = gate.next();
        assert_eq!((arrived.method, arrived.path.as_str()), ("POST", &*format!("/v1/{route}")));
        let sent = String::from_utf8(arrived.body.clone()).expect("text");
        assert_eq!(sent, body.replace("p/m", "m").replace(r#","fallbacks":[]"#, ""));
        assert_eq!(
            (arrived.header("accept"), arrived.header("accept-encoding")),
            (Some("application/json"), Some("identity"))
        );
        arrived.respond(200, &[("content-type", "application/json")], answer);
        let got = client.answer();
        assert_eq!((got.status, got.text()), (200, answer), "{route}");
        assert_eq!(got.header("x-sluicegate-model"), Some("m"));
        let after = station.house.stats();
        let counted = |stats: &Value, what: &str| number(stats, &format!("/providers/p/jobs/tokens_{what}_total"));
        let counted = |what| counted(&after, what) - counted(&before, what);
        assert_eq!((counted("in"), counted("out")), tokens, "{route}");
    }
    for (route, body, field) in [
        ("completions", r#"{"prompt":"x"}"#, "model"),
        ("embeddings", r#"{"model":"p/m","model":"p/n","input":"x"}"#, "model"),
        ("responses", r#"{"model":"p/m","input":"x","stream":"yes"}"#, "stream"),
    ] {
        let answer = client.ask("POST", &format!("/v1/{route}"), &[], body).answer();
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{route}");
        assert_eq!(answer.json()["error"]["param"], field);
    }
    assert!(gate.is_empty());
}

#[test]
fn a_route_that_a_provider_lacks_is_unsupported_and_names_it() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    let mut client = station.client();
    client.ask("POST", "/v1/responses", &[], r#"{"model":"p/m","input":"x"}"#);
    gate.next().respond(404, &[("content-type", "application/json")], r#"{"detail":"Not Found"}"#);
    let answer = client.answer();
    assert_eq!((answer.status, answer.code().as_str()), (400, "unsupported"));
    assert!(answer.json()["error"]["message"].as_str().is_some_and(|text| text.contains("/responses")));
    assert_eq!(answer.json()["sluicegate"]["provider"], "p");
}

#[test]
fn a_text_completion_streams_as_a_chat_does() {
    let station = Station::sim();
    let mut client = station.client();
    let body = |model: &str| json!({ "model": model, "prompt": "a b", "stream": true }).to_string();
    let answer = client.ask("POST", "/v1/completions", &[], &body("sim/lorem-3+no-done")).answer();
    assert!(answer.complete && answer.text().ends_with(DONE) && answer.text().matches("[DONE]").count() == 1);
    assert!(!answer.text().contains("prompt_tokens"), "nobody asked for it: {}", answer.text());
    let answer = client.ask("POST", "/v1/completions", &[], &body("sim/lorem-9+cut-3")).answer();
    assert_eq!((answer.complete, answer.last_error().as_str()), (false, "stream_cut"));
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/providers/sim/jobs/tokens_out_total"), 3);
}

/// Its end is an event of its own: what stands behind it, or ends without it, decides nothing.
#[test]
fn a_stream_of_responses_ends_by_its_last_event_and_by_no_other() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    let mut client = station.client();
    let body = r#"{"model":"p/m","input":"x","stream":true}"#;
    let created = event(&json!({ "type": "response.created", "response": { "error": null, "usage": null } }));
    let begin = |client: &mut super::Client| {
        client.ask("POST", "/v1/responses", &[], body);
        let arrived = gate.next();
        assert_eq!(arrived.body, body.replace("p/m", "m").as_bytes(), "usage need not be asked for");
        let pieces = arrived.stream();
        feed(&pieces, &format!("{created}{}", delta("hi")));
        pieces
    };
    // The provider says nothing more and leaves its connection open: the end is the end.
    let pieces = begin(&mut client);
    feed(&pieces, &completed());
    let answer = client.answer();
    assert!(answer.complete, "{}", answer.text());
    assert_eq!(answer.text(), format!("{created}{}{}{DONE}", delta("hi"), completed()));
    drop(pieces);

    for (last, code) in [
        ("", "stream_cut"),
        (DONE, "stream_cut"),
        (
            "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"server_error\",\"message\":\"sorry\"}}}\n\n",
            "upstream_error",
        ),
        (
            "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"sorry\"}\n\n",
            "upstream_error",
        ),
    ] {
        let mut client = station.client();
        let pieces = begin(&mut client);
        if !last.is_empty() {
            feed(&pieces, last);
        }
        drop(pieces);
        let answer = client.answer();
        assert_eq!((answer.complete, answer.last_error().as_str()), (false, code), "{}", answer.text());
        assert!(!answer.text().contains("[DONE]") && client.is_closed());
        if code == "upstream_error" {
            let last: Value = serde_json::from_str(answer.events().last().expect("one")).expect("JSON");
            assert_eq!((&last["error"]["message"], &last["error"]["code"]), (&json!("sorry"), &json!("server_error")));
        }
    }
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/providers/p/jobs/tokens_out_total"), 4);
}

/// A choice that was asked for and cut before its first event leaves no trace in the events that came.
#[test]
fn of_several_choices_one_that_never_began_makes_the_stream_a_cut_one() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    let stop = |index: u32| {
        format!("data: {{\"choices\":[{{\"index\":{index},\"delta\":{{}},\"finish_reason\":\"stop\"}}]}}\n\n")
    };
    for (route, body, came, complete) in [
        ("chat/completions", r#"{"model":"p/m","messages":[],"n":2,"stream":true}"#, 1, false),
        ("chat/completions", r#"{"model":"p/m","messages":[],"n":2,"stream":true}"#, 2, true),
        ("completions", r#"{"model":"p/m","prompt":["a","b"],"n":2,"stream":true}"#, 3, false),
        ("completions", r#"{"model":"p/m","prompt":["a","b"],"n":2,"stream":true}"#, 4, true),
        ("completions", r#"{"model":"p/m","prompt":[1,2,3],"stream":true}"#, 1, true),
    ] {
        let mut client = station.client();
        client.ask("POST", &format!("/v1/{route}"), &[], body);
        let pieces = gate.next().stream();
        (0..came).for_each(|index| feed(&pieces, &stop(index)));
        drop(pieces);
        let answer = client.answer();
        assert_eq!(answer.complete, complete, "{body} {came}: {}", answer.text());
        assert_eq!(answer.text().ends_with(DONE), complete);
    }
}

#[test]
fn the_simulated_provider_answers_every_operation_and_each_shape_tells_a_cut() {
    let station = Station::sim();
    let mut client = station.client();
    let mut ask =
        |route: &str, body: Value| client.ask("POST", &format!("/v1/{route}"), &[], &body.to_string()).answer();
    let said = ask(
        "responses",
        json!({ "model": "sim/echo", "input": [{ "role": "user", "content": [{ "type": "input_text", "text": "a b" }] }] }),
    );
    assert_eq!(said.json()["output"][0]["content"][0]["text"], "a b");
    let vectors = ask("embeddings", json!({ "model": "sim/echo", "input": ["a", "b"], "dimensions": 4 }));
    assert_eq!(vectors.json()["data"].as_array().expect("vectors").len(), 2);
    for (route, input) in [("completions", "prompt"), ("responses", "input")] {
        for streamed in [false, true] {
            let body = |model: &str| json!({ "model": model, input: "x", "stream": streamed });
            let good = ask(route, body("sim/lorem-4"));
            assert_eq!((good.status, good.complete, good.text().ends_with(DONE)), (200, true, streamed), "{route}");
            let inside = ask(route, body("sim/error-in-200"));
            assert_eq!((inside.status, inside.code().as_str()), (502, "upstream_error"), "{route} {streamed}");
            let mut own = station.client();
            let cut = own.ask("POST", &format!("/v1/{route}"), &[], &body("sim/lorem-4+cut-2").to_string()).answer();
            match streamed {
                true => assert_eq!((cut.complete, cut.last_error().as_str()), (false, "stream_cut"), "{route}"),
                false => assert_eq!((cut.status, cut.code().as_str()), (502, "upstream_bad_response"), "{route}"),
            }
        }
    }
    // A response whose stream ends cleanly, but without its last event, is not whole.
    let body = json!({ "model": "sim/lorem-4+no-done", "input": "x", "stream": true }).to_string();
    let answer = station.client().ask("POST", "/v1/responses", &[], &body).answer();
    assert_eq!((answer.complete, answer.last_error().as_str()), (false, "stream_cut"));
}

#[test]
fn models_are_listed_and_found_under_their_providers_names() {
    let station = Station::sim();
    let mut client = station.client();
    let list = client.get("/v1/models").json();
    assert_eq!(list["object"], "list");
    let ids: Vec<_> = list["data"].as_array().expect("a list").iter().map(|model| model["id"].as_str()).collect();
    assert!(ids.contains(&Some("sim/echo")), "{ids:?}");
    for (path, id) in [
        ("/v1/models/sim/echo", "sim/echo"),
        ("/v1/models/sim%2Fecho", "sim/echo"),
        ("/v1/models/sim%2florem-7%2Bno-done", "sim/lorem-7+no-done"),
    ] {
        let model = client.get(path).json();
        assert_eq!((&model["id"], &model["object"], &model["owned_by"]), (&json!(id), &json!("model"), &json!("sim")));
    }
    for path in
        ["/v1/models/echo", "/v1/models/sim/nonsense", "/v1/models/", "/v1/models/openai%2Fgpt-4o", "/v1/models/%ff"]
    {
        let answer = client.get(path);
        assert_eq!((answer.status, answer.code().as_str()), (404, "model_not_found"), "{path}");
    }
    for path in ["/v1/models", "/v1/models/sim/echo"] {
        let answer = client.ask("HEAD", path, &[], "").read_answer(true).expect("a head");
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    }
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/requests/received_total"), 0, "no request to a provider");
}

#[test]
fn a_well_known_providers_models_are_listed_and_one_of_ones_own_has_none() {
    let config = json!({ "providers": { "openai": crate::house::provider(json!({})), "mine": crate::house::provider(json!({})) } });
    let station = Station::on(crate::house::House::with(config, &[]));
    let list = station.client().get("/v1/models").json();
    let ids: Vec<_> =
        list["data"].as_array().expect("a list").iter().map(|model| model["id"].as_str().expect("text")).collect();
    assert!(ids.contains(&"openai/gpt-4o-mini") && ids.iter().all(|id| id.starts_with("openai/")), "{ids:?}");
}

#[test]
fn models_are_for_those_who_have_a_key() {
    let (station, _gate) = Station::gated(json!({}), json!({ "keys": ["gw-key-canary-2"] }));
    for (path, status) in [("/v1/models", 200), ("/v1/models/p/m", 404)] {
        let answer = station.client().ask("GET", path, &[], "").answer();
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{path}");
        let answer = station.client().ask("GET", path, &["x-api-key: gw-key-canary-2"], "").answer();
        assert_eq!(answer.status, status, "{path}");
    }
}

#[test]
fn a_library_caller_sends_any_operation() {
    let (house, gate) = crate::house::House::gated(crate::house::provider(json!({})));
    std::thread::scope(|scope| {
        let body = br#"{"model":"p/m","input":"x"}"#.to_vec();
        let asked = scope.spawn(|| house.gateway().raw(Operation::Embeddings, body));
        let arrived = gate.next();
        assert_eq!(arrived.path, "/v1/embeddings");
        arrived.respond(200, &[], r#"{"data":[],"usage":{"prompt_tokens":2}}"#);
        let answer = asked.join().expect("no panic").expect("an answer");
        assert_eq!(answer.usage.map(|usage| usage.input), Some(2));
    });
}

/// What was asked for in no coding and comes in one cannot be read, so it is not passed on.
#[test]
fn an_answer_in_a_content_coding_is_a_bad_one() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    let mut client = station.client();
    let gzip = [("content-type", "application/json"), ("content-encoding", "gzip")];
    for (status, told, code) in [(200, 502, "upstream_bad_response"), (503, 503, "upstream_error")] {
        client.chat(&[], &crate::house::chat("p/m", false));
        gate.next().respond(status, &gzip, &b"\x1f\x8b\x08\x00"[..]);
        let answer = client.answer();
        assert_eq!((answer.status, answer.code().as_str()), (told, code));
    }
    client.chat(&[], &crate::house::chat("p/m", true));
    let pieces = gate.next().pieces(&[("content-type", "text/event-stream"), ("content-encoding", "gzip")]);
    let answer = client.answer();
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_bad_response"));
    assert!(
        pieces.send_timeout(Piece::Fail(TransportErrorKind::Cut), crate::house::ms(100)).is_err(),
        "it is not read"
    );
}
