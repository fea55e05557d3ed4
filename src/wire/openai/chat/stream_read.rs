//! Chat completion chunks as a neutral stream, whose blocks come one after the other.
//!
//! A chunk says which call of a function its piece belongs to, and nothing says that a call is whole. Arguments are the text
//! of a JSON object, though, and that has an end: so a call ends where another block begins and its object is closed, and
//! what comes for later blocks before that is held back. Servers that send call after call, as all are known to, have nothing
//! held back; whatever one does, it is at most [`MAX_HELD`] bytes and [`MAX_CALLS`] calls, or the answer is a bad one.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::answer::{self, Call, Said};
use super::pull::{Fault, Place, Pull};
use crate::error::{Code, Error};
use crate::model::chat::{BlockKind, Delta, Event, Stop, Tokens};
use crate::wire::chat::Read;
use crate::wire::openai::decode::{INSIDE_OK, upstream_error};
use crate::wire::sse;

/// How much is held back at most: the texts of blocks that wait, and the names of all calls.
const MAX_HELD: usize = 1024 * 1024;

/// How many calls of functions an answer has at most.
const MAX_CALLS: usize = 128;

/// The state of one stream.
#[derive(Debug, Default)]
pub(crate) struct StreamReader {
    begun: bool,
    /// What the provider calls the answer, for calls that have no name of their own.
    id: String,
    /// Why it ended was said.
    ended: bool,
    /// The shape's own end was seen.
    done: bool,
    refused: bool,
    /// The block that has begun and not ended.
    open: Option<Kind>,
    /// The blocks that wait for it, in the order in which they came.
    waiting: VecDeque<Waiting>,
    /// Every call so far.
    calls: Vec<Known>,
    held: usize,
}

/// What a block is; a call by its place among the [`Known`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Call(usize),
}

#[derive(Debug)]
struct Waiting {
    kind: Kind,
    text: String,
}

/// A call of a function.
#[derive(Debug)]
struct Known {
    index: u64,
    id: String,
    name: String,
    /// How far its arguments have come.
    object: Object,
    /// It has begun and ended.
    over: bool,
}

/// How far the text of a JSON object has come. That it is JSON is for others to find out.
#[derive(Clone, Copy, Debug, Default)]
struct Object {
    depth: u32,
    in_string: bool,
    escaped: bool,
    closed: bool,
}

impl Object {
    fn push(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' | b'[' if !self.in_string => {
                    self.depth += 1;
                    self.closed = false;
                }
                b'}' | b']' if !self.in_string => {
                    self.depth = self.depth.saturating_sub(1);
                    self.closed = self.depth == 0;
                }
                _ => {}
            }
        }
    }
}

/// One event's data.
#[derive(Debug, Default)]
struct Chunk<'a> {
    id: Cow<'a, str>,
    model: Cow<'a, str>,
    /// The choice that was asked for is in it.
    choice: bool,
    said: Said<'a>,
    reason: Option<Cow<'a, str>>,
    tokens: Option<Tokens>,
    failed: bool,
}

impl StreamReader {
    /// A stream of which nothing has come.
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
            self.done = true;
            self.begin("", "", emit);
            self.end("", emit);
            return Read::Done;
        }
        let chunk = match read(data) {
            Ok(chunk) if chunk.failed || event.name == b"error" => {
                return Read::Failed(upstream_error(INSIDE_OK, data));
            }
            Ok(chunk) => chunk,
            // It may be a piece of a call, which would be another one without it.
            Err(fault) if is_object(data) => return Read::Failed(fault.in_answer()),
            Err(_) => return Read::Garbage,
        };
        match self.take(chunk, emit) {
            Ok(content) => Read::More { content },
            Err(error) => Read::Failed(error),
        }
    }

    /// Whether the shape's end was seen: why it finished, or `[DONE]`.
    pub(crate) fn is_complete(&self) -> bool {
        self.ended || self.done
    }

    /// Takes a chunk; gives whether it has something that a reader would show or act on.
    fn take(&mut self, chunk: Chunk<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<bool, Error> {
        if chunk.choice {
            self.begin(&chunk.id, &chunk.model, emit);
        }
        let mut content = false;
        // Nothing is left to be said of an answer that has ended; servers repeat the last chunk with the usage.
        if !self.ended {
            let Said { thoughts, text, refusal, calls } = chunk.said;
            self.refused |= refusal.as_ref().is_some_and(|text| !text.is_empty());
            for (kind, text) in [(Kind::Thinking, thoughts), (Kind::Text, text), (Kind::Text, refusal)] {
                let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
                content = true;
                self.piece(kind, text, emit)?;
            }
            for call in calls {
                content = true;
                self.call(call, emit)?;
            }
            if let Some(reason) = chunk.reason {
                self.end(&reason, emit);
            }
        }
        if let Some(tokens) = chunk.tokens {
            emit(Event::Tokens(tokens));
        }
        Ok(content)
    }

    fn begin(&mut self, id: &str, model: &str, emit: &mut dyn FnMut(Event<'_>)) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        id.clone_into(&mut self.id);
        let said = |text: &'_ str| (!text.is_empty()).then(|| Cow::Owned(text.to_owned()));
        emit(Event::Begin { id: said(id), model: said(model) });
    }

    fn call(&mut self, call: Call<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Error> {
        let at = self.known(&call)?;
        if call.name.is_empty() && call.arguments.is_empty() && self.open == Some(Kind::Call(at)) {
            return Ok(());
        }
        self.piece(Kind::Call(at), call.arguments, emit)
    }

    /// The call that a piece belongs to. A server that numbers none, or all alike, tells them apart by their ids; one that
    /// gives no ids either, by naming the next when the last is whole.
    fn known(&mut self, call: &Call<'_>) -> Result<usize, Error> {
        let named = !call.name.is_empty();
        let found = match call.index {
            Some(index) => self.calls.iter().rposition(|known| known.index == index),
            None => self.calls.len().checked_sub(1),
        };
        let found = found.filter(|at| {
            let known = &self.calls[*at];
            match call.id.is_empty() {
                _ if !named => true,
                true => !known.object.closed || call.arguments.is_empty(),
                false => known.id.is_empty() || *known.id == *call.id,
            }
        });
        if let Some(at) = found {
            let known = &mut self.calls[at];
            for (own, said) in [(&mut known.id, &call.id), (&mut known.name, &call.name)] {
                if own.is_empty() {
                    self.held += said.len();
                    own.push_str(said);
                }
            }
        } else {
            let index = call.index.unwrap_or(self.calls.len() as u64);
            self.held += call.id.len() + call.name.len();
            let (id, name) = (call.id.as_ref().to_owned(), call.name.as_ref().to_owned());
            self.calls.push(Known { index, id, name, object: Object::default(), over: false });
        }
        self.check_bounds()?;
        Ok(found.unwrap_or(self.calls.len() - 1))
    }

    fn check_bounds(&self) -> Result<(), Error> {
        if self.held <= MAX_HELD && self.calls.len() <= MAX_CALLS {
            return Ok(());
        }
        let text = format!(
            "the provider's stream has more than {MAX_CALLS} calls, or mixes them so that more than {MAX_HELD} bytes wait"
        );
        Err(Error::new(Code::UpstreamBadResponse, text))
    }

    /// Takes a piece of a block: tells it at once, or keeps it.
    fn piece(&mut self, kind: Kind, text: Cow<'_, str>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Error> {
        if let Kind::Call(at) = kind {
            if self.calls[at].over {
                return match text.trim().is_empty() {
                    true => Ok(()),
                    false => Err(Error::new(
                        Code::UpstreamBadResponse,
                        "the provider's stream adds to arguments of a function that were whole",
                    )),
                };
            }
            self.calls[at].object.push(&text);
        }
        if self.open != Some(kind) && self.waiting.is_empty() && self.may_end() && self.may_begin(kind) {
            self.close(emit);
            self.open(kind, emit);
        }
        if self.open == Some(kind) {
            tell(kind, text, emit);
            // It may be whole now, and what waits behind it may begin.
            self.advance(emit);
            return Ok(());
        }
        let same = |waiting: &Waiting| waiting.kind == kind;
        let place = match kind {
            Kind::Call(_) => self.waiting.iter().position(same),
            // Words that come behind a call which waits are others than those before it.
            Kind::Text | Kind::Thinking => self.waiting.len().checked_sub(1).filter(|last| same(&self.waiting[*last])),
        };
        self.held += text.len();
        match place {
            Some(place) => self.waiting[place].text.push_str(&text),
            None => self.waiting.push_back(Waiting { kind, text: text.into_owned() }),
        }
        self.check_bounds()?;
        self.advance(emit);
        Ok(())
    }

    /// Whether the open block may be taken for whole.
    fn may_end(&self) -> bool {
        match self.open {
            Some(Kind::Call(at)) => self.calls[at].object.closed,
            _ => true,
        }
    }

    /// Whether enough is known of a block to tell that it begins.
    fn may_begin(&self, kind: Kind) -> bool {
        match kind {
            Kind::Call(at) => !self.calls[at].name.is_empty(),
            _ => true,
        }
    }

    /// Begins what waits, as far as what is before it is whole.
    fn advance(&mut self, emit: &mut dyn FnMut(Event<'_>)) {
        while self.may_end() && self.waiting.front().is_some_and(|next| self.may_begin(next.kind)) {
            self.begin_next(emit);
        }
    }

    fn begin_next(&mut self, emit: &mut dyn FnMut(Event<'_>)) {
        let Some(Waiting { kind, text }) = self.waiting.pop_front() else { return };
        self.held -= text.len();
        self.close(emit);
        self.open(kind, emit);
        tell(kind, text.into(), emit);
    }

    fn open(&mut self, kind: Kind, emit: &mut dyn FnMut(Event<'_>)) {
        self.open = Some(kind);
        emit(Event::BlockBegin(match kind {
            Kind::Text => BlockKind::Text,
            Kind::Thinking => BlockKind::Thinking,
            Kind::Call(at) => {
                let Known { id, name, .. } = &self.calls[at];
                let id = if id.is_empty() { answer::unnamed(&self.id, at).into() } else { Cow::Borrowed(&**id) };
                BlockKind::ToolCall { id, name: Cow::Borrowed(name) }
            }
        }));
    }

    fn close(&mut self, emit: &mut dyn FnMut(Event<'_>)) {
        let Some(kind) = self.open.take() else { return };
        if let Kind::Call(at) = kind {
            self.calls[at].over = true;
        }
        emit(Event::BlockEnd);
    }

    fn end(&mut self, reason: &str, emit: &mut dyn FnMut(Event<'_>)) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        while !self.waiting.is_empty() {
            self.begin_next(emit);
        }
        self.close(emit);
        let stop: Stop = answer::stop(reason, !self.calls.is_empty(), self.refused);
        emit(Event::End { stop, stop_text: None });
    }
}

fn tell(kind: Kind, text: Cow<'_, str>, emit: &mut dyn FnMut(Event<'_>)) {
    if !text.is_empty() {
        emit(Event::Delta(match kind {
            Kind::Text | Kind::Thinking => Delta::Text(text),
            Kind::Call(_) => Delta::Arguments(text),
        }));
    }
}

fn read(data: &[u8]) -> Result<Chunk<'_>, Fault> {
    let mut pull = Pull::new(data)?;
    let mut chunk = Chunk::default();
    pull.object(&Place::Top, |pull, name, at| {
        match name {
            "id" => chunk.id = pull.string(at)?,
            "model" => chunk.model = pull.string(at)?,
            "choices" => pull.array(at, |pull, at| choice(pull, at, &mut chunk))?,
            "usage" => chunk.tokens = answer::usage(pull, at)?,
            "error" => {
                chunk.failed = true;
                pull.raw()?;
            }
            _ => drop(pull.raw()?),
        }
        Ok(())
    })?;
    pull.end()?;
    Ok(chunk)
}

/// Whether an event's data is a JSON object, whatever is in it.
fn is_object(data: &[u8]) -> bool {
    Pull::new(data).is_ok_and(|mut pull| pull.raw_object(&Place::Top).is_ok() && pull.end().is_ok())
}

fn choice<'a>(pull: &mut Pull<'a>, at: &Place<'_>, chunk: &mut Chunk<'a>) -> Result<(), Fault> {
    chunk.choice = true;
    pull.object(at, |pull, name, at| {
        match name {
            "delta" => chunk.said = answer::said(pull, at)?,
            "finish_reason" => chunk.reason = Some(pull.string(at)?).filter(|reason| !reason.is_empty()),
            _ => drop(pull.raw()?),
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each chunk's delta makes the reader say, a line each.
    fn says(deltas: &[&str]) -> Vec<String> {
        let mut reader = StreamReader::new();
        deltas.iter().map(|delta| chunk(&mut reader, &format!(r#"[{{"index":0,"delta":{delta}}}]"#))).collect()
    }

    fn chunk(reader: &mut StreamReader, choices: &str) -> String {
        line(reader, &format!(r#"{{"choices":{choices}}}"#))
    }

    fn line(reader: &mut StreamReader, data: &str) -> String {
        let event = sse::Event { raw: b"", data: data.as_bytes(), name: b"", is_comment: false };
        let mut said = Vec::new();
        let read = reader.next(&event, &mut |event| {
            said.push(match event {
                Event::Begin { .. } => "begin".to_owned(),
                Event::BlockBegin(BlockKind::ToolCall { id, name }) => format!("{name}({id}"),
                Event::BlockBegin(kind) => format!("{kind:?}("),
                Event::Delta(Delta::Text(text) | Delta::Arguments(text)) => format!("'{text}'"),
                Event::BlockEnd => ")".to_owned(),
                Event::End { stop, .. } => format!("end {stop:?}"),
                Event::Tokens(tokens) => format!("{}+{}", tokens.input, tokens.output),
                other => format!("{other:?}"),
            });
        });
        match read {
            Read::More { content: true } => said.push("!".to_owned()),
            Read::More { content: false } => {}
            Read::Failed(error) => said.push(format!("failed {} {}", error.status(), error.message())),
            other => said.push(format!("{other:?}").to_lowercase()),
        }
        said.join(" ")
    }

    fn piece(index: usize, name: &str, arguments: &str) -> String {
        let arguments = serde_json::json!(arguments);
        let named = if name.is_empty() { String::new() } else { format!(r#""id":"id-{name}","type":"function","#) };
        format!(
            r#"{{"tool_calls":[{{"index":{index},{named}"function":{{"name":"{name}","arguments":{arguments}}}}}]}}"#
        )
    }

    #[test]
    fn words_and_thoughts_are_blocks_one_after_the_other() {
        let deltas = [
            r#"{"role":"assistant","content":""}"#,
            r#"{"reasoning_content":"hm"}"#,
            r#"{"reasoning":"so","content":null}"#,
            r#"{"reasoning_content":null,"content":"hi"}"#,
            r#"{"content":[{"type":"text","text":"yo"}]}"#,
        ];
        let said = ["begin", "Thinking( 'hm' !", "'so' !", ") Text( 'hi' !", "'yo' !"];
        assert_eq!(says(&deltas), said);
    }

    #[test]
    fn a_call_streams_at_once_when_the_one_before_it_is_whole() {
        let deltas = [&piece(0, "a", ""), &piece(0, "", "{\"}\\\""), &piece(0, "", "\":[]}"), &piece(1, "b", "{")];
        let said = says(&deltas.map(|delta| &**delta));
        assert_eq!(said, ["begin a(id-a !", "'{\"}\\\"' !", "'\":[]}' !", ") b(id-b '{' !"]);
    }

    #[test]
    fn what_comes_for_a_later_block_waits_for_the_earlier() {
        let deltas = [
            piece(0, "a", "{"),
            piece(1, "b", "{\"x\""),
            r#"{"content":"and"}"#.to_owned(),
            piece(1, "", ":1}"),
            piece(2, "c", ""),
            piece(0, "", "}"),
        ];
        let said = says(&deltas.each_ref().map(|delta| &**delta));
        assert_eq!(said[..5], ["begin a(id-a '{' !", "!", "!", "!", "!"]);
        assert_eq!(said[5], "'}' ) b(id-b '{\"x\":1}' ) Text( 'and' ) c(id-c !");
    }

    #[test]
    fn the_end_of_the_answer_is_the_end_of_every_block() {
        let mut reader = StreamReader::new();
        for delta in [piece(0, "a", ""), piece(1, "b", "{\"cut")] {
            chunk(&mut reader, &format!(r#"[{{"delta":{delta}}}]"#));
        }
        assert!(!reader.is_complete());
        let end = chunk(&mut reader, r#"[{"delta":{},"finish_reason":"length"}]"#);
        assert_eq!(end, ") b(id-b '{\"cut' ) end Length");
        assert!(reader.is_complete());
        let again = line(
            &mut reader,
            r#"{"choices":[{"delta":{"content":""},"finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#,
        );
        assert_eq!(again, "1+2", "a last chunk that is repeated says the tokens and no more");
        assert_eq!((line(&mut reader, "[DONE]"), line(&mut reader, "{}")), ("done".to_owned(), "nothing".to_owned()));
    }

    #[test]
    fn why_it_ended_is_what_it_says_and_what_it_did() {
        for (deltas, reason, stop) in [
            (vec![r#"{"content":"x"}"#.to_owned()], "stop", "End"),
            (vec![piece(0, "a", "{}")], "stop", "Tools"),
            (vec![piece(0, "a", "{}")], "tool_calls", "Tools"),
            (vec![r#"{"refusal":"no"}"#.to_owned()], "stop", "Refused"),
            (vec![], "content_filter", "Refused"),
            (vec![], "length", "Length"),
            (vec![], "eos", "End"),
        ] {
            let mut reader = StreamReader::new();
            for delta in deltas {
                chunk(&mut reader, &format!(r#"[{{"delta":{delta}}}]"#));
            }
            let end = chunk(&mut reader, &format!(r#"[{{"delta":{{}},"finish_reason":"{reason}"}}]"#));
            assert!(end.ends_with(&format!("end {stop}")), "{reason}: {end}");
        }
        let mut silent = StreamReader::new();
        assert_eq!(line(&mut silent, "[DONE]"), "begin end End done");
        assert!(silent.is_complete());
    }

    #[test]
    fn calls_are_told_apart_where_a_server_numbers_them_badly() {
        let call = |index: &str, id: &str, name: &str| {
            format!(r#"{{"tool_calls":[{{{index}"id":"{id}","function":{{"name":"{name}","arguments":"{{}}"}}}}]}}"#)
        };
        for (index, ids) in [("", ["x", "y"]), ("\"index\":0,", ["x", "y"]), ("", ["", ""]), ("\"index\":0,", ["", ""])]
        {
            let deltas = [call(index, ids[0], "f"), call(index, ids[1], "f")];
            let said = says(&deltas.each_ref().map(|delta| &**delta));
            let ids = if ids[0].is_empty() { ["call_0", "call_1"] } else { ids };
            assert_eq!(said, [format!("begin f({} '{{}}' !", ids[0]), format!(") f({} '{{}}' !", ids[1])], "{index}");
        }
        let repeated = [piece(0, "f", "{"), piece(0, "f", "}")];
        assert_eq!(says(&repeated.each_ref().map(|delta| &**delta)), ["begin f(id-f '{' !", "'}' !"]);
        let named_late =
            [r#"{"tool_calls":[{"index":0,"id":"x"}]}"#, r#"{"tool_calls":[{"index":0,"function":{"name":"f"}}]}"#];
        assert_eq!(says(&named_late), ["begin !", "f(x !"]);
    }

    #[test]
    fn what_cannot_be_put_in_order_is_a_bad_answer() {
        let late = [piece(0, "a", "{}"), piece(1, "b", "{"), piece(0, "", " \n"), piece(0, "", "x")];
        let said = says(&late.each_ref().map(|delta| &**delta));
        assert_eq!(said[2], "!");
        assert!(said[3].starts_with("failed 502"), "{said:?}");

        let half = "y".repeat(MAX_HELD / 2);
        let mixed = [piece(0, "a", "{"), piece(1, "b", &half), piece(1, "", &half)];
        let said = says(&mixed.each_ref().map(|delta| &**delta));
        assert!(said[1] == "!" && said[2].starts_with("failed 502"), "what waits is bounded: {}", said[2]);

        let mut many: Vec<_> = (0..=MAX_CALLS).map(|index| piece(index, "f", "{}")).collect();
        let last = says(&many.iter().map(|delta| &**delta).collect::<Vec<_>>()).pop().expect("there is one");
        assert!(last.starts_with("failed 502"), "{last}");
        many.pop();
        let said = says(&many.iter().map(|delta| &**delta).collect::<Vec<_>>());
        assert!(said.iter().all(|said| !said.contains("failed")));
    }

    #[test]
    fn errors_garbage_and_silence_are_told_apart() {
        let mut reader = StreamReader::new();
        assert_eq!(line(&mut reader, r#"{"error":{"message":"no","code":500}}"#), "failed 502 no");
        for text in ["{\"choices\":[", "5", "hello", "{}{}"] {
            assert_eq!(line(&mut reader, text), "garbage", "{text}");
        }
        for text in [
            r#"{"choices":[5]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":5}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\ud83d"}}]}}]}"#,
        ] {
            let said = line(&mut reader, text);
            assert!(said.starts_with("failed 502"), "what cannot be read is not left out silently: {said}");
        }
        let comment = sse::Event { raw: b":\n\n", data: b"", name: b"", is_comment: true };
        assert!(matches!(reader.next(&comment, &mut |_| {}), Read::Nothing));
        let named = sse::Event { raw: b"", data: br#"{"message":"named"}"#, name: b"error", is_comment: false };
        assert!(matches!(reader.next(&named, &mut |_| {}), Read::Failed(_)));
        assert_eq!(line(&mut reader, r#"{"choices":[],"prompt_filter_results":[],"error":null}"#), "");
    }

    #[test]
    fn a_character_that_is_cut_in_two_costs_no_more_than_itself() {
        let deltas = [r#"{"content":"a\ud83d"}"#, r#"{"content":"\ude00b"}"#, r#"{"reasoning_content":"\ud83d"}"#];
        let said = says(&deltas);
        assert_eq!(said, ["begin Text( 'a\u{fffd}' !", "'\u{fffd}b' !", ") Thinking( '\u{fffd}' !"]);
    }

    #[test]
    fn calls_without_ids_have_one_that_no_other_answer_has() {
        let mut reader = StreamReader::new();
        let call =
            r#"{"id":"chatcmpl-7","choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]}"#;
        assert_eq!(line(&mut reader, call), "begin f(call_chatcmpl-7_0 '{}' !");
    }
}
