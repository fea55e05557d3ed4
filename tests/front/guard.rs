//! The plugins `redaction` and `request_log` on the data plane: routes that callers in the process do not have, streams as
//! a client reads them, and whose key a line names.

use serde_json::{Value, json};

use super::Station;
use crate::house::{DONE, Gate, House, STOP, chat, feed, number, provider, word};

fn station(server: Value, plugins: Value) -> (Station, Gate) {
    let gate = Gate::new();
    let config = json!({ "server": server, "providers": { "openai": provider(json!({})) }, "plugins": plugins });
    (Station::on(House::with(config, &[("openai", &gate)])), gate)
}

fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().expect("a type"))
}

#[test]
fn the_rest_of_a_responses_text_comes_before_the_event_that_ends_it() {
    let (station, gate) = station(json!({}), json!([{ "name": "redaction" }]));
    let body = json!({ "model": "openai/m", "stream": true, "instructions": "I am bob@example.org", "input": "hi" });
    let mut client = station.client();
    client.ask("POST", "/v1/responses", &[], &body.to_string());
    let arrived = gate.next();
    assert_eq!(arrived.json()["instructions"], "I am [EMAIL_1]");
    let pieces = arrived.stream();
    let at = |kind: &str, number: u64, more: Value| {
        let mut data = json!({ "type": kind, "item_id": "i", "output_index": 0, "content_index": 0 });
        data["sequence_number"] = number.into();
        crate::house::merge(&mut data, more);
        event(&data)
    };
    let whole = "Dear [EMAIL_1], [EM";
    feed(&pieces, &at("response.created", 0, json!({ "response": { "instructions": "I am [EMAIL_1]" } })));
    feed(&pieces, &at("response.output_text.delta", 1, json!({ "delta": "Dear [EMA" })));
    feed(&pieces, &at("response.output_text.delta", 2, json!({ "delta": "IL_1], [EM" })));
    feed(&pieces, &at("response.output_text.done", 3, json!({ "text": whole })));
    feed(
        &pieces,
        &at("response.completed", 4, json!({ "response": { "output": [{ "content": [{ "text": whole }] }] } })),
    );
    drop(pieces);
    let answer = client.answer();
    let events: Vec<Value> = answer.events().iter().filter_map(|data| serde_json::from_str(data).ok()).collect();
    let numbers: Vec<_> = events.iter().map(|data| data["sequence_number"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5], "{}", answer.text());
    assert_eq!(events[0]["response"]["instructions"], "I am bob@example.org");
    let deltas = events.iter().filter(|data| data["type"] == "response.output_text.delta");
    let text: String = deltas.map(|data| data["delta"].as_str().expect("a text").to_owned()).collect();
    assert_eq!(text, "Dear bob@example.org, [EM");
    assert_eq!((&events[3]["delta"], &events[3]["item_id"]), (&json!("[EM"), &json!("i")));
    assert_eq!((&events[4]["type"], &events[4]["text"]), (&json!("response.output_text.done"), &json!(text)));
    assert_eq!(events[5]["response"]["output"][0]["content"][0]["text"], text);
    assert_eq!(
        answer.text().matches("event: response.output_text.delta\n").count(),
        3,
        "the new one has its name, too"
    );
}

#[test]
fn what_cannot_be_read_is_refused_unless_it_may_pass_and_json_is_read_wherever_it_goes() {
    let form = "--x\r\ncontent-disposition: form-data; name=\"prompt\"\r\n\r\nbob@example.org\r\n--x--\r\n";
    let kind = "content-type: multipart/form-data; boundary=x";
    let path = "/openai/v1/audio/transcriptions";
    let (strict, gate) = station(json!({}), json!([{ "name": "redaction" }]));
    let answer = strict.client().ask("POST", path, &[kind], form).answer();
    assert_eq!((answer.status, &*answer.code()), (400, "unsupported"));
    assert!(gate.is_empty(), "it went upstream");
    let mut client = strict.client();
    client.ask("POST", "/openai/v1/moderations", &["content-type: application/json"], r#"{"input":"bob@example.org"}"#);
    let arrived = gate.next();
    assert_eq!(arrived.json(), json!({ "input": "[EMAIL_1]" }));
    arrived.respond(200, &[("content-type", "application/json")], r#"{"results":["[EMAIL_1]"]}"#);
    assert_eq!(client.answer().json()["results"][0], "[EMAIL_1]", "answers to what is forwarded are left alone");
    client.ask("GET", "/openai/v1/files", &[], "");
    gate.next().respond(200, &[], "{}");
    assert_eq!(client.answer().status, 200, "what has no body has nothing that could not be read");
    assert_eq!(number(&strict.house.stats(), "/plugins/redaction/own/unreadable_total"), 1);
    let (lax, gate) = station(json!({}), json!([{ "name": "redaction", "config": { "unreadable": "pass" } }]));
    let mut client = lax.client();
    client.ask("POST", path, &[kind], form);
    let arrived = gate.next();
    assert_eq!(String::from_utf8_lossy(&arrived.body), form);
    arrived.respond(200, &[], "{}");
    assert_eq!(client.answer().status, 200);
}

#[test]
fn a_line_has_the_keys_name_and_what_the_client_was_sent() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("requests.log");
    let server = json!({ "keys": [{ "name": "blue", "value": "sesame" }] });
    let log = json!({ "name": "request_log", "config": { "path": path, "bodies": true } });
    let (station, gate) = station(server, json!([log, { "name": "redaction" }]));
    let key = "Authorization: Bearer sesame";
    let mut client = station.client();
    let body = chat("openai/m", true).replace("one two", "bob@example.org");
    client.chat(&[key, "x-request-id: mine"], &body);
    let pieces = gate.next().stream();
    feed(&pieces, &format!("{}{}{STOP}{DONE}", word("[EMAI"), word("L_1]")));
    drop(pieces);
    let answer = client.answer();
    assert_eq!(answer.words(), "bob@example.org");
    assert_eq!(client.chat(&[], &body).answer().status, 401);
    let mut client = station.client();
    assert_eq!(client.chat(&[key], "{").answer().status, 400);
    // Its end waits for the last lines.
    drop((client, station));
    let text = std::fs::read_to_string(&path).expect("it is there");
    let [line] = &text.lines().collect::<Vec<_>>()[..] else { panic!("one line, for what came so far: {text}") };
    let line: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!((&line["key"], &line["request_id"], &line["stream"]), (&json!("blue"), &json!("mine"), &json!(true)));
    assert!(!text.contains("sesame"), "{text}");
    assert_eq!(line["request"], body, "standing first, it sees what the caller wrote");
    assert!(line["answer"].as_str().is_some_and(|heard| heard.contains("bob@example.org")), "{line}");
    let events = answer.text().rsplit_once("data: [DONE]").expect("an end").0.len() as u64;
    assert_eq!(line["bytes_out"], events, "{line}");
}
