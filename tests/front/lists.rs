//! `GET /v1/models?refresh=1` as a client meets it.

use serde_json::{Value, json};

use super::Station;
use crate::house::{Gate, House, number, provider};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn ids(list: &Value) -> Vec<&str> {
    list["data"].as_array().expect("a list").iter().map(|model| model["id"].as_str().expect("text")).collect()
}

fn two(server: Value) -> (Station, Gate, Gate) {
    let gates = (Gate::new(), Gate::new());
    let config = json!({
        "server": server,
        "providers": { "p": provider(json!({})), "q": provider(json!({})) },
        "aliases": { "fast": "p/m" },
    });
    let house = House::with(config, &[("p", &gates.0), ("q", &gates.1)]);
    (Station::on(house), gates.0, gates.1)
}

#[test]
fn a_client_gets_the_providers_own_lists_when_it_asks_for_them_and_they_stand_from_then_on() {
    let (station, p, q) = two(json!({}));
    assert_eq!(ids(&station.client().get("/v1/models").json()), ["fast"]);
    assert_eq!(ids(&station.client().get("/v1/models?refresh=0&x=refresh=1").json()), ["fast"]);
    assert!(p.is_empty() && q.is_empty(), "nobody asked for a refresh");
    let mut client = station.client();
    client.ask("GET", "/v1/models?refresh=1", &[], "");
    p.next().respond(200, &JSON, r#"{"data":[{"id":"m","created":7,"owned_by":"them"},{"id":"org/n"}]}"#);
    q.next().respond(503, &JSON, "{}");
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("x-sluicegate-models-stale")), (200, Some("q")));
    let list = answer.json();
    assert_eq!(ids(&list), ["fast", "p/m", "p/org/n"]);
    assert_eq!(list["data"][1], json!({ "id": "p/m", "object": "model", "created": 7, "owned_by": "them" }));
    assert_eq!(list["data"][2], json!({ "id": "p/org/n", "object": "model", "created": 0, "owned_by": "p" }));
    // It is kept, and asked for no sooner, however often clients ask.
    let mut client = station.client();
    assert_eq!(ids(&client.get("/v1/models").json()), ["fast", "p/m", "p/org/n"]);
    assert_eq!(ids(&client.get("/v1/models?refresh=1").json()), ["fast", "p/m", "p/org/n"]);
    let one = client.get("/v1/models/p%2Forg%2Fn?refresh=1");
    assert_eq!((one.status, one.json()["id"].as_str()), (200, Some("p/org/n")));
    assert!(p.is_empty() && q.is_empty());
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/requests/received_total"), 0, "no request to a provider");
}

#[test]
fn one_models_route_refreshes_too() {
    let (station, p, q) = two(json!({}));
    let mut client = station.client();
    assert_eq!(client.get("/v1/models/q/new").status, 404);
    client.ask("GET", "/v1/models/q/new?a=b&refresh=1", &[], "");
    p.next().respond(200, &JSON, r#"{"data":[]}"#);
    q.next().respond(200, &JSON, r#"{"data":[{"id":"new","created":3}]}"#);
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("x-sluicegate-models-stale")), (200, None));
    assert_eq!(answer.json(), json!({ "id": "q/new", "object": "model", "created": 3, "owned_by": "q" }));
}

#[test]
fn a_gateway_key_sees_what_it_may_use_and_nothing_of_other_providers() {
    let key = "gw-key-canary-2";
    let (station, p, q) = two(json!({ "keys": [{ "name": "k", "value": key, "models": ["p/m", "p/absent"] }] }));
    let refused = station.client().get("/v1/models?refresh=1");
    assert_eq!(refused.status, 401);
    assert!(p.is_empty() && q.is_empty(), "a stranger has nobody asked");
    let line = format!("x-api-key: {key}");
    let mut client = station.client();
    client.ask("GET", "/v1/models?refresh=1", &[&line], "");
    p.next().respond(200, &JSON, r#"{"data":[{"id":"m"},{"id":"secret"}]}"#);
    q.next().respond(500, &JSON, "{}");
    let answer = client.answer();
    assert_eq!(ids(&answer.json()), ["fast", "p/m"], "the alias stands for what it may use");
    assert_eq!(answer.header("x-sluicegate-models-stale"), None, "it has nothing of q's");
    client.ask("GET", "/v1/models/p/secret?refresh=1", &[&line], "");
    assert_eq!(client.answer().status, 404);
}
