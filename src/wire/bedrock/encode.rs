//! A chat of no provider's shape, written as a Converse request.
//!
//! Source: "Converse" in the Amazon Bedrock API reference, and "Inference request parameters and response fields for foundation
//! models" in the user guide for what goes to a model in its own shape.

use super::model::Family;
use super::output::{Blocks, CACHE_POINT, List, SHAPE, number};
use crate::error::Error;
use crate::model::chat::{Block, Choice, Effort, Format, LEAST_BUDGET, Lost, Request, Role, Tool, unsupported};
use crate::wire::anthropic::{effort_of, takes_effort};
use crate::wire::chat::{leave_out, push, push_string};
use crate::wire::turns::{self, Turn};

/// Writes the body of a request for `model`; which that is, and whether it is streamed, its path says ([`super::path`]).
///
/// The conversation becomes turns ([`turns`]): Bedrock's rules are those of Anthropic's models.
///
/// # Errors
/// [`Code::Unsupported`](crate::error::Code::Unsupported) for what Converse cannot express,
/// [`Code::InvalidRequest`](crate::error::Code::InvalidRequest) for arguments of a call that are no JSON object.
pub(crate) fn write_request(request: &Request<'_>, model: &str, out: &mut Vec<u8>) -> Result<Lost, Error> {
    let mut lost = Lost::default();
    leave_out(&request.rest, SHAPE, &mut lost)?;
    if request.user.is_some() {
        lost.hint(request.names.user);
    }
    if request.parallel_tools == Some(false) && !request.tools.is_empty() {
        return Err(unsupported(request.names.parallel_tools, SHAPE));
    }

    out.clear();
    push(out, "{\"messages\":[");
    messages(request, &mut lost, out)?;
    push(out, "]");
    system(request, out)?;
    inference(request, &mut lost, out);
    tools(request, out)?;
    additional(request, model, &mut lost, out)?;
    format(request, out)?;
    push(out, "}");
    Ok(lost)
}

fn messages(request: &Request<'_>, lost: &mut Lost, out: &mut Vec<u8>) -> Result<(), Error> {
    let (mut list, mut blocks) = (List::new(), Blocks::new(request.names));
    for Turn { role, items } in turns::turns(request, lost) {
        list.next(out);
        push(out, "{\"role\":");
        push(out, if role == Role::User { "\"user\"" } else { "\"assistant\"" });
        push(out, ",\"content\":[");
        blocks.write(&items, out)?;
        push(out, "]}");
    }
    Ok(())
}

fn system(request: &Request<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let items = turns::system(request);
    if let Some(other) = items.iter().find(|item| !matches!(item.block, Block::Text(_))) {
        return Err(unsupported(&format!("messages.{}.content", other.at), SHAPE));
    }
    if !items.is_empty() {
        push(out, ",\"system\":[");
        Blocks::new(request.names).write(&items, out)?;
        push(out, "]");
    }
    Ok(())
}

/// How freely is chosen, and when it ends. Others go further than 1, which is written instead, as for Anthropic's own API.
fn inference(request: &Request<'_>, lost: &mut Lost, out: &mut Vec<u8>) {
    let mut list = List::new();
    let start = out.len();
    push(out, ",\"inferenceConfig\":{");
    if let Some(most) = request.max_tokens {
        list.key(out, "maxTokens");
        number(out, &most);
    }
    let names = request.names;
    for (field, name, value) in
        [(names.temperature, "temperature", request.temperature), (names.top_p, "topP", request.top_p)]
    {
        let Some(value) = value else { continue };
        if value > 1.0 {
            lost.hint(field);
        }
        list.key(out, name);
        number(out, &value.min(1.0));
    }
    if !request.stop.is_empty() {
        list.key(out, "stopSequences");
        number(out, &request.stop);
    }
    match list.is_empty() {
        true => out.truncate(start),
        false => push(out, "}"),
    }
}

/// The functions. That none is to be called Bedrock has no word for: then none is told of, which it takes as long as the
/// conversation has no calls in it.
fn tools(request: &Request<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let none = request.tool_choice == Some(Choice::None);
    if none && request.messages.iter().flat_map(|message| &message.content).any(is_of_a_call) {
        return Err(unsupported(request.names.tool_choice, SHAPE));
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
fn additional(request: &Request<'_>, model: &str, lost: &mut Lost, out: &mut Vec<u8>) -> Result<(), Error> {
    let family = Family::of(model);
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
        Some(_) => return Err(unsupported(request.names.top_k, SHAPE)),
        None => {}
    }
    match request.effort {
        None | Some(Effort::None) => {}
        Some(effort) if claude => thinking(request, effort, takes_effort(model), &mut list, lost, out),
        // Another's model.
        Some(_) => lost.hint(request.names.effort),
    }
    match list.is_empty() {
        true => out.truncate(start),
        false => push(out, "}"),
    }
    Ok(())
}

/// How much one of Claude's models is to think: those that find their own measure are told by a word ("Adaptive thinking" in the
/// user guide), the others by a number.
fn thinking(
    request: &Request<'_>,
    effort: Effort,
    own_measure: bool,
    list: &mut List,
    lost: &mut Lost,
    out: &mut Vec<u8>,
) {
    let adaptive = own_measure || effort == Effort::Own;
    match budget(effort, request.max_tokens).filter(|_| !adaptive) {
        _ if !request.may_think(adaptive) => lost.hint(request.names.effort),
        None if adaptive => {
            list.key(out, "thinking");
            push(out, "{\"type\":\"adaptive\"}");
        }
        Some(budget) => {
            list.key(out, "thinking");
            push(out, "{\"type\":\"enabled\",\"budget_tokens\":");
            number(out, &budget);
            push(out, "}");
        }
        // No room to think in.
        None => lost.hint(request.names.effort),
    }
    if let Some(word) = effort_of(effort).filter(|_| own_measure) {
        list.key(out, "output_config");
        push(out, "{\"effort\":");
        push_string(out, word);
        push(out, "}");
    }
}

/// How many tokens an effort may take: less than the answer may have, and none if that leaves too few.
fn budget(effort: Effort, max_tokens: Option<u64>) -> Option<u64> {
    let wanted = effort.budget()?;
    let room = max_tokens.map_or(u64::MAX, |most| most.saturating_sub(1));
    Some(wanted.min(room)).filter(|budget| *budget >= LEAST_BUDGET)
}

fn format(request: &Request<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    match &request.format {
        None => Ok(()),
        Some(Format::Json) => Err(unsupported(request.names.format, SHAPE)),
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
