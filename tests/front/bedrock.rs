//! Bedrock's routes, and providers that speak its shape: what passes, what is translated, how it is signed, and in whose words
//! everybody is told what goes wrong.

use serde_json::{Value, json};
use sluicegate::transport::TransportErrorKind;

use super::{Client, Station};
use crate::client::Answer;
use crate::house::{
    DONE, Gate, House, Piece, STOP, USAGE, eventually, feed, merge, number, provider, reply, sim, word,
};

/// A provider that speaks Bedrock's shape, `change` merged over what is usual.
fn speaking(change: Value) -> Value {
    let mut settings = json!({ "kind": "bedrock" });
    merge(&mut settings, change);
    provider(settings)
}

/// A gateway on a provider named `bedrock` and one of OpenAI's shape, `o`, behind gates, and on the simulated one.
fn station() -> (Station, Gate, Gate) {
    let (b, o) = (Gate::new(), Gate::new());
    let providers = json!({ "bedrock": speaking(json!({})), "o": provider(json!({})), "sim": sim(json!({})) });
    (Station::on(House::new(providers, &[("bedrock", &b), ("o", &o)])), b, o)
}

/// A body that no writer would write like this.
const ASKED: &str = r#"{ "messages":[{"role":"user","content":[{"text":"one tw\u006f"}]}], "fallbacks":["x/y"]}"#;

/// The same for a translation.
const PLAIN: &str = r#"{"messages":[{"role":"user","content":[{"text":"one two"}]}]}"#;

/// A message of Claude's own.
const CLAUDE: &str =
    r#"{"anthropic_version":"bedrock-2023-05-31","max_tokens":9,"messages":[{"role":"user","content":"one two"}]}"#;

const WHOLE: &str = r#"{"metrics":{"latencyMs":1.0},"output":{"message":{"role":"assistant","content":[{"text":"hi"}]}},"stopReason":"end_turn","usage":{"inputTokens":3,"outputTokens":1,"totalTokens":4}}"#;

/// A frame as the specification has it.
fn frame(kind: &str, name: &str, payload: &Value) -> Vec<u8> {
    let naming = if kind == "exception" { ":exception-type" } else { ":event-type" };
    let mut headers = Vec::new();
    for (header, value) in [(naming, name), (":content-type", "application/json"), (":message-type", kind)] {
        headers.push(header.len() as u8);
        headers.extend_from_slice(header.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let payload = payload.to_string();
    let mut out = ((headers.len() + payload.len() + 16) as u32).to_be_bytes().to_vec();
    out.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out.extend_from_slice(&headers);
    out.extend_from_slice(payload.as_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
    out
}

/// The frames of a stream of bytes: kind, name and payload. What is no frame is an error.
fn frames(mut bytes: &[u8]) -> Vec<(String, Value)> {
    let word = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().expect("four bytes")) as usize;
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (total, headers) = (word(bytes), word(&bytes[4..]));
        let (whole, rest) = bytes.split_at(total);
        assert_eq!(word(&whole[total - 4..]), crc32fast::hash(&whole[..total - 4]) as usize, "its checksum");
        // Its first header names it.
        let header = &whole[12..12 + headers];
        let value = usize::from(header[0]) + 4;
        let length = usize::from(u16::from_be_bytes([header[value - 2], header[value - 1]]));
        let name = String::from_utf8_lossy(&header[value..value + length]).into_owned();
        found.push((name, serde_json::from_slice(&whole[12 + headers..total - 4]).expect("JSON")));
        bytes = rest;
    }
    found
}

fn delta(text: &str) -> Vec<u8> {
    frame("event", "contentBlockDelta", &json!({ "contentBlockIndex": 0, "delta": { "text": text }, "p": "abc" }))
}

/// A usual stream, frame by frame.
fn stream(words: &[&str]) -> Vec<Vec<u8>> {
    let mut all = vec![frame("event", "messageStart", &json!({ "role": "assistant" }))];
    all.extend(words.iter().map(|word| delta(word)));
    all.push(frame("event", "contentBlockStop", &json!({ "contentBlockIndex": 0 })));
    all.push(frame("event", "messageStop", &json!({ "stopReason": "end_turn" })));
    let usage = json!({ "inputTokens": 3, "outputTokens": 7, "totalTokens": 10 });
    all.push(frame("event", "metadata", &json!({ "usage": usage, "metrics": { "latencyMs": 1 } })));
    all
}

const FRAMES: &[(&str, &str)] = &[("content-type", "application/vnd.amazon.eventstream"), ("x-amzn-requestid", "up-1")];

fn send(pieces: &crossbeam_channel::Sender<Piece>, bytes: &[u8]) {
    pieces.send_timeout(Piece::Bytes(bytes.to_vec()), crate::house::FUSE).map_err(drop).expect("a worker reads");
}

fn bedrock<'a>(client: &'a mut Client, model: &str, action: &str, body: &str) -> &'a mut Client {
    client.ask("POST", &format!("/bedrock/model/{model}/{action}"), &["authorization: AWS4-HMAC-SHA256 x"], body)
}

/// An error as boto3 reads it: its status, its name, and our own code.
fn told(answer: &Answer) -> (u16, &str, String) {
    assert!(answer.json()["message"].is_string(), "{}", answer.text());
    assert!(answer.header("x-amzn-requestid").is_some());
    (answer.status, answer.header("x-amzn-errortype").expect("a name"), answer.code())
}

#[test]
fn what_bedrock_is_asked_passes_byte_for_byte_to_the_model_that_the_path_names() {
    let (station, b, _) = station();
    let mut client = station.client();
    let arn = "arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Afoundation-model%2Famazon.nova-lite-v1%3A0";
    for (model, action, body, path) in [
        ("m-v1%3A0", "converse", ASKED, "/model/m-v1%3A0/converse".to_owned()),
        ("bedrock%2Fm", "converse", ASKED, "/model/m/converse".to_owned()),
        ("bedrock/m", "converse", ASKED, "/model/m/converse".to_owned()),
        (arn, "converse", ASKED, format!("/model/{arn}/converse")),
        ("m", "invoke", "\u{1}no JSON", "/model/m/invoke".to_owned()),
    ] {
        bedrock(&mut client, model, action, body);
        let arrived = b.next();
        assert_eq!((arrived.method, arrived.path.as_str()), ("POST", path.as_str()));
        assert_eq!(String::from_utf8_lossy(&arrived.body), body);
        assert_eq!(arrived.header("accept"), Some("application/json"));
        assert!(!arrived.header("authorization").is_some_and(|sent| sent.contains("AWS4")), "the client's stays here");
        arrived.respond(200, &[("content-type", "application/json"), ("x-amzn-requestid", "up-1")], WHOLE);
        let answer = client.answer();
        assert_eq!((answer.status, answer.text(), answer.header("x-amzn-requestid")), (200, WHOLE, Some("up-1")));
    }
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/providers/bedrock/jobs/tokens_in_total"), 15);
}

#[test]
fn a_key_that_signs_signs_each_request_anew_and_a_bearer_key_is_sent() {
    let config = json!({ "access_key": "AKID-canary-1", "secret_key": "canary-secret", "session_token": "canary-token", "region": "eu-west-1" });
    let signing = json!([{ "name": "s", "bedrock_key_config": config }]);
    let (station, gate) = Station::gated(speaking(json!({ "keys": signing })), json!({}));
    let mut client = station.client();
    client.ask("POST", "/bedrock/model/p%2Fm/invoke", &["x-amzn-bedrock-trace: ENABLED"], "{}");
    let arrived = gate.next();
    let authorization = arrived.header("authorization").expect("it is signed").to_owned();
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKID-canary-1/"), "{authorization}");
    assert!(authorization.contains("/eu-west-1/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amzn-bedrock-trace,"));
    assert_eq!(arrived.header("x-amz-security-token"), Some("canary-token"));
    assert_eq!(arrived.header("x-amz-date").map(str::len), Some(16));
    // What it says of the keys in its own words is nobody's business.
    let words = json!({ "message": "The key AKID-canary-1 with canary-token and canary-secret is none" });
    arrived.respond(403, &[("x-amzn-errortype", "UnrecognizedClientException")], words.to_string());
    let answer = client.answer();
    assert_eq!(told(&answer), (502, "InternalServerException", "credentials_exhausted".to_owned()));
    assert!(!answer.text().contains("canary"), "{}", answer.text());
    assert_eq!(station.house.at_rest()["providers"]["p"]["keys"][0]["state"], "dead");

    let (station, gate) = Station::gated(speaking(json!({})), json!({}));
    let mut client = station.client();
    bedrock(&mut client, "p%2Fm", "converse", ASKED);
    let arrived = gate.next();
    assert_eq!(arrived.header("authorization"), Some(format!("Bearer {}", crate::house::CANARY).as_str()));
    assert_eq!(arrived.header("x-amz-date"), None);
    arrived.respond(200, &[], WHOLE);
    assert_eq!(client.answer().status, 200);
}

#[test]
fn a_stream_of_frames_keeps_its_bytes_and_ends_by_its_own_end() {
    let (station, b, _) = station();
    let mut client = station.client();
    bedrock(&mut client, "m", "converse-stream", ASKED);
    let arrived = b.next();
    assert_eq!(arrived.path, "/model/m/converse-stream");
    assert_eq!(arrived.header("accept"), Some("application/vnd.amazon.eventstream"));
    let pieces = arrived.pieces(FRAMES);
    let all = stream(&["one ", "two"]).concat();
    for byte in &all {
        send(&pieces, &[*byte]);
    }
    drop(pieces);
    let answer = client.answer();
    assert!(answer.complete && answer.body == all, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/vnd.amazon.eventstream"));
    let stats = station.house.at_rest();
    let tokens = |name: &str| number(&stats, &format!("/providers/bedrock/jobs/tokens_{name}_total"));
    assert_eq!((tokens("in"), tokens("out")), (3, 7));
}

#[test]
fn a_stream_without_its_end_is_cut_and_says_so_in_a_frame() {
    let (station, b, _) = station();
    let all = stream(&["one"]);
    let begun = all[..2].concat();
    for rest in [
        Vec::new(),
        all[2][..10].to_vec(),
        frame("exception", "internalServerException", &json!({ "message": "theirs" })),
    ] {
        let mut client = station.client();
        bedrock(&mut client, "m", "converse-stream", ASKED);
        let pieces = b.next().pieces(FRAMES);
        send(&pieces, &begun);
        if !rest.is_empty() {
            send(&pieces, &rest);
        }
        drop(pieces);
        let answer = client.answer();
        assert!(!answer.complete && answer.body.starts_with(&begun));
        let (name, last) = frames(&answer.body).pop().expect("a frame");
        match rest.len() {
            0 | 10 => {
                assert_eq!(
                    (name.as_str(), &last["sluicegate"]["code"]),
                    ("modelStreamErrorException", &json!("stream_cut"))
                );
            }
            _ => assert_eq!((name.as_str(), &last["message"]), ("internalServerException", &json!("theirs"))),
        }
    }
    // What is no frame ends it, wherever it stands.
    let mut client = station.client();
    bedrock(&mut client, "m", "converse-stream", ASKED);
    send(&b.next().pieces(FRAMES), b"data: {\"choices\":[]}\n\n");
    assert_eq!(told(&client.answer()), (502, "InternalServerException", "upstream_bad_response".to_owned()));
}

#[test]
fn an_exception_before_the_first_event_is_an_error_with_its_status() {
    let (station, b, _) = station();
    let mut client = station.client();
    bedrock(&mut client, "m", "converse-stream", ASKED);
    send(&b.next().pieces(FRAMES), &frame("exception", "validationException", &json!({ "message": "theirs" })));
    assert_eq!(told(&client.answer()), (400, "ValidationException", "upstream_error".to_owned()));
    bedrock(&mut client, "m", "converse", ASKED);
    b.next().respond(
        424,
        &[("x-amzn-errortype", "ModelErrorException:http://x"), ("x-amzn-requestid", "up-2")],
        r#"{"message":"theirs"}"#,
    );
    let answer = client.answer();
    assert_eq!(told(&answer), (424, "ModelErrorException", "upstream_error".to_owned()));
    assert_eq!((&answer.json()["message"], answer.header("x-amzn-requestid")), (&json!("theirs"), Some("up-2")));
}

#[test]
fn a_chat_and_a_message_reach_bedrock_as_converse() {
    let (station, b, _) = station();
    let mut client = station.client();
    let chat = json!({ "model": "bedrock/m:0", "max_tokens": 5, "stop": ["x"], "seed": 1, "messages": [{ "role": "user", "content": "one two" }] });
    let message = json!({ "model": "bedrock/m:0", "max_tokens": 5, "stop_sequences": ["x"], "messages": [{ "role": "user", "content": "one two" }] });
    for (path, body, text) in [
        ("/v1/chat/completions", chat.to_string(), "/choices/0/message/content"),
        ("/v1/messages", message.to_string(), "/content/0/text"),
    ] {
        client.ask("POST", path, &["anthropic-beta: x"], &body);
        let arrived = b.next();
        assert_eq!((arrived.path.as_str(), arrived.header("anthropic-version")), ("/model/m%3A0/converse", None));
        let inference = json!({ "maxTokens": 5, "stopSequences": ["x"] });
        assert_eq!(
            arrived.json(),
            json!({ "messages": [{ "role": "user", "content": [{ "text": "one two" }] }], "inferenceConfig": inference })
        );
        arrived.respond(200, &[("content-type", "application/json")], WHOLE);
        let answer = client.answer();
        assert_eq!(answer.json().pointer(text), Some(&json!("hi")), "{}", answer.text());
        assert_eq!(answer.header("x-sluicegate-dropped"), (path == "/v1/chat/completions").then_some("seed"));
    }
    // A name that is no part of a path is none.
    let dots = client.chat(&[], &crate::house::chat("bedrock/..", false)).answer();
    assert_eq!((dots.status, dots.code().as_str()), (400, "invalid_request"));
    assert!(b.is_empty());
}

#[test]
fn frames_come_as_events_to_who_asked_in_another_shape() {
    let (station, b, _) = station();
    let all = stream(&["one ", "two"]).concat();
    for step in [1, 50, all.len()] {
        let mut client = station.client();
        client.chat(&[], &crate::house::chat("bedrock/m", true));
        let arrived = b.next();
        assert_eq!(arrived.path, "/model/m/converse-stream");
        let pieces = arrived.pieces(FRAMES);
        all.chunks(step).for_each(|piece| send(&pieces, piece));
        drop(pieces);
        let answer = client.answer();
        assert!(answer.complete && answer.text().ends_with(DONE), "{}", answer.text());
        assert_eq!(
            (answer.words().as_str(), answer.header("content-type")),
            ("one two", Some("text/event-stream; charset=utf-8"))
        );
    }
    let mut client = station.client();
    client.chat(&[], &crate::house::chat("bedrock/m", true));
    let pieces = b.next().pieces(FRAMES);
    send(&pieces, &stream(&["one"])[..2].concat());
    drop(pieces);
    assert_eq!(client.answer().last_error(), "stream_cut");
}

#[test]
fn events_come_as_frames_to_who_asked_on_a_route_of_bedrocks() {
    let (station, _, o) = station();
    let mut client = station.client();
    bedrock(&mut client, "o/m", "converse-stream", PLAIN);
    let arrived = o.next();
    assert_eq!((arrived.path.as_str(), &arrived.json()["stream"]), ("/v1/chat/completions", &json!(true)));
    let pieces = arrived.stream();
    for text in [&word("one "), ": comment\n\n", "data: no JSON\n\n", &word("two"), STOP, USAGE, DONE] {
        feed(&pieces, text);
    }
    drop(pieces);
    let answer = client.answer();
    assert!(answer.complete);
    let names: Vec<_> = frames(&answer.body).into_iter().map(|(name, _)| name).collect();
    let deltas = ["contentBlockDelta", "contentBlockDelta"];
    assert_eq!(names, [&["messageStart"][..], &deltas, &["contentBlockStop", "messageStop", "metadata"]].concat());
    assert_eq!(number(&station.house.stats(), "/providers/o/jobs/tokens_out_total"), 2);

    // Cut, a frame says so, and the connection ends without its last chunk.
    let mut client = station.client();
    bedrock(&mut client, "o/m", "converse-stream", PLAIN);
    let pieces = o.next().stream();
    feed(&pieces, &word("one"));
    pieces.send(Piece::Fail(TransportErrorKind::Cut)).map_err(drop).expect("it is read");
    let answer = client.answer();
    let (name, last) = frames(&answer.body).pop().expect("a frame");
    assert!(!answer.complete);
    assert_eq!((name.as_str(), &last["sluicegate"]["code"]), ("modelStreamErrorException", &json!("stream_cut")));
}

#[test]
fn a_message_in_bedrocks_dress_reaches_others_as_one() {
    let (station, _, o) = station();
    let mut client = station.client();
    bedrock(&mut client, "o/m", "invoke", CLAUDE);
    let arrived = o.next();
    assert_eq!((&arrived.json()["model"], &arrived.json()["messages"][0]["content"]), (&json!("m"), &json!("one two")));
    arrived.respond(200, &[("content-type", "application/json")], reply("well"));
    let body = client.answer().json();
    assert_eq!((&body["type"], &body["content"][0]["text"]), (&json!("message"), &json!("well")), "{body}");
    // The simulated provider speaks Anthropic's shape, which is the nearer one.
    let answer = bedrock(&mut client, "sim/echo", "invoke", CLAUDE).answer();
    assert_eq!(answer.json()["content"][0]["text"], "one two");
    let answer = bedrock(&mut client, "sim/echo", "invoke-with-response-stream", CLAUDE).answer();
    let frames = frames(&answer.body);
    assert!(
        answer.complete
            && frames.len() > 5
            && frames.iter().all(|(name, body)| name == "chunk" && body["bytes"].is_string())
    );
    for body in [r#"{"inputText":"x"}"#, PLAIN] {
        let answer = bedrock(&mut client, "o/m", "invoke", body).answer();
        assert_eq!(told(&answer), (400, "ValidationException", "unsupported".to_owned()), "{body}");
    }
    let guarded = ["x-amzn-bedrock-guardrailidentifier: g"];
    let answer = client.ask("POST", "/bedrock/model/o%2Fm/invoke", &guarded, CLAUDE).answer();
    assert_eq!(told(&answer).2, "unsupported", "who is to judge what is said is no hint");
    assert!(o.is_empty());
}

#[test]
fn silence_among_frames_is_filled_with_nothing_and_a_held_stream_begins_with_its_first() {
    let settings = json!({ "early_keepalive": true, "stream_recovery": "buffer" });
    let (station, gate) = Station::gated(provider(settings), json!({}));
    let mut client = station.client();
    bedrock(&mut client, "p/m", "converse-stream", PLAIN);
    let pieces = gate.next().stream();
    [&word("kept"), STOP, DONE].into_iter().for_each(|text| feed(&pieces, text));
    drop(pieces);
    let answer = client.answer();
    assert!(answer.complete);
    assert_eq!(frames(&answer.body)[0].0, "messageStart");
}

/// What is asked, by method, path, header lines and body; and what that is told: its status, its name, our code.
type Refused<'a> = (&'a str, &'a str, &'a [&'a str], &'a str, (u16, &'a str, &'a str));

#[test]
fn whatever_is_refused_is_told_in_awss_shape_however_early() {
    let server = json!({ "max_body_bytes": 2000, "keys": ["gw-key-canary-2"] });
    let config = json!({ "server": server, "providers": { "sim": sim(json!({})) } });
    let station = Station::on(House::with(config, &[]));
    let key = "authorization: Bearer gw-key-canary-2";
    let long = PLAIN.replace("one two", &"x".repeat(3000));
    let cases: [Refused<'_>; 8] = [
        ("POST", "/bedrock/model/sim%2Fecho/converse", &[], PLAIN, (401, "AccessDeniedException", "unauthorized")),
        (
            "POST",
            "/bedrock/model/sim%2Fecho/converse",
            &["authorization: AWS4-HMAC-SHA256 Credential=x"],
            PLAIN,
            (401, "AccessDeniedException", "unauthorized"),
        ),
        ("GET", "/bedrock/model/sim%2Fecho/converse", &[key], "", (405, "ValidationException", "method_not_allowed")),
        ("POST", "/bedrock/guardrail/x/apply", &[key], "{}", (404, "ResourceNotFoundException", "not_found")),
        ("POST", "/bedrock/model/sim%2Fecho/converse", &[key], "[]", (400, "ValidationException", "invalid_request")),
        ("POST", "/bedrock/model/none/converse", &[key], PLAIN, (404, "ResourceNotFoundException", "model_not_found")),
        ("POST", "/bedrock/model/sim%2Fecho/converse", &[key], &long, (413, "ValidationException", "body_too_large")),
        (
            "POST",
            "/bedrock/model/sim%2Ffail-429/converse",
            &[key],
            PLAIN,
            (429, "ThrottlingException", "upstream_error"),
        ),
    ];
    for (method, path, headers, body, (status, name, code)) in cases {
        let answer = station.client().ask(method, path, headers, body).answer();
        assert_eq!(told(&answer), (status, name, code.to_owned()), "{method} {path}");
    }
}

#[test]
fn a_client_that_leaves_frames_ends_them_upstream() {
    let (station, b, _) = station();
    let mut client = station.client();
    bedrock(&mut client, "m", "converse-stream", ASKED);
    let pieces = b.next().pieces(FRAMES);
    send(&pieces, &stream(&["one"])[..2].concat());
    client.wait_for("one");
    drop(client);
    eventually("the provider is left", || {
        pieces.try_send(Piece::Bytes(Vec::new())).is_err_and(|e| e.is_disconnected())
    });
    assert_eq!(station.house.at_rest()["errors"], json!({ "client_closed": 1 }));
}

/// What a client reads in the deltas of frames.
fn text_of(bytes: &[u8]) -> String {
    let deltas = frames(bytes).into_iter().filter(|(name, _)| name == "contentBlockDelta");
    deltas.filter_map(|(_, body)| body["delta"]["text"].as_str().map(str::to_owned)).collect()
}

#[test]
fn what_a_plugin_takes_out_of_a_request_comes_back_in_frames() {
    let gate = Gate::new();
    let providers = json!({ "bedrock": speaking(json!({})) });
    let config = json!({ "providers": providers, "plugins": [{ "name": "redaction", "config": {} }] });
    let station = Station::on(House::with(config, &[("bedrock", &gate)]));
    let mut client = station.client();
    bedrock(&mut client, "m", "converse-stream", &PLAIN.replace("one two", "bob@example.org"));
    let arrived = gate.next();
    assert_eq!(arrived.json()["messages"][0]["content"][0]["text"], "[EMAIL_1]");
    let pieces = arrived.pieces(FRAMES);
    stream(&["To [EMA", "IL_1] now, [EM"]).iter().for_each(|frame| send(&pieces, frame));
    drop(pieces);
    let answer = client.answer();
    assert!(answer.complete);
    assert_eq!(text_of(&answer.body), "To bob@example.org now, [EM");

    bedrock(&mut client, "m", "converse", &PLAIN.replace("one two", "bob@example.org"));
    gate.next().respond(200, &[], WHOLE.replace("hi", "[EMAIL_1]"));
    assert_eq!(client.answer().json()["output"]["message"]["content"][0]["text"], "bob@example.org");
}
