//! Plugins on the data plane: requests and answers as HTTP, and whose key a request came with.

use std::sync::{Arc, Mutex};

use serde_json::json;
use sluicegate::gateway::WeakGateway;
use sluicegate::plugin::{
    Context, Event, EventHook, Flow, HttpReply, HttpRequest, HttpResponse, OnFailure, Outcome, Plugin, PluginError,
    Reply, Request, StreamReply,
};

use super::Station;
use super::rescue::overdue;
use crate::house::{DONE, Gate, House, STOP, chat, eventually, feed, number, provider, word};

/// Tags by a header, lets one path of words in alone, and puts its name on every answer.
#[derive(Default)]
struct Porter {
    seen: Mutex<Vec<String>>,
    fails: Option<OnFailure>,
}

impl Plugin for Porter {
    fn name(&self) -> &str {
        "porter"
    }

    fn http_request(&self, request: &mut HttpRequest<'_>) -> Result<Option<HttpReply>, PluginError> {
        let line = format!("{} {} {}", request.method(), request.path(), request.client());
        self.seen.lock().expect("no panic under it").push(line);
        if let Some(team) = request.header("x-team") {
            let team = team.to_owned();
            request.tag("team", &team);
        }
        if let Some(status) = request.header("x-refuse").and_then(|status| status.parse().ok()) {
            return Ok(Some(HttpReply::new(status)?.with_header("X-Why", "asked").with_body("no", "text/plain")));
        }
        if request.body() == b"ping" {
            request.set_body(chat("p/m", false));
        }
        if self.fails.is_some() {
            request.set_body("{}");
            return Err("on purpose".into());
        }
        Ok(None)
    }

    fn http_response(&self, response: &mut HttpResponse<'_>) -> Result<(), PluginError> {
        let status = response.status().to_string();
        response.set_header("X-Porter", &status);
        response.remove_header("x-sluicegate-queue-us");
        if response.header("x-spoil").is_some() {
            return Err("on purpose".into());
        }
        Ok(())
    }

    fn pre(&self, _: &mut Request<'_>, context: &mut Context<'_>) -> Result<Flow, PluginError> {
        let line = format!("key {:?} team {:?}", context.key(), context.tags().get("team"));
        self.seen.lock().expect("no panic under it").push(line);
        Ok(Flow::Continue)
    }

    fn on_failure(&self) -> OnFailure {
        self.fails.unwrap_or_default()
    }
}

fn with_plugins(station: &Station, plugins: Vec<Arc<dyn Plugin>>) {
    station.house.gateway().set_plugins(plugins).expect("names");
}

#[test]
fn a_request_is_tagged_changed_or_answered_before_it_is_read() {
    let (station, gate) = Station::gated(json!({}), json!({ "keys": [{ "name": "blue", "value": "sesame" }] }));
    let porter = Arc::new(Porter::default());
    with_plugins(&station, vec![Arc::clone(&porter) as Arc<dyn Plugin>]);
    let seen = || std::mem::take(&mut *porter.seen.lock().expect("no panic under it"));
    let key = "Authorization: Bearer sesame";

    let mut client = station.client();
    client.chat(&[key, "x-team: search"], "ping");
    let arrived = gate.next();
    assert_eq!(arrived.json()["model"], "m", "the body was changed before it was read");
    assert!(arrived.headers.iter().all(|(name, _)| name != "x-team"));
    arrived.answer();
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("x-porter")), (200, Some("200")));
    assert!(answer.header("x-sluicegate-queue-us").is_none() && answer.header("x-sluicegate-provider") == Some("p"));
    assert_eq!(seen(), ["POST /v1/chat/completions 127.0.0.1", "key Some(\"blue\") team Some(\"search\")"]);

    let answer = client.chat(&[key, "x-refuse: 418", "x-request-id: mine"], &chat("p/m", false)).answer();
    assert_eq!((answer.status, answer.text(), answer.header("x-why")), (418, "no", Some("asked")));
    assert_eq!((answer.header("x-porter"), answer.header("x-request-id")), (Some("418"), Some("mine")));
    assert_eq!(seen().len(), 1, "it goes no further");
    let answer = client.chat(&[key, "x-refuse: 204"], &chat("p/m", false)).answer();
    assert_eq!(answer.status, 204);

    let answer = client.chat(&[key], "{").answer();
    assert_eq!((answer.status, answer.header("x-porter")), (400, Some("400")), "errors are answers, too");
    let answer = client.chat(&["Authorization: Bearer wrong"], "ping").answer();
    assert_eq!((answer.status, answer.header("x-porter")), (401, None), "who is not let in is nobody's business");
    assert_eq!(seen().len(), 2);

    let mut client = station.client();
    client.chat(&[key], &chat("p/m", true));
    let pieces = gate.next().stream();
    feed(&pieces, &format!("{}{STOP}{DONE}", word("a")));
    drop(pieces);
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("x-porter"), answer.complete), (200, Some("200"), true));
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/plugins/porter/short_circuits_total"), 2);
    let [received, succeeded, failed] =
        ["received", "succeeded", "failed"].map(|name| number(&stats, &format!("/requests/{name}_total")));
    assert_eq!((received, succeeded, failed), (6, 3, 3));
}

#[test]
fn a_hook_of_http_that_fails_is_left_out_or_refuses() {
    for (on_failure, status) in [(OnFailure::Continue, 200), (OnFailure::Refuse, 500)] {
        let (station, gate) = Station::gated(json!({}), json!({}));
        with_plugins(&station, vec![Arc::new(Porter { fails: Some(on_failure), ..Porter::default() })]);
        let mut client = station.client();
        client.chat(&[], &chat("p/m", false));
        if status == 200 {
            gate.next().respond(200, &[("content-type", "application/json"), ("x-spoil", "1")], r#"{"choices":[]}"#);
        }
        let answer = client.answer();
        assert_eq!(answer.status, status);
        assert!(gate.is_empty());
        assert!(number(&station.house.stats(), "/plugins/porter/errors_total") >= 1);
    }
}

/// Sends everything to one model.
struct Redirect(&'static str);

impl Plugin for Redirect {
    fn name(&self) -> &str {
        "redirect"
    }

    fn pre(&self, request: &mut Request<'_>, _: &mut Context<'_>) -> Result<Flow, PluginError> {
        match self.0 {
            "" => return Ok(Flow::Answer(Reply::chat("mine"))),
            model => request.set_model(model),
        }
        Ok(Flow::Continue)
    }
}

#[test]
fn a_plugin_leads_nobody_past_what_its_key_may_name() {
    let keys = json!({ "keys": [{ "value": "sesame", "models": ["p/m"] }] });
    let (station, gate) = Station::gated(json!({}), keys);
    let key = "Authorization: Bearer sesame";
    with_plugins(&station, vec![Arc::new(Redirect("p/other"))]);
    let answer = station.client().chat(&[key], &chat("p/m", false)).answer();
    assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"));
    with_plugins(&station, vec![Arc::new(Redirect(""))]);
    let answer = station.client().chat(&[key], &chat("p/other", false)).answer();
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (403, "forbidden"),
        "not even with an answer of the plugin's own"
    );
    let mut client = station.client();
    let answer = client.chat(&[key], &chat("p/m", true)).answer();
    assert_eq!((answer.status, answer.words(), answer.complete), (200, "mine".to_owned(), true));
    assert!(answer.text().ends_with(DONE), "{}", answer.text());
    assert_eq!(
        (answer.header("x-sluicegate-provider"), answer.header("x-sluicegate-attempts")),
        (Some("redirect"), Some("0"))
    );
    assert!(gate.is_empty());
}

/// Tells a tale in pieces, in the shape of OpenAI's chats whatever it is asked in.
struct Tale;

impl Plugin for Tale {
    fn name(&self) -> &str {
        "tale"
    }

    fn pre(&self, _: &mut Request<'_>, _: &mut Context<'_>) -> Result<Flow, PluginError> {
        let event = |text: &str| json!({ "choices": [{ "index": 0, "delta": { "content": text } }] });
        Ok(Flow::Stream(StreamReply::new().with_event(&event("Once ")).with_event(&event("upon"))))
    }
}

#[test]
fn a_plugins_stream_is_told_in_the_shape_that_it_is_asked_for_in() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    with_plugins(&station, vec![Arc::new(Tale)]);
    let body = r#"{"model":"p/m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"x"}]}"#;
    let mut client = station.client();
    client.ask("POST", "/v1/messages", &[], body);
    let answer = client.answer();
    let events = answer.text();
    let named: Vec<_> = events.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let (first, last) = (named.first().copied(), named.last().copied());
    assert_eq!((answer.complete, first, last), (true, Some("message_start"), Some("message_stop")), "{events}");
    assert!(events.contains(r#""text":"Once ""#) && events.contains(r#""stop_reason":"end_turn""#), "{events}");
    let body = r#"{"messages":[{"role":"user","content":[{"text":"x"}]}]}"#;
    client.ask("POST", "/bedrock/model/p%2Fm/converse-stream", &[], body);
    let answer = client.answer();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(answer.complete && text.contains("messageStart") && text.contains(r#"{"text":"upon"}"#), "{text}");
    assert!(text.contains(r#"{"stopReason":"end_turn"}"#) && gate.is_empty(), "{text}");
}

/// Has a plugin of its name take its place before its own request is read.
struct Leaver(WeakGateway, &'static str, Arc<Mutex<Vec<&'static str>>>);

impl Plugin for Leaver {
    fn name(&self) -> &str {
        "leaver"
    }

    fn http_request(&self, _: &mut HttpRequest<'_>) -> Result<Option<HttpReply>, PluginError> {
        let heir = Self(self.0.clone(), "new", Arc::clone(&self.2));
        self.0.upgrade().ok_or("no gateway")?.set_plugins(vec![Arc::new(heir)])?;
        Ok(None)
    }

    fn pre(&self, _: &mut Request<'_>, _: &mut Context<'_>) -> Result<Flow, PluginError> {
        self.2.lock().expect("no panic under it").push(self.1);
        Ok(Flow::Answer(Reply::chat("mine")))
    }
}

#[test]
fn a_request_has_the_same_plugins_from_its_head_to_its_end() {
    let (station, _gate) = Station::gated(json!({}), json!({}));
    let seen = Arc::default();
    let leaver = Leaver(station.house.gateway().downgrade(), "old", Arc::clone(&seen));
    with_plugins(&station, vec![Arc::new(leaver)]);
    for who in ["old", "new"] {
        assert_eq!(station.client().chat(&[], &chat("p/m", false)).answer().status, 200);
        assert_eq!(std::mem::take(&mut *seen.lock().expect("no panic under it")), [who]);
    }
}

/// Cannot say what looks at the events.
struct Blind;

impl Plugin for Blind {
    fn name(&self) -> &str {
        "blind"
    }

    fn events(&self, _: &mut Context<'_>) -> Option<Box<dyn EventHook>> {
        panic!("on purpose");
    }

    fn on_failure(&self) -> OnFailure {
        OnFailure::Refuse
    }
}

#[test]
fn a_stream_that_cannot_begin_is_answered_as_any_error() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    with_plugins(&station, vec![Arc::new(Porter::default()), Arc::new(Blind)]);
    let mut client = station.client();
    client.chat(&["x-request-id: mine"], &chat("p/m", true));
    feed(&gate.next().stream(), &word("a"));
    let answer = client.answer();
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    assert!(answer.text().contains("blind"), "{}", answer.text());
    assert_eq!((answer.header("x-request-id"), answer.header("x-porter")), (Some("mine"), Some("500")));
    let stats = station.house.at_rest();
    assert_eq!(number(&stats, "/requests/failed_total"), 1, "{stats:#}");
}

#[test]
fn no_body_goes_with_an_answer_that_has_none_and_no_header_breaks_out() {
    struct Odd;
    impl Plugin for Odd {
        fn name(&self) -> &str {
            "odd"
        }
        fn http_request(&self, _: &mut HttpRequest<'_>) -> Result<Option<HttpReply>, PluginError> {
            Ok(Some(HttpReply::new(204)?.with_body("none", "text/plain").with_header("x-a", "b\r\nx-c: d")))
        }
        fn http_response(&self, response: &mut HttpResponse<'_>) -> Result<(), PluginError> {
            response.set_header("content-length", "99");
            response.set_header("x-d", "e\r\n\r\nHTTP/1.1 200 OK");
            response.set_header("x f\r\nx-g", "h");
            Ok(())
        }
    }
    let (station, _gate) = Station::gated(json!({}), json!({}));
    with_plugins(&station, vec![Arc::new(Odd)]);
    let mut client = station.client();
    for _ in 0..2 {
        let answer = client.chat(&[], &chat("p/m", false)).answer();
        assert_eq!((answer.status, answer.text(), answer.header("content-length")), (204, "", None));
        assert!(answer.header("x-c").is_none() && answer.header("x-g").is_none());
    }
}

/// Looks at each event, and turns every error into an answer.
struct Soft;

impl Plugin for Soft {
    fn name(&self) -> &str {
        "soft"
    }

    fn events(&self, _: &mut Context<'_>) -> Option<Box<dyn EventHook>> {
        struct Look;
        impl EventHook for Look {
            fn event(&mut self, _: &mut Event<'_>) -> Result<(), PluginError> {
                Ok(())
            }
        }
        Some(Box::new(Look))
    }

    fn post(&self, outcome: &mut Outcome, _: &mut Context<'_>) -> Result<(), PluginError> {
        if outcome.error().is_some() {
            outcome.answer_with(Reply::chat("never mind"));
        }
        Ok(())
    }
}

/// What a client hears whose stream is held, and whose first comment is due, while `play` plays the provider.
fn held(plugin: impl Plugin, play: impl FnOnce(&Gate, &dyn Fn() -> usize)) -> (Vec<String>, serde_json::Value) {
    let (station, gate) = Station::gated(json!({ "stream_recovery": "buffer", "early_keepalive": true }), json!({}));
    with_plugins(&station, vec![Arc::new(plugin)]);
    let heard = overdue(&station, |heard| play(&gate, &|| heard.all().len()));
    (heard, station.house.at_rest())
}

#[test]
fn behind_comments_comes_what_a_plugin_makes_of_the_error() {
    let (heard, stats) = held(Soft, |gate, heard| {
        let arrived = gate.next();
        eventually("a comment is heard", || heard() == 2);
        arrived.respond(400, &[], "{}");
    });
    assert_eq!((heard.len(), &*heard[1], &*heard[3]), (4, ": keep-alive\n\n", "complete"), "{heard:?}");
    assert!(heard[2].contains("never mind"), "{heard:?}");
    assert_eq!(number(&stats, "/requests/succeeded_total"), 1);
}

#[test]
fn a_plugin_that_lets_no_comment_through_is_what_the_client_is_told_of() {
    let (heard, stats) = held(Blind, |gate, _| gate.next().wait_over());
    assert_eq!(heard, ["failed internal after 0"]);
    assert_eq!((number(&stats, "/requests/failed_total"), &stats["errors"]), (1, &json!({ "internal": 1 })));
}

#[test]
fn what_is_forwarded_goes_by_its_plugins_byte_for_byte() {
    let gate = Gate::new();
    let house = House::with(json!({ "providers": { "openai": provider(json!({})) } }), &[("openai", &gate)]);
    let station = Station::on(house);
    let porter = Arc::new(Porter::default());
    with_plugins(&station, vec![Arc::clone(&porter) as Arc<dyn Plugin>, Arc::new(Soft)]);
    let mut client = station.client();
    client.ask("POST", "/openai/v1/files", &["x-team: search", "content-type: application/json"], r#"{ "a": 1.0 }"#);
    let arrived = gate.next();
    assert_eq!(arrived.body, br#"{ "a": 1.0 }"#);
    arrived.respond(201, &[("content-type", "application/octet-stream")], "data: [DO");
    let answer = client.answer();
    assert_eq!((answer.status, answer.text(), answer.header("x-porter")), (201, "data: [DO", Some("201")));
    client.ask("GET", "/openai/v1/files/f", &[], "");
    gate.next().respond(404, &[], "gone");
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("x-porter")), (200, Some("200")), "{}", answer.text());
    assert!(answer.text().contains("never mind"));
    let seen = std::mem::take(&mut *porter.seen.lock().expect("no panic under it"));
    assert_eq!(seen[1], "key None team Some(\"search\")");
    let stats = station.house.at_rest();
    assert_eq!((number(&stats, "/requests/succeeded_total"), number(&stats, "/plugins/soft/errors_total")), (2, 0));
}
