//! A conversation in the terminal: each line is a question, each answer is streamed, and the model sees all that was said.
//! It reads a pipe as well: `printf 'Hello\nAnd again\n' | cargo run --example repl`.
//!
//! `cargo run --example repl [MODEL]`; `sim/echo` by default. With `OPENAI_API_KEY` set, `openai/gpt-4o-mini` works.
//! Ctrl-D ends it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example prints what it got")]

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use sluicegate::{ChatRequest, Gateway, Message};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1).unwrap_or_else(|| "sim/echo".to_owned());
    let gateway = Gateway::from_env()?;
    let mut conversation = ChatRequest::to(model).with_message(Message::system("Answer in one sentence."));

    let person = io::stdin().is_terminal();
    let mut lines = io::stdin().lock().lines();
    loop {
        if person {
            print!("> ");
            io::stdout().flush()?;
        }
        let Some(line) = lines.next().transpose()? else { break };
        if line.trim().is_empty() {
            continue;
        }
        conversation.messages.push(Message::user(line));
        match answer(&gateway, &conversation) {
            Ok(text) => conversation.messages.push(Message::assistant(text)),
            Err(error) => {
                // The question is taken back, so that the conversation stays what both sides know of it.
                eprintln!("{error}");
                conversation.messages.pop();
            }
        }
    }

    // The rule, and a question and an answer in turn.
    assert_eq!(conversation.messages.len() % 2, 1);
    println!("{} messages", conversation.messages.len());
    Ok(())
}

/// Prints the answer as it comes, and gives it back whole.
fn answer(gateway: &Gateway, conversation: &ChatRequest) -> Result<String, Box<dyn std::error::Error>> {
    let mut text = String::new();
    for chunk in gateway.chat_stream(conversation)? {
        let chunk = chunk?;
        print!("{}", chunk.text());
        io::stdout().flush()?;
        text.push_str(chunk.text());
    }
    println!();
    Ok(text)
}
