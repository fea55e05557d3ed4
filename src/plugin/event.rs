//! The events of a running stream, as plugins see them one by one.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;

use serde_json::Value;

use super::PluginError;
use crate::wire::pieces::Framing;

/// What looks at the events of one stream. It belongs to that stream alone and may keep what it needs.
///
/// ```
/// use sluicegate::plugin::{Context, Event, EventHook, Plugin, PluginError};
/// use sluicegate::serde_json::Value;
/// use sluicegate::{ChatRequest, Gateway};
///
/// /// Makes every streamed word loud.
/// struct Loud;
///
/// impl EventHook for Loud {
///     fn event(&mut self, event: &mut Event<'_>) -> Result<(), PluginError> {
///         let text = event.json_mut().and_then(|data| data.pointer_mut("/choices/0/delta/content"));
///         if let Some(Value::String(text)) = text {
///             *text = text.to_uppercase();
///         }
///         Ok(())
///     }
/// }
///
/// impl Plugin for Loud {
///     fn name(&self) -> &str {
///         "loud"
///     }
///
///     fn events(&self, _: &mut Context<'_>) -> Option<Box<dyn EventHook>> {
///         Some(Box::new(Self))
///     }
/// }
///
/// let gateway = Gateway::builder().plugin(Loud).build()?;
/// let stream = gateway.chat_stream(&ChatRequest::new("sim/echo", "What is a sluice gate?"))?;
/// assert_eq!(stream.collect_reply()?.text(), "WHAT IS A SLUICE GATE?");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait EventHook: Send {
    /// An event is on its way to the caller: changes it, or takes it away.
    ///
    /// # Errors
    /// Its own failure: the event goes on as it was and the hook hears no more, or the stream ends, as the plugin's
    /// [`on_failure`](super::Plugin::on_failure) says.
    fn event(&mut self, event: &mut Event<'_>) -> Result<(), PluginError>;

    /// The stream is complete: what is put before its end, each the data of one event. It is not called for a stream that
    /// fails.
    ///
    /// # Errors
    /// As [`event`](Self::event).
    fn end(&mut self) -> Result<Vec<Value>, PluginError> {
        Ok(Vec::new())
    }
}

/// One event of a stream; comments are not among them, nor is `[DONE]`.
///
/// ```
/// use std::sync::Arc;
/// use sluicegate::plugin::{Context, Event, EventHook, Plugin, PluginError};
/// use sluicegate::testing::{Canned, Script};
/// use sluicegate::{ChatRequest, Gateway};
///
/// /// Leaves out what is marked as a thought.
/// struct Thoughts;
///
/// impl EventHook for Thoughts {
///     fn event(&mut self, event: &mut Event<'_>) -> Result<(), PluginError> {
///         let text = event.json().and_then(|data| data.pointer("/choices/0/delta/content")?.as_str());
///         if text.is_some_and(|text| text.starts_with('~')) {
///             event.remove();
///         }
///         Ok(())
///     }
/// }
///
/// # impl Plugin for Thoughts {
/// #     fn name(&self) -> &str {
/// #         "thoughts"
/// #     }
/// #     fn events(&self, _: &mut Context<'_>) -> Option<Box<dyn EventHook>> {
/// #         Some(Box::new(Self))
/// #     }
/// # }
/// // … as in the example of `EventHook` …
/// let script = Script::new().then(Canned::stream(["~they greet, so do I", "Good ", "evening."]));
/// let gateway = Gateway::builder().plugin(Thoughts).transport("p", Arc::new(script)).build()?;
/// let stream = gateway.chat_stream(&ChatRequest::new("p/m", "Good evening."))?;
/// assert_eq!(stream.collect_reply()?.text(), "Good evening.");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Event<'a> {
    name: &'a [u8],
    data: &'a [u8],
    /// As it was framed; `None` if a hook before has changed it.
    raw: Option<&'a [u8]>,
    framing: Framing,
    parsed: OnceCell<Option<Value>>,
    draft: Option<Draft>,
    before: Vec<Inserted>,
}

/// An event that is put before another: its name, which may be empty, and its data.
pub(super) type Inserted = (String, Value);

enum Draft {
    Data(Value),
    Gone,
}

impl<'a> Event<'a> {
    pub(super) fn new(framing: Framing, name: &'a [u8], data: &'a [u8], raw: Option<&'a [u8]>) -> Self {
        Self { name, data, raw, framing, parsed: OnceCell::new(), draft: None, before: Vec::new() }
    }

    /// Its `event` field, or what its frame is called; empty if it has none.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.name
    }

    /// Its data as it came to this hook.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.data
    }

    /// All of it as it came to this hook, framed, with its blank line where it has one: byte for byte as the provider sent it, unless a hook
    /// before has changed it.
    #[must_use]
    pub fn raw(&self) -> Cow<'a, [u8]> {
        self.raw.map_or_else(
            || {
                let mut framed = Vec::new();
                self.framing.write(self.name, self.data, &mut framed);
                Cow::Owned(framed)
            },
            Cow::Borrowed,
        )
    }

    /// Its data parsed; `None` if it is no JSON, or was taken away.
    #[must_use]
    pub fn json(&self) -> Option<&Value> {
        match &self.draft {
            Some(Draft::Data(data)) => Some(data),
            Some(Draft::Gone) => None,
            None => self.parsed.get_or_init(|| serde_json::from_slice(self.data).ok()).as_ref(),
        }
    }

    /// Its data to be changed.
    pub fn json_mut(&mut self) -> Option<&mut Value> {
        if self.draft.is_none() {
            self.draft = Some(Draft::Data(self.json()?.clone()));
        }
        match &mut self.draft {
            Some(Draft::Data(data)) => Some(data),
            _ => None,
        }
    }

    /// Takes it away: the caller does not see it.
    pub fn remove(&mut self) {
        self.draft = Some(Draft::Gone);
    }

    /// Puts another event before it, behind those put there already; `name` is its `event` field, and empty for none.
    pub fn put_before(&mut self, name: &str, data: Value) {
        self.before.push((name.to_owned(), data));
    }

    /// What it comes to, nothing new, nothing at all, or this data; and what stands before it.
    pub(super) fn into_change(self) -> (Vec<Inserted>, Change) {
        let change = match self.draft {
            None => Change::None,
            Some(Draft::Gone) => Change::Gone,
            Some(Draft::Data(data)) => Change::Data(data.to_string().into_bytes()),
        };
        (self.before, change)
    }
}

/// What a hook made of an event.
pub(super) enum Change {
    None,
    Gone,
    Data(Vec<u8>),
}

/// Shows no data: it holds a user's words.
impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("bytes", &self.data.len()).finish_non_exhaustive()
    }
}
