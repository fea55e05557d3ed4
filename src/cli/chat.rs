//! `chat`: one call through a gateway in this process; the answer on stdout, one summary line on stderr.

use std::io::Read as _;
use std::time::Duration;

use super::args::Chat;
use super::output::{Failure, note, result, warning};
use crate::config::{self, Config};
use crate::gateway::Gateway;
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
    let prompt = prompt(&command.prompt)?;
    let gateway = Gateway::builder().config(config).build()?;
    let request = ChatRequest::new(&command.model, prompt);
    let outcome = if command.stream { stream(&gateway, &request) } else { whole(&gateway, &request) };
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
    result(&format!("{}\n", reply.text()))?;
    note(&summary(reply.served(), total, reply.usage));
    Ok(())
}

fn stream(gateway: &Gateway, request: &ChatRequest) -> Result<(), Failure> {
    let start = now();
    let request = request.clone().with("stream_options", serde_json::json!({ "include_usage": true }));
    let mut chunks = gateway.chat_stream(&request)?;
    let mut usage = None;
    let mut outcome = Ok(());
    let mut said = false;
    for chunk in &mut chunks {
        match chunk {
            Ok(chunk) => {
                usage = chunk.usage().or(usage);
                said |= !chunk.text().is_empty();
                result(chunk.text())?;
            }
            Err(error) => outcome = Err(error),
        }
    }
    // What was said before a cut ends its line too: the reason for the cut begins one of its own.
    if said || outcome.is_ok() {
        result("\n")?;
    }
    outcome?;
    let total = now().saturating_duration_since(start);
    if let Some(served) = chunks.served() {
        note(&summary(served, total, usage));
    }
    Ok(())
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
