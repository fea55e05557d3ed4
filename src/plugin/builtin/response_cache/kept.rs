//! An answer as it is kept, and how one that is streamed is recorded.
//!
//! **Protocol.** A recorder looks at a stream's events on the worker that relays them, and puts down each as it came to it. At
//! the stream's end, if it is complete, it hands the recording over by the slot that `post` looks into; in every other case
//! it takes it along when it goes.
//!
//! **Invariants.** I4: what is recorded is reserved in the store first, in steps that double.

use std::sync::Arc;
use std::time::Instant;

use super::shared::Shared;
use crate::model::{Served, Usage};
use crate::plugin::{Event, EventHook, PluginError, Reply, StreamReply};
use crate::sync::locks::Leaf;

/// What a recording begins with, in bytes.
const FIRST: usize = 4 << 10;

/// What an [`Arc`] has beside its value: two counts.
const COUNTS: usize = 2 * size_of::<usize>();

/// An answer that is kept.
pub(super) struct Kept {
    /// The body, or the events, framed.
    bytes: Box<[u8]>,
    content_type: Option<Box<str>>,
    usage: Option<Usage>,
    provider: Arc<str>,
    model: Box<str>,
    /// When it was asked for, if that is known.
    asked: Option<Instant>,
}

impl Kept {
    /// An answer that a provider gave whole. Of its headers one says something about the answer; the others speak of the
    /// exchange in which it came.
    pub(super) fn whole(reply: &Reply, served: &Served) -> Self {
        let content_type = reply.headers().iter().find(|(name, _)| name == "content-type");
        let content_type = content_type.map(|(_, value)| value.as_str().into());
        Self { bytes: reply.body().into(), content_type, ..Self::empty(served, reply.usage()) }
    }

    /// The events of a stream that is complete.
    pub(super) fn streamed(events: Vec<u8>, served: &Served, usage: Option<Usage>) -> Self {
        Self { bytes: events.into(), ..Self::empty(served, usage) }
    }

    fn empty(served: &Served, usage: Option<Usage>) -> Self {
        let (provider, model) = (Arc::clone(&served.provider), served.model.as_str().into());
        Self { bytes: Box::default(), content_type: None, usage, provider, model, asked: None }
    }

    /// Says when it was asked for.
    pub(super) fn asked_at(mut self, asked: Instant) -> Self {
        self.asked = Some(asked);
        self
    }

    /// Whether it was asked for after `other` was.
    pub(super) fn is_newer_than(&self, other: &Self) -> bool {
        self.asked > other.asked
    }

    /// What it takes, in bytes; the provider's name is the gateway's own.
    pub(super) fn cost(&self) -> usize {
        let content_type = self.content_type.as_ref().map_or(0, |text| text.len());
        size_of::<Self>() + COUNTS + self.bytes.len() + content_type + self.model.len()
    }

    /// The same as an answer.
    pub(super) fn reply(&self) -> Reply {
        let mut reply = Reply::bytes(&*self.bytes).with_origin(&self.provider, &self.model);
        let content_type = self.content_type.iter().map(|text| ("content-type".to_owned(), text.to_string()));
        reply.headers = content_type.collect();
        match self.usage {
            Some(usage) => reply.with_usage(usage),
            None => reply,
        }
    }

    /// The same as a stream.
    pub(super) fn stream(&self) -> StreamReply {
        let stream = StreamReply::new().with_framed(&self.bytes).with_origin(&self.provider, &self.model);
        match self.usage {
            Some(usage) => stream.with_usage(usage),
            None => stream,
        }
    }
}

/// Shows no bytes: they are a user's words (I10).
impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// Where a recording is handed over.
pub(super) type Tape = Arc<Leaf<Option<Recording>>>;

/// Bytes with what is reserved for them.
pub(super) struct Recording {
    bytes: Vec<u8>,
    reserved: usize,
    shared: Arc<Shared>,
}

impl Recording {
    /// Makes room for `more` bytes; `false` if there is none.
    fn grow(&mut self, more: usize) -> bool {
        let needed = self.bytes.len().saturating_add(more);
        if needed > self.shared.max_entry_bytes() {
            return false;
        }
        if needed > self.reserved {
            let wanted = needed.max(2 * self.reserved).max(FIRST).min(self.shared.max_entry_bytes());
            if !self.shared.reserve(wanted - self.reserved) {
                return false;
            }
            self.reserved = wanted;
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        true
    }

    /// The bytes; what is reserved for them stays so.
    pub(super) fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Hands over what is reserved.
    pub(super) fn take_reserved(&mut self) -> usize {
        std::mem::take(&mut self.reserved)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        drop(std::mem::take(&mut self.bytes));
        if self.reserved > 0 {
            self.shared.release(self.reserved);
        }
    }
}

/// Records the events of one stream.
pub(super) struct Recorder {
    /// None once there is no room for it.
    recording: Option<Recording>,
    tape: Tape,
}

impl Recorder {
    pub(super) fn new(shared: Arc<Shared>, tape: Tape) -> Self {
        let recording = Some(Recording { bytes: Vec::new(), reserved: 0, shared });
        Self { recording, tape }
    }
}

impl EventHook for Recorder {
    fn event(&mut self, event: &mut Event<'_>) -> Result<(), PluginError> {
        let Some(recording) = &mut self.recording else { return Ok(()) };
        let raw = event.raw();
        if recording.grow(raw.len()) {
            recording.bytes.extend_from_slice(&raw);
        } else {
            self.recording = None;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<Vec<serde_json::Value>, PluginError> {
        let recording = self.recording.take();
        *self.tape.lock() = recording;
        Ok(Vec::new())
    }
}
