//! What a provider of Anthropic's shape answers: a whole message, and one in events.

use serde_json::{Value, json};

/// A whole answer that says `text`.
pub(crate) fn told(text: &str) -> String {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "end_turn",
        "stop_sequence": null, "content": [{ "type": "text", "text": text }],
        "usage": { "input_tokens": 3, "output_tokens": 4 },
    })
    .to_string()
}

/// One event, named by its type.
pub(crate) fn event(data: Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().expect("a type"))
}

/// The events of a stream that says these words, one each, from its beginning to its end.
pub(crate) fn events(words: &[&str]) -> Vec<String> {
    let begin = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [], "stop_reason": null,
        "stop_sequence": null, "usage": { "input_tokens": 3, "output_tokens": 1 },
    });
    let block = json!({ "type": "text", "text": "" });
    let mut events = vec![
        event(json!({ "type": "message_start", "message": begin })),
        event(json!({ "type": "content_block_start", "index": 0, "content_block": block })),
        event(json!({ "type": "ping" })),
    ];
    events.extend(words.iter().map(|text| {
        let delta = json!({ "type": "text_delta", "text": text });
        event(json!({ "type": "content_block_delta", "index": 0, "delta": delta }))
    }));
    let end = json!({ "stop_reason": "end_turn", "stop_sequence": null });
    events.push(event(json!({ "type": "content_block_stop", "index": 0 })));
    events.push(event(json!({ "type": "message_delta", "delta": end, "usage": { "output_tokens": 4 } })));
    events.push(event(json!({ "type": "message_stop" })));
    events
}
