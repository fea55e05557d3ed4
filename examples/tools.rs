//! A model that calls a function of yours: the tool is offered with the request, and each call is answered by a message.
//!
//! `cargo run --example tools`. With `OPENAI_API_KEY` set, `openai/gpt-4o-mini` works in place of `sim/tool`.

#![expect(clippy::print_stdout, reason = "an example prints what it got")]

use serde_json::{Value, json};
use sluicegate::{ChatRequest, Gateway, Message, Tool};

fn weather(city: &str) -> String {
    format!("sunny in {city}")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gateway = Gateway::from_env()?;
    let schema = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    let mut request = ChatRequest::new("sim/tool", "What is the weather in Ghent?").with_tools([Tool::function(
        "weather",
        "The weather in a city",
        schema,
    )]);

    // The model does not answer: it asks for a call.
    let reply = gateway.chat(&request)?;
    assert_eq!((reply.text(), reply.finish_reason()), ("", Some("tool_calls")));

    // Its message goes into the conversation as it came, and behind it a result for each call.
    request.messages.push(reply.message());
    let calls = reply.tool_calls();
    for call in &calls {
        // Or into a type of your own that is `Deserialize`.
        let arguments: Value = call.arguments_as()?;
        let result = match call.name.as_str() {
            "weather" => weather(arguments["city"].as_str().unwrap_or_default()),
            other => format!("there is no function {other}"),
        };
        println!("{}({arguments}) = {result}", call.name);
        request.messages.push(Message::tool(&call.id, result));
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
