//! P5 as a table: raw upstream streams against every operation, relayed and held. What the client sees is compared byte for
//! byte, and so is how it is counted.

use crossbeam_channel::Sender;
use serde_json::{Value, json};
use sluicegate::transport::TransportErrorKind as Kind;

use super::Station;
use crate::house::{DONE, FUSE, Gate, House, Piece, ms, number, provider};

/// What stands in the stream where an event was left out.
const LEFT_OUT: &str = ": an event that was no JSON was left out\n\n";

/// An operation, with events of its shape.
struct Shape {
    route: &'static str,
    body: &'static str,
    first: &'static str,
    /// The event that makes it complete.
    end: &'static str,
    /// An event that only counts the tokens, where there is one.
    usage: &'static str,
    error: &'static str,
}

const SHAPES: [Shape; 3] = [
    Shape {
        route: "/v1/chat/completions",
        body: r#"{"model":"p/m","stream":true,"messages":[]}"#,
        first: "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi \\u00e9\"},\"finish_reason\":null}]}\n\n",
        end: "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        usage: "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n",
        error: "data: {\"error\":{\"message\":\"sorry\",\"code\":\"theirs\"}}\n\n",
    },
    Shape {
        route: "/v1/completions",
        body: r#"{"model":"p/m","stream":true,"prompt":"x"}"#,
        first: "data: {\"choices\":[{\"index\":0,\"text\":\"hi\",\"finish_reason\":null}]}\n\n",
        end: "data: {\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":\"length\"}]}\n\n",
        usage: "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n",
        error: "event: error\ndata: {\"message\":\"sorry\",\"code\":\"theirs\"}\n\n",
    },
    Shape {
        route: "/v1/responses",
        body: r#"{"model":"p/m","stream":true,"input":"x"}"#,
        first: "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hi\"}\n\n",
        end: "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\n\n",
        usage: "",
        error: "data: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"theirs\",\"message\":\"sorry\"}}}\n\n",
    },
];

/// How an upstream stream goes: pieces, and what comes after them.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    /// The bytes end by their framing.
    Cleanly,
    /// The connection dies.
    Cut,
    /// Nothing comes any more.
    Stalled,
}

/// One case.
struct Row {
    what: String,
    pieces: Vec<String>,
    ends: Ends,
    /// What is seen of it where it is relayed.
    seen: Seen,
}

fn row(what: &str, pieces: &[&str], ends: Ends, seen: Seen) -> Row {
    Row { what: what.to_owned(), pieces: pieces.iter().map(|piece| (*piece).to_owned()).collect(), ends, seen }
}

/// What the client sees.
enum Seen {
    /// A complete stream of these bytes.
    Whole(String),
    /// These bytes, and then an error event of this code.
    Broken(String, &'static str),
    /// An answer of this status and code, instead of a stream.
    Status(u16, &'static str),
}

struct Bench {
    station: Station,
    gate: Gate,
    holds: bool,
    failed: u64,
    timed_out: u64,
    succeeded: u64,
}

impl Bench {
    fn new(holds: bool, change: &Value) -> Self {
        let mut settings = json!({ "network_config": {
            "max_retries": 0, "stream_idle_timeout_in_seconds": "60ms", "first_token_timeout": "4s",
        } });
        for (key, value) in change.as_object().expect("an object") {
            settings[key] = value.clone();
        }
        let (station, gate) = Station::gated(settings, json!({}));
        Self { station, gate, holds, failed: 0, timed_out: 0, succeeded: 0 }
    }

    fn play(&mut self, shape: &Shape, row: Row) {
        let Row { what, pieces, ends, seen } = row;
        let what = format!("{what}, {}, {}", shape.route, if self.holds { "held" } else { "relayed" });
        let seen = if self.holds { held(seen) } else { seen };
        let mut client = self.station.client();
        let mode: &[&str] = if self.holds { &["x-sluicegate-stream-recovery: buffer"] } else { &[] };
        client.ask("POST", shape.route, mode, shape.body);
        let pieces: Vec<_> = pieces.iter().map(String::as_str).collect();
        finish(self.gate.next().stream(), &pieces, ends);
        let answer = client.answer();
        let count = match seen {
            Seen::Whole(bytes) => {
                assert_eq!((answer.status, answer.text(), answer.complete), (200, bytes.as_str(), true), "{what}");
                &mut self.succeeded
            }
            Seen::Broken(bytes, code) => {
                assert_eq!((answer.status, answer.complete), (200, false), "{what}: {}", answer.text());
                let rest = answer.text().strip_prefix(bytes.as_str());
                let rest = rest.unwrap_or_else(|| panic!("{what}: {:?} is not {bytes:?} and more", answer.text()));
                assert_eq!(rest.matches("\n\n").count(), 1, "{what}: one event more: {rest:?}");
                assert_eq!(answer.last_error(), code, "{what}");
                assert!(client.is_closed(), "{what}");
                if code == "upstream_error" {
                    assert!(rest.contains("\"message\":\"sorry\"") && rest.contains("\"code\":\"theirs\""), "{rest}");
                }
                if code.contains("timeout") { &mut self.timed_out } else { &mut self.failed }
            }
            Seen::Status(status, code) => {
                assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}");
                assert!(answer.complete && answer.header("content-type") == Some("application/json"), "{what}");
                if code.contains("timeout") { &mut self.timed_out } else { &mut self.failed }
            }
        };
        *count += 1;
    }

    /// Whether everything was counted as it was seen.
    fn settle(self) -> Value {
        let stats = self.station.house.at_rest();
        let jobs = |what: &str| number(&stats, &format!("/providers/p/jobs/{what}_total"));
        let counted = (jobs("succeeded"), jobs("failed"), jobs("timed_out"));
        assert_eq!(counted, (self.succeeded, self.failed, self.timed_out), "{:#}", stats["errors"]);
        let failed: u64 = stats["errors"].as_object().expect("an object").values().filter_map(Value::as_u64).sum();
        assert_eq!(failed, self.failed + self.timed_out);
        stats
    }
}

/// Plays a stream to its end.
fn finish(feeder: Sender<Piece>, pieces: &[&str], ends: Ends) {
    for piece in pieces {
        // Past its end nobody reads on.
        let _ = feeder.send_timeout(Piece::Bytes((*piece).into()), FUSE);
    }
    match ends {
        Ends::Cleanly => {}
        Ends::Cut => drop(feeder.send_timeout(Piece::Fail(Kind::Cut), FUSE)),
        Ends::Stalled => {
            while feeder.send_timeout(Piece::Fail(Kind::Timeout), FUSE).is_ok() {
                std::thread::park_timeout(ms(2));
            }
        }
    }
}

/// What a relayed stream shows, a held one shows only at its end; what fails has its status then.
fn held(seen: Seen) -> Seen {
    match seen {
        Seen::Broken(_, code) => Seen::Status(if code.contains("timeout") { 504 } else { 502 }, code),
        seen => seen,
    }
}

#[test]
fn every_way_that_a_stream_can_go_is_shown_as_what_it_is() {
    for holds in [false, true] {
        let mut bench = Bench::new(holds, &json!({}));
        for shape in &SHAPES {
            let Shape { first, end, error, .. } = *shape;
            let whole = |texts: &[&str]| Seen::Whole(texts.concat() + DONE);
            let broken = |texts: &[&str], code| Seen::Broken(texts.concat(), code);
            let crlf = |text: &str| text.replace('\n', "\r\n");
            let (first_crlf, end_crlf) = (crlf(first), crlf(end));
            let none = "upstream_bad_response";
            let rows = [
                row("cut at once", &[], Ends::Cut, Seen::Status(502, "upstream_connect_error")),
                row("ended at once", &[], Ends::Cleanly, Seen::Status(502, none)),
                row("comments alone", &[": ping\n\n", ":\n\n", "retry: 5\n\n"], Ends::Cleanly, Seen::Status(502, none)),
                row("cut", &[first], Ends::Cut, broken(&[first], "stream_cut")),
                row("ended", &[first], Ends::Cleanly, broken(&[first], "stream_cut")),
                row("stalled", &[first], Ends::Stalled, broken(&[first], "stream_idle_timeout")),
                row("no end of ours", &[first, end], Ends::Cleanly, whole(&[first, end])),
                row("no end, then cut", &[first, end], Ends::Cut, whole(&[first, end])),
                row("no end, then silence", &[first, end], Ends::Stalled, whole(&[first, end])),
                row("an end alone", &[end], Ends::Cleanly, whole(&[end])),
                row("done", &[first, end, DONE], Ends::Cleanly, whole(&[first, end])),
                row("done twice", &[first, end, DONE, DONE], Ends::Cleanly, whole(&[first, end])),
                row("events after the end", &[first, end, DONE, first, "data: {"], Ends::Cut, whole(&[first, end])),
                row("all in one read", &[&[first, end, DONE, DONE, first].concat()], Ends::Cut, whole(&[first, end])),
                row("a byte order mark", &["\u{feff}", first, end], Ends::Cleanly, whole(&["\u{feff}", first, end])),
                row("garbage", &[first, "data: {half\n\n", end], Ends::Cleanly, whole(&[first, LEFT_OUT, end])),
                row("garbage first", &["data: 5\n\n", first, end], Ends::Cleanly, whole(&[LEFT_OUT, first, end])),
                row("garbage last", &[first, "data: x\n\n"], Ends::Cut, broken(&[first, LEFT_OUT], "stream_cut")),
                row("an error first", &[error, first, end], Ends::Cleanly, Seen::Status(502, "upstream_error")),
                row("an error", &[first, error, end, DONE], Ends::Cleanly, broken(&[first], "upstream_error")),
                row("in one read", &[&[first, error].concat()], Ends::Cleanly, broken(&[first], "upstream_error")),
                row("a ping", &[first, ": ping\n\n", end], Ends::Cleanly, whole(&[first, ": ping\n\n", end])),
                row("CRLF", &[&first_crlf, &end_crlf], Ends::Cleanly, whole(&[&first_crlf, &end_crlf])),
                row("CRLF cut", &[&first_crlf], Ends::Cut, broken(&[&first_crlf], "stream_cut")),
            ];
            for row in rows {
                bench.play(shape, row);
            }
        }
        let stats = bench.settle();
        assert_eq!(number(&stats, "/providers/p/jobs/garbage_events_total"), 9);
    }
}

/// A stream that ends in its last event is complete from the byte on that makes that event whole, and at no earlier one.
#[test]
fn a_stream_that_ends_in_its_last_event_is_complete_only_if_that_is_whole() {
    for holds in [false, true] {
        let mut bench = Bench::new(holds, &json!({ "stream_garbage": "fail" }));
        for shape in &SHAPES {
            let (first, end) = (shape.first, shape.end);
            let json = end.trim_end().len();
            for (at, _) in end.char_indices().chain([(end.len(), ' ')]) {
                for (ends, least) in [(Ends::Cleanly, json), (Ends::Cut, end.len())] {
                    let seen = match at >= least {
                        true => Seen::Whole([first, end, DONE].concat()),
                        false => Seen::Broken(first.to_owned(), "stream_cut"),
                    };
                    bench.play(shape, row(&format!("{:?}", &end[..at]), &[first, &end[..at]], ends, seen));
                }
            }
        }
        assert_eq!(number(&bench.settle(), "/providers/p/jobs/garbage_events_total"), 0, "half an event is none");
    }
}

/// However the bytes fall into reads.
#[test]
fn bytes_that_come_one_by_one_are_the_same_bytes() {
    for holds in [false, true] {
        let mut bench = Bench::new(holds, &json!({}));
        for shape in &SHAPES {
            for line_end in ["\n", "\r\n", "\r"] {
                let text = [": hello\n\n", shape.first, ": ping\n\n", shape.end].concat().replace('\n', line_end);
                let pieces: Vec<_> = text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]).collect();
                // What comes before the first event need not be there. A line ends by its CR, and an LF that comes later belongs
                // to what follows.
                let (hello, later) = (": hello".len() + 2 * line_end.len(), usize::from(line_end == "\r\n"));
                let wanted = format!("{}{DONE}", &text[hello - later..text.len() - later]);
                bench.play(shape, row("byte by byte", &pieces, Ends::Cleanly, Seen::Whole(wanted)));
            }
        }
        bench.settle();
    }
}

#[test]
fn garbage_ends_a_stream_where_it_is_not_to_be_left_out_but_not_a_complete_one() {
    for holds in [false, true] {
        let mut bench = Bench::new(holds, &json!({ "stream_garbage": "fail" }));
        for shape in &SHAPES {
            let (first, end, code) = (shape.first, shape.end, "upstream_bad_response");
            let rows = [
                row("first", &["data: 5\n\n", first], Ends::Cleanly, Seen::Status(502, code)),
                row("in the middle", &[first, "data: {\n\n", end], Ends::Cleanly, Seen::Broken(first.into(), code)),
            ];
            for row in rows {
                bench.play(shape, row);
            }
            if !shape.usage.is_empty() {
                let seen = Seen::Whole([first, end, LEFT_OUT, DONE].concat());
                bench.play(shape, row("after the end", &[first, end, "data: bye\n\n", DONE], Ends::Cleanly, seen));
            }
        }
        bench.settle();
    }
}

#[test]
fn usage_is_shown_to_whom_asked_for_it_and_counted_for_everybody() {
    for holds in [false, true] {
        let mut bench = Bench::new(holds, &json!({}));
        let mut asked = 0;
        for shape in SHAPES.iter().filter(|shape| !shape.usage.is_empty()) {
            let (first, end, usage) = (shape.first, shape.end, shape.usage);
            let asks = shape.body.replace("true,", "true,\"stream_options\":{\"include_usage\":true},");
            let asking = Shape { body: asks.leak(), ..*shape };
            let pieces = [first, end, usage, DONE];
            bench.play(shape, row("usage", &pieces, Ends::Cleanly, Seen::Whole([first, end, DONE].concat())));
            bench.play(&asking, row("asked", &pieces, Ends::Cleanly, Seen::Whole([first, end, usage, DONE].concat())));
            asked += 2;
        }
        let stats = bench.settle();
        assert_eq!(number(&stats, "/providers/p/jobs/tokens_out_total"), 2 * asked);
    }
}

/// Of what passes through nobody knows an end but that of its framing, and nothing in it means anything.
#[test]
fn events_that_pass_through_keep_every_byte_and_only_a_cut_is_told() {
    let gate = Gate::new();
    let settings = provider(json!({ "network_config": { "stream_idle_timeout_in_seconds": "60ms" } }));
    let station = Station::on(House::new(json!({ "openai": settings }), &[("openai", &gate)]));
    let Shape { first, end, usage, error, .. } = SHAPES[0];
    let crlf = first.replace('\n', "\r\n");
    let all = [first, "data: {half\n\n", error, ": ping\n\n", &crlf, usage, end, DONE, DONE, first, "data: x"];
    for (pieces, ends, code) in [
        (&all[..], Ends::Cleanly, None),
        (&[], Ends::Cleanly, None),
        (&[], Ends::Cut, Some("stream_cut")),
        (&all, Ends::Cut, Some("stream_cut")),
        (&all[..1], Ends::Stalled, Some("stream_idle_timeout")),
    ] {
        let mut client = station.client();
        let holds = "x-sluicegate-stream-recovery: buffer";
        client.ask("POST", "/openai/v1/threads/runs", &[holds], "{\"stream\":true}");
        finish(gate.next().stream(), pieces, ends);
        let answer = client.answer();
        let bytes = pieces.concat();
        assert_eq!((answer.status, answer.complete), (200, code.is_none()), "{}", answer.text());
        match code {
            None => assert_eq!(answer.text(), bytes),
            Some(code) => {
                assert!(answer.text().starts_with(&format!("{bytes}\n\ndata: {{\"error\":")), "{}", answer.text());
                assert_eq!(answer.last_error(), code);
                assert!(client.is_closed());
            }
        }
    }
    let stats = station.house.at_rest();
    assert_eq!(stats["errors"], json!({ "stream_cut": 2, "stream_idle_timeout": 1 }));
    assert_eq!(number(&stats, "/providers/openai/jobs/garbage_events_total"), 0);
}
