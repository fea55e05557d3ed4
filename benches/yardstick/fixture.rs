//! The bytes of the benchmark: what is asked, what the upstream answers, and what must arrive at the other end.
//!
//! Both processes make them from the same text, so an answer can be compared whole. The stream asks for its usage, so
//! that a gateway which leaves out an unasked usage event still passes on every byte.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

/// The model's name as the upstream knows it; it refuses any other, so a gateway that forgot to translate it fails.
pub(crate) const MODEL: &str = "bench-model";

/// Content events of a stream, the one with the finish reason among them.
const CONTENT_EVENTS: usize = 200;

/// Events of a stream in all: the content, the usage and `[DONE]`.
pub(crate) const EVENTS: usize = CONTENT_EVENTS + 2;

/// The field that tells the upstream how long to rest between two events. Unknown fields go upstream unchanged.
pub(crate) const GAP_FIELD: &str = "\"bench_gap_us\":";

/// What marks a request for a stream.
pub(crate) const STREAM_FIELD: &str = "\"stream\":true";

/// Filler of about 700 bytes, with the characters that JSON has to escape left out: parsing it is not what is measured.
const PROMPT: &str = "You are given the minutes of a meeting. Sum up in three sentences what was decided, by whom, and \
    until when it is to be done. Name open questions apart from decisions, and do not invent a date where none is \
    given. Minutes: the group met at nine. Anna reported that the migration of the billing tables is finished but for \
    the archive, which Karim will move until Thursday. The new gateway is to carry half of the traffic from Monday on; \
    Priya watches the error rate and turns it back if it passes one percent. Nobody knew who owns the old load \
    balancer. Tomas asked for a second pair of eyes on the retry policy; Anna will read it. The next meeting is in two \
    weeks at the same time.";

/// Which question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// A whole answer at once.
    Chat,
    /// A stream, with this rest between its events.
    Stream { gap: Duration },
}

/// One question, ready to be sent, and its only right answer.
#[derive(Debug)]
pub(crate) struct Script {
    /// Head and body.
    pub(crate) request: Vec<u8>,
    /// The body that must come back, freed of its framing.
    pub(crate) answer: Vec<u8>,
}

impl Script {
    /// The question to `model` at `path` of `addr`.
    pub(crate) fn new(ask: Ask, addr: SocketAddr, path: &str, model: &str) -> Self {
        let (fields, answer) = match ask {
            Ask::Chat => (String::new(), chat_answer().into_bytes()),
            Ask::Stream { gap } => (
                format!(",{STREAM_FIELD},\"stream_options\":{{\"include_usage\":true}},{GAP_FIELD}{}", gap.as_micros()),
                events().concat().into_bytes(),
            ),
        };
        let body = format!(
            "{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"system\",\"content\":\"You are a careful assistant who \
             answers briefly.\"}},{{\"role\":\"user\",\"content\":\"{PROMPT}\"}}],\"temperature\":0.2,\"max_tokens\":256\
             {fields}}}"
        );
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {addr}\r\nuser-agent: yardstick\r\naccept: application/json\r\n\
             authorization: Bearer yardstick\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Self { request: [head.into_bytes(), body.into_bytes()].concat(), answer }
    }
}

/// The answer that is not streamed: about a kilobyte.
pub(crate) fn chat_answer() -> String {
    format!(
        "{{\"id\":\"chatcmpl-yardstick\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"{MODEL}\",\
         \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{PROMPT}\",\"refusal\":null}},\
         \"logprobs\":null,\"finish_reason\":\"stop\"}}],\"usage\":{{\"prompt_tokens\":160,\"completion_tokens\":140,\
         \"total_tokens\":300}},\"system_fingerprint\":null}}"
    )
}

/// The events of the stream, each with its blank line.
pub(crate) fn events() -> Vec<String> {
    let envelope = |choices: &str, usage: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-yardstick\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\
             \"model\":\"{MODEL}\",\"choices\":[{choices}],\"usage\":{usage}}}\n\n"
        )
    };
    let mut events = Vec::with_capacity(EVENTS);
    for number in 1..CONTENT_EVENTS {
        let mut delta = String::from(if number == 1 { "\"role\":\"assistant\"," } else { "" });
        // Writing into a string cannot fail.
        let _ = write!(delta, "\"content\":\" word{number}\"");
        events.push(envelope(&format!("{{\"index\":0,\"delta\":{{{delta}}},\"finish_reason\":null}}"), "null"));
    }
    events.push(envelope("{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}", "null"));
    events.push(envelope("", "{\"prompt_tokens\":160,\"completion_tokens\":199,\"total_tokens\":359}"));
    events.push("data: [DONE]\n\n".to_owned());
    events
}
