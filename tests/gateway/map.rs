//! Many requests, a few at a time: their order, how many are under way and ahead, what fails alone, and what a drop ends.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::thread::scope;

use serde_json::{Value, json};
use sluicegate::sync::CancelToken;
use sluicegate::time::now;
use sluicegate::{CallOptions, ChatRequest, Code, Error};

use crate::house::{FUSE, Gate, House, SLACK, code, eventually, ms, number, provider, sim};

/// A provider of enough workers behind a gate.
fn gated() -> (House, Gate) {
    House::gated(provider(json!({ "concurrency_and_buffer_size": { "concurrency": 8, "buffer_size": 16 } })))
}

fn simulated(config: Value) -> House {
    let mut whole = json!({ "providers": { "sim": sim(json!({})) } });
    crate::house::merge(&mut whole, config);
    House::with(whole, &[])
}

fn echoes(numbers: impl Iterator<Item = usize>) -> impl Iterator<Item = (&'static str, String)> {
    numbers.map(|number| ("sim/echo", number.to_string()))
}

#[test]
fn answers_come_in_the_order_of_the_requests_however_they_end() {
    let (house, gate) = gated();
    let requests = ["0", "1", "2"].map(|name| (format!("p/{name}"), "hi"));
    scope(|scope| {
        let mut map = house.gateway().map_ordered(requests, 3);
        let first = scope.spawn(move || (map.next().expect("an item"), map));
        let mut held: Vec<_> = (0..3).map(|_| gate.next()).collect();
        held.sort_by_key(|held| held.json()["model"].as_str().map(str::to_owned));
        let mut others = held.split_off(1);
        others.remove(1).answer();
        others.remove(0).respond(400, &[], "{}");
        eventually("they are over", || number(&house.stats(), "/requests/in_flight") == 1);
        held.remove(0).answer();
        let (first, map) = first.join().expect("no panic");
        let rest: Vec<_> = map.collect();
        assert_eq!((first.expect("answered").served().model.as_str(), rest.len()), ("0", 2));
        assert_eq!(
            (code(&rest[0]), rest[1].as_ref().expect("answered").served().model.as_str()),
            (Code::UpstreamError, "2")
        );
    });
}

#[test]
fn as_many_are_under_way_as_said_and_twice_as_many_were_taken() {
    let (house, gate) = gated();
    let pulled = Cell::new(0);
    let source = (0..).inspect(|_| pulled.set(pulled.get() + 1)).map(|number: usize| (format!("p/{number}"), "hi"));
    let mut map = house.gateway().with(CallOptions::new().deadline(ms(200))).map_ordered(source, 2);
    assert_eq!((pulled.get(), number(&house.stats(), "/requests/received_total")), (0, 0), "nobody has asked yet");
    let late = scope(|scope| {
        let gate = &gate;
        let player = scope.spawn(move || {
            // The first one hangs until its deadline; whatever comes beside it is answered.
            let mut seen = BTreeSet::new();
            let mut hangs = None;
            while seen.len() < 4 {
                let held = gate.next();
                let model = held.json()["model"].as_str().expect("a name").to_owned();
                seen.insert(model.clone());
                if model == "0" { hangs = Some(held) } else { held.answer() }
            }
            hangs.expect("it came").wait_over();
            seen
        });
        let late = map.next().expect("an item");
        assert_eq!(player.join().expect("no panic"), ["0", "1", "2", "3"].map(str::to_owned).into());
        late
    });
    assert_eq!(code(&late), Code::UpstreamTimeout);
    assert_eq!(pulled.get(), 4, "no more are ahead of the one that is late");
    assert!(gate.is_empty());
    assert!(map.next().expect("an item").is_ok());
    assert!(pulled.get() > 4, "and then it goes on");
    drop(map);
}

#[test]
fn what_comes_first_is_given_first_with_its_number() {
    let (house, gate) = gated();
    let requests = (0..4).map(|number| (format!("p/{number}"), "hi"));
    scope(|scope| {
        let asking = scope.spawn(|| house.gateway().map_unordered(requests, 2).collect::<Vec<_>>());
        let (one, other) = (gate.next(), gate.next());
        let name = |held: &crate::house::Arrived| held.json()["model"].as_str().map(str::to_owned);
        let stays = if name(&one).as_deref() == Some("0") {
            other.answer();
            one
        } else {
            one.answer();
            other
        };
        (2..4).for_each(|_| gate.next().answer());
        eventually("all others are over", || number(&house.stats(), "/requests/succeeded_total") == 3);
        stays.answer();
        let answers = asking.join().expect("no panic");
        assert_eq!(answers.last().map(|(number, _)| *number), Some(0), "the one that waited is the last");
        let numbers: BTreeSet<_> = answers.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (0..4).collect());
        for (number, answer) in answers {
            assert_eq!(answer.expect("answered").served().model, number.to_string());
        }
    });
}

#[test]
fn what_fails_fails_alone() {
    let house = simulated(json!({}));
    let models = ["sim/echo", "sim/fail-400", "nobody/x", "sim/echo"];
    let requests: Vec<_> = models.iter().map(|model| ChatRequest::new(*model, "hi")).collect();
    let codes =
        |results: Vec<Result<_, Error>>| results.iter().map(|r| r.as_ref().err().map(Error::code)).collect::<Vec<_>>();
    let wanted = [None, Some(Code::UpstreamError), Some(Code::ModelNotFound), None];
    assert_eq!(codes(house.gateway().map_ordered(&requests, 2).collect()), wanted);
    let mut unordered: Vec<_> = house.gateway().map_unordered(&requests, 2).collect();
    unordered.sort_by_key(|(number, _)| *number);
    assert_eq!(codes(unordered.into_iter().map(|(_, result)| result).collect()), wanted);
    let calls = house.gateway().with(CallOptions::new().tag("", ""));
    assert!(calls.map_unordered(&requests, 2).all(|(_, result)| code(&result) == Code::InvalidRequest));
    assert_eq!(number(&house.at_rest(), "/requests/received_total"), 12);
}

#[test]
fn an_endless_source_is_taken_from_as_far_as_it_is_asked() {
    let house = simulated(json!({}));
    let texts: Vec<_> = house
        .gateway()
        .map_ordered(echoes(0..), 4)
        .take(100)
        .map(|reply| reply.expect("answered").text().to_owned())
        .collect();
    assert_eq!(texts, (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
    let received = number(&house.at_rest(), "/requests/received_total");
    assert!((100..=108).contains(&received), "{received}");
}

#[test]
fn none_at_a_time_means_one() {
    let house = simulated(json!({}));
    assert_eq!(house.gateway().map_ordered(echoes(0..3), 0).filter(Result::is_ok).count(), 3);
    assert_eq!(house.gateway().map_unordered(echoes(0..0), 5).count(), 0);
}

#[test]
fn dropping_it_ends_what_is_under_way() {
    let (house, gate) = gated();
    let requests = (0..).map(|_| ("p/m", "hi"));
    scope(|scope| {
        let mut map = house.gateway().map_unordered(requests, 3);
        let asking = scope.spawn(move || {
            assert!(map.next().expect("an item").1.is_ok());
            map
        });
        gate.next().answer();
        let held = [gate.next(), gate.next()];
        let map = asking.join().expect("no panic");
        drop(map);
        held.iter().for_each(|held| held.wait_over());
    });
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/requests/succeeded_total"), 1);
    assert_eq!(number(&stats, "/requests/cancelled_total") + 1, number(&stats, "/requests/received_total"));
}

#[test]
fn where_the_gateway_has_no_room_the_next_waits_for_one_of_its_own() {
    let house = simulated(json!({ "server": { "max_in_flight": 4 } }));
    let other = house.gateway().submit(&ChatRequest::new("sim/hang", "hi")).expect("a place");
    let all = house.gateway().map_ordered(echoes(0..60), 20).collect::<Result<Vec<_>, _>>().expect("all are answered");
    assert_eq!((all.len(), all[59].text()), (60, "59"));
    let unordered = house.gateway().map_unordered(echoes(0..60), 20);
    assert!(unordered.map(|(_, reply)| reply).all(|reply| reply.is_ok()));
    drop(other);
    let stats = house.at_rest();
    let errors = json!({ "client_closed": 1 });
    assert_eq!((number(&stats, "/requests/received_total"), &stats["errors"]), (121, &errors));
}

#[test]
fn where_others_leave_no_room_at_all_a_request_fails() {
    let gate = Gate::new();
    let config = json!({ "server": { "max_in_flight": 1 }, "providers": { "p": provider(json!({})) } });
    let house = House::with(config, &[("p", &gate)]);
    let other = house.gateway().submit(&ChatRequest::new("p/m", "hi")).expect("a place");
    let held = gate.next();
    let results: Vec<_> = house.gateway().map_ordered([("p/m", "one"), ("p/m", "two")], 2).collect();
    assert!(results.iter().all(|result| code(result) == Code::Overloaded));
    held.answer();
    assert!(other.wait().is_ok());
    assert_eq!(house.at_rest()["errors"], json!({ "overloaded": 2 }));
}

#[test]
fn one_moment_ends_all_of_it() {
    let (house, gate) = gated();
    let began = now();
    let calls = house.gateway().with(CallOptions::new().until(ms(200)));
    let results: Vec<_> = scope(|scope| {
        let asking = scope.spawn(|| calls.map_ordered((0..30).map(|_| ("p/m", "hi")), 2).collect());
        gate.next().answer();
        let held = [gate.next(), gate.next()];
        held.iter().for_each(|held| held.wait_over());
        asking.join().expect("no panic")
    });
    let took = now() - began;
    assert!(took >= ms(200) && took < ms(200) * SLACK, "{took:?}");
    let codes: Vec<_> = results.iter().map(|result| result.as_ref().err().map(Error::code)).collect();
    let count = |wanted| codes.iter().filter(|code| **code == wanted).count();
    let (answered, under_way, late) =
        (count(None), count(Some(Code::UpstreamTimeout)), count(Some(Code::QueueTimeout)));
    // Those under way, and two that may have been sent in the last moment; what comes after it is not sent.
    assert!((2..=4).contains(&under_way), "{codes:?}");
    assert_eq!((answered, under_way + late), (1, 29), "{codes:?}");
    let stats = house.at_rest();
    assert_eq!((number(&stats, "/requests/received_total"), number(&stats, "/requests/failed_total")), (30, 29));
    assert_eq!(code(&calls.ask("p/m", "hi")), Code::QueueTimeout);
    let sooner = house.gateway().with(CallOptions::new().until(FUSE).deadline(ms(0)));
    assert_eq!(code(&sooner.ask("p/m", "hi")), Code::QueueTimeout, "of two limits the one that comes first counts");
}

#[test]
fn a_token_of_the_options_ends_all_of_it() {
    let (house, gate) = gated();
    let token = CancelToken::new();
    let requests = (0..).map(|_| ("p/m", "hi"));
    let results = scope(|scope| {
        let calls = house.gateway().with(CallOptions::new().cancel(token.clone()));
        let asking = scope.spawn(move || calls.map_ordered(requests, 2).collect::<Vec<_>>());
        gate.next().answer();
        let held = [gate.next(), gate.next()];
        token.cancel();
        held.iter().for_each(|held| held.wait_over());
        asking.join().expect("no panic")
    });
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.len() == 3 && results.iter().all(|r| r.is_ok() || code(r) == Code::ClientClosed), "{results:?}");
}

/// The token is cancelled between the look at it and the wait: by the source itself, whose request is begun all the same.
#[test]
fn a_token_that_is_cancelled_while_more_are_begun_ends_these_too() {
    let (house, _gate) = gated();
    let token = CancelToken::new();
    let calls = house.gateway().with(CallOptions::new().cancel(token.clone()));
    let requests = (0..).inspect(|number| {
        if *number == 1 {
            token.cancel();
        }
    });
    let results: Vec<_> = calls.map_ordered(requests.map(|_| ("p/m", "hi")), 2).collect();
    assert!(results.len() == 2 && results.iter().all(|result| code(result) == Code::ClientClosed), "{results:?}");
}

#[test]
fn a_gateway_that_ends_meanwhile_answers_every_request() {
    let (house, gate) = gated();
    let requests = (0..6).map(|_| ("p/m", "hi"));
    scope(|scope| {
        let asking = scope.spawn(|| house.gateway().map_unordered(requests, 2).collect::<Vec<_>>());
        let held = [gate.next(), gate.next()];
        let report = house.shutdown(ms(20));
        assert!(report.cut == 2 && report.stragglers.is_empty(), "{report:?}");
        held.iter().for_each(|held| held.wait_over());
        let results = asking.join().expect("no panic");
        assert_eq!(results.len(), 6);
        assert!(results.iter().all(|(_, result)| code(result) == Code::ShuttingDown));
    });
}

#[test]
fn it_keeps_its_gateway() {
    let mut house = simulated(json!({}));
    let gateway = house.take();
    let map = gateway.map_unordered(echoes(0..20), 3);
    drop(gateway);
    assert_eq!(map.filter(|(_, result)| result.is_ok()).count(), 20);
}

/// Sources, results and drops of all kinds at once: the sums hold.
#[test]
fn maps_dropped_at_any_moment_leave_the_sums_in_order() {
    let house = simulated(json!({ "server": { "max_in_flight": 12 } }));
    scope(|scope| {
        for seed in 0..4 {
            let house = &house;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..12 {
                    let (most, asked) = (random.usize(1..8), random.usize(0..12));
                    let source = (0..).map(|n| (if n % 3 == 0 { "sim/echo+slow-1ms" } else { "sim/echo" }, "hi"));
                    let fine = |result: Result<_, Error>| result.err().is_none_or(|e| e.code() == Code::Overloaded);
                    if random.bool() {
                        assert!(house.gateway().map_ordered(source, most).take(asked).all(fine));
                    } else {
                        assert!(
                            house.gateway().map_unordered(source, most).take(asked).all(|(_, result)| fine(result))
                        );
                    }
                }
            });
        }
    });
    house.at_rest();
}

#[test]
fn as_many_at_a_time_as_can_be_take_no_more_room_than_the_gateway_lets_run() {
    let house = simulated(json!({}));
    let gateway = house.gateway();
    for most in [usize::MAX, usize::MAX / 2, 1 << 40] {
        assert_eq!(gateway.map_ordered(echoes(0..3), most).filter(|reply| reply.is_ok()).count(), 3, "{most}");
        assert_eq!(gateway.map_unordered(echoes(0..3), most).filter(|(_, reply)| reply.is_ok()).count(), 3, "{most}");
    }
    house.at_rest();
}

/// Whoever finds answers lying there waits for nothing; what runs ends all the same.
#[test]
fn a_token_that_is_cancelled_while_answers_lie_there_ends_what_runs() {
    let (house, gate) = gated();
    let token = CancelToken::new();
    let calls = house.gateway().with(CallOptions::new().cancel(token.clone()));
    let mut map = calls.map_unordered((0..).map(|_| ("p/m", "hi")), 3);
    let first = scope(|scope| {
        let asking = scope.spawn(|| map.next());
        let held = [gate.next(), gate.next(), gate.next()];
        held.into_iter().for_each(|held| held.answer());
        asking.join().expect("no panic")
    });
    eventually("all are answered", || number(&house.stats(), "/requests/in_flight") == 0);
    let second = map.next();
    let held = [gate.next(), gate.next(), gate.next()];
    token.cancel();
    let third = map.next();
    held.iter().for_each(|held| held.wait_over());
    assert!([first, second, third].into_iter().all(|item| item.is_some_and(|(_, reply)| reply.is_ok())));
    assert!(map.all(|(_, reply)| code(&reply) == Code::ClientClosed));
}
