//! What ConverseStream answers, frame by frame, read into the events of a streamed answer.
//!
//! Source: "ConverseStreamOutput" in the Amazon Bedrock API reference. Texts and thoughts begin without a word, by their first
//! piece; every piece names its block by number, and more than one may be under way.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::error::of_frame;
use super::input::{Input, Wrong};
use super::reply::{stop_of, stop_sequence, usage};
use crate::error::{Code, Error};
use crate::model::chat::{BlockKind, Delta, Event, Stop};
use crate::wire::chat::Read;
use crate::wire::event_stream::{Frame, Kind};

/// The most bytes that are kept of blocks that come before an earlier one has ended (I4).
const MAX_HELD: usize = 4 << 20;

/// The state of one stream.
#[derive(Debug, Default)]
pub(crate) struct StreamReader {
    begun: bool,
    /// The number of the block that is told of now, and what it is, once that is known.
    open: Option<(u64, Option<Open>)>,
    /// Blocks that came before that one ended, in the order in which they did.
    held: VecDeque<Held>,
    held_bytes: usize,
    /// `messageStop` was seen.
    stopped: bool,
}

/// What the block that is told of is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    Hidden,
    Call,
}

#[derive(Debug)]
struct Held {
    index: u64,
    pieces: Vec<Piece<'static>>,
    ended: bool,
}

/// A piece of a block.
#[derive(Clone, Debug)]
enum Piece<'a> {
    Call { id: Cow<'a, str>, name: Cow<'a, str> },
    Arguments(Cow<'a, str>),
    Text(Cow<'a, str>),
    Thought(Cow<'a, str>),
    Signature(Cow<'a, str>),
    Hidden(Cow<'a, str>),
}

impl Piece<'_> {
    fn into_owned(self) -> Piece<'static> {
        let own = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        match self {
            Self::Call { id, name } => Piece::Call { id: own(id), name: own(name) },
            Self::Arguments(text) => Piece::Arguments(own(text)),
            Self::Text(text) => Piece::Text(own(text)),
            Self::Thought(text) => Piece::Thought(own(text)),
            Self::Signature(text) => Piece::Signature(own(text)),
            Self::Hidden(text) => Piece::Hidden(own(text)),
        }
    }

    /// What it takes while it is held.
    fn len(&self) -> usize {
        let words = match self {
            Self::Call { id, name } => id.len() + name.len(),
            Self::Arguments(text)
            | Self::Text(text)
            | Self::Thought(text)
            | Self::Signature(text)
            | Self::Hidden(text) => text.len(),
        };
        words + size_of::<Self>()
    }

    /// Whether it says something that a reader would show or act on.
    fn is_content(&self) -> bool {
        match self {
            Self::Call { .. } | Self::Hidden(_) => true,
            Self::Arguments(text) | Self::Text(text) | Self::Thought(text) => !text.is_empty(),
            Self::Signature(_) => false,
        }
    }
}

impl StreamReader {
    /// A stream of which nothing has come.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Whether the answer is whole: its tokens may still follow.
    pub(crate) fn is_complete(&self) -> bool {
        self.stopped
    }

    /// Reads the next frame.
    pub(crate) fn next(&mut self, frame: &Frame<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Read {
        if frame.kind != Kind::Event {
            return Read::Failed(of_frame(frame));
        }
        self.event(frame, emit).unwrap_or(Read::Garbage)
    }

    fn event(&mut self, frame: &Frame<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<Read, Wrong> {
        let mut input = Input::lenient(frame.payload)?;
        let mut content = false;
        match frame.name {
            "messageStart" => {
                input.raw()?;
                input.end()?;
                self.begin(emit);
            }
            // Nothing is left to be said of an answer that has ended.
            "contentBlockStart" | "contentBlockDelta" | "contentBlockStop" if self.stopped => {
                input.raw()?;
                input.end()?;
            }
            "contentBlockStart" | "contentBlockDelta" => {
                let (index, piece) = piece(&mut input)?;
                input.end()?;
                self.begin(emit);
                content = piece.as_ref().is_some_and(Piece::is_content);
                if let Err(error) = piece.map_or(Ok(()), |piece| self.piece(index, piece, emit)) {
                    return Ok(Read::Failed(error));
                }
            }
            "contentBlockStop" => {
                let (index, _) = piece(&mut input)?;
                input.end()?;
                self.end(index, emit);
            }
            "messageStop" => {
                let (stop, stop_text) = stop(&mut input)?;
                input.end()?;
                self.begin(emit);
                self.close(emit);
                while !self.held.is_empty() {
                    self.next_held(emit);
                    self.close(emit);
                }
                if !std::mem::replace(&mut self.stopped, true) {
                    emit(Event::End { stop, stop_text });
                }
            }
            "metadata" => {
                let mut tokens = None;
                input.object(|input, key| match key {
                    "usage" => {
                        tokens = Some(usage(input)?);
                        Ok(true)
                    }
                    _ => Ok(false),
                })?;
                input.end()?;
                if let Some(tokens) = tokens {
                    emit(Event::Tokens(tokens));
                }
                if self.stopped {
                    return Ok(Read::Done);
                }
            }
            // One that is newer than this.
            _ => {
                input.raw()?;
                input.end()?;
            }
        }
        Ok(Read::More { content })
    }

    fn begin(&mut self, emit: &mut dyn FnMut(Event<'_>)) {
        if !std::mem::replace(&mut self.begun, true) {
            emit(Event::Begin { id: None, model: None });
        }
    }

    fn piece(&mut self, index: u64, piece: Piece<'_>, emit: &mut dyn FnMut(Event<'_>)) -> Result<(), Error> {
        let (open, _) = *self.open.get_or_insert((index, None));
        if open == index {
            self.tell(piece, emit);
            return Ok(());
        }
        self.held_bytes += piece.len();
        if self.held_bytes > MAX_HELD {
            let text = "the provider's stream has more than one block under way, and too much of the later ones";
            return Err(Error::new(Code::UpstreamBadResponse, text));
        }
        match self.held.iter_mut().find(|held| held.index == index) {
            Some(held) => held.pieces.push(piece.into_owned()),
            None => self.held.push_back(Held { index, pieces: vec![piece.into_owned()], ended: false }),
        }
        Ok(())
    }

    /// Tells a piece of the block that is open.
    fn tell(&mut self, piece: Piece<'_>, emit: &mut dyn FnMut(Event<'_>)) {
        match piece {
            Piece::Call { id, name } => self.turn(Open::Call, BlockKind::ToolCall { id, name }, true, emit),
            Piece::Hidden(data) => self.turn(Open::Hidden, BlockKind::HiddenThinking(data), true, emit),
            Piece::Arguments(text) => {
                // Without a call that they belong to they mean nothing.
                if matches!(self.open, Some((_, Some(Open::Call)))) && !text.is_empty() {
                    emit(Event::Delta(Delta::Arguments(text)));
                }
            }
            Piece::Text(text) if !text.is_empty() => {
                self.turn(Open::Text, BlockKind::Text, false, emit);
                emit(Event::Delta(Delta::Text(text)));
            }
            Piece::Thought(text) if !text.is_empty() => {
                self.turn(Open::Thinking, BlockKind::Thinking, false, emit);
                emit(Event::Delta(Delta::Text(text)));
            }
            Piece::Signature(text) => {
                self.turn(Open::Thinking, BlockKind::Thinking, false, emit);
                emit(Event::Delta(Delta::Signature(text)));
            }
            Piece::Text(_) | Piece::Thought(_) => {}
        }
    }

    /// Makes the open block one of this kind: begins it, or, where Bedrock goes on with another under the same number, ends
    /// that before.
    fn turn(&mut self, open: Open, kind: BlockKind<'_>, anew: bool, emit: &mut dyn FnMut(Event<'_>)) {
        let Some((_, now)) = &mut self.open else { return };
        let before = now.replace(open);
        if before == Some(open) && !anew {
            return;
        }
        if before.is_some() {
            emit(Event::BlockEnd);
        }
        emit(Event::BlockBegin(kind));
    }

    /// A block has ended: now those are told of that came before it did.
    fn end(&mut self, index: u64, emit: &mut dyn FnMut(Event<'_>)) {
        match self.open {
            Some((open, _)) if open == index => {
                self.close(emit);
                while self.next_held(emit) {
                    self.close(emit);
                }
            }
            _ => {
                if let Some(held) = self.held.iter_mut().find(|held| held.index == index) {
                    held.ended = true;
                }
            }
        }
    }

    /// Tells what was held of the next block; `true` if it has ended.
    fn next_held(&mut self, emit: &mut dyn FnMut(Event<'_>)) -> bool {
        let Some(held) = self.held.pop_front() else { return false };
        self.open = Some((held.index, None));
        for piece in held.pieces {
            self.held_bytes -= piece.len();
            self.tell(piece, emit);
        }
        held.ended
    }

    fn close(&mut self, emit: &mut dyn FnMut(Event<'_>)) {
        if let Some((_, Some(_))) = self.open.take() {
            emit(Event::BlockEnd);
        }
    }
}

/// The number of a block, and what a frame says of it.
fn piece<'a>(input: &mut Input<'a>) -> Result<(u64, Option<Piece<'a>>), Wrong> {
    let (mut index, mut piece) = (None, None);
    input.object(|input, key| {
        match key {
            "contentBlockIndex" => index = Some(input.value("a whole number")?),
            "start" | "delta" => input.object(|input, key| {
                match key {
                    "text" => piece = Some(Piece::Text(input.string()?)),
                    "toolUse" => piece = Some(call(input)?),
                    "reasoningContent" => input.object(|input, key| {
                        piece = Some(match key {
                            "text" => Piece::Thought(input.string()?),
                            "signature" => Piece::Signature(input.string()?),
                            "redactedContent" => Piece::Hidden(input.string()?),
                            _ => return Ok(false),
                        });
                        Ok(true)
                    })?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    index.map_or_else(|| input.missing("contentBlockIndex"), |index| Ok((index, piece)))
}

/// How a call begins, or more of its arguments.
fn call<'a>(input: &mut Input<'a>) -> Result<Piece<'a>, Wrong> {
    let (mut id, mut name, mut arguments) = (None, None, None);
    input.object(|input, key| {
        match key {
            "toolUseId" => id = Some(input.string()?),
            "name" => name = Some(input.string()?),
            "input" => arguments = Some(input.string()?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    match (id, name, arguments) {
        (Some(id), Some(name), _) => Ok(Piece::Call { id, name }),
        (_, _, Some(arguments)) => Ok(Piece::Arguments(arguments)),
        _ => input.missing("toolUseId"),
    }
}

fn stop<'a>(input: &mut Input<'a>) -> Result<(Stop, Option<Cow<'a, str>>), Wrong> {
    let (mut stop, mut text) = (None, None);
    input.object(|input, key| {
        match key {
            "stopReason" => stop = Some(stop_of(&input.string()?)),
            "additionalModelResponseFields" => text = stop_sequence(input)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    stop.map_or_else(|| input.missing("stopReason"), |stop| Ok((stop, text)))
}
