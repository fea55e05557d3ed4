//! The neutral chat, written as a request in Anthropic's shape.
//!
//! Where the shape is narrower than what was asked in another:
//! - The conversation becomes turns (`wire::turns`).
//! - `temperature` ends at 1; more is written as 1, as that endpoint does, and named among what was lost.
//! - An effort is a number of tokens for older models and a word for newer ones (`words`). A number needs 1024 at least and
//!   less than `max_tokens`; where that leaves no room, nothing is thought, which is told. Nor is anything where the API refuses
//!   it: while a function must be called, and in the middle of a turn whose thoughts are not there.
//! - `max_tokens` must be said: where it is not, 4096 for the answer beside what may be thought, which every model takes.
//! - There is no mode for JSON without a schema: it is refused.
//!
//! Everything else that the API refuses is left to it: its words say it better, and what it takes changes.

mod content;

#[cfg(test)]
mod tests;

use self::content::{messages, system};
use super::words::{SHAPE, effort_of, push_count, takes_effort};
use crate::error::Error;
use crate::model::chat::{Choice, Effort, Format, LEAST_BUDGET, Lost, Request, Tool, unsupported};
use crate::wire::chat::{leave_out, push_float, push_string};

/// The tokens of an answer, where it is not said how many it may have.
const ANSWER: u64 = 4096;

/// The most tokens of an answer and its thoughts together that every model which thinks can give.
const MOST: u64 = 32_000;

/// Writes a request to `model`, and says what was left out.
///
/// # Errors
/// [`Code::Unsupported`](crate::error::Code::Unsupported), naming the field, for what this shape cannot express.
pub(crate) fn write_request(request: &Request<'_>, model: &str, out: &mut Vec<u8>) -> Result<Lost, Error> {
    let mut lost = Lost::default();
    leave_out(&request.rest, SHAPE, &mut lost)?;
    out.clear();
    out.extend_from_slice(b"{\"model\":");
    push_string(out, model);
    let budget = request.effort.and_then(Effort::budget);
    let max_tokens = request.max_tokens.unwrap_or_else(|| ANSWER.saturating_add(budget.unwrap_or(0)).min(MOST));
    push_count(b",\"max_tokens\":", max_tokens, out);
    system(request, out)?;
    messages(request, &mut lost, out)?;
    tools(request, out);
    sampling(request, &mut lost, out)?;
    // What is said of all the answer's tokens is one word, and one object.
    let mut effort = None;
    match request.effort {
        None => {}
        Some(Effort::None) if takes_effort(model) => out.extend_from_slice(b",\"thinking\":{\"type\":\"disabled\"}"),
        Some(asked) if takes_effort(model) => {
            if request.may_think(true) {
                // Newer models keep their thoughts to themselves unless they are asked for.
                out.extend_from_slice(b",\"thinking\":{\"type\":\"adaptive\",\"display\":\"summarized\"}");
            } else {
                lost.hint(request.names.effort);
            }
            effort = effort_of(asked);
        }
        // Those think only if they are told to.
        Some(Effort::None) => {}
        Some(_) => match budget.map(|budget| budget.min(max_tokens.saturating_sub(1))) {
            Some(budget @ LEAST_BUDGET..) if request.may_think(false) => {
                push_count(b",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":", budget, out);
                out.push(b'}');
            }
            _ => lost.hint(request.names.effort),
        },
    }
    output(request, effort, out)?;
    if request.stream {
        out.extend_from_slice(b",\"stream\":true");
    }
    out.push(b'}');
    Ok(lost)
}

/// The member that marks for the cache.
const CACHE_CONTROL: &[u8] = b",\"cache_control\":{\"type\":\"ephemeral\"}";

fn tools(request: &Request<'_>, out: &mut Vec<u8>) {
    for (number, tool) in request.tools.iter().enumerate() {
        out.extend_from_slice(if number == 0 { b",\"tools\":[" } else { b"," });
        push_tool(tool, out);
    }
    if !request.tools.is_empty() {
        out.push(b']');
    }
    let one = request.parallel_tools == Some(false);
    let choice = match &request.tool_choice {
        // To call none of none, and to do as one likes, needs no word; nor is there one for how many there.
        None | Some(Choice::Auto | Choice::None) if request.tools.is_empty() => return,
        None if one => &Choice::Auto,
        None => return,
        Some(choice) => choice,
    };
    out.extend_from_slice(match choice {
        Choice::Auto => b",\"tool_choice\":{\"type\":\"auto\"",
        Choice::Any => b",\"tool_choice\":{\"type\":\"any\"",
        Choice::None => b",\"tool_choice\":{\"type\":\"none\"",
        Choice::Named(_) => b",\"tool_choice\":{\"type\":\"tool\"",
    });
    if let Choice::Named(name) = choice {
        member(b",\"name\":", name, out);
    }
    if one && *choice != Choice::None {
        out.extend_from_slice(b",\"disable_parallel_tool_use\":true");
    }
    out.push(b'}');
}

fn push_tool(tool: &Tool<'_>, out: &mut Vec<u8>) {
    member(b"{\"name\":", &tool.name, out);
    if let Some(description) = &tool.description {
        member(b",\"description\":", description, out);
    }
    out.extend_from_slice(b",\"input_schema\":");
    let schema = tool.schema.as_deref().map(str::trim_ascii).filter(|schema| *schema != "{}");
    // The API wants an object's schema, where others take none for no arguments.
    out.extend_from_slice(schema.unwrap_or("{\"type\":\"object\",\"properties\":{}}").as_bytes());
    if tool.strict == Some(true) {
        out.extend_from_slice(b",\"strict\":true");
    }
    if tool.cache_mark {
        out.extend_from_slice(CACHE_CONTROL);
    }
    out.push(b'}');
}

fn sampling(request: &Request<'_>, lost: &mut Lost, out: &mut Vec<u8>) -> Result<(), Error> {
    for (number, stop) in request.stop.iter().enumerate() {
        // "OpenAI SDK compatibility": all that are not space alone work.
        if stop.trim().is_empty() {
            return Err(unsupported(request.names.stop, SHAPE));
        }
        out.extend_from_slice(if number == 0 { b",\"stop_sequences\":[" } else { b"," });
        push_string(out, stop);
    }
    if !request.stop.is_empty() {
        out.push(b']');
    }
    if let Some(temperature) = request.temperature {
        if temperature > 1.0 {
            lost.hint(request.names.temperature);
        }
        push_number(b",\"temperature\":", temperature.min(1.0), out);
    }
    if let Some(top_p) = request.top_p {
        push_number(b",\"top_p\":", top_p, out);
    }
    if let Some(top_k) = request.top_k {
        push_count(b",\"top_k\":", top_k, out);
    }
    if let Some(user) = &request.user {
        member(b",\"metadata\":{\"user_id\":", user, out);
        out.push(b'}');
    }
    Ok(())
}

fn push_number(key: &[u8], number: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    push_float(out, number);
}

fn output(request: &Request<'_>, effort: Option<&'static str>, out: &mut Vec<u8>) -> Result<(), Error> {
    let format = &request.format;
    if format.is_none() && effort.is_none() {
        return Ok(());
    }
    out.extend_from_slice(b",\"output_config\":{");
    if let Some(effort) = effort {
        member(b"\"effort\":", effort, out);
    }
    match format {
        None => {}
        Some(Format::Json) => return Err(unsupported(request.names.format, SHAPE)),
        Some(Format::Schema { schema, .. }) => {
            if effort.is_some() {
                out.push(b',');
            }
            out.extend_from_slice(b"\"format\":{\"type\":\"json_schema\",\"schema\":");
            out.extend_from_slice(schema.as_bytes());
            out.push(b'}');
        }
    }
    out.push(b'}');
    Ok(())
}

fn member(key: &[u8], text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    push_string(out, text);
}
