//! A model that calls a function of yours: what has no name in the typed request is set as JSON, and read as JSON.
//!
//! `cargo run --example tools`. With `OPENAI_API_KEY` set, `openai/gpt-4o-mini` works in place of `sim/tool`.

#![expect(clippy::print_stdout, reason = "an example prints what it got")]

use serde_json::{Value, json};
use sluicegate::{ChatRequest, Gateway, Message};

fn weather(city: &str) -> String {
    format!("sunny in {city}")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gateway = Gateway::from_env()?;
    let mut request = ChatRequest::new("sim/tool", "What is the weather in Ghent?").with(
        "tools",
        json!([{ "type": "function", "function": {
            "name": "weather",
            "description": "The weather in a city",
            "parameters": { "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] },
        }}]),
    );

    // The model does not answer: it asks for a call.
    let reply = gateway.chat(&request)?;
    assert_eq!((reply.text(), reply.finish_reason()), ("", Some("tool_calls")));

    // Its message goes into the conversation as it came, and a result behind it for each call.
    let message: Message = serde_json::from_value(reply.raw["choices"][0]["message"].clone())?;
    let calls = message.extra["tool_calls"].as_array().cloned().unwrap_or_default();
    request.messages.push(message);
    for call in &calls {
        let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap_or_default())?;
        let result = weather(arguments["city"].as_str().unwrap_or_default());
        println!("{}({arguments}) = {result}", call["function"]["name"]);
        let mut answer = Message::new("tool", result);
        answer.extra.insert("tool_call_id".to_owned(), call["id"].clone());
        request.messages.push(answer);
    }

    // The simulated model would call again and again; its neighbour says something.
    request.model = request.model.replace("sim/tool", "sim/lorem-8");
    let reply = gateway.chat(&request)?;
    println!("{}", reply.text());

    assert_eq!(calls.len(), 1);
    assert_eq!(
        request.messages.iter().map(|message| &*message.role).collect::<Vec<_>>(),
        ["user", "assistant", "tool"]
    );
    assert_eq!(reply.text().split_whitespace().count(), 8);
    Ok(())
}
