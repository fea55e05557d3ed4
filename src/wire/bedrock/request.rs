//! What a client asks by Converse, read into a chat of no provider's shape.
//!
//! Source: "Converse" and "ConverseStream" in the Amazon Bedrock API reference. Both have the same body, which names neither
//! the model nor whether the answer is streamed: the path does.

use std::borrow::Cow;

use super::content::{blocks, cache_point};
use super::input::{Input, Wrong, is_object};
use crate::error::Error;
use crate::model::chat::{Block, Choice, Effort, Format, Message, Names, Request, Role, Tool};

/// Reads the body of a Converse request. What it asks for that no chat has is in [`Request::rest`]; that a stream says its
/// tokens goes without saying here.
///
/// # Errors
/// [`Code::InvalidRequest`](crate::error::Code::InvalidRequest), naming the field where one is at fault.
pub(crate) fn read_request(body: &[u8]) -> Result<Request<'_>, Error> {
    read(body).map_err(Wrong::of_request)
}

fn read(body: &[u8]) -> Result<Request<'_>, Wrong> {
    let mut input = Input::strict(body)?;
    let mut request = Request { names: &Names::BEDROCK, stream_usage: true, ..Request::default() };
    let mut messages = None;
    input.object(|input, key| {
        match key {
            "messages" => messages = Some(read_messages(input)?),
            "system" => request.system = system(input)?,
            "inferenceConfig" => inference(input, &mut request)?,
            "toolConfig" => tools(input, &mut request)?,
            "additionalModelRequestFields" => additional(input, &mut request)?,
            "outputConfig" => request.format = output(input)?,
            // Labels for the account's own logs, and by which way the model answers.
            "requestMetadata" | "performanceConfig" | "serviceTier" => input.unknown(true)?,
            // What of the model's own answer is to stand beside the one that all models give.
            "additionalModelResponseFieldPaths" => input.unknown(true)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let Some(messages) = messages else { return input.missing("messages") };
    request.messages = messages;
    request.rest = input.end()?;
    Ok(request)
}

fn read_messages<'a>(input: &mut Input<'a>) -> Result<Vec<Message<'a>>, Wrong> {
    let mut messages = Vec::new();
    input.array(|input| {
        let (mut role, mut content) = (None, None);
        input.object(|input, key| {
            match key {
                "role" => {
                    role = Some(match &*input.string()? {
                        "user" => Role::User,
                        "assistant" => Role::Assistant,
                        _ => return input.wrong("it is neither \"user\" nor \"assistant\""),
                    });
                }
                "content" => content = Some(blocks(input)?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let Some(role) = role else { return input.missing("role") };
        let Some(content) = content else { return input.missing("content") };
        messages.push(Message { role, content });
        Ok(())
    })?;
    Ok(messages)
}

fn system<'a>(input: &mut Input<'a>) -> Result<Vec<Block<'a>>, Wrong> {
    let mut system = Vec::new();
    input.array(|input| {
        input.union(|input, key| {
            system.push(match key {
                "text" => Block::Text(input.string()?),
                "cachePoint" => cache_point(input)?,
                _ => return Ok(false),
            });
            Ok(true)
        })
    })?;
    Ok(system)
}

fn inference<'a>(input: &mut Input<'a>, request: &mut Request<'a>) -> Result<(), Wrong> {
    input.object(|input, key| {
        match key {
            "maxTokens" => request.max_tokens = Some(input.value("a whole number")?),
            "temperature" => request.temperature = Some(number(input)?),
            "topP" => request.top_p = Some(number(input)?),
            "stopSequences" => input.array(|input| {
                request.stop.push(input.string()?);
                Ok(())
            })?,
            _ => return Ok(false),
        }
        Ok(true)
    })
}

/// A number as JSON writes it: what is none there, as `inf`, no scanner lets through.
fn number(input: &mut Input<'_>) -> Result<f64, Wrong> {
    let number: f64 = input.value("a number")?;
    if number.is_finite() { Ok(number) } else { input.wrong("it is beyond all bounds") }
}

fn tools<'a>(input: &mut Input<'a>, request: &mut Request<'a>) -> Result<(), Wrong> {
    input.object(|input, key| {
        match key {
            "tools" => input.array(|input| {
                input.union(|input, key| {
                    match key {
                        "toolSpec" => request.tools.push(tool(input)?),
                        "cachePoint" => {
                            cache_point(input)?;
                            match request.tools.last_mut() {
                                Some(tool) => tool.cache_mark = true,
                                None => return input.wrong("there is no tool before it"),
                            }
                        }
                        _ => return Ok(false),
                    }
                    Ok(true)
                })
            })?,
            "toolChoice" => input.union(|input, key| {
                request.tool_choice = Some(match key {
                    "auto" => input.raw().map(|_| Choice::Auto)?,
                    "any" => input.raw().map(|_| Choice::Any)?,
                    "tool" => named(input)?,
                    _ => return Ok(false),
                });
                Ok(true)
            })?,
            _ => return Ok(false),
        }
        Ok(true)
    })
}

fn named<'a>(input: &mut Input<'a>) -> Result<Choice<'a>, Wrong> {
    let mut name = None;
    input.object(|input, key| {
        match key {
            "name" => name = Some(input.string()?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    name.map_or_else(|| input.missing("name"), |name| Ok(Choice::Named(name)))
}

fn tool<'a>(input: &mut Input<'a>) -> Result<Tool<'a>, Wrong> {
    let (mut name, mut description, mut schema, mut strict) = (None, None, None, None);
    input.object(|input, key| {
        match key {
            "name" => name = Some(input.string()?),
            "description" => description = Some(input.string()?),
            "inputSchema" => input.object(|input, key| {
                match key {
                    "json" => schema = Some(Cow::Borrowed(input.raw()?)),
                    _ => return Ok(false),
                }
                Ok(true)
            })?,
            "strict" => strict = Some(input.value("true or false")?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let Some(name) = name else { return input.missing("name") };
    match schema.as_deref().is_none_or(is_object) {
        true => Ok(Tool { name, description, schema, strict, cache_mark: false }),
        false => input.wrong("its schema is no JSON object"),
    }
}

/// What goes to the model in its own shape: of Claude's and Nova's fields, those that a chat has.
fn additional<'a>(input: &mut Input<'a>, request: &mut Request<'a>) -> Result<(), Wrong> {
    let (mut asked, mut word) = (None, None);
    input.object(|input, key| {
        match key {
            "top_k" => request.top_k = Some(input.value("a whole number")?),
            // Both stand in Bedrock's own examples.
            "thinking" | "reasoning_config" => asked = thinking(input)?,
            "output_config" => input.object(|input, key| {
                match key {
                    "effort" => match Effort::of_word(&input.string()?) {
                        found @ Some(_) => word = found,
                        None => return input.wrong("it is no effort that is known"),
                    },
                    _ => return Ok(false),
                }
                Ok(true)
            })?,
            // Trials of Anthropic's protocol, which have no meaning elsewhere.
            "anthropic_beta" => input.unknown(true)?,
            "inferenceConfig" => input.object(|input, key| {
                match key {
                    "topK" => request.top_k = Some(input.value("a whole number")?),
                    _ => return Ok(false),
                }
                Ok(true)
            })?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    // How much is said by a word beside that it is left to the model.
    request.effort = if asked == Some(Effort::Own) { word.or(asked) } else { asked.or(word) };
    Ok(())
}

fn thinking(input: &mut Input<'_>) -> Result<Option<Effort>, Wrong> {
    let (mut kind, mut budget) = (None, None);
    input.object(|input, key| {
        match key {
            "type" => kind = Some(input.string()?),
            "budget_tokens" => budget = Some(input.value("a whole number")?),
            // Whether the thoughts are shown; they are, where they come from elsewhere.
            "display" => input.unknown(true)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    match (kind.as_deref(), budget) {
        (Some("enabled"), Some(budget)) => Ok(Some(Effort::Tokens(budget))),
        (Some("enabled"), None) => input.missing("budget_tokens"),
        (Some("adaptive"), _) => Ok(Some(Effort::Own)),
        (Some("disabled"), _) => Ok(Some(Effort::None)),
        _ => input.wrong("its type is neither \"enabled\", \"adaptive\" nor \"disabled\""),
    }
}

/// The form of the answer. Whatever has a schema here is held to it exactly.
fn output<'a>(input: &mut Input<'a>) -> Result<Option<Format<'a>>, Wrong> {
    let mut format = None;
    input.object(|input, key| {
        if key != "textFormat" {
            return Ok(false);
        }
        let (mut schema, mut name) = (None, None);
        input.object(|input, key| {
            match key {
                "type" if input.string()? == "json_schema" => {}
                "type" => return input.wrong("it is no form that is known"),
                "structure" => input.object(|input, key| match key {
                    "jsonSchema" => json_schema(input, &mut schema, &mut name).map(|()| true),
                    _ => Ok(false),
                })?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let Some(schema) = schema else { return input.missing("structure.jsonSchema.schema") };
        format = Some(Format::Schema { name, schema, strict: Some(true) });
        Ok(true)
    })?;
    Ok(format)
}

fn json_schema<'a>(
    input: &mut Input<'a>,
    schema: &mut Option<Cow<'a, str>>,
    name: &mut Option<Cow<'a, str>>,
) -> Result<(), Wrong> {
    input.object(|input, key| {
        match key {
            "schema" => {
                let text = input.string()?;
                if !is_object(&text) {
                    return input.wrong("it is not the text of a JSON object");
                }
                *schema = Some(text);
            }
            "name" => *name = Some(input.string()?),
            "description" => input.unknown(true)?,
            _ => return Ok(false),
        }
        Ok(true)
    })
}
