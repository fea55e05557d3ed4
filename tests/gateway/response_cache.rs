//! The built-in plugin `response_cache`: what is kept for whom, how long, within which bytes, and equal requests at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{ScopedJoinHandle, scope};

use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::{Value, json};
use sluicegate::config::Config;
use sluicegate::gateway::{CallOptions, ChatStream};
use sluicegate::model::{Answer, Operation};
use sluicegate::plugin::{Context, Flow, OnFailure, Outcome, Place, Plugin, PluginError, Reply, Request};
use sluicegate::sync::CancelToken;
use sluicegate::time::now;
use sluicegate::transport::TransportErrorKind;
use sluicegate::wire::openai::{ChatChunk, ChatRequest};
use sluicegate::{Code, Error, Result};

use crate::house::{
    Arrived, DONE, FUSE, Gate, House, Piece, STOP, USAGE, batch, cancellable, chat, code, eventually, feed, ms, number,
    provider, reply, sim, within, word,
};

/// A configuration of provider `p` with workers enough, and the cache set so.
fn document(config: &Value) -> Value {
    let settings = provider(json!({ "concurrency_and_buffer_size": { "concurrency": 8, "buffer_size": 100 } }));
    json!({ "providers": { "p": settings }, "plugins": [{ "name": "response_cache", "config": config }] })
}

fn cached(config: &Value) -> (House, Gate) {
    let gate = Gate::new();
    (House::with(document(config), &[("p", &gate)]), gate)
}

/// One figure of the cache.
fn own(house: &House, name: &str) -> u64 {
    number(&house.stats(), &format!("/plugins/response_cache/own/{name}"))
}

fn figures<const N: usize>(house: &House, names: [&str; N]) -> [u64; N] {
    names.map(|name| own(house, name))
}

/// How the cache says it came by an answer.
fn how(answer: &Answer) -> Option<&str> {
    answer.headers.iter().find(|(name, _)| name == "x-sluicegate-cache").map(|(_, value)| value.as_str())
}

/// Asks, with the one answer that the gate is to be asked for.
fn through(house: &House, gate: &Gate, options: &CallOptions) -> Answer {
    scope(|scope| {
        let call = scope.spawn(|| house.ask_with(options));
        gate.next().answer();
        call.join().expect("no panic").expect("an answer")
    })
}

fn joined<T>(call: ScopedJoinHandle<'_, T>) -> T {
    call.join().expect("no panic")
}

/// Nobody is under way any more, and nothing is left of who was.
fn at_rest(house: &House) {
    assert_eq!(figures(house, ["flights", "followers"]), [0, 0]);
    house.at_rest();
}

#[test]
fn an_answer_is_given_again_with_where_it_came_from_and_what_it_took() {
    let (house, gate) = cached(&json!({}));
    let first = through(&house, &gate, &CallOptions::new());
    assert_eq!(how(&first), Some("miss"));
    let again = house.ask().expect("it is kept");
    assert!(gate.is_empty());
    assert_eq!((&again.body, again.usage, how(&again)), (&first.body.to_vec().into(), first.usage, Some("hit")));
    assert!(again.usage.is_some());
    assert_eq!((&*again.served.provider, again.served.model.as_str(), again.served.attempts), ("p", "m", 0));
    let header = |name: &str| again.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!((header("content-type"), header("age")), (Some("application/json"), Some("0")));
    let length = first.body.len() as u64;
    // Its memory is a pool's.
    drop(first);
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/p/queue/submitted_total"), 1);
    assert_eq!(number(&stats, "/plugins/response_cache/short_circuits_total"), 1);
    assert_eq!(figures(&house, ["hits_total", "misses_total", "stored_total", "entries"]), [1, 1, 1, 1]);
    let bytes = own(&house, "bytes");
    assert!((length..4096).contains(&bytes), "{bytes}");
}

#[test]
fn every_operation_that_names_a_model_is_kept_for_itself() {
    let (house, gate) = cached(&json!({}));
    let done = |status: &str| format!("{{\"status\":\"{status}\",\"output\":[]}}");
    for (operation, body, answer, kept) in [
        (Operation::Embeddings, r#"{"model":"p/m","input":"x"}"#, r#"{"data":[]}"#.to_owned(), true),
        (Operation::Completions, r#"{"model":"p/m","prompt":"x"}"#, reply("x"), true),
        (Operation::Responses, r#"{"model":"p/m","input":"x"}"#, done("completed"), true),
        // One that the provider is still at.
        (Operation::Responses, r#"{"model":"p/m","input":"y"}"#, done("in_progress"), false),
        (Operation::Responses, r#"{"model":"p/m","input":"z","background":true}"#, done("completed"), false),
    ] {
        let ask = || house.gateway().raw(operation.clone(), body);
        for upstream in [true, !kept] {
            let given = scope(|scope| {
                let call = scope.spawn(ask);
                if upstream {
                    gate.next().respond(200, &[("content-type", "application/json")], answer.as_str());
                }
                joined(call).expect("an answer")
            });
            assert_eq!(given.body, answer.as_bytes(), "{body}");
        }
    }
    assert!(gate.is_empty());
    at_rest(&house);
}

#[test]
fn fifty_equal_requests_at_once_are_one_upstream() {
    let (house, gate) = cached(&json!({}));
    scope(|scope| {
        let calls: Vec<_> = (0..50).map(|_| scope.spawn(|| house.ask())).collect();
        let arrived = gate.next();
        eventually("all others follow", || own(&house, "followers") == 49);
        arrived.answer();
        let mut ways: Vec<_> = calls.into_iter().map(|call| joined(call).expect("an answer")).collect();
        ways.sort_by_key(|answer| how(answer) == Some("joined"));
        assert!(ways.iter().all(|answer| answer.body == reply("well").as_bytes() && answer.usage.is_some()));
        assert_eq!(how(&ways[0]), Some("miss"));
        assert!(ways[1..].iter().all(|answer| how(answer) == Some("joined") && &*answer.served.provider == "p"));
    });
    assert!(gate.is_empty());
    assert_eq!(figures(&house, ["hits_total", "misses_total", "joined_total"]), [0, 1, 49]);
    assert_eq!(number(&house.at_rest(), "/providers/p/queue/submitted_total"), 1);
    at_rest(&house);
}

#[test]
fn without_join_each_goes_by_itself() {
    let (house, gate) = cached(&json!({ "join": false }));
    scope(|scope| {
        let calls = [(); 3].map(|()| scope.spawn(|| house.ask()));
        let arrived = [(); 3].map(|()| gate.next());
        assert_eq!(own(&house, "flights"), 0);
        arrived.into_iter().for_each(Arrived::answer);
        calls.into_iter().for_each(|call| assert_eq!(how(&joined(call).expect("an answer")), Some("miss")));
    });
    let [misses, stored, entries] = figures(&house, ["misses_total", "stored_total", "entries"]);
    // One that was asked for before what is there came too late to be kept.
    assert!((misses, entries) == (3, 1) && (1..=3).contains(&stored), "{misses} {stored} {entries}");
}

#[test]
fn when_a_leaders_caller_leaves_the_next_takes_over_and_no_other() {
    let (house, gate) = cached(&json!({}));
    scope(|scope| {
        let leaders: Vec<_> = (0..4)
            .map(|n| {
                let (options, token) = cancellable();
                let house = &house;
                let call = scope.spawn(move || house.ask_with(&options));
                if n == 0 {
                    eventually("it leads", || own(house, "flights") == 1)
                }
                eventually("it follows", || own(house, "followers") == n);
                (call, token)
            })
            .collect();
        let last = scope.spawn(|| house.ask());
        eventually("it follows", || own(&house, "followers") == 4);
        for (at, (call, token)) in leaders.into_iter().enumerate() {
            let arrived = gate.next();
            assert!(gate.is_empty(), "one at a time");
            assert_eq!(own(&house, "followers"), 4 - at as u64);
            token.cancel();
            arrived.wait_over();
            assert_eq!(code(&joined(call)), Code::ClientClosed);
        }
        gate.next().answer();
        assert_eq!(how(&joined(last).expect("an answer")), Some("miss"), "it took over");
    });
    assert_eq!(figures(&house, ["misses_total", "joined_total", "entries"]), [5, 0, 1]);
    at_rest(&house);
}

#[test]
fn a_leader_whose_time_is_over_hands_on_its_lead() {
    let (house, gate) = cached(&json!({}));
    scope(|scope| {
        let leader = scope.spawn(|| house.ask_with(&within(ms(300))));
        let arrived = gate.next();
        let next = scope.spawn(|| house.ask());
        eventually("it follows", || own(&house, "followers") == 1);
        assert_eq!(code(&joined(leader)), Code::UpstreamTimeout);
        arrived.wait_over();
        gate.next().answer();
        assert!(joined(next).is_ok());
    });
    at_rest(&house);
}

#[test]
fn followers_leave_by_their_own_deadline_or_cancel_and_the_leader_goes_on() {
    let (house, gate) = cached(&json!({}));
    scope(|scope| {
        let leader = scope.spawn(|| house.ask());
        let arrived = gate.next();
        let late = scope.spawn(|| house.ask_with(&within(ms(30))));
        let (options, token) = cancellable();
        let house = &house;
        let cancelled = scope.spawn(move || house.ask_with(&options));
        assert_eq!(code(&joined(late)), Code::UpstreamTimeout);
        eventually("it follows", || own(house, "followers") == 1);
        token.cancel();
        assert_eq!(code(&joined(cancelled)), Code::ClientClosed);
        assert_eq!(figures(house, ["flights", "followers"]), [1, 0]);
        arrived.answer();
        assert!(joined(leader).is_ok());
    });
    assert!(gate.is_empty());
    at_rest(&house);
}

#[test]
fn who_follows_a_stream_too_long_hears_that_no_first_event_came() {
    let (house, gate) = cached(&json!({}));
    scope(|scope| {
        let leader = scope.spawn(|| open(&house).expect("it began").count());
        let pieces = gate.next().stream();
        let late = house.gateway().with(within(ms(30))).chat_stream(&ChatRequest::new("p/m", "hi"));
        assert_eq!(code(&late.map(drop)), Code::FirstTokenTimeout);
        play(&pieces, &["one"]);
        assert_eq!(joined(leader), 2);
    });
    at_rest(&house);
}

#[test]
fn the_gateways_end_ends_who_follows() {
    let (house, gate) = cached(&json!({}));
    scope(|scope| {
        let leader = scope.spawn(|| house.ask());
        let arrived = gate.next();
        let followers = [(); 3].map(|()| scope.spawn(|| house.ask()));
        eventually("they follow", || own(&house, "followers") == 3);
        house.shutdown(ms(20));
        arrived.wait_over();
        for call in [leader].into_iter().chain(followers) {
            assert_eq!(code(&joined(call)), Code::ShuttingDown);
        }
    });
    at_rest(&house);
}

#[test]
fn what_the_leader_fails_by_fails_its_followers_and_is_not_kept() {
    let (house, gate) = cached(&json!({}));
    let busy = r#"{"error":{"message":"slow down","type":"t","param":null,"code":"busy"}}"#;
    for (panics, wanted, status, message) in
        [(false, Code::UpstreamError, 422, "slow down"), (true, Code::Internal, 500, "ended without an answer")]
    {
        scope(|scope| {
            let calls = [(); 6].map(|()| scope.spawn(|| house.ask()));
            let arrived = gate.next();
            eventually("all others follow", || own(&house, "followers") == 5);
            if panics {
                arrived.panic();
            } else {
                arrived.respond(422, &[("content-type", "application/json")], busy);
            }
            let errors = calls.map(|call| joined(call).expect_err("it failed"));
            let mut ids: Vec<_> = errors.iter().map(|error| error.request_id().expect("its own").to_string()).collect();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), 6, "each has its own id");
            for error in &errors {
                assert_eq!((error.code(), error.status(), error.provider()), (wanted, status, Some("p")), "{error}");
                assert!(error.message().contains(message), "{error}");
            }
            assert_eq!(errors.iter().map(|error| error.attempts().len()).sum::<usize>(), 1, "one went there");
        });
        assert!(gate.is_empty());
        assert_eq!(figures(&house, ["entries", "flights", "followers"]), [0, 0, 0]);
    }
    assert_eq!(how(&through(&house, &gate, &CallOptions::new())), Some("miss"));
    at_rest(&house);
}

/// Fails or answers behind the cache, as told.
struct Behind(&'static str, Arc<AtomicU64>);

impl Plugin for Behind {
    fn name(&self) -> &str {
        "behind"
    }

    fn pre(&self, _: &mut Request<'_>, _: &mut Context<'_>) -> std::result::Result<Flow, PluginError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        match self.0 {
            "panic" => panic!("as the test says"),
            "answer" => Ok(Flow::Answer(Reply::chat("mine"))),
            _ => Ok(Flow::Continue),
        }
    }

    fn post(&self, outcome: &mut Outcome, _: &mut Context<'_>) -> std::result::Result<(), PluginError> {
        match self.0 {
            "turn" => outcome.answer_with(Reply::chat("mine")),
            "change" => outcome.json_mut().expect("JSON")["choices"][0]["message"]["content"] = "changed".into(),
            _ => {}
        }
        Ok(())
    }

    fn on_failure(&self) -> OnFailure {
        OnFailure::Refuse
    }
}

#[test]
fn what_a_plugin_behind_it_answers_or_fails_by_is_not_kept_and_what_it_changes_is() {
    for (does, kept) in [("panic", false), ("answer", false), ("turn", false), ("change", true)] {
        let (house, gate) = cached(&json!({}));
        let asked = Arc::new(AtomicU64::new(0));
        house.gateway().set_plugins(vec![Arc::new(Behind(does, Arc::clone(&asked)))]).expect("names");
        let upstream = matches!(does, "turn" | "change");
        for time in [1, 2] {
            let given = scope(|scope| {
                let call = scope.spawn(|| house.ask());
                if upstream && (time == 1 || !kept) {
                    gate.next().answer();
                }
                joined(call)
            });
            if does == "panic" {
                assert_eq!(code(&given), Code::Internal);
            } else {
                let body = given.expect("an answer").body.to_vec();
                let said = String::from_utf8(body).expect("text");
                assert!(said.contains(if kept { "changed" } else { "mine" }), "{said}");
            }
        }
        assert_eq!(
            (asked.load(Ordering::SeqCst), own(&house, "entries")),
            if kept { (1, 1) } else { (2, 0) },
            "{does}"
        );
        at_rest(&house);
    }
}

/// Lets nobody through who bears the tag, and says so only when it is let.
struct Turnstile(Receiver<()>);

impl Plugin for Turnstile {
    fn name(&self) -> &str {
        "turnstile"
    }

    fn pre(&self, _: &mut Request<'_>, context: &mut Context<'_>) -> std::result::Result<Flow, PluginError> {
        if context.tags().get("team") != Some("spent") {
            return Ok(Flow::Continue);
        }
        let _ = context.wait(&self.0, FUSE);
        Ok(Flow::Refuse(Error::new(Code::RateLimited, "the budget of the tag \"spent\" is spent")))
    }
}

/// Tags make no difference to what is the same, and may make one to who is let through: as `by_tag` of the built-in ones.
#[test]
fn whom_a_plugin_behind_it_turns_away_hands_on_the_lead() {
    let (house, gate) = cached(&json!({}));
    let (go, wait) = bounded(1);
    house.gateway().set_plugins(vec![Arc::new(Turnstile(wait))]).expect("names");
    scope(|scope| {
        let leader = scope.spawn(|| house.ask_with(&CallOptions::new().tag("team", "spent")));
        eventually("it leads", || own(&house, "flights") == 1);
        let next = [(); 2].map(|()| scope.spawn(|| house.ask()));
        eventually("they follow", || own(&house, "followers") == 2);
        go.send(()).expect("it waits");
        assert_eq!(code(&joined(leader)), Code::RateLimited);
        gate.next().answer();
        next.into_iter().for_each(|call| assert!(joined(call).is_ok(), "the refusal was another's"));
    });
    assert!(gate.is_empty());
    assert_eq!(figures(&house, ["misses_total", "joined_total", "entries"]), [2, 1, 1]);
    at_rest(&house);
}

/// Counts the requests that it sees, and the answers.
struct Counts(&'static str, Place, Arc<[AtomicU64; 2]>);

impl Plugin for Counts {
    fn name(&self) -> &str {
        self.0
    }

    fn place(&self) -> Place {
        self.1
    }

    fn pre(&self, _: &mut Request<'_>, _: &mut Context<'_>) -> std::result::Result<Flow, PluginError> {
        self.2[0].fetch_add(1, Ordering::SeqCst);
        Ok(Flow::Continue)
    }

    fn post(&self, outcome: &mut Outcome, _: &mut Context<'_>) -> std::result::Result<(), PluginError> {
        self.2[1].fetch_add(u64::from(outcome.error().is_none()), Ordering::SeqCst);
        Ok(())
    }
}

#[test]
fn a_plugin_before_it_sees_what_it_answers_and_one_behind_it_does_not() {
    let (house, gate) = cached(&json!({}));
    let (before, behind) = <(Arc<[AtomicU64; 2]>, Arc<[AtomicU64; 2]>)>::default();
    let plugins: [Arc<dyn Plugin>; 2] = [
        Arc::new(Counts("behind", Place::Behind, Arc::clone(&behind))),
        Arc::new(Counts("before", Place::Before, Arc::clone(&before))),
    ];
    house.gateway().set_plugins(plugins.into()).expect("names");
    through(&house, &gate, &CallOptions::new());
    assert_eq!(how(&house.ask().expect("it is kept")), Some("hit"));
    scope(|scope| {
        let read = scope.spawn(|| open(&house).expect("it began").count());
        play(&gate.next().stream(), &["one"]);
        joined(read);
    });
    assert!(open(&house).expect("it is kept").all(|chunk| chunk.is_ok()));
    let seen = |counts: &[AtomicU64; 2]| [0, 1].map(|at| counts[at].load(Ordering::SeqCst));
    eventually("all are over", || seen(&before)[1] == 4);
    assert_eq!((seen(&before), seen(&behind)), ([4, 4], [2, 2]));
    at_rest(&house);
}

#[test]
fn a_request_can_go_past_the_cache_or_make_it_new() {
    let (house, gate) = cached(&json!({}));
    let tagged = |what: &str| CallOptions::new().tag("cache", what);
    assert_eq!(how(&through(&house, &gate, &tagged("bypass"))), None);
    assert_eq!(figures(&house, ["entries", "misses_total", "bypassed_total"]), [0, 0, 1]);
    through(&house, &gate, &CallOptions::new());
    let renewed = scope(|scope| {
        let call = scope.spawn(|| house.ask_with(&tagged("refresh")));
        gate.next().respond(200, &[], reply("new"));
        joined(call).expect("an answer")
    });
    assert_eq!(how(&renewed), Some("miss"));
    let kept = house.ask().expect("it is kept");
    assert_eq!((how(&kept), kept.body == reply("new").as_bytes()), (Some("hit"), true));
    let refused = house.ask_with(&tagged("never")).expect_err("it is refused");
    assert_eq!((refused.code(), refused.status()), (Code::InvalidRequest, 400));
    assert_eq!(own(&house, "entries"), 1);
}

#[test]
fn what_was_asked_for_before_does_not_take_the_place_of_what_was_made_new() {
    let (house, gate) = cached(&json!({}));
    scope(|scope| {
        let slow = scope.spawn(|| house.ask());
        let before = gate.next();
        let renewed = scope.spawn(|| house.ask_with(&CallOptions::new().tag("cache", "refresh")));
        gate.next().respond(200, &[], reply("new"));
        assert!(joined(renewed).is_ok());
        before.respond(200, &[], reply("old"));
        assert!(joined(slow).expect("an answer").body == reply("old").as_bytes(), "its own");
    });
    let kept = house.ask().expect("it is kept");
    assert_eq!((how(&kept), kept.body == reply("new").as_bytes()), (Some("hit"), true));
    at_rest(&house);
}

#[test]
fn only_what_the_settings_name_is_looked_at() {
    let (house, gate) = cached(&json!({ "models": ["p/small*"], "only_deterministic": true }));
    let ask = |model: &str, temperature: &str| {
        let body = format!("{{\"model\":\"{model}\",\"temperature\":{temperature},\"messages\":[]}}");
        scope(|scope| {
            let call = scope.spawn(|| house.gateway().raw(Operation::ChatCompletions, body));
            gate.next().answer();
            how(&joined(call).expect("an answer")).map(str::to_owned)
        })
    };
    assert_eq!(ask("p/large", "0"), None);
    assert_eq!(ask("p/small-1", "0.5"), None);
    assert_eq!(ask("p/small-1", "0").as_deref(), Some("miss"));
    assert_eq!(own(&house, "entries"), 1);
}

#[test]
fn whoever_is_waited_for_does_not_wait_behind_a_batch() {
    let (house, gate) = cached(&json!({}));
    scope(|scope| {
        let slow = scope.spawn(|| house.ask_with(&batch()));
        let arrived = gate.next();
        let quick = scope.spawn(|| house.ask());
        gate.next().answer();
        assert!(joined(quick).is_ok());
        assert_eq!(how(&house.ask_with(&batch()).expect("it is kept")), Some("hit"));
        arrived.answer();
        assert!(joined(slow).is_ok());
    });
    at_rest(&house);
}

fn open(house: &House) -> Result<ChatStream> {
    house.gateway().chat_stream(&ChatRequest::new("p/m", "hi"))
}

fn words(chunks: &[ChatChunk]) -> String {
    chunks.iter().map(ChatChunk::text).collect()
}

fn play(pieces: &Sender<Piece>, texts: &[&str]) {
    texts.iter().for_each(|text| feed(pieces, &word(text)));
    feed(pieces, &format!("{STOP}{USAGE}{DONE}"));
}

#[test]
fn a_stream_is_given_again_and_followers_of_one_get_it_whole() {
    let (house, gate) = cached(&json!({}));
    let read = || {
        let mut stream = open(&house).expect("it began");
        let chunks: Vec<_> = stream.by_ref().map(|chunk| chunk.expect("good")).collect();
        let served = stream.served().expect("known");
        ((words(&chunks), chunks.len()), served.provider.to_string())
    };
    scope(|scope| {
        let leader = scope.spawn(read);
        let pieces = gate.next().stream();
        let followers = [(); 3].map(|()| scope.spawn(read));
        eventually("they follow", || own(&house, "followers") == 3);
        play(&pieces, &["one", " two"]);
        drop(pieces);
        for reader in [leader].into_iter().chain(followers) {
            assert_eq!(joined(reader), (("one two".to_owned(), 3), "p".to_owned()));
        }
    });
    assert_eq!(read(), (("one two".to_owned(), 3), "p".to_owned()));
    assert!(gate.is_empty());
    assert_eq!(figures(&house, ["hits_total", "misses_total", "joined_total", "entries"]), [1, 1, 3, 1]);
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/requests/succeeded_total"), 5);
    // Who asks for it whole asks for something else.
    scope(|scope| {
        let call = scope.spawn(|| house.gateway().chat(&ChatRequest::new("p/m", "hi")));
        gate.next().answer();
        assert!(joined(call).is_ok());
    });
    at_rest(&house);
}

#[test]
fn a_stream_that_was_cut_or_left_is_not_kept() {
    let (house, gate) = cached(&json!({}));
    for fails in [true, false] {
        scope(|scope| {
            let leader = scope.spawn(|| open(&house).expect("it began").collect::<Vec<_>>());
            let pieces = gate.next().stream();
            feed(&pieces, &word("one"));
            let follower = scope.spawn(|| open(&house).map(drop));
            eventually("it follows", || own(&house, "followers") == 1);
            if fails {
                pieces.send_timeout(Piece::Fail(TransportErrorKind::Cut), FUSE).map_err(drop).expect("a worker reads");
            }
            drop(pieces);
            let last = joined(leader).pop().expect("a last word");
            assert_eq!(code(&last), Code::StreamCut);
            assert_eq!(code(&joined(follower)), Code::StreamCut, "it has begun nothing yet, and gets it as an answer");
        });
    }
    // A caller that leaves in the middle: who follows begins anew.
    scope(|scope| {
        let leader =
            scope.spawn(|| open(&house).expect("it began").next().expect("a chunk").expect("good").text().len());
        let pieces = gate.next().stream();
        let follower =
            scope.spawn(|| open(&house).expect("it began").map(|chunk| chunk.expect("good")).collect::<Vec<_>>());
        eventually("it follows", || own(&house, "followers") == 1);
        feed(&pieces, &word("one"));
        assert_eq!(joined(leader), 3);
        let again = gate.next().stream();
        play(&again, &["other"]);
        assert_eq!(words(&joined(follower)), "other");
        drop(pieces);
    });
    assert_eq!(figures(&house, ["entries", "joined_total"]), [1, 2]);
    at_rest(&house);
}

#[test]
fn what_is_too_long_is_not_kept_and_its_followers_go_alone() {
    let (house, gate) = cached(&json!({ "max_bytes": "64KiB", "max_entry_bytes": "2KiB" }));
    let long = reply(&"x".repeat(3000));
    scope(|scope| {
        let calls = [(); 3].map(|()| scope.spawn(|| house.ask()));
        let first = gate.next();
        eventually("they follow", || own(&house, "followers") == 2);
        first.respond(200, &[], long.as_str());
        [(); 2].map(|()| gate.next()).into_iter().for_each(|arrived| arrived.respond(200, &[], long.as_str()));
        calls.into_iter().for_each(|call| assert_eq!(joined(call).expect("an answer").body, long.as_bytes()));
    });
    let stream = scope(|scope| {
        let call =
            scope.spawn(|| open(&house).expect("it began").map(|chunk| chunk.expect("good")).collect::<Vec<_>>());
        let pieces = gate.next().stream();
        play(&pieces, &[&"y".repeat(1500), &"z".repeat(1500)]);
        joined(call)
    });
    assert_eq!(words(&stream).len(), 3000);
    eventually("what was recorded is given back", || figures(&house, ["entries", "bytes"]) == [0, 0]);
    at_rest(&house);
}

#[test]
fn a_reload_keeps_what_is_kept_unless_the_settings_change() {
    let (house, gate) = cached(&json!({ "ttl": "10m" }));
    through(&house, &gate, &CallOptions::new());
    let reload = |document: Value| {
        let config = Config::from_json(&document.to_string(), &|_: &str| None).expect("it is right");
        house.gateway().reload(config).expect("it is right");
    };
    let mut other = document(&json!({ "ttl": "10m" }));
    other["server"] = json!({ "write_timeout": "31s" });
    reload(other);
    assert_eq!(how(&house.ask().expect("it is kept")), Some("hit"));
    // A request that is under way ends in the cache that it began in.
    scope(|scope| {
        let body = chat("p/other", false).into_bytes();
        let under_way = scope.spawn(|| house.gateway().raw(Operation::ChatCompletions, body));
        let arrived = gate.next();
        reload(document(&json!({ "ttl": "11m" })));
        assert_eq!(figures(&house, ["entries", "hits_total", "flights"]), [0, 0, 0], "it starts empty");
        arrived.answer();
        assert!(joined(under_way).is_ok());
    });
    assert_eq!(own(&house, "entries"), 0);
    assert_eq!(how(&through(&house, &gate, &CallOptions::new())), Some("miss"));
    at_rest(&house);
}

#[test]
fn an_answer_that_is_too_old_is_asked_for_again() {
    let (house, gate) = cached(&json!({ "ttl": "1ms" }));
    through(&house, &gate, &CallOptions::new());
    let begun = now();
    eventually("its time is over", || now() - begun > ms(1));
    assert_eq!(how(&through(&house, &gate, &CallOptions::new())), Some("miss"));
    assert_eq!(own(&house, "expired_total"), 1);
}

/// Threads that ask the simulated provider for few and many things, whole and streamed, and leave when they like.
fn crowd(house: &House, threads: u64, each: u64, leave: bool) {
    let rounds = AtomicU64::new(0);
    scope(|scope| {
        for thread in 0..threads {
            let rounds = &rounds;
            scope.spawn(move || {
                for round in 0..each {
                    let n = (thread * 7919 + round * 104_729) % 97;
                    let topic = if n < 48 { n % 3 } else { n };
                    let token = CancelToken::new();
                    if leave && n % 5 == 0 {
                        token.cancel();
                    }
                    let options = match n % 7 {
                        0 if leave => within(ms(n % 4)),
                        _ => CallOptions::new().cancel(token.clone()),
                    };
                    let lorem = 5 + topic * 3;
                    let body = |stream: bool| {
                        let said = json!([{ "role": "user", "content": format!("topic {topic}") }]);
                        json!({ "model": format!("sim/lorem-{lorem}"), "stream": stream, "messages": said }).to_string()
                    };
                    if n % 2 == 0 {
                        let answer = house.gateway().with(&options).raw(Operation::ChatCompletions, body(false));
                        let why = answer.as_ref().err().map(Error::code);
                        assert!(why.is_none_or(|code| leave && code != Code::Internal), "{answer:?}");
                    } else {
                        let mut stream = match house.gateway().with(&options).chat_stream(&typed(&body(true))) {
                            Ok(stream) => stream,
                            Err(error) if leave && error.code() != Code::Internal => continue,
                            Err(error) => panic!("{error}"),
                        };
                        if leave && n % 3 == 0 {
                            drop(stream.next());
                            continue;
                        }
                        let chunks: Result<Vec<_>> = stream.collect();
                        assert!(chunks.is_ok() || leave, "{chunks:?}");
                        if let Ok(chunks) = chunks {
                            assert_eq!(words(&chunks).split_whitespace().count() as u64, lorem, "no other's answer");
                        }
                    }
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert!(rounds.load(Ordering::Relaxed) > 0);
}

fn crowded(config: &Value) -> House {
    let change = json!({ "concurrency_and_buffer_size": { "concurrency": 8, "buffer_size": 500 } });
    let plugins = json!([{ "name": "response_cache", "config": config }]);
    House::with(json!({ "providers": { "sim": sim(change) }, "plugins": plugins }), &[])
}

#[test]
fn under_load_it_stays_within_its_bytes_and_every_request_gets_its_own_answer() {
    let house = crowded(&json!({ "max_bytes": "64KiB", "max_entry_bytes": "32KiB" }));
    let over = AtomicBool::new(false);
    scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::SeqCst) {
                most = most.max(own(&house, "bytes"));
                std::thread::park_timeout(ms(1));
            }
            most
        });
        crowd(&house, 8, 40, false);
        over.store(true, Ordering::SeqCst);
        let most = joined(watch);
        assert!((1..=64 << 10).contains(&most), "{most}");
    });
    let [hits, misses, joined, stored, evicted, entries] =
        figures(&house, ["hits_total", "misses_total", "joined_total", "stored_total", "evicted_total", "entries"]);
    assert_eq!(hits + misses + joined, 320);
    assert!(hits + joined > 0 && evicted > 0 && stored <= misses, "{hits} {joined} {evicted} {stored} {misses}");
    assert!(entries > 0);
    at_rest(&house);
}

#[test]
fn whoever_leaves_when_nothing_is_left_of_a_flight() {
    let house = crowded(&json!({ "ttl": "2ms" }));
    crowd(&house, 16, 25, true);
    eventually("every flight has ended", || figures(&house, ["flights", "followers"]) == [0, 0]);
    at_rest(&house);
}

/// A body as a program would write it.
fn typed(body: &str) -> ChatRequest {
    serde_json::from_str(body).expect("a request")
}
