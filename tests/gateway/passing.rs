//! What goes upstream and what comes back: bodies byte for byte, headers, errors in the words of who made them.

use std::thread::scope;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::gateway::Gateway;
use sluicegate::model::{Answer, Operation};
use sluicegate::transport::TransportErrorKind as Kind;
use sluicegate::wire::openai::ChatRequest;
use sluicegate::{Code, Error, Result};

use crate::house::{Arrived, CANARY, Gate, House, code, number, provider, reply};

/// Sends `body`, answers it with `play`, and gives both sides' view.
fn exchange<T: Send>(house: &House, gate: &Gate, body: &str, play: impl FnOnce(Arrived) -> T) -> (Result<Answer>, T) {
    scope(|scope| {
        let call = scope.spawn(|| house.gateway().raw(Operation::ChatCompletions, body.as_bytes().to_vec()));
        let seen = play(gate.next());
        (call.join().expect("no panic"), seen)
    })
}

fn failure(house: &House, gate: &Gate, play: impl FnOnce(Arrived)) -> Error {
    exchange(house, gate, r#"{"model":"p/m","messages":[]}"#, play).0.expect_err("it must fail")
}

#[test]
fn a_body_goes_upstream_byte_for_byte_but_for_its_model() {
    let (house, gate) = House::gated(provider(json!({ "network_config": { "extra_headers": { "x-team": "a" } } })));
    let body = "{ \"future\" : {\"b\":1e400, \"a\": \"\\u00e9 \u{1f600}\"},\n \"model\":\"p/ft:m/1\" ,\"messages\":[] , \"n\":1.0 }";
    let (answer, (sent, headers, path)) = exchange(&house, &gate, body, |arrived| {
        let seen = (arrived.body.clone(), arrived.headers.clone(), arrived.path.clone());
        arrived.respond(200, &[("content-type", "application/json"), ("set-cookie", "c")], reply("well"));
        seen
    });
    assert_eq!(String::from_utf8(sent).expect("text"), body.replace("p/ft:m/1", "ft:m/1"));
    assert_eq!(path, "/v1/chat/completions");
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
    assert_eq!(header("authorization"), Some(format!("Bearer {CANARY}")));
    assert_eq!(header("x-team").as_deref(), Some("a"));
    let answer = answer.expect("it is answered");
    assert_eq!(answer.body, reply("well").into_bytes(), "the answer comes back byte for byte, too");
    assert_eq!(answer.headers, [("content-type".to_owned(), "application/json".to_owned())]);
    assert_eq!((&*answer.served.provider, &*answer.served.model, answer.served.attempts), ("p", "ft:m/1", 1));
    // Its body's memory is the pool's until it is let go of.
    drop(answer);
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/p/jobs/tokens_in_total"), 1);
    assert_eq!(number(&stats, "/providers/p/jobs/tokens_out_total"), 2);
}

#[test]
fn an_upstreams_error_keeps_its_status_words_and_retry_after() {
    let (house, gate) = House::gated(provider(json!({})));
    for status in [400, 403, 404, 408, 413, 422, 429, 500, 502, 503, 529] {
        let body = json!({ "error": {
            "message": format!("no, says {CANARY}"), "type": "t", "param": "q", "code": "context_length_exceeded",
        } });
        // A model each: the key rests for one that a 429 was the answer for.
        let request = format!(r#"{{"model":"p/m{status}","messages":[]}}"#);
        let (failed, ()) = exchange(&house, &gate, &request, |arrived| {
            arrived.respond(status, &[("retry-after", "7")], body.to_string());
        });
        let error = failed.expect_err("it must fail");
        assert_eq!((error.code(), error.status()), (Code::UpstreamError, status));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        let words = error.upstream_answer().expect("its own words");
        assert_eq!(words.code.as_deref(), Some("context_length_exceeded"));
        assert!(words.message.starts_with("no, says ") && !words.message.contains(CANARY), "{}", words.message);
        assert!(!format!("{error:?} {error}").contains(CANARY), "{error:?}");
        assert_eq!(error.attempts().len(), 1);
        assert_eq!((error.attempts()[0].outcome, error.attempts()[0].status), ("upstream_error", Some(status)));
    }
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/p/keys/0/failed_total"), 2, "403 and 429");
}

#[test]
fn what_is_no_answer_is_a_bad_response_whatever_its_status() {
    let (house, gate) = House::gated(provider(json!({})));
    for (status, body) in [
        (200, "<html>"),
        (200, ""),
        (200, "[]"),
        (200, "{\"choices\":"),
        // A redirect is not followed, and is nothing that this protocol knows.
        (301, "{}"),
        (302, "{\"choices\":[]}"),
        (304, "{}"),
        (101, "{}"),
    ] {
        let error = failure(&house, &gate, |arrived| {
            arrived.respond(status, &[("location", "http://elsewhere/")], body);
        });
        assert_eq!((error.code(), error.status()), (Code::UpstreamBadResponse, 502), "{status} {body}");
    }
    let error = failure(&house, &gate, |arrived| {
        arrived.respond(200, &[], r#"{"error":{"message":"inside","code":"x"}}"#);
    });
    assert_eq!((error.code(), error.status(), error.message()), (Code::UpstreamError, 502, "inside"));
}

#[test]
fn a_transports_failure_becomes_the_code_that_says_what_happened() {
    let (house, gate) = House::gated(provider(json!({})));
    for (kind, code, status) in [
        (Kind::Resolve, Code::UpstreamConnectError, 502),
        (Kind::Refused, Code::UpstreamConnectError, 502),
        (Kind::Connect, Code::UpstreamConnectError, 502),
        (Kind::ConnectTimeout, Code::UpstreamConnectError, 502),
        (Kind::Tls, Code::UpstreamConnectError, 502),
        (Kind::Send, Code::UpstreamConnectError, 502),
        (Kind::NoAnswer, Code::UpstreamConnectError, 502),
        (Kind::Timeout, Code::UpstreamTimeout, 504),
        (Kind::Protocol, Code::UpstreamBadResponse, 502),
        (Kind::TooLarge, Code::UpstreamBadResponse, 502),
    ] {
        let error = failure(&house, &gate, |arrived| arrived.fail(kind));
        assert_eq!((error.code(), error.status()), (code, status), "{kind:?}");
    }
}

#[test]
fn what_is_wrong_with_a_request_is_told_before_anything_is_queued() {
    let (house, _gate) = House::gated(provider(json!({})));
    for (body, wanted, param) in [
        ("{", Code::InvalidRequest, None),
        (r#"{"messages":[]}"#, Code::InvalidRequest, Some("model")),
        (r#"{"model":"p/m"}"#, Code::InvalidRequest, Some("messages")),
        (r#"{"model":"p/m","model":"p/m","messages":[]}"#, Code::InvalidRequest, Some("model")),
        (r#"{"model":"p/m","messages":[],"stream":true}"#, Code::InvalidRequest, Some("stream")),
        (r#"{"model":"q/m","messages":[]}"#, Code::ModelNotFound, Some("model")),
        (r#"{"model":"m","messages":[]}"#, Code::ModelNotFound, Some("model")),
        (r#"{"model":"p/","messages":[]}"#, Code::ModelNotFound, Some("model")),
        (r#"{"model":"p/m","messages":[],"fallbacks":["q/n"]}"#, Code::InvalidRequest, Some("fallbacks")),
    ] {
        let result = house.gateway().raw(Operation::ChatCompletions, body.as_bytes().to_vec());
        assert_eq!(code(&result), wanted, "{body}");
        let error = result.expect_err("it failed");
        assert_eq!(param.or(error.param()), error.param(), "{body}");
    }
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/requests/failed_total"), 9);
    assert_eq!(number(&stats, "/providers/p/queue/submitted_total"), 0);
}

#[test]
fn the_typed_face_asks_and_reads() {
    let house = House::new(json!({ "sim": crate::house::sim(json!({})) }), &[]);
    let gateway: Gateway = house.gateway().clone();
    assert_eq!(gateway.ask("sim/echo", "Hello").expect("it is answered"), "Hello");
    let request = ChatRequest::new("sim/lorem-5", "x").with("future", json!({ "a": [1] }));
    let reply = gateway.chat(&request).expect("it is answered");
    assert_eq!(reply.finish_reason(), Some("stop"));
    assert_eq!(reply.usage.expect("counted").output, 5);
    assert!(matches!(reply.raw, Value::Object(_)));
    drop(gateway);
}
