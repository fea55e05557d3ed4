//! Aliases and fallbacks for library callers.

use serde_json::{Value, json};
use sluicegate::Code;
use sluicegate::gateway::ChatStream;
use sluicegate::wire::openai::ChatRequest;

use crate::house::{House, code, number, sim};

/// Providers that are asked once a target: `one` holds few events for a caller, `two` holds many.
fn house(aliases: Value) -> House {
    let held = |events: u64| {
        let sizes = json!({ "result_buffer": events });
        sim(json!({ "concurrency_and_buffer_size": sizes, "network_config": { "max_retries": 0 } }))
    };
    House::with(json!({ "providers": { "one": held(1), "two": held(500) }, "aliases": aliases }), &[])
}

fn text(stream: ChatStream) -> String {
    stream.map(|chunk| chunk.expect("a good one").text().to_owned()).collect()
}

#[test]
fn a_typed_request_names_its_fallbacks_and_an_alias_has_its_own() {
    let house = house(json!({ "a": { "targets": [{ "model": "one/fail-503" }], "fallbacks": ["two/echo"] } }));
    let gateway = house.gateway();
    assert_eq!(gateway.ask("a", "Hello").expect("it falls back"), "Hello");
    let request = ChatRequest::new("one/fail-500", "Hello").with_fallback("one/fail-503").with_fallback("a");
    // Of an alias among fallbacks only the targets count.
    assert_eq!(code(&gateway.chat(&request)), Code::UpstreamError);
    assert_eq!(gateway.chat(&request.with_fallback("two/echo")).expect("it falls back").text(), "Hello");
    let stats = house.at_rest();
    assert_eq!(number(&stats, "/providers/one/jobs/fallbacks_total"), 4);
}

#[test]
fn a_stream_of_an_alias_has_room_for_what_any_of_its_targets_sends() {
    let house = house(
        json!({ "both": { "targets": [{ "model": "one/fail-503" }, { "model": "two/lorem-40" }], "strategy": "order" } }),
    );
    let stream = house.gateway().chat_stream(&ChatRequest::new("both", "hi")).expect("it begins");
    // All of it is held for a caller who does not read yet: the worker is done with it.
    house.at_rest();
    assert_eq!(text(stream).split_whitespace().count(), 40);
    let failed = house.gateway().chat_stream(&ChatRequest::new("nowhere", "hi"));
    assert_eq!(code(&failed), Code::ModelNotFound);
}
