//! What whole and streamed answers have in common: what a message or a delta says, why it ended, what it took.
//!
//! Lenient where servers differ and nothing is lost by it. Thoughts are `reasoning_content` (DeepSeek, vLLM) or `reasoning`
//! (OpenRouter, Groq, newer vLLM): where both are there they say the same.

use std::borrow::Cow;

use super::pull::{Fault, Place, Pull};
use crate::model::chat::{Stop, Tokens};
use crate::wire::chat::{push, push_number};

/// What a message says, or a delta adds. Texts may be empty.
#[derive(Debug, Default)]
pub(super) struct Said<'a> {
    pub(super) thoughts: Option<Cow<'a, str>>,
    pub(super) text: Option<Cow<'a, str>>,
    pub(super) refusal: Option<Cow<'a, str>>,
    pub(super) calls: Vec<Call<'a>>,
}

/// A call of a function, or a piece of one.
#[derive(Debug, Default)]
pub(super) struct Call<'a> {
    /// Its number among those of a stream.
    pub(super) index: Option<u64>,
    pub(super) id: Cow<'a, str>,
    pub(super) name: Cow<'a, str>,
    pub(super) arguments: Cow<'a, str>,
}

/// Reads a message or a delta.
pub(super) fn said<'a>(pull: &mut Pull<'a>, at: &Place<'_>) -> Result<Said<'a>, Fault> {
    let mut said = Said::default();
    pull.object(at, |pull, name, at| {
        match name {
            "content" => said.text = Some(text(pull, at)?),
            "refusal" => said.refusal = Some(pull.words(at)?),
            "reasoning_content" => said.thoughts = Some(pull.words(at)?),
            // Some have an object of that name.
            "reasoning" if pull.peek() == Some(b'"') => {
                let thoughts = pull.words(at)?;
                said.thoughts.get_or_insert(thoughts);
            }
            "tool_calls" => pull.array(at, |pull, at| {
                said.calls.push(call(pull, at)?);
                Ok(())
            })?,
            _ => drop(pull.raw()?),
        }
        Ok(())
    })?;
    Ok(said)
}

/// A text, or the parts of one, as Mistral has it where a model reasons.
fn text<'a>(pull: &mut Pull<'a>, at: &Place<'_>) -> Result<Cow<'a, str>, Fault> {
    if pull.peek() != Some(b'[') {
        return pull.words(at);
    }
    let mut whole = String::new();
    pull.array(at, |pull, at| {
        pull.object(at, |pull, name, at| {
            match name {
                "text" => whole.push_str(&pull.words(at)?),
                _ => drop(pull.raw()?),
            }
            Ok(())
        })
    })?;
    Ok(whole.into())
}

fn call<'a>(pull: &mut Pull<'a>, at: &Place<'_>) -> Result<Call<'a>, Fault> {
    let mut call = Call::default();
    pull.object(at, |pull, name, at| {
        match name {
            "index" => call.index = Some(pull.whole(at)?),
            "id" => call.id = pull.string(at)?,
            "function" => called(pull, at, &mut call)?,
            _ => drop(pull.raw()?),
        }
        Ok(())
    })?;
    Ok(call)
}

fn called<'a>(pull: &mut Pull<'a>, at: &Place<'_>, call: &mut Call<'a>) -> Result<(), Fault> {
    pull.object(at, |pull, name, at| {
        match name {
            "name" => call.name = pull.string(at)?,
            // Some give the object itself.
            "arguments" if pull.peek() == Some(b'{') => call.arguments = pull.raw()?.into(),
            "arguments" => call.arguments = pull.string(at)?,
            _ => drop(pull.raw()?),
        }
        Ok(())
    })
}

/// The name of a call whose provider gave it none, in the answer of that name: a conversation has many answers, and who sends
/// it back must tell their calls apart.
pub(super) fn unnamed(answer: &str, index: usize) -> String {
    if answer.is_empty() { format!("call_{index}") } else { format!("call_{answer}_{index}") }
}

/// Why it ended. A call that was asked for by name ends by `stop`, and a refusal too: what it says decides then.
pub(super) fn stop(reason: &str, calls: bool, refused: bool) -> Stop {
    match reason {
        "length" | "model_length" => Stop::Length,
        "content_filter" => Stop::Refused,
        _ if refused => Stop::Refused,
        "tool_calls" | "function_call" => Stop::Tools,
        _ if calls => Stop::Tools,
        _ => Stop::End,
    }
}

/// The word for why it ended. There is none for an answer that may go on: what has no room left comes nearest.
pub(super) fn finish_reason(stop: Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Text => "stop",
        Stop::Length | Stop::Paused => "length",
        Stop::Tools => "tool_calls",
        Stop::Refused => "content_filter",
    }
}

/// Reads a `usage` object; `None` if it counts nothing. A number that is none is as if it were not there: an answer is not
/// thrown away for what its server counts.
pub(super) fn usage(pull: &mut Pull<'_>, at: &Place<'_>) -> Result<Option<Tokens>, Fault> {
    let (mut input, mut output, mut rest) = (None, None, Tokens::default());
    let Tokens { cache_read, cache_written, thought, .. } = &mut rest;
    pull.object(at, |pull, name, at| match name {
        "prompt_tokens_details" => {
            counts(pull, at, &mut [("cached_tokens", &mut *cache_read), ("cache_write_tokens", &mut *cache_written)])
        }
        "completion_tokens_details" => counts(pull, at, &mut [("reasoning_tokens", &mut *thought)]),
        "prompt_tokens" => count(pull).map(|number| input = number),
        "completion_tokens" => count(pull).map(|number| output = number),
        _ => pull.raw().map(drop),
    })?;
    let known = input.is_some() || output.is_some();
    Ok(known.then(|| Tokens { input: input.unwrap_or(0), output: output.unwrap_or(0), ..rest }))
}

fn counts(pull: &mut Pull<'_>, at: &Place<'_>, wanted: &mut [(&str, &mut Option<u64>)]) -> Result<(), Fault> {
    pull.object(at, |pull, name, _| {
        let number = count(pull)?;
        if let Some((_, place)) = wanted.iter_mut().find(|(wanted, _)| *wanted == name) {
            **place = number;
        }
        Ok(())
    })
}

fn count(pull: &mut Pull<'_>) -> Result<Option<u64>, Fault> {
    Ok(pull.raw()?.parse().ok())
}

/// Appends a `usage` object. Details that the provider did not give are left out.
pub(super) fn push_usage(out: &mut Vec<u8>, tokens: &Tokens) {
    push(out, "{\"prompt_tokens\":");
    push_number(out, tokens.input);
    push(out, ",\"completion_tokens\":");
    push_number(out, tokens.output);
    push(out, ",\"total_tokens\":");
    push_number(out, tokens.input.saturating_add(tokens.output));
    let mut details = |name: &str, members: &[(&str, Option<u64>)]| {
        let mut open = false;
        for (member, number) in members {
            let Some(number) = number else { continue };
            push(out, if open { ",\"" } else { name });
            open = true;
            push(out, member);
            push(out, "\":");
            push_number(out, *number);
        }
        if open {
            push(out, "}");
        }
    };
    let cache = [("cached_tokens", tokens.cache_read), ("cache_write_tokens", tokens.cache_written)];
    details(",\"prompt_tokens_details\":{\"", &cache);
    details(",\"completion_tokens_details\":{\"", &[("reasoning_tokens", tokens.thought)]);
    push(out, "}");
}
