//! Plugins that do what no plugin should: nobody but them pays for it, and every request still ends once.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::thread::scope;

use crossbeam_channel::{Sender, bounded, never};
use serde_json::{Value, json};
use sluicegate::gateway::{Gateway, WeakGateway};
use sluicegate::model::Operation;
use sluicegate::plugin::{Context, Event, EventHook, Flow, NotYet, Plugin, PluginError, Reply, Request, StreamReply};
use sluicegate::time::now;
use sluicegate::{CallOptions, Code};

use super::plugins::{Spy, asked, house, notes, plugin, request, streamed, taken};
use crate::house::{DONE, FUSE, Gate, House, STOP, chat, eventually, feed, ms, number, provider, word};

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped, on purpose");
    }
}

/// An error whose text cannot be had, and that panics when it is dropped.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("asked for its text, on purpose");
    }
}

impl std::error::Error for Unspeakable {}

#[test]
fn an_answer_that_cannot_be_streamed_is_an_error_and_no_panic() {
    for body in [json!("text"), json!([1]), json!(7), Value::Null, json!({})] {
        let wrong = body.clone();
        let (house, _gate) = house([Spy::new("odd", &notes()).pre(move |_, _| Ok(Flow::Answer(Reply::json(&wrong))))]);
        let error = house.gateway().chat_stream(&request()).expect_err("it has no choices");
        assert_eq!(error.code(), Code::Internal, "{body}");
        assert_eq!(number(&house.at_rest(), "/requests/failed_total"), 1);
    }
}

#[test]
fn what_panics_when_it_is_dropped_is_nobody_elses_business() {
    let keep = |_: &mut Request<'_>, context: &mut Context<'_>| {
        context.set(Bomb);
        Ok(Flow::Continue)
    };
    let notes = notes();
    let (two, gate) = house([Spy::new("a", &notes).pre(keep), Spy::new("b", &notes).pre(keep)]);
    assert_eq!(asked(&two, || gate.next().answer()).0.expect("it is answered"), "well");

    struct Hook(Bomb);
    impl EventHook for Hook {
        fn event(&mut self, _: &mut Event<'_>) -> Result<(), PluginError> {
            Err("on purpose".into())
        }
    }
    struct Mine(Bomb, &'static str);
    impl Plugin for Mine {
        fn name(&self) -> &str {
            self.1
        }
        fn events(&self, _: &mut Context<'_>) -> Option<Box<dyn EventHook>> {
            Some(Box::new(Hook(Bomb)))
        }
    }
    let mines = || vec![Arc::new(Mine(Bomb, "one")) as Arc<dyn Plugin>, Arc::new(Mine(Bomb, "two"))];
    two.gateway().set_plugins(mines()).expect("names");
    let (text, ()) = streamed(&two, || {
        let pieces = gate.next().stream();
        feed(&pieces, &word("a"));
        // From here on the stream alone keeps them.
        two.gateway().set_plugins(Vec::new()).expect("nothing is in its way");
        feed(&pieces, &format!("{}{STOP}{DONE}", word("b")));
    });
    assert_eq!(text.expect("it is whole"), "ab");
    two.gateway().set_plugins(mines()).expect("names");
    two.gateway().set_plugins(Vec::new()).expect("nothing is in its way");
    let stats = two.at_rest();
    assert_eq!(number(&stats, "/requests/succeeded_total"), 2, "{stats:#}");
}

#[test]
fn an_error_without_a_text_is_its_plugins_failure() {
    let bad = Spy::new("bad", &notes()).pre(|_, _| Err(Box::new(Unspeakable)));
    let (house, gate) = house([bad]);
    assert_eq!(asked(&house, || gate.next().answer()).0.expect("it goes on without it"), "well");
    assert_eq!(plugin(&house, "bad/panics_total"), 1);
}

#[test]
fn what_a_failure_says_is_kept_in_short() {
    let bad = Spy::new("bad", &notes()).pre(|_, _| Err("long ".repeat(1 << 16).into()));
    let (house, gate) = house([bad]);
    asked(&house, || gate.next().answer()).0.expect("it goes on without it");
    let told = house.gateway().events().list().into_iter().find(|event| event.subject == "bad").expect("it is told of");
    assert!(told.message.len() < 2048, "{} bytes", told.message.len());
}

#[test]
fn the_events_before_the_one_that_ends_a_stream_are_shown() {
    let strict = Spy::new("strict", &notes()).refusing().each(|event| match event.json() {
        Some(data) if data["choices"][0]["delta"]["content"] == "b" => Err("on purpose".into()),
        _ => Ok(()),
    });
    let (house, gate) = house([strict]);
    scope(|scope| {
        let reading = scope.spawn(|| {
            let stream = house.gateway().chat_stream(&request()).expect("it begins");
            stream.map(|chunk| chunk.map(|chunk| chunk.text().to_owned()).map_err(|e| e.code())).collect::<Vec<_>>()
        });
        feed(&gate.next().stream(), &format!("{}{}", word("a"), word("b")));
        assert_eq!(reading.join().expect("no panic"), [Ok("a".to_owned()), Err(Code::Internal)]);
    });
}

#[test]
fn a_body_that_a_plugin_changed_counts_beside_the_one_that_came() {
    let (house, gate) = house([Spy::new("same", &notes()).pre(|request, _| {
        request.json_mut().ok_or("no JSON")?["messages"][0]["content"] = "two one".into();
        Ok(Flow::Continue)
    })]);
    let body = chat("p/m", false);
    let came = body.len() as u64;
    scope(|scope| {
        scope.spawn(|| house.gateway().raw(Operation::ChatCompletions, body).expect("it is answered"));
        let arrived = gate.next();
        assert!(number(&house.stats(), "/requests/buffered_bytes") >= 2 * came, "both are in memory");
        arrived.answer();
    });
}

#[test]
fn fallbacks_beside_a_body_outlive_its_change() {
    let (p, q) = (Gate::new(), Gate::new());
    let house = House::new(json!({ "p": provider(json!({})), "q": provider(json!({})) }), &[("p", &p), ("q", &q)]);
    let polite = Spy::new("polite", &notes()).pre(|request, _| {
        request.json_mut().ok_or("no JSON")?["messages"][0]["content"] = "Please.".into();
        Ok(Flow::Continue)
    });
    house.gateway().set_plugins(vec![Arc::new(polite)]).expect("names");
    for none in ["null", "[]"] {
        let body = format!(r#"{{"model":"p/m","messages":[{{"role":"user"}}],"fallbacks":{none}}}"#);
        let options = CallOptions::new().fallbacks(["q/m"]);
        scope(|scope| {
            let asking = scope.spawn(|| house.gateway().with(&options).raw(Operation::ChatCompletions, body).map(drop));
            p.next().respond(503, &[], "{}");
            eventually("it is over, or with the other", || asking.is_finished() || !q.is_empty());
            assert!(!q.is_empty(), "it had nowhere else to go, with {none}");
            q.next().answer();
            asking.join().expect("no panic").expect("it is answered");
        });
    }
}

#[test]
fn a_long_stream_of_a_plugin_does_not_wait_for_its_own_reader() {
    let gate = Gate::new();
    let config = json!({ "providers": { "p": provider(json!({})) }, "server": { "write_timeout": "2s" } });
    let house = House::with(config, &[("p", &gate)]);
    let long = "x".repeat(1 << 20);
    let replay = move |_: &mut Request<'_>, _: &mut Context<'_>| {
        let event = json!({"choices":[{"index":0,"delta":{"content":long}}]});
        Ok(Flow::Stream((0..5).fold(StreamReply::new(), |stream, _| stream.with_event(&event))))
    };
    let mut last = Spy::new("last", &notes()).each(|_| Ok(()));
    last.last = Some(json!({"choices":[{"index":0,"delta":{"content":"end"}}]}));
    let replayed = Spy::new("replay", &notes()).pre(replay);
    house.gateway().set_plugins(vec![Arc::new(last), Arc::new(replayed)]).expect("names");
    let (text, ()) = streamed(&house, || ());
    let text = text.expect("it is whole");
    assert_eq!((text.len(), text.ends_with("end")), ((5 << 20) + 3, true));
}

#[test]
fn what_cannot_be_read_gets_past_no_plugin_that_must_not_be_left_out() {
    for unread in [r#""\ud800""#, "1e999"] {
        let body = format!(r#"{{"model":"p/m","messages":[],"user":{unread}}}"#);
        let look = |request: &mut Request<'_>, _: &mut Context<'_>| {
            assert!(request.json().is_none());
            Ok(Flow::Continue)
        };
        let (house, gate) = house([Spy::new("guard", &notes()).refusing().pre(look)]);
        let options = CallOptions::new().deadline(FUSE);
        let ask = || house.gateway().with(&options).raw(Operation::ChatCompletions, body.clone());
        let error = scope(|scope| {
            let asking = scope.spawn(ask);
            eventually("it is over, or sent", || asking.is_finished() || !gate.is_empty());
            assert!(gate.is_empty(), "{unread} went past it");
            asking.join().expect("no panic").expect_err("it is refused")
        });
        assert_eq!(error.code(), Code::InvalidRequest);
        assert!(error.message().contains("guard"), "{error}");
        house.gateway().set_plugins(vec![Arc::new(Spy::new("other", &notes()).pre(look))]).expect("names");
        scope(|scope| {
            let asking = scope.spawn(ask);
            gate.next().answer();
            asking.join().expect("no panic").expect("others decide for themselves");
        });
    }
}

#[test]
fn the_end_of_the_gateway_ends_what_a_plugin_waits_for() {
    let (told, ends) = bounded(1);
    let (waits, waiting) = bounded(1);
    let (house, _gate) = house([Spy::new("waiter", &notes()).pre(move |_, context| {
        let _ = waits.send(());
        let _ = told.send(context.wait(&never::<()>(), FUSE));
        Ok(Flow::Continue)
    })]);
    scope(|scope| {
        let asking = scope.spawn(|| house.gateway().chat(&request()).map(drop));
        waiting.recv_timeout(FUSE).expect("it is asked");
        house.shutdown(ms(0));
        assert_eq!(ends.recv_timeout(FUSE), Ok(Err(NotYet::Cancelled)));
        assert_eq!(asking.join().expect("no panic").expect_err("it was cut").code(), Code::ShuttingDown);
    });
}

#[test]
fn a_plugin_may_change_the_plugins_when_it_is_let_go_and_in_its_hooks() {
    struct Last(WeakGateway, Arc<Mutex<Vec<bool>>>);
    impl Last {
        fn change(&self) {
            let done = self.0.upgrade().is_some_and(|gateway| gateway.set_plugins(Vec::new()).is_ok());
            self.1.lock().expect("no panic under it").push(done);
        }
    }
    impl Plugin for Last {
        fn name(&self) -> &str {
            "last"
        }
        fn pre(&self, _: &mut Request<'_>, _: &mut Context<'_>) -> Result<Flow, PluginError> {
            self.change();
            Ok(Flow::Continue)
        }
    }
    impl Drop for Last {
        fn drop(&mut self) {
            self.change();
        }
    }
    let (house, gate) = house([]);
    let done = Arc::<Mutex<Vec<bool>>>::default();
    let last = || vec![Arc::new(Last(house.gateway().downgrade(), Arc::clone(&done))) as Arc<dyn Plugin>];
    let count = |n| eventually("it is let go", || *done.lock().expect("no panic under it") == vec![true; n]);
    house.gateway().set_plugins(last()).expect("names");
    house.gateway().set_plugins(Vec::new()).expect("nothing is in its way");
    count(1);
    house.gateway().set_plugins(last()).expect("names");
    asked(&house, || gate.next().answer()).0.expect("it is answered");
    count(3);
}

/// Comes back to its gateway when it is let go, and panics then.
struct Returns(WeakGateway, Sender<bool>);

impl Plugin for Returns {
    fn name(&self) -> &str {
        "same"
    }
}

impl Drop for Returns {
    fn drop(&mut self) {
        let done = self.0.upgrade().is_some_and(|gateway| gateway.set_plugins(Vec::new()).is_ok());
        let _ = self.1.send(done);
        panic!("dropped, on purpose");
    }
}

#[test]
fn plugins_that_are_refused_are_let_go_like_any_other() {
    let (house, _gate) = house([]);
    let (told, tells) = bounded(2);
    let one = || Arc::new(Returns(house.gateway().downgrade(), told.clone())) as Arc<dyn Plugin>;
    let begun = now();
    let error = house.gateway().set_plugins(vec![one(), one()]).expect_err("two of one name");
    assert!(error.to_string().contains("\"same\""), "{error}");
    assert_eq!(tells.try_iter().collect::<Vec<_>>(), [true, true], "each could come back");
    assert!(now() - begun < FUSE / 4, "and waited for nobody");
}

#[test]
fn a_plugin_that_asks_the_gateway_itself_is_one_request_more() {
    let (house, gate) = house([]);
    let weak = house.gateway().downgrade();
    let ask = move |request: &mut Request<'_>, _: &mut Context<'_>| {
        let text = request.json().and_then(|body| body.pointer("/messages/0/content")?.as_str()) == Some("Hello");
        if text {
            let gateway = weak.upgrade().ok_or("no gateway")?;
            assert_eq!(gateway.ask("p/m", "inner")?, "well");
        }
        Ok(Flow::Continue)
    };
    let notes = notes();
    house.gateway().set_plugins(vec![Arc::new(Spy::new("asks", &notes).pre(ask))]).expect("names");
    let (answer, ()) = asked(&house, || {
        gate.next().answer();
        gate.next().answer();
    });
    assert_eq!(answer.expect("it is answered"), "well");
    assert_eq!(taken(&notes), ["asks.pre", "asks.pre", "asks.post:answered", "asks.post:answered"]);
    assert_eq!(number(&house.at_rest(), "/requests/received_total"), 2);
}

#[test]
fn an_event_put_in_cannot_break_out_of_its_name() {
    let (house, gate) = house([Spy::new("puts", &notes()).each(|event| {
        event.put_before("x\n\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"!\"}}]}\r\n\n", json!({}));
        Ok(())
    })]);
    let (text, ()) = streamed(&house, || {
        feed(&gate.next().stream(), &format!("{}{STOP}{DONE}", word("a")));
    });
    assert_eq!(text.expect("it is whole"), "a");
}

#[test]
fn a_plugin_that_keeps_the_last_handle_may_drop_it_on_a_worker() {
    struct Keeper(Mutex<Option<Gateway>>);
    struct Look(Option<Gateway>);
    impl Plugin for Keeper {
        fn name(&self) -> &str {
            "keeper"
        }
        fn events(&self, _: &mut Context<'_>) -> Option<Box<dyn EventHook>> {
            Some(Box::new(Look(self.0.lock().expect("no panic under it").take())))
        }
    }
    impl EventHook for Look {
        fn event(&mut self, event: &mut Event<'_>) -> Result<(), PluginError> {
            if event.data() == word("last")[6..].trim_end().as_bytes() {
                drop(self.0.take());
            }
            Ok(())
        }
    }
    let (mut house, gate) = house([]);
    let gateway = house.take();
    gateway.set_plugins(vec![Arc::new(Keeper(Mutex::new(Some(gateway.clone()))))]).expect("names");
    scope(|scope| {
        let opening = scope.spawn(move || gateway.chat_stream(&request()).expect("it begins"));
        let pieces = gate.next().stream();
        feed(&pieces, &word("first"));
        let mut stream = opening.join().expect("no panic");
        feed(&pieces, &word("last"));
        // It is cut by the gateway's end, which its plugin has brought about.
        assert!(stream.any(|chunk| chunk.is_err()));
    });
    drop(house);
}

#[test]
fn a_plugin_may_bring_in_another_configuration() {
    let (house, gate) = house([]);
    let weak = house.gateway().downgrade();
    let reload = move |_: &mut Request<'_>, _: &mut Context<'_>| {
        let gateway = weak.upgrade().ok_or("no gateway")?;
        gateway.reload((*gateway.config()).clone())?;
        Ok(Flow::Continue)
    };
    house.gateway().set_plugins(vec![Arc::new(Spy::new("reloads", &notes()).pre(reload))]).expect("names");
    assert_eq!(asked(&house, || gate.next().answer()).0.expect("it is answered"), "well");
    assert_eq!(plugin(&house, "reloads/errors_total"), 0);
}

#[test]
fn a_reload_that_its_plugins_forbid_raises_the_alert() {
    let (house, _gate) = house([Spy::new("accounting", &notes())]);
    let config = json!({ "providers": { "sim": {} }, "plugins": [{ "name": "accounting" }] });
    let config = sluicegate::Config::from_json(&config.to_string(), &|_: &str| None).expect("good");
    house.gateway().reload(config).expect_err("two have one name");
    let alerts = house.gateway().events().alerts();
    assert!(alerts.iter().any(|alert| alert.kind == "reload_refused"), "{alerts:?}");
}

#[test]
fn framed_events_end_where_they_should_and_say_nothing_of_the_end() {
    for framed in [word("a"), word("a").trim_end().to_owned(), format!("{}{DONE}", word("a"))] {
        let replay = framed.clone();
        let replay = move |_: &mut Request<'_>, _: &mut Context<'_>| {
            Ok(Flow::Stream(StreamReply::new().with_framed(replay.as_bytes()).with_framed(word("b").as_bytes())))
        };
        let looks = Spy::new("looks", &notes()).each(|event| match event.data() {
            b"[DONE]" => Err("that is no event".into()),
            _ => Ok(()),
        });
        let (house, _gate) = house([looks, Spy::new("replay", &notes()).pre(replay)]);
        assert_eq!(streamed(&house, || ()).0.expect("it is whole"), "ab", "{framed:?}");
        assert_eq!((plugin(&house, "looks/errors_total"), plugin(&house, "replay/errors_total")), (0, 0));
    }
}
