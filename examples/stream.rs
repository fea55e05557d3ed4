//! A streamed answer, printed as it comes: an iterator over chunks, on the caller's own thread.
//!
//! `cargo run --example stream`. With `OPENAI_API_KEY` set, `openai/gpt-4o-mini` works in place of the simulated model.

#![expect(clippy::print_stdout, reason = "an example prints what it got")]

use std::io::Write as _;
use std::time::Duration;

use sluicegate::{ChatRequest, Gateway, Message};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gateway = Gateway::from_env()?;

    // Any field of the API can be set; what has no name here goes upstream as it is.
    let request = ChatRequest::to("sim/lorem-20+gap-20ms")
        .with_message(Message::system("Answer at length."))
        .with_message(Message::user("What is a sluice gate?"))
        .with("temperature", 0.2);

    let mut text = String::new();
    for chunk in gateway.chat_stream(&request)? {
        // An error in the middle, a cut connection for instance, is an item as well: a short answer is never taken for a
        // whole one.
        let chunk = chunk?;
        text.push_str(chunk.text());
        print!("{}", chunk.text());
        std::io::stdout().flush()?;
    }
    println!();

    // Dropping a stream before its end cancels the request, down to the provider's socket.
    let mut unread = gateway.chat_stream(&request)?;
    unread.next();
    drop(unread);

    let report = gateway.shutdown(Duration::from_secs(5));
    assert!(text.split_whitespace().count() == 20 && report.stragglers.is_empty(), "{text:?} {report:?}");
    Ok(())
}
