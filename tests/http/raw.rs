//! P9: each case of the table against the whole gateway, and a good request behind it, on the same connection and a new one.

use std::collections::HashSet;

use serde_json::json;

use super::cases::{Case, MOST_BODY, MOST_HEAD, Then, at_once, awaited};
use super::support::Client;
use crate::front::Station;
use crate::house::{House, chat, eventually, sim};

fn station(header_timeout: &str, body_timeout: &str) -> Station {
    Station::on(House::with(
        json!({
            "server": { "max_header_bytes": MOST_HEAD, "max_body_bytes": MOST_BODY, "header_timeout": header_timeout,
                        "body_timeout": body_timeout },
            "providers": { "sim": sim(json!({})) },
        }),
        &[],
    ))
}

/// Sends a case; what is wrong with what came of it.
fn play(station: &Station, case: &Case) -> Result<(), String> {
    let mut client = station.client();
    client.try_send(&case.bytes);
    if case.ends {
        client.finish_sending();
    }
    let to_head = case.bytes.starts_with(b"HEAD ");
    for (nth, status) in case.answers.iter().enumerate() {
        let Some(answer) = client.read_answer(to_head) else {
            return Err(format!("closed before answer {nth}, which should be {status}"));
        };
        if (answer.status, answer.complete) != (*status, true) {
            return Err(format!("answer {nth} should be {status}: {}", answer.head));
        }
        let last = nth + 1 == case.answers.len() && !case.ends;
        if last && answer.head.contains("connection: close\r\n") != (case.then == Then::Closes) {
            return Err(format!("it does not say what becomes of the connection: {}", answer.head));
        }
    }
    match case.then {
        Then::Closes if !client.is_closed() => return Err("it goes on".to_owned()),
        Then::Stays if alive(&mut client) != Some(200) => return Err("the next on it is not served".to_owned()),
        Then::Closes | Then::Stays => {}
    }
    match alive(&mut station.client()) {
        Some(200) => Ok(()),
        other => Err(format!("the next connection is answered {other:?}")),
    }
}

fn alive(client: &mut Client) -> Option<u16> {
    client.try_send("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    client.read_answer(false).filter(|answer| answer.body == b"ok\n").map(|answer| answer.status)
}

#[test]
fn each_raw_case_is_answered_with_its_status_and_ends_as_it_should() {
    let station = station("10s", "10s");
    let cases = at_once();
    assert!(cases.len() >= 90, "{} cases", cases.len());
    let names: HashSet<_> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    let wrong: Vec<_> = cases
        .iter()
        .filter_map(|case| {
            let error = play(&station, case).err()?;
            Some(format!("{} (RFC {}): {error}\n{}", case.name, case.section, case.bytes.escape_ascii()))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let mut client = station.client();
    let body = chat("sim/echo", false);
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    assert_eq!(client.send(head + &body).answer().status, 200);
    drop(client);
    eventually("nothing is left of them", || station.front().stats().open == 0);
}

#[test]
fn what_is_never_whole_is_answered_408_when_its_time_is_over() {
    let station = station("150ms", "150ms");
    std::thread::scope(|scope| {
        for case in awaited() {
            let station = &station;
            scope.spawn(move || {
                if let Err(error) = play(station, &case) {
                    panic!("{} (RFC {}): {error}", case.name, case.section);
                }
            });
        }
    });
    assert_eq!(station.front().stats().header_timeouts_total, 2);
}
