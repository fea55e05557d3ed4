//! Overload: who is let in is served, who is not is told so by its head alone and keeps its connection, and batch goes first.

use serde_json::{Value, json};

use super::{Answer, Client, Station};
use sluicegate::model::Operation;

use crate::house::{House, batch, chat, eventually, number, sim};

/// Callers at a time for each place, and how often each of them asks.
const TIMES: usize = 5;
const EACH: usize = 10;

/// Whether an answer is a refusal as the interface has it; else it is a whole one.
fn is_refusal(answer: &Answer) -> bool {
    if answer.status == 200 {
        assert!(answer.complete, "{answer:?}");
        return false;
    }
    assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"), "{answer:?}");
    let after = |name: &str| answer.header(name).and_then(|text| text.parse::<u64>().ok()).expect("a number");
    let (seconds, ms) = (after("retry-after"), after("retry-after-ms"));
    assert!((1..=60).contains(&seconds) && ms <= seconds * 1000 && ms > (seconds - 1) * 1000, "{answer:?}");
    assert!(answer.header("x-request-id").is_some() && answer.header("x-sluicegate-overhead-us").is_some());
    true
}

#[test]
fn at_five_times_the_limit_whoever_is_let_in_succeeds_and_everybody_else_is_refused_and_keeps_his_connection() {
    const PLACES: usize = 4;
    let config = json!({
        "server": { "max_in_flight": PLACES },
        "providers": { "sim": sim(json!({ "concurrency_and_buffer_size": { "concurrency": PLACES } })) },
    });
    let station = Station::on(House::with(config, &[]));
    assert_eq!(station.house.gateway().ask("sim/echo", "up").expect("it is served"), "up");
    let refused: u64 = std::thread::scope(|scope| {
        let caller = |number: usize| {
            let mut client = station.client();
            let lane = if number.is_multiple_of(4) { "batch" } else { "interactive" };
            let ask = |ask: usize| {
                let body = chat("sim/lorem-3+slow-10ms", (number + ask).is_multiple_of(2));
                // On the same connection each time: nobody who is refused has to come in anew.
                u64::from(is_refusal(&client.chat(&[&format!("x-sluicegate-priority: {lane}")], &body).answer()))
            };
            (0..EACH).map(ask).sum::<u64>()
        };
        let callers: Vec<_> = (0..PLACES * TIMES).map(|number| scope.spawn(move || caller(number))).collect();
        callers.into_iter().map(|caller| caller.join().expect("no panic")).sum()
    });
    let stats = station.house.at_rest();
    let sent = (PLACES * TIMES * EACH) as u64;
    assert!(refused > 0 && refused < sent, "{refused} of {sent}");
    assert_eq!(stats["errors"], json!({ "overloaded": refused }));
    assert_eq!(number(&stats, "/requests/received_total"), sent + 1);
    assert_eq!(number(&stats, "/requests/succeeded_total"), sent + 1 - refused);
    assert_eq!(number(&stats, "/requests/max_in_flight"), PLACES as u64);
    let sim = station.house.gateway().sim_stats().expect("it runs");
    assert!(sim["peak"].as_u64().is_some_and(|peak| peak <= PLACES as u64), "{sim}");
    assert_eq!(station.front().stats().accepted_total, (PLACES * TIMES) as u64);
}

fn alerts(station: &Station) -> Vec<(String, String)> {
    let stats = station.house.stats();
    let text = |alert: &Value, key: &str| alert[key].as_str().expect("text").to_owned();
    let all = stats["alerts"].as_array().expect("a list").iter();
    all.map(|alert| (text(alert, "kind"), text(alert, "subject"))).collect()
}

#[test]
fn batch_is_shed_first_and_each_spell_is_one_alert() {
    let (station, gate) = Station::gated(
        json!({ "concurrency_and_buffer_size": { "concurrency": 8, "buffer_size": 8 } }),
        json!({ "max_in_flight": 8, "max_buffered_bytes": 4 << 20, "max_body_bytes": 4 << 20 }),
    );
    let lane = |priority: &str| {
        let mut client = station.client();
        client.chat(&[&format!("x-sluicegate-priority: {priority}")], &chat("p/m", false));
        client
    };
    let mut inside: Vec<_> = (0..6).map(|_| lane("batch")).collect();
    let mut held: Vec<_> = (0..6).map(|_| gate.next()).collect();
    (0..3).for_each(|_| assert!(is_refusal(&lane("batch").answer())));
    inside.extend((0..2).map(|_| lane("interactive")));
    held.extend((0..2).map(|_| gate.next()));
    let of = |kind: &str| (kind.to_owned(), "max_in_flight".to_owned());
    eventually("it is told that batch is shed", || alerts(&station) == [of("batch_shed")]);
    (0..4).for_each(|_| assert!(is_refusal(&lane("interactive").answer())));
    eventually("it is told that all are refused", || alerts(&station) == [of("batch_shed"), of("overloaded")]);
    let stats = station.house.stats();
    let told = stats["events"].as_array().expect("a list").iter();
    let told: Vec<_> = told.filter_map(|event| event["kind"].as_str()).collect();
    let count = |kind: &str| told.iter().filter(|told| **told == kind).count();
    assert_eq!((count("batch_shed"), count("overloaded")), (1, 1), "seven refusals, two alerts: {told:?}");
    held.into_iter().for_each(crate::house::Arrived::answer);
    assert!(inside.iter_mut().all(|client| !is_refusal(&client.answer())));

    // Bytes, too, whoever asks for them: the library's callers among them.
    let mut large = station.client();
    large.send("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 3100000\r\n\r\n");
    eventually("it is counted", || number(&station.house.stats(), "/requests/buffered_bytes") >= 3_100_000);
    let body = chat("p/m", false).replace("one two", &"x".repeat(100_000));
    let announce = |priority: &str| {
        let mut client = station.client();
        client.chat(&[&format!("x-sluicegate-priority: {priority}")], &body);
        client
    };
    assert!(is_refusal(&announce("batch").answer()));
    assert!(station.house.gateway().with(batch()).raw(Operation::ChatCompletions, body.clone().into_bytes()).is_err());
    let mut fits = announce("interactive");
    gate.next().answer();
    assert!(!is_refusal(&fits.answer()));
    drop(large);
    let stats = station.house.at_rest();
    assert_eq!(stats["errors"], json!({ "client_closed": 1, "overloaded": 9 }));
}

/// A station whose only place is taken, and by whom.
fn full(header_timeout: &str) -> (Station, crate::house::Gate, Client) {
    let (station, gate) = Station::gated(json!({}), json!({ "max_in_flight": 1, "header_timeout": header_timeout }));
    let mut inside = station.client();
    inside.chat(&[], &chat("p/m", false));
    (station, gate, inside)
}

fn head(framing: &str) -> String {
    format!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n")
}

#[test]
fn a_refused_clients_short_body_is_thrown_away_and_its_connection_goes_on() {
    let (station, gate, mut inside) = full("5s");
    let held = gate.next();
    let body = vec![b'x'; 200_000];
    let mut client = station.client();
    for part in [0, 1, 100, 199_999, 200_000] {
        // So much of it comes with the head, the rest after the refusal: it is not waited for.
        client.send([head("Content-Length: 200000").as_bytes(), &body[..part]].concat());
        assert!(is_refusal(&client.answer()));
        if part < 200_000 {
            eventually("it holds no thread while its body is to come", || station.front().stats().idle == 1);
        }
        client.send(&body[part..]);
        assert_eq!(client.get("/livez").status, 200, "{part} bytes came with the head");
    }
    // Two requests and the body of the first in one segment: the second is found behind it.
    client.send([head("Content-Length: 7").as_bytes(), b"GET / H", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"].concat());
    assert!(is_refusal(&client.answer()));
    assert_eq!(client.answer().status, 200);
    held.answer();
    assert!(!is_refusal(&inside.answer()));
    client.chat(&[], &chat("p/m", false));
    gate.next().answer();
    assert!(!is_refusal(&client.answer()), "it comes in when there is room");
}

#[test]
fn a_refused_clients_long_chunked_or_unsent_body_ends_its_connection() {
    let (station, gate, mut inside) = full("5s");
    let held = gate.next();
    for framing in [
        "Content-Length: 262145",
        "Transfer-Encoding: chunked",
        "Content-Length: 5\r\nExpect: 100-continue",
        "Content-Length: 5\r\nConnection: close",
    ] {
        let mut client = station.client();
        assert!(is_refusal(&client.send(head(framing)).answer()));
        client.finish_sending();
        assert!(client.is_closed(), "{framing}");
    }
    held.answer();
    assert!(!is_refusal(&inside.answer()));
}

#[test]
fn the_body_of_a_refused_client_is_waited_for_no_longer_than_a_head() {
    let (station, gate, mut inside) = full("100ms");
    let held = gate.next();
    let mut client = station.client();
    assert!(is_refusal(&client.send(head("Content-Length: 10")).answer()));
    client.send("xxx");
    assert!(client.is_closed(), "it has its answer, and gets no second one");
    held.answer();
    assert!(!is_refusal(&inside.answer()));
}
