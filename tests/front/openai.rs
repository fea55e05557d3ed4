//! The drop-in prefix `/openai`: bare model names, and every other route of OpenAI's passed through untouched.

use crossbeam_channel::Sender;
use serde_json::json;
use sluicegate::transport::TransportErrorKind;

use super::{Client, Station};
use crate::client::Answer;
use crate::house::{CANARY, DONE, Gate, House, Piece, STOP, chat, feed, number, provider, wait_left};

/// A gateway on a provider named `openai` behind a gate, and another.
fn station() -> (Station, Gate) {
    let gate = Gate::new();
    let providers = json!({ "openai": provider(json!({})), "sim": crate::house::sim(json!({})) });
    (Station::on(House::new(providers, &[("openai", &gate)])), gate)
}

/// Sends a request with a body of bytes.
fn send<'a>(client: &'a mut Client, line: &str, headers: &[&str], body: &[u8]) -> &'a mut Client {
    let lines: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    client.send(format!("{line} HTTP/1.1\r\nHost: localhost\r\n{lines}{length}\r\n"));
    client.send(body)
}

/// A client whose file is under way: its first bytes have come, and what feeds the rest is at hand.
fn relayed(station: &Station, gate: &Gate) -> (Client, Sender<Piece>) {
    let mut client = station.client();
    send(&mut client, "GET /openai/v1/files/f/content", &[], b"");
    let pieces = gate.next().pieces(&[("content-type", "application/octet-stream")]);
    feed(&pieces, "first");
    client.wait_for("first");
    (client, pieces)
}

#[test]
fn under_the_prefix_a_bare_model_means_the_provider_named_so() {
    let (station, gate) = station();
    let mut client = station.client();
    for (name, sent) in [("gpt-4o", "gpt-4o"), ("openai/gpt-4o", "gpt-4o"), ("ft:meta/x", "ft:meta/x")] {
        client.ask("POST", "/openai/v1/chat/completions", &[], &chat(name, false));
        let arrived = gate.next();
        assert_eq!((arrived.path.as_str(), &arrived.json()["model"]), ("/v1/chat/completions", &json!(sent)));
        arrived.answer();
        let answer = client.answer();
        assert_eq!((answer.status, answer.header("x-sluicegate-provider")), (200, Some("openai")));
    }
    client.ask("POST", "/openai/v1/chat/completions", &[], &chat("gpt-4o", true));
    let pieces = gate.next().stream();
    feed(&pieces, STOP);
    drop(pieces);
    assert!(client.answer().text().ends_with(DONE));
    let other = client.ask("POST", "/openai/v1/chat/completions", &[], &chat("sim/echo", false)).answer();
    assert_eq!(other.header("x-sluicegate-provider"), Some("sim"));
    let bare = client.chat(&[], &chat("gpt-4o", false)).answer();
    assert_eq!(bare.code(), "model_not_found", "elsewhere a bare name means nobody");
}

#[test]
fn other_routes_pass_through_untouched_both_ways() {
    let (station, gate) = station();
    let mut client = station.client();
    let multipart = b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n\x00\xff\x1f\x8b\r\n--b--\r\n";
    for (line, path, body, kind) in [
        (
            "POST /openai/v1/audio/transcriptions?x=%2F+%41",
            "/v1/audio/transcriptions?x=%2F+%41",
            &multipart[..],
            Some("multipart/form-data; boundary=b"),
        ),
        ("GET /openai/v1/files/file%2F1/content?a=1&a=2", "/v1/files/file%2F1/content?a=1&a=2", b"", None),
        ("DELETE /openai/v1/files/f-1", "/v1/files/f-1", b"", None),
        ("POST /openai/v1/fine_tuning/jobs/j/cancel", "/v1/fine_tuning/jobs/j/cancel", b"", None),
        ("GET /openai/v1/models", "/v1/models", b"", None),
        ("GET /openai/v1/responses/r_1", "/v1/responses/r_1", b"", None),
        (
            "POST /openai/v1/moderations",
            "/v1/moderations",
            b"{\"model\":\"a\",\"model\":\"b\"",
            Some("application/json"),
        ),
    ] {
        let kind_line = kind.map(|kind| format!("Content-Type: {kind}"));
        let mut headers = vec!["Accept: audio/*, x/y;q=0.1", "Authorization: Bearer sk-user", "Cookie: c=1"];
        headers.extend(kind_line.as_deref());
        send(&mut client, line, &headers, body);
        let arrived = gate.next();
        assert_eq!((arrived.method, arrived.path.as_str()), (line.split(' ').next().expect("a word"), path));
        assert_eq!(arrived.body, body);
        assert_eq!((arrived.header("content-type"), arrived.header("accept")), (kind, Some("audio/*, x/y;q=0.1")));
        assert_eq!(arrived.header("authorization"), Some(&*format!("Bearer {CANARY}")));
        assert_eq!((arrived.header("accept-encoding"), arrived.header("cookie")), (Some("identity"), None));
        let bytes = b"\x00\x01\xfe\xff no text";
        let headers =
            [("content-type", "audio/mpeg"), ("content-disposition", "attachment; filename=a"), ("set-cookie", "c=2")];
        arrived.respond(201, &headers, &bytes[..]);
        let answer = client.answer();
        assert_eq!((answer.status, &answer.body[..], answer.complete), (201, &bytes[..], true), "{line}");
        assert_eq!(answer.header("content-type"), Some("audio/mpeg"));
        assert_eq!(answer.header("content-disposition"), Some("attachment; filename=a"));
        assert_eq!((answer.header("set-cookie"), answer.header("x-sluicegate-model")), (None, None));
        assert_eq!(answer.header("x-sluicegate-provider"), Some("openai"));
    }
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/providers/openai/queue/completed_total"), 7, "it waits in the same queue");
    assert_eq!(number(&stats, "/requests/succeeded_total"), 7);
}

#[test]
fn long_answers_and_streams_are_relayed_as_they_come() {
    let (station, gate) = station();
    let (mut client, pieces) = relayed(&station, &gate);
    for _ in 0..40 {
        feed(&pieces, &"x".repeat(50_000));
    }
    drop(pieces);
    let answer = client.answer();
    assert_eq!((answer.status, answer.complete, answer.body.len()), (200, true, 2_000_005));

    send(&mut client, "POST /openai/v1/audio/speech", &[], b"{}");
    let known = vec![7u8; 300_000];
    gate.next().respond(200, &[("content-type", "audio/wav")], known.clone());
    let answer = client.answer();
    assert!(answer.complete && answer.body == known, "a known length changes nothing");

    // Events keep their bytes; neither a word nor an end of ours is put in.
    let events = "event: thread.run\ndata: {not json}\n\n: c\n\ndata: x";
    send(&mut client, "POST /openai/v1/threads/runs", &["Accept: text/event-stream"], b"{\"stream\":true}");
    let arrived = gate.next();
    assert_eq!(arrived.header("accept"), Some("text/event-stream"));
    let pieces = arrived.stream();
    feed(&pieces, &events[..20]);
    client.wait_for(&events[..20]);
    feed(&pieces, &events[20..]);
    drop(pieces);
    let answer = client.answer();
    assert_eq!((answer.text(), answer.complete), (events, true));
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
}

/// P5 for what nobody reads on its way: the end is missing, and events are told why.
#[test]
fn a_cut_of_what_passes_through_is_seen() {
    let (station, gate) = station();
    for (kind, events) in [("audio/mpeg", false), ("text/event-stream; charset=utf-8", true)] {
        let mut client = station.client();
        send(&mut client, "POST /openai/v1/audio/speech", &[], b"{}");
        let pieces = gate.next().pieces(&[("content-type", kind)]);
        feed(&pieces, "data: half");
        client.wait_for("half");
        pieces.send(Piece::Fail(TransportErrorKind::Cut)).map_err(drop).expect("it is read");
        let answer = client.answer();
        assert_eq!((answer.status, answer.complete), (200, false), "{kind}");
        assert!(client.is_closed());
        match events {
            true => assert_eq!(answer.last_error(), "stream_cut"),
            false => assert_eq!(answer.text(), "data: half"),
        }
    }
    let stats = station.house.at_rest();
    assert_eq!(stats["errors"], json!({ "stream_cut": 2 }));
}

#[test]
fn a_client_that_leaves_what_is_relayed_ends_it_upstream() {
    let (station, gate) = station();
    let (client, pieces) = relayed(&station, &gate);
    drop(client);
    wait_left(&pieces);
    assert_eq!(station.house.at_rest()["errors"], json!({ "client_closed": 1 }));
}

#[test]
fn errors_of_what_passes_through_are_told_as_all_others() {
    let (station, gate) = station();
    let mut client = station.client();
    send(&mut client, "GET /openai/v1/files/none", &[], b"");
    let words =
        r#"{"error":{"message":"No such File object","type":"invalid_request_error","param":"id","code":null}}"#;
    gate.next().respond(404, &[("content-type", "application/json")], words);
    let answer = client.answer();
    assert_eq!((answer.status, answer.code().as_str()), (404, "upstream_error"));
    assert_eq!(answer.json()["error"]["message"], "No such File object");
    send(&mut client, "GET /openai/v1/files", &[], b"");
    gate.next().respond(302, &[("location", "http://169.254.169.254/")], "");
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.code().as_str(), answer.header("location")),
        (502, "upstream_bad_response", None)
    );
    send(&mut client, "GET /openai/v1/files", &[], b"");
    gate.next().fail(TransportErrorKind::Connect);
    assert_eq!(client.answer().code(), "upstream_connect_error");
}

#[test]
fn what_cannot_be_forwarded_is_refused_before_it_is() {
    let (station, gate) = station();
    let refused = |answer: Answer, path: &str| {
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{path}");
    };
    for path in [
        "/openai/v1/../admin",
        "/openai/v1/files/%2e%2e/x",
        "/openai/v1/a/./b",
        "/openai/v1/a%2f..%2fb",
        "/openai/v1/a<b",
        "/openai/v1/a?q=\"x\"",
    ] {
        refused(send(&mut station.client(), &format!("GET {path}"), &[], b"").answer(), path);
    }
    refused(send(&mut station.client(), "GET /openai/v1/files", &["Accept: \u{e9}"], b"").answer(), "no header for it");
    refused(send(&mut station.client(), "DELETE /openai/v1/files/f", &[], b"x").answer(), "a body where none is");
    assert!(gate.is_empty());

    let alone = Station::sim();
    let answer = send(&mut alone.client(), "GET /openai/v1/files", &[], b"").answer();
    assert_eq!((answer.status, answer.code().as_str()), (404, "model_not_found"));
    assert!(answer.json()["error"]["message"].as_str().is_some_and(|text| text.contains("\"openai\"")));
    let answer = alone.client().ask("POST", "/openai/v1/chat/completions", &[], &chat("gpt-4o", false)).answer();
    assert_eq!((answer.status, answer.code().as_str()), (404, "model_not_found"));
}
