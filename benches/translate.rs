//! What it costs to tell a chat in another shape: each pair of shapes beside the bytes that pass through, in the same run.
//!
//! ```text
//! cargo bench --bench translate
//! ```
//! Pass-through is the floor: of a request the upstream's model name is put in, a whole answer is looked at for errors and
//! tokens, and so is each event of a stream, whose bytes are then copied. A translation reads all of it and writes it anew.
//! A shape with itself is never translated by the gateway; it shows what the two halves of the shape take. The cutting of a
//! stream into events, with the checksums of frames, is part of both ways; the look at a body that routing takes is left out.
//!
//! The contenders take turns round by round, so that they see the same machine; a ratio is the median of those of the rounds.
//! Times are the thread's own on a processor: what else runs meanwhile takes nothing away but what it throws out of the caches.
//! Prints JSON, and a table on standard error with the limits that the project has set itself.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its result is its output")]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use sluicegate::model::Operation;
use sluicegate::wire::openai;
use sluicegate::wire::pairs::{Pair, Shape};

/// How often the contenders take turns.
const ROUNDS: usize = 101;

/// How often each translates a request, an answer, or a stream in a round.
const TURNS: usize = 200;

/// Pairs of shapes, by client and provider.
const PAIRS: [(&str, Pair); 9] = [
    ("openai -> openai", Pair { client: Shape::OpenAi, provider: Shape::OpenAi }),
    ("openai -> anthropic", Pair { client: Shape::OpenAi, provider: Shape::Anthropic }),
    ("openai -> bedrock", Pair { client: Shape::OpenAi, provider: Shape::Bedrock }),
    ("anthropic -> openai", Pair { client: Shape::Anthropic, provider: Shape::OpenAi }),
    ("anthropic -> anthropic", Pair { client: Shape::Anthropic, provider: Shape::Anthropic }),
    ("anthropic -> bedrock", TO_BEDROCK),
    ("bedrock -> openai", Pair { client: Shape::Bedrock, provider: Shape::OpenAi }),
    ("bedrock -> anthropic", FROM_BEDROCK),
    ("bedrock -> bedrock", Pair { client: Shape::Bedrock, provider: Shape::Bedrock }),
];

const TO_BEDROCK: Pair = Pair { client: Shape::Anthropic, provider: Shape::Bedrock };
const FROM_BEDROCK: Pair = Pair { client: Shape::Bedrock, provider: Shape::Anthropic };

/// The shapes, whose streams pass through where both sides speak the same.
const SHAPES: [(&str, Shape); 3] = [
    ("openai, as it is", Shape::OpenAi),
    ("anthropic, as it is", Shape::Anthropic),
    ("bedrock, as it is", Shape::Bedrock),
];

/// One time of what is measured; what it writes goes into an empty buffer.
type Once<'a> = Box<dyn FnMut(&mut Vec<u8>) + 'a>;

/// What is told: of what, by whom, for how many things at once (a stream's events), and in at most how many microseconds each.
struct Contender<'a> {
    what: &'static str,
    way: &'static str,
    things: usize,
    limit: Option<f64>,
    once: Once<'a>,
}

/// A shape's texts, as its clients and providers write them.
struct Texts {
    request: String,
    reply: String,
    /// What is streamed, and the bytes of its events.
    streams: [(&'static str, Vec<Vec<u8>>); 2],
}

fn main() -> ExitCode {
    // `cargo test --benches` starts every bench without this.
    if !std::env::args().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    let texts = [openai_texts(), anthropic_texts(), bedrock_texts(&anthropic_texts())];
    let of = |shape: Shape| match shape {
        Shape::OpenAi => &texts[0],
        Shape::Anthropic => &texts[1],
        Shape::Bedrock => &texts[2],
    };
    let own = of(Shape::OpenAi);
    let fields = &openai::parse_chat(own.request.as_bytes()).expect("a good body");

    let mut contenders = vec![
        Contender::new("request", "as it is", 1, None, |out| {
            openai::encode(own.request.as_bytes(), fields, "upstream-model", out);
        }),
        Contender::new("answer", "as it is", 1, None, |out| {
            openai::decode(&Operation::ChatCompletions, 200, own.reply.as_bytes()).expect("an answer");
            out.extend_from_slice(own.reply.as_bytes());
        }),
    ];
    for (way, shape) in SHAPES {
        for (what, stream) in &of(shape).streams {
            contenders.push(Contender::new(what, way, stream.len(), None, move |out| {
                let mut passing = shape.passing();
                for event in stream {
                    assert!(matches!(passing.feed(event, out), Ok(true)), "the shape has it");
                }
            }));
        }
    }
    let floors = contenders.len();
    for (way, pair) in &PAIRS {
        let (client, provider) = (of(pair.client), of(pair.provider));
        contenders.push(Contender::new("request", way, 1, Some(15.0), move |out| {
            pair.request(client.request.as_bytes(), "upstream-model", out).expect("it can be told");
        }));
        contenders.push(Contender::new("answer", way, 1, None, move |out| {
            pair.reply(provider.reply.as_bytes(), out).expect("an answer");
        }));
        for (what, stream) in &provider.streams {
            contenders.push(Contender::new(what, way, stream.len(), Some(2.0), move |out| {
                let mut relay = pair.stream();
                for event in stream {
                    assert!(matches!(relay.feed(event, out), Ok(true)), "the shape has it");
                }
            }));
        }
    }

    let mut rounds = vec![Vec::with_capacity(ROUNDS); contenders.len()];
    for _ in 0..ROUNDS {
        for (contender, times) in contenders.iter_mut().zip(&mut rounds) {
            times.push(contender.micros_each());
        }
    }
    eprintln!("request of {} bytes, answer of {} bytes", own.request.len(), own.reply.len());
    eprintln!("{:<16} {:<24} {:>9} {:>9} {:>9}", "", "", "us", "ratio", "limit us");
    let mut rows = Vec::new();
    for (at, Contender { what, way, limit, .. }) in contenders.iter().enumerate() {
        let floor = contenders[..floors].iter().position(|floor| floor.what == *what).unwrap_or(at);
        let ratio = median(rounds[at].iter().zip(&rounds[floor]).map(|(own, floor)| own / floor).collect());
        let micros = median(rounds[at].clone());
        let limit_text = limit.map_or_else(String::new, |limit| format!("{limit}"));
        eprintln!("{what:<16} {way:<24} {micros:>9.3} {ratio:>9.2} {limit_text:>9}");
        rows.push(json!({ "what": what, "way": way, "us": round(micros), "ratio": round(ratio), "limit_us": limit }));
    }
    println!("{}", json!({ "rounds": ROUNDS, "turns": TURNS, "request_bytes": own.request.len(), "rows": rows }));
    ExitCode::SUCCESS
}

impl<'a> Contender<'a> {
    fn new(
        what: &'static str,
        way: &'static str,
        things: usize,
        limit: Option<f64>,
        once: impl FnMut(&mut Vec<u8>) + 'a,
    ) -> Self {
        Self { what, way, things, limit, once: Box::new(once) }
    }

    fn micros_each(&mut self) -> f64 {
        let mut out = Vec::with_capacity(64 * 1024);
        let begun = worked();
        for _ in 0..TURNS {
            out.clear();
            (self.once)(&mut out);
            black_box(&out);
        }
        (worked() - begun).as_secs_f64() * 1e6 / (TURNS * self.things) as f64
    }
}

/// How long this thread has worked so far.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// The bytes of each event.
fn events(text: &str) -> Vec<Vec<u8>> {
    text.split_inclusive("\n\n").map(|event| event.as_bytes().to_vec()).collect()
}

const QUESTION: &str = "Here is what the harbour office wrote today: \u{201c}the sluice at the eastern dock opens at six, and \
    nothing over four metres wide passes before noon.\u{201d} Which of our boats can still go out in the morning, in which order, \
    and what should I tell the crew that is waiting on the quay? The \
    pilot has asked twice already, and the tide turns a little after half past eleven, as it did on the day before yesterday.\n\
    Please keep it short.";

/// A chat of 2 KB with a function and its result, an answer, and two streams of 64 events.
fn openai_texts() -> Texts {
    let schema = json!({ "type": "object", "properties": {
        "boat": { "type": "string", "description": "The boat's name, as it is painted on the bow" },
        "day": { "type": "string", "enum": ["today", "tomorrow"] } }, "required": ["boat"], "additionalProperties": false });
    let call = json!({ "id": "call_0123456789abcdef", "type": "function",
        "function": { "name": "boat_width", "arguments": "{\"boat\":\"Sturmvogel\",\"day\":\"today\"}" } });
    let request = json!({
        "model": "openai/gpt-5.2",
        "messages": [
            { "role": "system", "content": "You run the harbour of a small town. Answer in plain words, and name every boat." },
            { "role": "user", "content": QUESTION },
            { "role": "assistant", "content": null, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "call_0123456789abcdef", "content": "3.8 m wide, crew of five, ready" },
            { "role": "assistant", "content": "Sturmvogel can leave at six; the two barges have to wait until noon." },
            { "role": "user", "content": [ { "type": "text", "text": QUESTION } ] },
        ],
        "tools": [ { "type": "function", "function": { "name": "boat_width", "strict": true,
            "description": "Tells how wide a boat of ours is, and whether it is ready.", "parameters": schema } } ],
        "tool_choice": "auto", "max_tokens": 512, "temperature": 0.7, "top_p": 0.9, "stop": ["END"], "user": "crew-7",
        "stream": true, "stream_options": { "include_usage": true },
    });
    let message = json!({ "role": "assistant", "content": QUESTION, "refusal": null, "tool_calls": [call] });
    let usage = json!({ "prompt_tokens": 412, "completion_tokens": 96, "total_tokens": 508,
        "prompt_tokens_details": { "cached_tokens": 128 }, "completion_tokens_details": { "reasoning_tokens": 0 } });
    let reply = json!({ "id": "chatcmpl-0123456789", "object": "chat.completion", "created": 1_694_268_190, "model": "gpt-5.2",
        "choices": [ { "index": 0, "message": message, "logprobs": null, "finish_reason": "tool_calls" } ], "usage": usage });
    let chunk = |choices: Value, usage: &Value| {
        let chunk = json!({ "id": "chatcmpl-0123456789", "object": "chat.completion.chunk", "created": 1_694_268_190,
            "model": "gpt-5.2", "system_fingerprint": "fp_44709d6fcb", "choices": choices, "usage": usage });
        format!("data: {chunk}\n\n")
    };
    let stream = |first: Value, more: Value, reason: &str| {
        let choice = |delta: &Value, reason: Value| {
            chunk(json!([{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": reason }]), &Value::Null)
        };
        let middle: String = (0..60).map(|_| choice(&more, Value::Null)).collect();
        let end = choice(&json!({}), json!(reason));
        choice(&first, Value::Null) + &middle + &end + &chunk(json!([]), &usage) + "data: [DONE]\n\n"
    };
    let begun = json!({ "role": "assistant", "content": null, "tool_calls": [ { "index": 0, "id": "call_0123456789abcdef",
        "type": "function", "function": { "name": "boat_width", "arguments": "" } } ] });
    let piece = json!({ "tool_calls": [ { "index": 0, "function": { "arguments": "\"boat\":" } } ] });
    Texts {
        request: request.to_string(),
        reply: reply.to_string(),
        streams: [
            (
                "event of words",
                events(&stream(
                    json!({ "role": "assistant", "content": "" }),
                    json!({ "content": " harbour" }),
                    "stop",
                )),
            ),
            ("event of a call", events(&stream(begun, piece, "tool_calls"))),
        ],
    }
}

/// The same chat as Anthropic's clients and providers write it.
fn anthropic_texts() -> Texts {
    let schema = json!({ "type": "object", "properties": {
        "boat": { "type": "string", "description": "The boat's name, as it is painted on the bow" },
        "day": { "type": "string", "enum": ["today", "tomorrow"] } }, "required": ["boat"], "additionalProperties": false });
    let call = json!({ "type": "tool_use", "id": "toolu_0123456789abcdef", "name": "boat_width",
        "input": { "boat": "Sturmvogel", "day": "today" } });
    let result = json!({ "type": "tool_result", "tool_use_id": "toolu_0123456789abcdef",
        "content": "3.8 m wide, crew of five, ready" });
    let request = json!({
        "model": "anthropic/claude-sonnet-4-6", "max_tokens": 512, "stream": true,
        "system": "You run the harbour of a small town. Answer in plain words, and name every boat.",
        "messages": [
            { "role": "user", "content": QUESTION },
            { "role": "assistant", "content": [call] },
            { "role": "user", "content": [result] },
            { "role": "assistant", "content": "Sturmvogel can leave at six; the two barges have to wait until noon." },
            { "role": "user", "content": [ { "type": "text", "text": QUESTION } ] },
        ],
        "tools": [ { "name": "boat_width", "input_schema": schema,
            "description": "Tells how wide a boat of ours is, and whether it is ready." } ],
        "tool_choice": { "type": "auto" }, "temperature": 0.7, "top_p": 0.9, "stop_sequences": ["END"],
        "metadata": { "user_id": "crew-7" },
    });
    let usage = json!({ "input_tokens": 284, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 128,
        "output_tokens": 96, "service_tier": "standard" });
    let content = json!([{ "type": "text", "text": QUESTION }, call]);
    let message = |content: Value, reason: Value| {
        json!({ "id": "msg_0123456789", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6",
            "content": content, "stop_reason": reason, "stop_sequence": null, "usage": usage })
    };
    let event = |data: Value| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default());
    let stream = |block: Value, delta: Value, reason: &str| {
        let begin = message(json!([]), Value::Null);
        let more = event(json!({ "type": "content_block_delta", "index": 0, "delta": delta }));
        [
            event(json!({ "type": "message_start", "message": begin })),
            event(json!({ "type": "content_block_start", "index": 0, "content_block": block })),
            more.repeat(60),
            event(json!({ "type": "content_block_stop", "index": 0 })),
            event(json!({ "type": "message_delta", "delta": { "stop_reason": reason, "stop_sequence": null },
                "usage": { "output_tokens": 96 } })),
            event(json!({ "type": "message_stop" })),
        ]
        .concat()
    };
    let begun = json!({ "type": "tool_use", "id": "toolu_0123456789abcdef", "name": "boat_width", "input": {} });
    let piece = json!({ "type": "input_json_delta", "partial_json": "\"boat\":" });
    let (text, words) = (json!({ "type": "text", "text": "" }), json!({ "type": "text_delta", "text": " harbour" }));
    Texts {
        request: request.to_string(),
        reply: message(content, json!("tool_use")).to_string(),
        streams: [
            ("event of words", events(&stream(text, words, "end_turn"))),
            ("event of a call", events(&stream(begun, piece, "tool_use"))),
        ],
    }
}

/// The same chat as Bedrock's clients and providers write it: what the others' becomes.
fn bedrock_texts(anthropic: &Texts) -> Texts {
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("JSON");
    TO_BEDROCK
        .request(anthropic.request.as_bytes(), "anthropic.claude-sonnet-4-6", &mut request)
        .expect("it can be told");
    FROM_BEDROCK.reply(anthropic.reply.as_bytes(), &mut reply).expect("an answer");
    let frames = |(what, events): &(&'static str, Vec<Vec<u8>>)| {
        let mut stream = FROM_BEDROCK.stream();
        let mut frames: Vec<Vec<u8>> = Vec::new();
        for event in events {
            let mut frame = Vec::new();
            assert!(matches!(stream.feed(event, &mut frame), Ok(true)), "the shape has it");
            frames.push(frame);
        }
        let mut last = Vec::new();
        stream.finish(&mut last);
        frames.push(last);
        frames.retain(|frame| !frame.is_empty());
        (*what, frames)
    };
    Texts {
        request: text(request),
        reply: text(reply),
        streams: [frames(&anthropic.streams[0]), frames(&anthropic.streams[1])],
    }
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
