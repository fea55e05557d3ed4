//! Plugins: who is asked when, what they can change, and that one which fails or panics leaves nothing of what it did.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::scope;

use crossbeam_channel::{bounded, never};
use serde_json::{Value, json};
use sluicegate::model::{Named, Operation};
use sluicegate::plugin::{
    Context, Event, EventHook, Flow, NotYet, OnFailure, Outcome, Plugin, PluginError, Reply, Request, StreamReply,
};
use sluicegate::wire::openai::ChatRequest;
use sluicegate::{CallOptions, Code, Error};

use crate::house::{DONE, FUSE, Gate, House, Piece, STOP, USAGE, eventually, feed, ms, number, provider, word};

/// What a hook does.
type Pre = dyn Fn(&mut Request<'_>, &mut Context<'_>) -> Result<Flow, PluginError> + Send + Sync;
type Post = dyn Fn(&mut Outcome, &mut Context<'_>) -> Result<(), PluginError> + Send + Sync;
type Each = dyn Fn(&mut Event<'_>) -> Result<(), PluginError> + Send + Sync;

/// A plugin that notes what it is asked, and does what the test says.
pub(super) struct Spy {
    name: &'static str,
    notes: Arc<Mutex<Vec<String>>>,
    pre: Box<Pre>,
    post: Box<Post>,
    each: Option<Arc<Each>>,
    pub(super) last: Option<Value>,
    on_failure: OnFailure,
}

impl Spy {
    pub(super) fn new(name: &'static str, notes: &Arc<Mutex<Vec<String>>>) -> Self {
        Self {
            name,
            notes: Arc::clone(notes),
            pre: Box::new(|_, _| Ok(Flow::Continue)),
            post: Box::new(|_, _| Ok(())),
            each: None,
            last: None,
            on_failure: OnFailure::Continue,
        }
    }

    pub(super) fn pre(
        mut self,
        pre: impl Fn(&mut Request<'_>, &mut Context<'_>) -> Result<Flow, PluginError> + Send + Sync + 'static,
    ) -> Self {
        self.pre = Box::new(pre);
        self
    }

    pub(super) fn post(
        mut self,
        post: impl Fn(&mut Outcome, &mut Context<'_>) -> Result<(), PluginError> + Send + Sync + 'static,
    ) -> Self {
        self.post = Box::new(post);
        self
    }

    pub(super) fn each(
        mut self,
        each: impl Fn(&mut Event<'_>) -> Result<(), PluginError> + Send + Sync + 'static,
    ) -> Self {
        self.each = Some(Arc::new(each));
        self
    }

    pub(super) fn refusing(mut self) -> Self {
        self.on_failure = OnFailure::Refuse;
        self
    }

    fn note(&self, what: &str) {
        self.notes.lock().expect("no panic under it").push(format!("{}.{what}", self.name));
    }
}

impl Plugin for Spy {
    fn name(&self) -> &str {
        self.name
    }

    fn pre(&self, request: &mut Request<'_>, context: &mut Context<'_>) -> Result<Flow, PluginError> {
        self.note("pre");
        (self.pre)(request, context)
    }

    fn post(&self, outcome: &mut Outcome, context: &mut Context<'_>) -> Result<(), PluginError> {
        let what = match (outcome.error(), outcome.stream()) {
            (Some(error), _) => error.code().as_str(),
            (None, Some(_)) => "streamed",
            (None, None) => "answered",
        };
        self.note(&format!("post:{what}"));
        (self.post)(outcome, context)
    }

    fn events(&self, _: &mut Context<'_>) -> Option<Box<dyn EventHook>> {
        let each = Arc::clone(self.each.as_ref()?);
        Some(Box::new(Looker { each, last: self.last.clone() }))
    }

    fn on_failure(&self) -> OnFailure {
        self.on_failure
    }
}

struct Looker {
    each: Arc<Each>,
    last: Option<Value>,
}

impl EventHook for Looker {
    fn event(&mut self, event: &mut Event<'_>) -> Result<(), PluginError> {
        (self.each)(event)
    }

    fn end(&mut self) -> Result<Vec<Value>, PluginError> {
        Ok(self.last.take().into_iter().collect())
    }
}

pub(super) fn notes() -> Arc<Mutex<Vec<String>>> {
    Arc::default()
}

pub(super) fn taken(notes: &Mutex<Vec<String>>) -> Vec<String> {
    std::mem::take(&mut *notes.lock().expect("no panic under it"))
}

/// One provider behind a gate, and these plugins.
pub(super) fn house(plugins: impl IntoIterator<Item = Spy>) -> (House, Gate) {
    let (house, gate) = House::gated(provider(json!({})));
    house
        .gateway()
        .set_plugins(plugins.into_iter().map(|spy| Arc::new(spy) as Arc<dyn Plugin>).collect())
        .expect("names");
    (house, gate)
}

pub(super) fn request() -> ChatRequest {
    ChatRequest::new("p/m", "Hello")
}

/// Asks while `play` plays the provider.
pub(super) fn asked<T>(house: &House, play: impl FnOnce() -> T) -> (Result<String, Error>, T) {
    scope(|scope| {
        let asking = scope.spawn(|| house.gateway().chat(&request()).map(|reply| reply.text().to_owned()));
        let played = play();
        (asking.join().expect("no panic"), played)
    })
}

/// Reads a stream while `play` plays the provider: its text, or what it ended with.
pub(super) fn streamed<T>(house: &House, play: impl FnOnce() -> T) -> (Result<String, Error>, T) {
    scope(|scope| {
        let reading = scope.spawn(|| {
            let mut text = String::new();
            for chunk in house.gateway().chat_stream(&request())? {
                text.push_str(chunk?.text());
            }
            Ok(text)
        });
        let played = play();
        (reading.join().expect("no panic"), played)
    })
}

pub(super) fn plugin(house: &House, path: &str) -> u64 {
    number(&house.stats(), &format!("/plugins/{path}"))
}

#[test]
fn they_are_asked_in_order_and_told_in_reverse() {
    let notes = notes();
    let (house, gate) = house(["a", "b", "c"].map(|name| Spy::new(name, &notes)));
    let (answer, ()) = asked(&house, || gate.next().answer());
    assert_eq!(answer.expect("it is answered"), "well");
    assert_eq!(taken(&notes), ["a.pre", "b.pre", "c.pre", "c.post:answered", "b.post:answered", "a.post:answered"]);
    let (answer, ()) = asked(&house, || gate.next().respond(400, &[], r#"{"error":{"message":"no"}}"#));
    assert_eq!(answer.expect_err("it is refused").status(), 400);
    let told = taken(&notes);
    assert_eq!(told[3..], ["c.post:upstream_error", "b.post:upstream_error", "a.post:upstream_error"]);
    assert_eq!(
        (plugin(&house, "b/calls_total"), plugin(&house, "b/pre_us/count"), plugin(&house, "b/post_us/count")),
        (2, 2, 2)
    );
}

#[test]
fn a_short_circuit_ends_it_there_and_tells_those_that_were_asked() {
    let notes = notes();
    type Make = fn() -> Flow;
    let flows: [(&str, Make); 3] = [
        ("answered", || Flow::Answer(Reply::chat("mine"))),
        ("rate_limited", || Flow::Refuse(Error::new(Code::RateLimited, "enough"))),
        ("internal", || Flow::Stream(StreamReply::new())),
    ];
    for (says, flow) in flows {
        let (house, gate) = house([
            Spy::new("a", &notes),
            Spy::new("b", &notes).refusing().pre(move |_, _| Ok(flow())),
            Spy::new("c", &notes),
        ]);
        let answer = house.gateway().chat(&request());
        assert_eq!(
            answer.as_ref().map_or_else(|error| error.code().as_str(), |reply| reply.text()),
            if says == "answered" { "mine" } else { says }
        );
        assert!(gate.is_empty(), "the provider was asked");
        assert_eq!(taken(&notes), ["a.pre", "b.pre", &format!("b.post:{says}"), &format!("a.post:{says}")]);
        // Who asked for no stream can be given none: that is the plugin's own mistake.
        assert_eq!(plugin(&house, "b/short_circuits_total"), u64::from(says != "internal"));
        assert_eq!(plugin(&house, "b/errors_total"), u64::from(says == "internal"));
    }
}

#[test]
fn who_asked_for_a_stream_gets_a_short_circuit_as_one() {
    let notes = notes();
    let long: Vec<Value> =
        (0..2000).map(|n| json!({"choices":[{"index":0,"delta":{"content":format!("{n} ")}}]})).collect();
    let wanted: String = (0..2000).map(|n| format!("{n} ")).collect();
    let replay = move || long.iter().fold(StreamReply::new(), |stream, event| stream.with_event(event));
    let shout = |event: &mut Event<'_>| {
        let word =
            event.json().and_then(|data| data.pointer("/choices/0/delta/content")?.as_str().map(str::to_uppercase));
        if let (Some(word), Some(data)) = (word, event.json_mut()) {
            data["choices"][0]["delta"]["content"] = word.into();
        }
        Ok(())
    };
    let (house, gate) = house([
        Spy::new("upper", &notes).each(shout),
        Spy::new("cache", &notes).pre(move |request, _| {
            let whole = request.json().is_some_and(|body| body["messages"][0]["content"] == "whole");
            Ok(if whole { Flow::Answer(Reply::chat("in one")) } else { Flow::Stream(replay()) })
        }),
    ]);
    let (text, ()) = streamed(&house, || ());
    assert_eq!(text.expect("it is replayed, through what stands before"), wanted.to_uppercase());
    assert_eq!(taken(&notes), ["upper.pre", "cache.pre", "cache.post:streamed", "upper.post:streamed"]);
    let mut stream = house.gateway().chat_stream(&ChatRequest::new("p/m", "whole")).expect("it begins");
    let first = stream.next().expect("a chunk").expect("good");
    assert_eq!((first.text(), first.finish_reason()), ("in one", Some("stop")), "a whole answer becomes one event");
    assert_eq!(stream.served().map(|served| &*served.provider), Some("cache"), "it bears the plugin's name");
    assert!(stream.next().is_none() && gate.is_empty());
    assert_eq!(taken(&notes), ["upper.pre", "cache.pre", "cache.post:answered", "upper.post:answered"]);
}

#[test]
fn what_a_plugin_makes_of_a_request_goes_upstream() {
    let notes = notes();
    let (p, q) = (Gate::new(), Gate::new());
    let house = House::new(json!({ "p": provider(json!({})), "q": provider(json!({})) }), &[("p", &p), ("q", &q)]);
    let polite = Spy::new("polite", &notes).pre(|request, _| {
        let body = request.json_mut().ok_or("no JSON")?;
        body["messages"][0]["content"] = "Please.".into();
        Ok(Flow::Continue)
    });
    let elsewhere = Spy::new("elsewhere", &notes).pre(|request, _| {
        assert_eq!(
            request.json().expect("JSON")["messages"][0]["content"],
            "Please.",
            "it sees what was made before it"
        );
        request.set_model("q/other");
        assert_eq!(request.model(), "q/other");
        Ok(Flow::Continue)
    });
    house.gateway().set_plugins(vec![Arc::new(polite), Arc::new(elsewhere)]).expect("names");
    let (answer, sent) = asked(&house, || {
        let arrived = q.next();
        let sent = arrived.json();
        arrived.answer();
        sent
    });
    assert_eq!(answer.expect("it is answered"), "well");
    assert_eq!((&sent["model"], &sent["messages"][0]["content"]), (&json!("other"), &json!("Please.")));
    assert!(p.is_empty());
    let nowhere = Spy::new("nowhere", &notes).pre(|request, _| {
        request.set_model("r/m");
        Ok(Flow::Continue)
    });
    house.gateway().set_plugins(vec![Arc::new(nowhere)]).expect("names");
    taken(&notes);
    let error = house.gateway().chat(&request()).expect_err("there is no such provider");
    assert_eq!(error.code(), Code::ModelNotFound);
    assert_eq!(taken(&notes), ["nowhere.pre", "nowhere.post:model_not_found"]);
}

#[test]
fn a_request_whose_route_names_the_model_goes_to_another_too() {
    let q = Gate::new();
    let house = House::new(json!({ "p": provider(json!({})), "q": provider(json!({})) }), &[("q", &q)]);
    for rewrites in [true, false] {
        let elsewhere = Spy::new("elsewhere", &notes()).pre(move |request, _| {
            assert_eq!(request.model(), "p/m");
            if rewrites {
                request.json_mut().ok_or("no JSON")?["messages"][0]["content"][0]["text"] = "Please.".into();
            }
            request.set_model("q/other");
            assert_eq!(request.model(), "q/other");
            Ok(Flow::Continue)
        });
        house.gateway().set_plugins(vec![Arc::new(elsewhere)]).expect("names");
        scope(|scope| {
            let named = Named { model: "p/m".to_owned(), stream: false };
            let body = r#"{"messages":[{"role":"user","content":[{"text":"Now."}]}]}"#;
            let gateway = house.gateway();
            let asked = scope.spawn(move || gateway.raw(Operation::Converse(named), body));
            let arrived = q.next();
            let sent = arrived.json();
            let words = if rewrites { "Please." } else { "Now." };
            assert_eq!((&sent["model"], &sent["messages"][0]["content"]), (&json!("other"), &json!(words)));
            arrived.answer();
            let answer = asked.join().expect("no panic").expect("it is answered");
            assert!(answer.body.starts_with(br#"{"output":{"message":"#));
        });
    }
    let named = Named { model: "p/m".to_owned(), stream: true };
    let refused = house.gateway().raw_stream(Operation::Converse(named), "{}").map(drop);
    assert_eq!(refused.expect_err("frames are no events").code(), Code::Unsupported);
}

#[test]
fn a_post_turns_answers_into_errors_and_errors_into_answers() {
    let notes = notes();
    let strict = Spy::new("strict", &notes).post(|outcome, _| {
        if outcome.json().is_some_and(|body| body["choices"][0]["message"]["content"] == "well") {
            outcome.fail_with(Error::new(Code::Forbidden, "not well enough"));
        }
        Ok(())
    });
    let (house, gate) = house([Spy::new("outer", &notes), strict]);
    let (answer, ()) = asked(&house, || gate.next().answer());
    assert_eq!(answer.expect_err("it was turned").code(), Code::Forbidden);
    assert_eq!(taken(&notes)[2..], ["strict.post:answered", "outer.post:forbidden"]);
    let soft = |name, notes: &_| {
        Spy::new(name, notes).post(|outcome, _| {
            if outcome.error().is_some() {
                outcome.answer_with(Reply::chat("never mind"));
                outcome.json_mut().ok_or("an answer")?["choices"][0]["message"]["content"] = "never mind!".into();
            }
            Ok(())
        })
    };
    house
        .gateway()
        .set_plugins(vec![Arc::new(Spy::new("outer", &notes)), Arc::new(soft("soft", &notes))])
        .expect("names");
    let (answer, ()) = asked(&house, || gate.next().respond(400, &[], "{}"));
    assert_eq!(answer.expect("it was turned"), "never mind!");
    assert_eq!(taken(&notes)[2..], ["soft.post:upstream_error", "outer.post:answered"]);
    let (answer, ()) = streamed(&house, || gate.next().respond(400, &[], "{}"));
    assert_eq!(answer.expect("it was turned, and streamed"), "never mind!");
    let stats = house.at_rest();
    assert_eq!((number(&stats, "/requests/succeeded_total"), number(&stats, "/requests/failed_total")), (2, 1));
}

#[test]
fn what_fails_or_panics_leaves_nothing_of_what_it_did() {
    let notes = notes();
    let spoil = |panics: bool| {
        move |request: &mut Request<'_>, _: &mut Context<'_>| -> Result<Flow, PluginError> {
            request.json_mut().expect("JSON")["messages"] = json!([]);
            request.set_model("nowhere/at-all");
            assert!(!panics, "on purpose");
            Err("on purpose".into())
        }
    };
    let spoil_answer = |panics: bool| {
        move |outcome: &mut Outcome, _: &mut Context<'_>| -> Result<(), PluginError> {
            outcome.answer_with(Reply::chat("half"));
            outcome.json_mut().expect("JSON")["choices"] = json!([]);
            assert!(!panics, "on purpose");
            Err("on purpose".into())
        }
    };
    for panics in [false, true] {
        let after = Spy::new("after", &notes).pre(|request, _| {
            assert_eq!(
                (request.model(), &request.json().expect("JSON")["messages"][0]["content"]),
                ("p/m", &json!("Hello"))
            );
            Ok(Flow::Continue)
        });
        let (house, gate) = house([Spy::new("bad", &notes).pre(spoil(panics)).post(spoil_answer(panics)), after]);
        let (answer, ()) = asked(&house, || gate.next().answer());
        assert_eq!(answer.expect("it goes on without it"), "well", "panics: {panics}");
        assert_eq!(taken(&notes), ["bad.pre", "after.pre", "after.post:answered", "bad.post:answered"]);
        let counted = (plugin(&house, "bad/errors_total"), plugin(&house, "bad/panics_total"));
        assert_eq!(counted, if panics { (0, 2) } else { (2, 0) });
        assert_eq!((plugin(&house, "after/errors_total"), plugin(&house, "after/panics_total")), (0, 0));
        assert!(house.gateway().events().list().iter().any(|event| event.kind == "plugin" && event.subject == "bad"));

        let strict = Spy::new("strict", &notes).refusing().pre(spoil(panics));
        house.gateway().set_plugins(vec![Arc::new(Spy::new("outer", &notes)), Arc::new(strict)]).expect("names");
        let error = house.gateway().chat(&request()).expect_err("nothing goes without it");
        assert!(error.code() == Code::Internal && error.message().contains("strict"), "{error}");
        assert!(gate.is_empty() && !error.message().contains("purpose"), "{error}");
        assert_eq!(taken(&notes), ["outer.pre", "strict.pre", "strict.post:internal", "outer.post:internal"]);
        let strict = Spy::new("strict", &notes).refusing().post(spoil_answer(panics));
        house.gateway().set_plugins(vec![Arc::new(strict)]).expect("names");
        let (answer, ()) = asked(&house, || gate.next().answer());
        assert_eq!(answer.expect_err("nothing goes without it").code(), Code::Internal);
        taken(&notes);
    }
}

#[test]
fn the_events_of_a_stream_go_through_their_hooks() {
    let notes = notes();
    let append = |what: &'static str| {
        move |event: &mut Event<'_>| {
            let text =
                event.json().and_then(|data| data.pointer("/choices/0/delta/content")?.as_str().map(str::to_owned));
            match (text.as_deref(), event.json_mut()) {
                (Some("secret"), _) => event.remove(),
                (Some(text), Some(data)) => data["choices"][0]["delta"]["content"] = format!("{text}{what}").into(),
                _ => {}
            }
            Ok(())
        }
    };
    let mut inner = Spy::new("inner", &notes).each(append("i"));
    inner.last = Some(json!({"choices":[{"index":0,"delta":{"content":"end"}}]}));
    let (house, gate) = house([Spy::new("outer", &notes).each(append("o")), Spy::new("blind", &notes), inner]);
    let (text, ()) = streamed(&house, || {
        let pieces = gate.next().stream();
        feed(&pieces, &format!("{}{}{}", word("a"), word("secret"), word("b")));
        feed(&pieces, &format!("{STOP}{USAGE}{DONE}"));
    });
    assert_eq!(
        text.expect("it is whole"),
        "aiobioendo",
        "the last of the chain sees them first, and what it adds goes through the others"
    );
    assert_eq!(taken(&notes)[3..], ["inner.post:streamed", "blind.post:streamed", "outer.post:streamed"]);
}

#[test]
fn a_hook_of_a_stream_that_fails_is_left_out_or_ends_it() {
    let notes = notes();
    let fail = |panics: bool| {
        move |event: &mut Event<'_>| {
            event.remove();
            assert!(!panics, "on purpose");
            Err("on purpose".into())
        }
    };
    for panics in [false, true] {
        let (house, gate) = house([Spy::new("bad", &notes).each(fail(panics))]);
        let play = || {
            let pieces = gate.next().stream();
            feed(&pieces, &word("a"));
            // Where the stream was ended, nobody reads on.
            let _ = pieces.send_timeout(Piece::Bytes(format!("{}{STOP}{DONE}", word("b")).into()), FUSE);
        };
        let (text, ()) = streamed(&house, play);
        assert_eq!(text.expect("it goes on without it"), "ab", "panics: {panics}");
        let counted = (plugin(&house, "bad/errors_total"), plugin(&house, "bad/panics_total"));
        assert_eq!(counted, if panics { (0, 1) } else { (1, 0) }, "it is asked no more");
        taken(&notes);

        house
            .gateway()
            .set_plugins(vec![Arc::new(Spy::new("bad", &notes).refusing().each(fail(panics)))])
            .expect("names");
        let (text, ()) = streamed(&house, play);
        let error = text.expect_err("the stream was ended");
        assert!(error.code() == Code::Internal && error.message().contains("bad"), "{error}");
        assert_eq!(taken(&notes), ["bad.pre", "bad.post:internal"]);
        let stats = house.at_rest();
        assert_eq!(number(&stats, "/requests/failed_total"), 1, "{stats:#}");
    }
}

#[test]
fn each_pre_has_its_post_whatever_becomes_of_the_request() {
    let notes = notes();
    let (house, gate) = house([Spy::new("a", &notes)]);
    let told = || taken(&notes).join(" ");
    asked(&house, || gate.next().panic()).0.expect_err("a worker panicked");
    assert_eq!(told(), "a.pre a.post:internal");
    let (cut, ()) = streamed(&house, || {
        let pieces = gate.next().stream();
        feed(&pieces, &word("a"));
        let _ = pieces.send_timeout(Piece::Fail(sluicegate::transport::TransportErrorKind::Cut), FUSE);
    });
    cut.expect_err("it was cut");
    house.at_rest();
    assert_eq!(told(), "a.pre a.post:stream_cut");
    streamed(&house, || {
        let pieces = gate.next().stream();
        feed(&pieces, &word("a"));
        let _ = pieces.send_timeout(Piece::Panic, FUSE);
    })
    .0
    .expect_err("a worker panicked");
    house.at_rest();
    assert_eq!(told(), "a.pre a.post:internal");
    scope(|scope| {
        let leaving = scope.spawn(|| drop(house.gateway().chat_stream(&request()).expect("it begins")));
        let pieces = gate.next().stream();
        feed(&pieces, &word("a"));
        leaving.join().expect("no panic");
    });
    house.at_rest();
    assert_eq!(told(), "a.pre a.post:client_closed");
}

#[test]
fn others_take_their_place_at_once_and_the_figures_go_on() {
    let notes = notes();
    let (house, gate) = house([Spy::new("a", &notes), Spy::new("b", &notes)]);
    let (answer, ()) = asked(&house, || {
        let arrived = gate.next();
        let others = vec![Arc::new(Spy::new("b", &notes)) as Arc<dyn Plugin>, Arc::new(Spy::new("c", &notes))];
        house.gateway().set_plugins(others).expect("names");
        arrived.answer();
    });
    answer.expect("it is answered");
    assert_eq!(
        taken(&notes),
        ["a.pre", "b.pre", "b.post:answered", "a.post:answered"],
        "who is under way has the old ones"
    );
    asked(&house, || gate.next().answer()).0.expect("it is answered");
    assert_eq!(taken(&notes), ["b.pre", "c.pre", "c.post:answered", "b.post:answered"]);
    assert_eq!((plugin(&house, "b/calls_total"), plugin(&house, "c/calls_total")), (2, 1));
    assert!(house.stats().pointer("/plugins/a").is_none());
    let twice = vec![Arc::new(Spy::new("d", &notes)) as Arc<dyn Plugin>, Arc::new(Spy::new("d", &notes))];
    let error = house.gateway().set_plugins(twice).expect_err("names tell them apart");
    assert!(error.to_string().contains("\"d\""), "{error}");
    asked(&house, || gate.next().answer()).0.expect("nothing was changed");
    assert_eq!(taken(&notes).len(), 4);
}

#[test]
fn what_a_plugin_keeps_for_a_request_is_there_at_its_end_and_goes_with_it() {
    let (alive, notes) = (Arc::new(AtomicU64::new(0)), notes());
    struct Kept(Arc<AtomicU64>);
    impl Drop for Kept {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let count = Arc::clone(&alive);
    let keeper = Spy::new("keeper", &notes)
        .pre(move |_, context| {
            count.fetch_add(1, Ordering::SeqCst);
            context.set(Kept(Arc::clone(&count)));
            Ok(Flow::Continue)
        })
        .post(|_, context| {
            assert!(context.take::<u8>().is_none(), "of another type");
            context.get_mut::<Kept>().map(drop).ok_or_else(|| "it is gone".into())
        });
    let other = Spy::new("other", &notes).post(|_, context| {
        assert!(context.get::<Kept>().is_none(), "each has a place of its own");
        Ok(())
    });
    let (house, gate) = house([keeper, other]);
    for panics in [false, true] {
        let (_, ()) = asked(&house, || if panics { gate.next().panic() } else { gate.next().answer() });
        assert_eq!(alive.load(Ordering::SeqCst), 0);
    }
    assert_eq!((plugin(&house, "keeper/errors_total"), plugin(&house, "other/panics_total")), (0, 0));
}

#[test]
fn waiting_ends_with_the_request() {
    let notes = notes();
    let (told, ends) = bounded(1);
    let waiter = Spy::new("waiter", &notes).pre(move |_, context| {
        let ended = context.wait(&never::<()>(), FUSE);
        let _ = told.send(ended);
        Ok(Flow::Continue)
    });
    let (house, gate) = house([waiter]);
    let options = CallOptions::new().deadline(ms(20));
    let late = house.gateway().with(&options).chat(&request());
    assert_eq!(ends.recv_timeout(FUSE), Ok(Err(NotYet::TimedOut)));
    assert_eq!(late.expect_err("its deadline has passed").code(), Code::QueueTimeout);
    assert!(gate.is_empty());
    let stats = house.at_rest();
    assert!(number(&stats, "/plugins/waiter/pre_us/max") < 15_000, "what it waits is not its own time: {stats:#}");
}

#[test]
fn a_plugin_goes_with_its_gateway() {
    let (mut house, _) = house([]);
    let plugin: Arc<dyn Plugin> = Arc::new(Spy::new("a", &notes()));
    let weak = Arc::downgrade(&plugin);
    house.gateway().set_plugins(vec![plugin]).expect("names");
    drop(house.take());
    // A thread that was just taking figures may hold it for that long.
    eventually("it is gone", || weak.upgrade().is_none());
}
