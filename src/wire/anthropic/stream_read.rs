//! A provider's stream, read into the neutral chat event by event.
//!
//! The shape tells one block after the other, each with its index, so that nothing has to be kept back but why the answer
//! ended, which is told when `message_stop` has shown that it did. Blocks of tools that Anthropic runs itself are passed over:
//! nobody who asks in another shape can have offered one.

use std::borrow::Cow;

use super::words::{Counts, stop_of};
use crate::model::chat::{BlockKind, Delta, Event, Stop};
use crate::wire::chat::Read;
use crate::wire::openai::{INSIDE_OK, upstream_error};
use crate::wire::pull::{Members, Path, Pull, Value, Wrong};
use crate::wire::sse;

/// The state of one stream.
#[derive(Debug, Default)]
pub(crate) struct StreamReader {
    counts: Counts,
    begun: bool,
    open: Option<Open>,
    stop: Option<Stop>,
    stop_text: Option<String>,
    done: bool,
}

/// The block under way.
#[derive(Clone, Copy, Debug)]
struct Open {
    index: u64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Hidden,
    /// A call; `said` once something of its arguments came.
    Call {
        said: bool,
    },
    Skipped,
}

/// Where its events go.
type Emit<'e> = dyn FnMut(Event<'_>) + 'e;

impl StreamReader {
    /// A stream of which nothing has come.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Reads the next event.
    pub(crate) fn next(&mut self, event: &sse::Event<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Read {
        if event.is_comment || self.done {
            return Read::Nothing;
        }
        let data = event.data.trim_ascii();
        if data == b"[DONE]" {
            // Put behind every stream by some servers; it is not this shape's end.
            return Read::Nothing;
        }
        let Ok(text) = std::str::from_utf8(data) else { return Read::Garbage };
        let mut fields = Fields::default();
        let mut pull = Pull::new(text);
        if fields.read(&mut pull).and_then(|()| pull.end()).is_err() {
            return Read::Garbage;
        }
        let name = std::str::from_utf8(event.name).unwrap_or_default();
        let kind = match fields.kind.take().map(|kind| kind.string(&Path::top("type"))) {
            Some(Ok(kind)) => kind,
            _ => Cow::Borrowed(name),
        };
        if fields.error.is_some() || kind == "error" {
            return Read::Failed(upstream_error(INSIDE_OK, data));
        }
        self.take(&kind, &fields, emit).unwrap_or_else(|wrong| Read::Failed(wrong.unreadable()))
    }

    /// Whether the shape's end was seen.
    #[must_use]
    pub(crate) fn is_complete(&self) -> bool {
        self.done
    }

    fn take(&mut self, kind: &str, fields: &Fields<'_>, emit: &mut Emit<'_>) -> Result<Read, Wrong> {
        match kind {
            "ping" => {
                emit(Event::Ping);
                Ok(Read::Nothing)
            }
            "message_start" => {
                self.message(fields, emit)?;
                Ok(Read::More { content: false })
            }
            "content_block_start" => self.block(fields, emit),
            "content_block_delta" => self.delta(fields, emit),
            "content_block_stop" => {
                self.close(emit);
                Ok(Read::More { content: false })
            }
            "message_delta" => {
                self.ending(fields)?;
                self.tokens(fields.usage, emit)?;
                Ok(Read::More { content: false })
            }
            "message_stop" => {
                self.begin(None, None, emit);
                self.close(emit);
                let stop_text = self.stop_text.take().map(Cow::Owned);
                emit(Event::End { stop: self.stop.unwrap_or(Stop::End), stop_text });
                self.done = true;
                Ok(Read::Done)
            }
            // New kinds may be added at any time ("Versioning").
            _ => Ok(Read::More { content: false }),
        }
    }

    fn message(&mut self, fields: &Fields<'_>, emit: &mut Emit<'_>) -> Result<(), Wrong> {
        let path = Path::top("message");
        let mut message = fields.need(fields.message, "message")?.members(&path)?;
        let mut word = |name: &str| message.take(name).map(|value| value.string(&path.key(name))).transpose();
        let (id, model) = (word("id")?, word("model")?);
        self.begin(id, model, emit);
        self.tokens(message.take("usage"), emit)
    }

    /// Tells that the answer begins, unless that was told before.
    fn begin(&mut self, id: Option<Cow<'_, str>>, model: Option<Cow<'_, str>>, emit: &mut Emit<'_>) {
        if !std::mem::replace(&mut self.begun, true) {
            emit(Event::Begin { id, model });
        }
    }

    fn block(&mut self, fields: &Fields<'_>, emit: &mut Emit<'_>) -> Result<Read, Wrong> {
        self.begin(None, None, emit);
        self.close(emit);
        let path = Path::top("content_block");
        let index = fields.index()?;
        let mut block = fields.need(fields.block, "content_block")?.members(&path)?;
        let mut content = true;
        let kind = match &*block.string("type", &path)? {
            "text" => {
                emit(Event::BlockBegin(BlockKind::Text));
                content = say(word(&mut block, "text", &path)?, Delta::Text, emit);
                Kind::Text
            }
            "thinking" => {
                emit(Event::BlockBegin(BlockKind::Thinking));
                content = say(word(&mut block, "thinking", &path)?, Delta::Text, emit);
                say(word(&mut block, "signature", &path)?, Delta::Signature, emit);
                Kind::Thinking
            }
            "redacted_thinking" => {
                emit(Event::BlockBegin(BlockKind::HiddenThinking(block.string("data", &path)?)));
                Kind::Hidden
            }
            "tool_use" => {
                let (id, name) = (block.string("id", &path)?, block.string("name", &path)?);
                emit(Event::BlockBegin(BlockKind::ToolCall { id, name }));
                // Empty here, and its text in the deltas; servers that only resemble Anthropic's may put all of it here.
                let input = block.take("input").map(|input| input.raw()).filter(|input| is_filled(input));
                Kind::Call { said: say(input.unwrap_or_default().into(), Delta::Arguments, emit) }
            }
            _ => {
                content = false;
                Kind::Skipped
            }
        };
        self.open = Some(Open { index, kind });
        Ok(Read::More { content })
    }

    fn delta<'a>(&mut self, fields: &Fields<'a>, emit: &mut Emit<'_>) -> Result<Read, Wrong> {
        let path = Path::top("delta");
        let mut delta = fields.need(fields.delta, "delta")?.members(&path)?;
        let index = fields.index()?;
        let Some(open) = self.open.as_mut().filter(|open| open.index == index) else {
            return Err(Path::top("index").wrong("is of no block that has begun"));
        };
        let kind = delta.string("type", &path)?;
        let (member, make): (_, fn(Cow<'a, str>) -> Delta<'a>) = match (&*kind, &mut open.kind) {
            ("text_delta", Kind::Text) => ("text", Delta::Text),
            ("thinking_delta", Kind::Thinking) => ("thinking", Delta::Text),
            ("signature_delta", Kind::Thinking) => ("signature", Delta::Signature),
            ("input_json_delta", Kind::Call { .. }) => ("partial_json", Delta::Arguments),
            // Citations have no place in the neutral chat, nor has what is new.
            _ => return Ok(Read::More { content: false }),
        };
        let text = delta.string(member, &path)?;
        let content = !text.is_empty();
        if content {
            if let Kind::Call { said } = &mut open.kind {
                *said = true;
            }
            emit(Event::Delta(make(text)));
        }
        Ok(Read::More { content })
    }

    /// Ends the block under way.
    fn close(&mut self, emit: &mut Emit<'_>) {
        let Some(open) = self.open.take() else { return };
        if open.kind == (Kind::Call { said: false }) {
            // A call without arguments has none here; elsewhere they are the text of an object always.
            emit(Event::Delta(Delta::Arguments("{}".into())));
        }
        if open.kind != Kind::Skipped {
            emit(Event::BlockEnd);
        }
    }

    fn ending(&mut self, fields: &Fields<'_>) -> Result<(), Wrong> {
        let path = Path::top("delta");
        let Some(delta) = fields.delta else { return Ok(()) };
        let mut delta = delta.members(&path)?;
        if let Some(reason) = delta.take("stop_reason") {
            self.stop = Some(stop_of(&reason.string(&path.key("stop_reason"))?));
        }
        if let Some(text) = delta.take("stop_sequence") {
            self.stop_text = Some(text.string(&path.key("stop_sequence"))?.into_owned());
        }
        Ok(())
    }

    fn tokens(&mut self, usage: Option<Value<'_>>, emit: &mut Emit<'_>) -> Result<(), Wrong> {
        let Some(usage) = usage else { return Ok(()) };
        self.counts.take(&mut Pull::new(usage.raw()))?;
        if let Some(tokens) = self.counts.tokens() {
            emit(Event::Tokens(tokens));
        }
        Ok(())
    }
}

/// A string that a block may begin with.
fn word<'a>(block: &mut Members<'a>, name: &str, path: &Path<'_>) -> Result<Cow<'a, str>, Wrong> {
    let value = block.take(name).map(|value| value.string(&path.key(name))).transpose()?;
    Ok(value.unwrap_or_default())
}

/// Tells a piece of a block unless it is empty; whether it was told.
fn say<'a>(text: Cow<'a, str>, make: fn(Cow<'a, str>) -> Delta<'a>, emit: &mut Emit<'_>) -> bool {
    let said = !text.is_empty();
    if said {
        emit(Event::Delta(make(text)));
    }
    said
}

/// Whether an object's text has members.
fn is_filled(object: &str) -> bool {
    object.starts_with('{') && object.bytes().any(|byte| byte == b'"')
}

/// The members of an event, wherever they stand.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<Value<'a>>,
    index: Option<Value<'a>>,
    message: Option<Value<'a>>,
    block: Option<Value<'a>>,
    delta: Option<Value<'a>>,
    usage: Option<Value<'a>>,
    error: Option<Value<'a>>,
}

impl<'a> Fields<'a> {
    fn read(&mut self, pull: &mut Pull<'a>) -> Result<(), Wrong> {
        pull.object(|pull, key| {
            let value = Some(pull.value()?).filter(|value| !value.is_null());
            match &*key {
                b"type" => self.kind = value,
                b"index" => self.index = value,
                b"message" => self.message = value,
                b"content_block" => self.block = value,
                b"delta" => self.delta = value,
                b"usage" => self.usage = value,
                b"error" => self.error = value,
                _ => {}
            }
            Ok(())
        })
    }

    fn need(&self, value: Option<Value<'a>>, name: &'static str) -> Result<Value<'a>, Wrong> {
        value.ok_or_else(|| Path::top(name).wrong("is missing"))
    }

    fn index(&self) -> Result<u64, Wrong> {
        self.need(self.index, "index")?.whole(&Path::top("index"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::chat::Tokens;
    use crate::wire::anthropic::{StreamWriter, golden};
    use crate::wire::chat::Meta;

    /// What a stream is read as, and written again: the events in words, what was made of each, and the bytes.
    #[derive(Debug, Default, PartialEq)]
    struct Heard {
        events: Vec<String>,
        reads: Vec<String>,
        written: Vec<u8>,
        complete: bool,
    }

    fn hear(pieces: &[&[u8]]) -> Heard {
        let meta = Meta { id: "msg_made", created: 1, model: "asked", stream_usage: true };
        let (mut reader, mut writer, mut heard) = (StreamReader::new(), StreamWriter::new(meta), Heard::default());
        let mut decoder = sse::Decoder::new(16 * 1024);
        for piece in pieces {
            decoder.push(piece);
            while let Some(event) = decoder.next() {
                let read = reader.next(&event.expect("short"), &mut |event| {
                    heard.events.push(format!("{event:?}"));
                    writer.event(&event, &mut heard.written);
                });
                heard.reads.push(match read {
                    Read::More { content: true } => "content".to_owned(),
                    Read::Failed(error) => format!("{} {}", error.code(), error.message()),
                    other => format!("{other:?}").split(' ').next().unwrap_or_default().to_lowercase(),
                });
            }
        }
        heard.complete = reader.is_complete();
        if heard.complete {
            writer.finish(&mut heard.written);
        }
        heard
    }

    fn whole(text: &str) -> Heard {
        hear(&[text.as_bytes()])
    }

    fn said(events: &[Event<'_>]) -> Vec<String> {
        events.iter().map(|event| format!("{event:?}")).collect()
    }

    fn begin(id: &'static str, model: &'static str) -> Event<'static> {
        Event::Begin { id: Some(id.into()), model: Some(model.into()) }
    }

    fn arguments(text: &str) -> Event<'_> {
        Event::Delta(Delta::Arguments(text.into()))
    }

    fn delta(text: &str) -> Event<'_> {
        Event::Delta(Delta::Text(text.into()))
    }

    fn tokens(input: u64, output: u64) -> Event<'static> {
        Event::Tokens(Tokens { input, output, ..Tokens::default() })
    }

    #[test]
    fn a_text_is_told_block_by_block_to_its_end() {
        let heard = whole(golden::STREAM_TEXT);
        let wanted = said(&[
            begin("msg_1nZdL29xx5MUA1yADyHTEsnR8uuvGzszyY", "claude-opus-4-6"),
            tokens(25, 1),
            Event::BlockBegin(BlockKind::Text),
            Event::Ping,
            delta("Hello"),
            delta("! \u{e9} \u{1f600}\n"),
            Event::BlockEnd,
            tokens(25, 15),
            Event::End { stop: Stop::End, stop_text: None },
        ]);
        assert_eq!(heard.events, wanted);
        assert_eq!(heard.reads, ["more", "more", "nothing", "content", "content", "more", "more", "done"]);
        assert!(heard.complete);
    }

    #[test]
    fn calls_keep_their_pieces_and_one_without_arguments_has_an_empty_object() {
        let call = |id: &'static str, name: &'static str| {
            Event::BlockBegin(BlockKind::ToolCall { id: id.into(), name: name.into() })
        };
        let wanted = said(&[
            Event::BlockEnd,
            call("toolu_01T1x1fJ34qAmk2tNTrN7Up6", "get_weather"),
            arguments("{\"location\":"),
            arguments(" \"San"),
            arguments(" Francisco, CA\"}"),
            Event::BlockEnd,
            call("toolu_01NoArguments", "now"),
            arguments("{}"),
            Event::BlockEnd,
            tokens(472, 89),
            Event::End { stop: Stop::Tools, stop_text: None },
        ]);
        assert_eq!(whole(golden::STREAM_TOOL).events[5..], wanted);
        let at_once = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{"a":1}}}"#;
        let heard = whole(&format!("data: {at_once}\n\ndata: {{\"type\":\"message_stop\"}}\n\n"));
        let wanted = said(&[
            Event::Begin { id: None, model: None },
            call("t", "f"),
            arguments("{\"a\":1}"),
            Event::BlockEnd,
            Event::End { stop: Stop::End, stop_text: None },
        ]);
        assert_eq!((heard.events, heard.complete), (wanted, true));
    }

    #[test]
    fn thoughts_keep_their_signatures_and_the_cache_counts_as_input() {
        let heard = whole(golden::STREAM_THINKING);
        let cached =
            Tokens { input: 2095, output: 60, cache_read: Some(2000), cache_written: Some(40), thought: Some(40) };
        let wanted = said(&[
            Event::BlockBegin(BlockKind::Thinking),
            delta("27 is 3 cubed."),
            delta(" So it is not prime."),
            Event::Delta(Delta::Signature("EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl".into())),
            Event::BlockEnd,
            Event::BlockBegin(BlockKind::HiddenThinking("EmwKAhgBEgy3va3pzix".into())),
            Event::BlockEnd,
            Event::BlockBegin(BlockKind::Text),
            delta("No: 27 is"),
            Event::BlockEnd,
            Event::Tokens(cached),
            Event::End { stop: Stop::Text, stop_text: Some(" 3".into()) },
        ]);
        assert_eq!(heard.events[2..], wanted);
    }

    #[test]
    fn what_anthropic_runs_itself_is_passed_over() {
        let heard = whole(golden::STREAM_SERVER_TOOL);
        let wanted = said(&[
            Event::BlockBegin(BlockKind::Text),
            delta("It rains."),
            Event::BlockEnd,
            tokens(10, 20),
            Event::End { stop: Stop::End, stop_text: None },
        ]);
        assert_eq!(heard.events[2..], wanted);
    }

    #[test]
    fn errors_garbage_and_what_is_out_of_order_are_told_apart() {
        let heard = whole(golden::STREAM_ERROR);
        assert_eq!(heard.reads.last().map(String::as_str), Some("upstream_error Overloaded"));
        assert!(!heard.complete);
        let text = "data: 5\n\ndata: {\"type\":\n\ndata: \u{b}\n\nevent: new\ndata: {\"type\":\"new\"}\n\n: hi\n\ndata: [DONE]\n\n";
        assert_eq!(whole(text).reads, ["garbage", "garbage", "garbage", "more", "nothing", "nothing"]);
        let lost = "data: {\"type\":\"content_block_delta\",\"index\":3,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n";
        assert!(whole(lost).reads[0].starts_with("upstream_bad_response"), "{:?}", whole(lost).reads);
    }

    #[test]
    fn a_stream_that_is_cut_anywhere_is_not_complete() {
        let end = golden::STREAM_TOOL.find("event: message_stop").expect("there");
        for cut in 0..end {
            let heard = hear(&[&golden::STREAM_TOOL.as_bytes()[..cut]]);
            assert!(!heard.complete && !heard.events.iter().any(|event| event.starts_with("End")), "at {cut}");
        }
    }

    #[test]
    fn splitting_at_any_byte_changes_nothing() {
        for text in golden::STREAMS {
            let wanted = whole(text);
            for cut in 0..text.len() {
                let (front, back) = text.as_bytes().split_at(cut);
                assert_eq!(hear(&[front, back]), wanted, "at {cut}");
            }
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert_eq!(hear(&bytes), wanted, "byte by byte");
        }
    }

    #[test]
    fn what_was_read_and_written_is_read_the_same_again() {
        for text in golden::STREAMS {
            let first = whole(text);
            let again = hear(&[&first.written]);
            let without = |heard: &Heard| {
                heard.events.iter().filter(|event| !event.starts_with("Tokens")).cloned().collect::<Vec<_>>()
            };
            assert_eq!(without(&again), without(&first));
            let last = |heard: &Heard| heard.events.iter().rfind(|event| event.starts_with("Tokens")).cloned();
            assert!(!first.complete || last(&again) == last(&first), "the last count says all");
        }
    }
}
