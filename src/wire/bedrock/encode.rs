//! A chat of no provider's shape, written as a Converse request.
//!
//! Source: "Converse" in the Amazon Bedrock API reference, and "Inference request parameters and response fields for foundation
//! models" in the user guide for what goes to a model in its own shape.

use super::model::Family;
use super::output::{CACHE_POINT, List, Names, SHAPE, block, is_written, number, said};
use crate::error::Error;
use crate::model::chat::{
    Block, Choice, Effort, Format, LEAST_BUDGET, Lost, Message, Request, Role, Tool, unsupported,
};
use crate::wire::chat::{leave_out, push, push_string};

/// Writes the body of a request for `model`; which that is, and whether it is streamed, its path says ([`super::path`]).
///
/// What others have in the middle of a conversation, words of whoever runs the program, stands with the others of its kind at
/// the beginning: Bedrock has no other place for it. Neighbours of the same role become one message.
///
/// # Errors
/// [`Code::Unsupported`](crate::error::Code::Unsupported) for what Converse cannot express,
/// [`Code::InvalidRequest`](crate::error::Code::InvalidRequest) for arguments of a call that are no JSON object.
pub(crate) fn write_request(request: &Request<'_>, model: &str, out: &mut Vec<u8>) -> Result<Lost, Error> {
    let mut lost = Lost::default();
    leave_out(&request.rest, SHAPE, &mut lost)?;
    if request.user.is_some() {
        lost.hint("user");
    }
    if request.parallel_tools == Some(false) && !request.tools.is_empty() {
        return Err(unsupported("parallel_tool_calls", SHAPE));
    }

    out.clear();
    push(out, "{\"messages\":[");
    messages(&request.messages, &mut lost, out)?;
    push(out, "]");
    let later = request.messages.iter().filter(|message| message.role == Role::System);
    system(request.system.iter().chain(later.flat_map(|message| &message.content)), out)?;
    inference(request, out)?;
    tools(request, out)?;
    additional(request, Family::of(model), &mut lost, out)?;
    format(request.format.as_ref(), out)?;
    push(out, "}");
    Ok(lost)
}

fn messages(messages: &[Message<'_>], lost: &mut Lost, out: &mut Vec<u8>) -> Result<(), Error> {
    let (mut list, mut blocks, mut open, mut names) = (List::new(), List::new(), None, Names::new());
    for message in messages.iter().filter(|message| message.role != Role::System) {
        for part in &message.content {
            if !is_written(part) {
                if matches!(part, Block::Thinking { .. }) {
                    lost.hint("reasoning_content");
                }
                continue;
            }
            if open != Some(message.role) {
                if open.is_some() {
                    push(out, "]}");
                }
                open = Some(message.role);
                blocks = List::new();
                list.next(out);
                push(out, "{\"role\":");
                push(out, if message.role == Role::User { "\"user\"" } else { "\"assistant\"" });
                push(out, ",\"content\":[");
            }
            blocks.next(out);
            block(part, &mut names, out)?;
        }
    }
    if open.is_some() {
        push(out, "]}");
    }
    Ok(())
}

fn system<'a, 'b: 'a>(blocks: impl Iterator<Item = &'a Block<'b>>, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut list = List::new();
    for part in blocks.filter(|part| is_written(part)) {
        if !matches!(part, Block::Text(_) | Block::CacheMark) {
            return Err(unsupported("system", SHAPE));
        }
        push(out, if list.is_empty() { ",\"system\":[" } else { "" });
        list.next(out);
        said(part, out);
    }
    push(out, if list.is_empty() { "" } else { "]" });
    Ok(())
}

fn inference(request: &Request<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut list = List::new();
    let start = out.len();
    push(out, ",\"inferenceConfig\":{");
    if let Some(most) = request.max_tokens {
        list.key(out, "maxTokens");
        number(out, &most);
    }
    for (field, name, value) in [("temperature", "temperature", request.temperature), ("top_p", "topP", request.top_p)]
    {
        let Some(value) = value else { continue };
        // Others go further than 1.
        if !(0.0..=1.0).contains(&value) {
            return Err(unsupported(field, SHAPE));
        }
        list.key(out, name);
        number(out, &value);
    }
    if !request.stop.is_empty() {
        list.key(out, "stopSequences");
        number(out, &request.stop);
    }
    match list.is_empty() {
        true => out.truncate(start),
        false => push(out, "}"),
    }
    Ok(())
}

/// The functions. That none is to be called Bedrock has no word for: then none is told of, which it takes as long as the
/// conversation has no calls in it.
fn tools(request: &Request<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let none = request.tool_choice == Some(Choice::None);
    if none && request.messages.iter().flat_map(|message| &message.content).any(is_of_a_call) {
        return Err(unsupported("tool_choice", SHAPE));
    }
    if none || request.tools.is_empty() {
        return Ok(());
    }
    push(out, ",\"toolConfig\":{\"tools\":[");
    let mut list = List::new();
    for tool in &request.tools {
        list.next(out);
        self::tool(tool, out);
        if tool.cache_mark {
            list.next(out);
            push(out, CACHE_POINT);
        }
    }
    push(out, "]");
    match &request.tool_choice {
        Some(Choice::Auto) => push(out, ",\"toolChoice\":{\"auto\":{}}"),
        Some(Choice::Any) => push(out, ",\"toolChoice\":{\"any\":{}}"),
        Some(Choice::Named(name)) => {
            push(out, ",\"toolChoice\":{\"tool\":{\"name\":");
            push_string(out, name);
            push(out, "}}");
        }
        Some(Choice::None) | None => {}
    }
    push(out, "}");
    Ok(())
}

fn is_of_a_call(block: &Block<'_>) -> bool {
    matches!(block, Block::ToolCall { .. } | Block::ToolResult { .. })
}

fn tool(tool: &Tool<'_>, out: &mut Vec<u8>) {
    push(out, "{\"toolSpec\":{");
    let mut list = List::new();
    list.text(out, "name", &tool.name);
    if let Some(description) = tool.description.as_deref().filter(|text| !text.is_empty()) {
        list.text(out, "description", description);
    }
    list.key(out, "inputSchema");
    push(out, "{\"json\":");
    push(out, tool.schema.as_deref().unwrap_or("{\"type\":\"object\",\"properties\":{}}"));
    push(out, "}");
    if let Some(strict) = tool.strict {
        list.key(out, "strict");
        number(out, &strict);
    }
    push(out, "}}");
}

/// What goes to the model in its own shape.
fn additional(request: &Request<'_>, family: Family, lost: &mut Lost, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    let mut list = List::new();
    push(out, ",\"additionalModelRequestFields\":{");
    // A name that does not say whose the model is, is taken for Claude's, for these are what is asked with such fields.
    let claude = matches!(family, Family::Claude | Family::Unknown);
    match request.top_k {
        Some(top_k) if claude => {
            list.key(out, "top_k");
            number(out, &top_k);
        }
        Some(top_k) if family == Family::Nova => {
            list.key(out, "inferenceConfig");
            push(out, "{\"topK\":");
            number(out, &top_k);
            push(out, "}");
        }
        Some(_) => return Err(unsupported("top_k", SHAPE)),
        None => {}
    }
    match (request.effort, request.effort.and_then(|effort| budget(effort, request.max_tokens))) {
        (None | Some(Effort::None), _) => {}
        (Some(Effort::Own), _) if claude => {
            list.key(out, "thinking");
            push(out, "{\"type\":\"adaptive\"}");
        }
        (Some(_), Some(budget)) if claude => {
            list.key(out, "thinking");
            push(out, "{\"type\":\"enabled\",\"budget_tokens\":");
            number(out, &budget);
            push(out, "}");
        }
        // Another's model, or no room to think in.
        (Some(_), _) => lost.hint("reasoning_effort"),
    }
    match list.is_empty() {
        true => out.truncate(start),
        false => push(out, "}"),
    }
    Ok(())
}

/// How many tokens an effort may take: less than the answer may have, and none if that leaves too few.
fn budget(effort: Effort, max_tokens: Option<u64>) -> Option<u64> {
    let wanted = effort.budget()?;
    let room = max_tokens.map_or(u64::MAX, |most| most.saturating_sub(1));
    Some(wanted.min(room)).filter(|budget| *budget >= LEAST_BUDGET)
}

fn format(format: Option<&Format<'_>>, out: &mut Vec<u8>) -> Result<(), Error> {
    match format {
        None => Ok(()),
        Some(Format::Json) => Err(unsupported("response_format", SHAPE)),
        Some(Format::Schema { name, schema, .. }) => {
            push(out, ",\"outputConfig\":{\"textFormat\":{\"type\":\"json_schema\",\"structure\":{\"jsonSchema\":{");
            let mut list = List::new();
            list.text(out, "schema", schema);
            if let Some(name) = name {
                list.text(out, "name", name);
            }
            push(out, "}}}}");
            Ok(())
        }
    }
}
