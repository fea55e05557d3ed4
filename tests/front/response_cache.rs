//! The built-in plugin `response_cache` over HTTP: for which key, by which headers, and streams byte for byte.

use serde_json::{Value, json};

use super::{Answer, Client, Station};
use crate::house::{DONE, Gate, House, STOP, USAGE, chat, feed, number, provider, word};

/// One provider behind a gate, a cache before it, and two keys.
fn station() -> (Station, Gate) {
    let gate = Gate::new();
    let keys = json!([{ "name": "one", "value": "one" }, { "name": "other", "value": "other" }]);
    let config = json!({
        "server": { "keys": keys },
        "providers": { "p": provider(json!({})) },
        "plugins": [{ "name": "response_cache" }],
    });
    (Station::on(House::with(config, &[("p", &gate)])), gate)
}

fn how(answer: &Answer) -> Option<&str> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-sluicegate-cache")
}

fn through(client: &mut Client, gate: &Gate, headers: &[&str], body: &str) -> Answer {
    client.chat(headers, body);
    gate.next().respond(
        200,
        &[("content-type", "application/json"), ("x-ratelimit-remaining-requests", "7")],
        crate::house::reply("well"),
    );
    client.answer()
}

const ONE: &str = "api-key: one";
const OTHER: &str = "api-key: other";

#[test]
fn each_key_has_entries_of_its_own() {
    let (station, gate) = station();
    let mut client = station.client();
    let body = chat("p/m", false);
    for key in [ONE, OTHER] {
        let first = through(&mut client, &gate, &[key], &body);
        assert_eq!((how(&first), first.header("age")), (Some("miss"), None));
        let spaced = body.replacen('{', "{ ", 1);
        let again = client.chat(&[key, "x-request-id: again", "traceparent: 00-1"], &spaced).answer();
        assert_eq!((how(&again), &again.body), (Some("hit"), &first.body));
        assert_eq!((again.header("age"), again.header("content-type")), (Some("0"), Some("application/json")));
        assert_eq!((again.header("x-request-id"), again.header("x-sluicegate-provider")), (Some("again"), Some("p")));
        assert_eq!((again.header("x-sluicegate-model"), again.header("x-sluicegate-attempts")), (Some("m"), Some("0")));
        assert!(first.header("x-ratelimit-remaining-requests").is_some());
        assert_eq!(again.header("x-ratelimit-remaining-requests"), None, "it speaks of another exchange");
    }
    let beta = through(&mut client, &gate, &[ONE, "openai-beta: new"], &body);
    assert_eq!(how(&beta), Some("miss"), "it says what the body means");
    assert!(gate.is_empty());
    let own = |name: &str| number(&station.house.at_rest(), &format!("/plugins/response_cache/own/{name}"));
    assert_eq!((own("hits_total"), own("misses_total"), own("entries")), (2, 3, 3));
}

#[test]
fn a_header_leads_past_it_or_makes_it_new() {
    let (station, gate) = station();
    let mut client = station.client();
    let body = chat("p/m", false);
    assert_eq!(how(&through(&mut client, &gate, &[ONE, "x-sluicegate-cache: bypass"], &body)), None);
    assert_eq!(how(&through(&mut client, &gate, &[ONE], &body)), Some("miss"));
    assert_eq!(how(&through(&mut client, &gate, &[ONE, "x-sluicegate-cache: refresh"], &body)), Some("miss"));
    assert_eq!(how(&client.chat(&[ONE], &body).answer()), Some("hit"));
    let refused = client.chat(&[ONE, "x-sluicegate-cache: no-store"], &body).answer();
    assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_request"));
    assert_eq!(refused.json()["error"]["param"], "x-sluicegate-cache");
    assert!(gate.is_empty());
}

#[test]
fn a_stream_is_given_again_byte_for_byte() {
    let (station, gate) = station();
    let mut client = station.client();
    let asks = |usage: bool| {
        let options = if usage { json!({ "include_usage": true }) } else { Value::Null };
        chat("p/m", true).replacen('{', &format!("{{\"stream_options\":{options},"), 1)
    };
    let odd = "event: odd\r\nid: 7\r\ndata:{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\u00e9\"}}], \"x\":1}\r\n\r\n";
    for usage in [false, true] {
        client.chat(&[ONE], &asks(usage));
        let pieces = gate.next().stream();
        let all = format!("{}{odd}{}{STOP}{USAGE}{DONE}", word("one "), word("two"));
        for at in (0..all.len()).step_by(50) {
            feed(&pieces, &all[at..all.len().min(at + 50)]);
        }
        drop(pieces);
        let first = client.answer();
        assert_eq!((how(&first), first.complete), (Some("miss"), true));
        let again = client.chat(&[ONE], &asks(usage)).answer();
        assert_eq!((how(&again), again.complete, again.text()), (Some("hit"), true, first.text()));
        assert_eq!(again.text(), if usage { all } else { all.replace(USAGE, "") });
        assert_eq!(again.header("content-type"), Some("text/event-stream; charset=utf-8"));
        assert_eq!((again.header("age"), again.header("x-sluicegate-model")), (Some("0"), Some("m")));
    }
    assert!(gate.is_empty());
}

/// A client that waits for another's answer is watched like any other.
#[test]
fn a_follower_that_hangs_up_is_gone_at_once() {
    let (station, gate) = station();
    let own = |name: &str| number(&station.house.stats(), &format!("/plugins/response_cache/own/{name}"));
    let mut leader = station.client();
    leader.chat(&[ONE], &chat("p/m", true));
    let pieces = gate.next().stream();
    let mut follower = station.client();
    follower.chat(&[ONE], &chat("p/m", true));
    crate::house::eventually("it follows", || own("followers") == 1);
    drop(follower);
    crate::house::eventually("it has gone", || own("followers") == 0);
    feed(&pieces, &format!("{}{STOP}{DONE}", word("a")));
    drop(pieces);
    assert_eq!(how(&leader.answer()), Some("miss"));
    assert_eq!(station.house.at_rest()["errors"], json!({ "client_closed": 1 }));
}
