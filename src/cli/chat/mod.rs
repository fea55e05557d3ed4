//! `chat`: one call through a gateway in this process, or a session of them; answers on stdout, a summary line each on stderr.

mod lines;
mod session;

use std::io::Read as _;
use std::time::Duration;

use super::args::Chat;
use super::output::{Failure, note, result, warning};
use super::terminal::for_results;
use crate::config::{self, Config};
use crate::error::Error;
use crate::gateway::{CallOptions, Calls, Gateway};
use crate::model::{Served, Usage};
use crate::time::{format_duration, now};
use crate::wire::openai::ChatRequest;

/// The longest prompt read from stdin, in bytes.
const MAX_PROMPT: u64 = 16 << 20;

/// How long the gateway is given to end after the answer.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

pub(super) fn run(command: &Chat) -> Result<(), Failure> {
    let config = Config::discover(command.config.as_deref(), &config::process_env)?;
    config.warnings.iter().for_each(|text| warning(text));
    super::journal::mask(&config);
    if command.interactive && command.prompt == ["-"] {
        return Err(Failure::Usage("-i reads standard input as the prompt - does: leave one of them out".to_owned()));
    }
    let prompt = prompt(&command.prompt)?;
    let gateway = Gateway::builder().config(config).build()?;
    let outcome = if command.interactive {
        session::run(&gateway, &command.model, prompt)
    } else {
        let request = ChatRequest::new(&command.model, prompt);
        if command.stream { stream(&gateway, &request) } else { whole(&gateway, &request) }
    };
    gateway.shutdown(CLOSE_WAIT);
    outcome
}

fn prompt(words: &[String]) -> Result<String, Failure> {
    if words != ["-"] {
        return Ok(words.join(" "));
    }
    let mut text = String::new();
    std::io::stdin().lock().take(MAX_PROMPT).read_to_string(&mut text)?;
    Ok(text)
}

fn whole(gateway: &Gateway, request: &ChatRequest) -> Result<(), Failure> {
    let start = now();
    let reply = gateway.chat(request)?;
    let total = now().saturating_duration_since(start);
    result(&format!("{}\n", for_results(reply.text())))?;
    note(&summary(reply.served(), total, reply.usage));
    Ok(())
}

fn stream(gateway: &Gateway, request: &ChatRequest) -> Result<(), Failure> {
    let spoken = speak(&gateway.with(CallOptions::new()), request)?;
    match spoken.error {
        Some(error) => Err(error.into()),
        None => {
            if let Some(summary) = spoken.summary {
                note(&summary);
            }
            Ok(())
        }
    }
}

/// What came of a stream.
struct Spoken {
    /// What was said, up to a failure.
    text: String,
    /// Who said it, and how long it took; of one that did not begin there is nothing to be told.
    summary: Option<String>,
    /// Why it ended early.
    error: Option<Error>,
}

/// Prints an answer as it comes.
fn speak(calls: &Calls<'_>, request: &ChatRequest) -> Result<Spoken, Failure> {
    let start = now();
    let request = request.clone().with("stream_options", serde_json::json!({ "include_usage": true }));
    let mut spoken = Spoken { text: String::new(), summary: None, error: None };
    let mut chunks = match calls.chat_stream(&request) {
        Ok(chunks) => chunks,
        Err(error) => return Ok(Spoken { error: Some(error), ..spoken }),
    };
    let mut usage = None;
    for chunk in &mut chunks {
        match chunk {
            Ok(chunk) => {
                usage = chunk.usage().or(usage);
                result(&for_results(chunk.text()))?;
                spoken.text.push_str(chunk.text());
            }
            Err(error) => spoken.error = Some(error),
        }
    }
    // What was said before a cut ends its line too: the reason for the cut begins one of its own.
    if !spoken.text.is_empty() || spoken.error.is_none() {
        result("\n")?;
    }
    let total = now().saturating_duration_since(start);
    spoken.summary = chunks.served().map(|served| summary(served, total, usage));
    Ok(spoken)
}

fn summary(served: &Served, total: Duration, usage: Option<Usage>) -> String {
    let timing = &served.timing;
    let short = |duration: Duration| format_duration(Duration::from_micros(crate::time::micros_of(duration)));
    let tokens =
        usage.map_or_else(|| "unknown".to_owned(), |usage| format!("{} in, {} out", usage.input, usage.output));
    format!(
        "{}/{}: attempts {}, queue {}, upstream {}, overhead {}, total {}, tokens {tokens}",
        served.provider,
        served.model,
        served.attempts,
        short(timing.queue),
        short(timing.upstream),
        short(served.overhead),
        short(total),
    )
}
