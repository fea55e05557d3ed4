//! Compressed bodies: taken off what comes in, within its limits, and put on what goes out to those who want it.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::json;

use super::{Client, Station};
use crate::client::Answer;
use crate::house::{chat, number, reply};

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).expect("memory");
    encoder.finish().expect("memory")
}

fn gunzip(packed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut plain).expect("gzip");
    plain
}

fn post(client: &mut Client, path: &str, lines: &str, body: &[u8]) {
    client.send(format!("POST {path} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {}\r\n\r\n", body.len()));
    client.try_send(body);
}

fn refusal(station: &Station, lines: &str, body: &[u8]) -> Answer {
    let mut client = station.client();
    post(&mut client, "/v1/chat/completions", lines, body);
    client.answer()
}

#[test]
fn a_compressed_body_reaches_the_provider_as_it_was_before() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    let mut client = station.client();
    let body = format!(r#"{{"model":"p/m","messages":[{{"role":"user","content":"{}"}}]}}"#, "word ".repeat(20_000));
    for coding in ["gzip", "GZip", "x-gzip", "identity, gzip"] {
        post(&mut client, "/v1/chat/completions", &format!("Content-Encoding: {coding}\r\n"), &gzip(body.as_bytes()));
        let arrived = gate.next();
        assert_eq!(arrived.body, body.replace("p/m", "m").as_bytes(), "{coding}");
        assert_eq!(arrived.header("content-encoding"), None);
        arrived.answer();
        assert_eq!(client.answer().status, 200);
    }
}

#[test]
fn a_body_that_is_not_what_it_says_is_refused_and_a_bomb_too() {
    let limits = json!({ "max_body_bytes": 100_000 });
    let (station, gate) = Station::gated(json!({}), limits);
    let good = gzip(chat("p/m", false).as_bytes());
    let gzip_line = "Content-Encoding: gzip\r\n";
    let twice = [&good[..], &good].concat();
    for body in [&b""[..], b"{}", &good[..good.len() - 1], &twice] {
        let answer = refusal(&station, gzip_line, body);
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"));
        assert_eq!(answer.json()["error"]["param"], "content-encoding");
    }
    let bomb = gzip(&vec![b' '; 5_000_000]);
    assert!(bomb.len() < 6000);
    let answer = refusal(&station, gzip_line, &bomb);
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
    for lines in [
        "Content-Encoding: deflate\r\n",
        "Content-Encoding: gzip, gzip\r\n",
        "Content-Encoding: identity\r\nContent-Encoding: br\r\n",
    ] {
        let answer = refusal(&station, lines, &good);
        assert_eq!((answer.status, answer.code().as_str()), (400, "unsupported"), "{lines}");
    }
    assert!(gate.is_empty());
}

/// I4: what a compressed body becomes is taken from the budget, too.
#[test]
fn a_decompressed_body_counts_for_what_it_is() {
    let (station, gate) =
        Station::gated(json!({}), json!({ "max_buffered_bytes": 1 << 20, "max_body_bytes": 1 << 20 }));
    let body = |bytes| gzip(format!(r#"{{"model":"p/m","messages":[],"x":"{}"}}"#, "x".repeat(bytes)).as_bytes());
    let mut first = station.client();
    post(&mut first, "/v1/chat/completions", "Content-Encoding: gzip\r\n", &body(400_000));
    let held = gate.next();
    let bytes = number(&station.house.stats(), "/requests/buffered_bytes");
    assert!((400_000..410_000).contains(&bytes), "{bytes}");
    let answer = refusal(&station, "Content-Encoding: gzip\r\n", &body(900_000));
    assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
    held.answer();
    assert_eq!(first.answer().status, 200);
}

#[test]
fn a_long_whole_answer_is_compressed_for_who_asks_and_nothing_else_is() {
    let (station, gate) = Station::gated(json!({}), json!({}));
    let mut client = station.client();
    let (long, short) = (reply(&"lorem ipsum ".repeat(1000)), reply("short"));
    for (accept, body, packed) in [
        ("gzip", &long, true),
        ("gzip, deflate, br", &long, true),
        ("br;q=1.0, GZIP;q=0.5, identity;q=0.2", &long, true),
        ("*", &long, true),
        ("gzip;q=0", &long, false),
        ("*, gzip;q=0.0", &long, false),
        ("identity, gzip;q=0.5", &long, false),
        ("br", &long, false),
        ("", &long, false),
        ("gzip", &short, false),
    ] {
        client.chat(&[&format!("Accept-Encoding: {accept}")], &chat("p/m", false));
        gate.next().respond(200, &[("content-type", "application/json; charset=utf-8")], body.clone());
        let answer = client.answer();
        assert_eq!(answer.header("content-encoding"), packed.then_some("gzip"), "{accept}");
        assert_eq!(answer.header("vary"), (body == &long).then_some("accept-encoding"), "{accept}");
        let plain = if packed { gunzip(&answer.body) } else { answer.body };
        assert!(plain == body.as_bytes(), "{accept}");
    }
    client.chat(&["Accept-Encoding: gzip"], &chat("p/m", true));
    let pieces = gate.next().stream();
    crate::house::feed(&pieces, &crate::house::word(&"word ".repeat(2000)));
    crate::house::feed(&pieces, crate::house::STOP);
    drop(pieces);
    let answer = client.answer();
    assert!(answer.complete && answer.header("content-encoding").is_none(), "a stream is sent as it comes");
}
