//! How a request ended, as a plugin sees it afterwards, and a draft of what the plugin makes of it.

use std::cell::OnceCell;

use serde_json::Value;

use super::PluginError;
use super::reply::Reply;
use crate::error::Error;
use crate::model::{Call, Served, Usage};

/// What is known of a stream at its end.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use sluicegate::plugin::{Context, Outcome, Plugin, PluginError};
/// use sluicegate::{ChatRequest, Gateway};
///
/// /// Counts the bytes that were streamed.
/// #[derive(Default)]
/// struct Bytes(AtomicU64);
///
/// impl Plugin for Bytes {
///     fn name(&self) -> &str {
///         "bytes"
///     }
///
///     fn post(&self, outcome: &mut Outcome, _: &mut Context<'_>) -> Result<(), PluginError> {
///         self.0.fetch_add(outcome.stream().map_or(0, |stream| stream.bytes), Ordering::Relaxed);
///         Ok(())
///     }
/// }
///
/// let bytes = Arc::new(Bytes::default());
/// let gateway = Gateway::builder().plugin(Arc::clone(&bytes)).build()?;
/// gateway.ask("sim/echo", "Hello")?;
/// assert_eq!(bytes.0.load(Ordering::Relaxed), 0, "that was no stream");
/// gateway.chat_stream(&ChatRequest::new("sim/echo", "Hello"))?.collect_reply()?;
/// # gateway.shutdown(std::time::Duration::from_secs(5));
/// assert!(bytes.0.load(Ordering::Relaxed) > 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StreamSummary {
    /// Who answered, and where the time went until the first event.
    pub served: Served,
    /// The tokens, if the provider counted them; a stream that failed has none as a rule.
    pub usage: Option<Usage>,
    /// How many bytes of events went to the caller.
    pub bytes: u64,
}

/// How a request ended.
///
/// ```
/// use sluicegate::Gateway;
/// use sluicegate::plugin::{Context, Outcome, Plugin, PluginError, Reply};
///
/// /// Says something kind in the place of an error, and signs what a model says.
/// struct Kind;
///
/// impl Plugin for Kind {
///     fn name(&self) -> &str {
///         "kind"
///     }
///
///     fn post(&self, outcome: &mut Outcome, _: &mut Context<'_>) -> Result<(), PluginError> {
///         if outcome.error().is_some() {
///             outcome.answer_with(Reply::chat("Please come again later."));
///         } else if let Some(body) = outcome.json_mut() {
///             let text = &mut body["choices"][0]["message"]["content"];
///             *text = format!("{} (a machine)", text.as_str().unwrap_or_default()).into();
///         }
///         Ok(())
///     }
/// }
///
/// let gateway = Gateway::builder().plugin(Kind).build()?;
/// assert_eq!(gateway.ask("sim/fail-400", "Hello")?, "Please come again later.");
/// assert_eq!(gateway.ask("sim/echo", "Hello")?, "Hello (a machine)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Outcome {
    result: Result<Option<Reply>, Error>,
    /// What it was before a plugin put something else in its place.
    #[cfg(feature = "plugins")]
    came: Option<Result<Option<Reply>, Error>>,
    stream: Option<StreamSummary>,
    parsed: OnceCell<Option<Value>>,
    draft: Option<Draft>,
}

#[derive(Debug)]
enum Draft {
    Reply(Reply),
    Error(Error),
    Body(Value),
    /// An answer that was put in, with another body.
    Both(Reply, Value),
}

impl Outcome {
    /// A whole answer.
    pub(super) fn answered(reply: Reply) -> Self {
        Self::of(Ok(Some(reply)), None)
    }

    /// An error.
    pub(super) fn failed(error: Error) -> Self {
        Self::of(Err(error), None)
    }

    /// A stream that has ended, complete or with an error.
    pub(super) fn streamed(stream: StreamSummary, end: Result<(), Error>) -> Self {
        Self::of(end.map(|()| None), Some(stream))
    }

    fn of(result: Result<Option<Reply>, Error>, stream: Option<StreamSummary>) -> Self {
        Self {
            result,
            #[cfg(feature = "plugins")]
            came: None,
            stream,
            parsed: OnceCell::new(),
            draft: None,
        }
    }

    /// The whole answer, if there is one.
    #[must_use]
    pub fn reply(&self) -> Option<&Reply> {
        match &self.draft {
            Some(Draft::Reply(reply) | Draft::Both(reply, _)) => Some(reply),
            Some(Draft::Error(_)) => None,
            Some(Draft::Body(_)) | None => self.result.as_ref().ok()?.as_ref(),
        }
    }

    /// The error, if it ended with one.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        match &self.draft {
            Some(Draft::Error(error)) => Some(error),
            Some(Draft::Reply(_) | Draft::Both(..)) => None,
            Some(Draft::Body(_)) | None => self.result.as_ref().err(),
        }
    }

    /// The stream, if one had begun; it is complete if there is no [`error`](Self::error).
    #[must_use]
    pub fn stream(&self) -> Option<&StreamSummary> {
        self.stream.as_ref()
    }

    /// The tokens, if they were counted.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.stream.as_ref().map_or_else(|| self.reply()?.usage(), |stream| stream.usage)
    }

    /// Who answered, if a provider did.
    #[must_use]
    pub fn served(&self) -> Option<&Served> {
        self.stream.as_ref().map(|stream| &stream.served).or_else(|| self.reply()?.served())
    }

    /// The whole answer's body parsed; `None` if there is none, or it is no JSON.
    #[must_use]
    pub fn json(&self) -> Option<&Value> {
        match &self.draft {
            Some(Draft::Body(body) | Draft::Both(_, body)) => Some(body),
            Some(Draft::Error(_)) => None,
            Some(Draft::Reply(_)) | None => {
                let body = self.reply()?.body();
                self.parsed.get_or_init(|| serde_json::from_slice(body).ok()).as_ref()
            }
        }
    }

    /// The whole answer's body to be changed; `None` if there is none, or it is no JSON.
    pub fn json_mut(&mut self) -> Option<&mut Value> {
        if !matches!(self.draft, Some(Draft::Body(_) | Draft::Both(..))) {
            let body = self.json()?.clone();
            self.draft = Some(match self.draft.take() {
                Some(Draft::Reply(reply)) => Draft::Both(reply, body),
                _ => Draft::Body(body),
            });
        }
        match &mut self.draft {
            Some(Draft::Body(body) | Draft::Both(_, body)) => Some(body),
            _ => None,
        }
    }

    /// Makes it end with this answer. A stream that has begun stays what it is.
    pub fn answer_with(&mut self, reply: Reply) {
        self.parsed = OnceCell::new();
        self.draft = Some(Draft::Reply(reply));
    }

    /// Makes it end with this error. A stream that has begun stays what it is.
    pub fn fail_with(&mut self, error: Error) {
        self.draft = Some(Draft::Error(error));
    }

    /// Takes the draft of `plugin`, if there is one.
    pub(super) fn settle(&mut self, plugin: &str, call: &Call) -> Result<(), PluginError> {
        let Some(mut draft) = self.draft.take() else { return Ok(()) };
        if let Draft::Reply(reply) | Draft::Both(reply, _) = &mut draft
            && reply.served.is_none()
        {
            reply.origin.get_or_insert_with(|| (plugin.to_owned(), call.fields.model.clone()));
        }
        if self.stream.is_some() {
            return Err("it changed a stream that has been sent already".into());
        }
        self.parsed = OnceCell::new();
        match draft {
            Draft::Reply(reply) => self.put(Ok(Some(reply.in_shape_of(call)?))),
            Draft::Error(error) => self.put(Err(error)),
            Draft::Both(mut reply, body) => {
                reply.body = serde_json::to_vec(&body)?.into();
                self.put(Ok(Some(reply.in_shape_of(call)?)));
            }
            Draft::Body(body) => {
                if let Ok(Some(reply)) = &mut self.result {
                    reply.body = serde_json::to_vec(&body)?.into();
                    self.parsed = OnceCell::from(Some(body));
                }
            }
        }
        Ok(())
    }

    /// What it was before any plugin put something else in its place: what was tried and paid for stays so.
    #[cfg(feature = "plugins")]
    pub(super) fn came(&self) -> Result<Option<&Reply>, &Error> {
        self.came.as_ref().unwrap_or(&self.result).as_ref().map(Option::as_ref)
    }

    fn put(&mut self, result: Result<Option<Reply>, Error>) {
        let before = std::mem::replace(&mut self.result, result);
        #[cfg(feature = "plugins")]
        self.came.get_or_insert(before);
        #[cfg(not(feature = "plugins"))]
        drop(before);
    }

    /// Makes it end with this error, whatever a plugin wanted.
    pub(super) fn refuse(&mut self, error: Error) {
        self.forget();
        self.put(Err(error));
    }

    /// Throws the draft away.
    pub(super) fn forget(&mut self) {
        self.draft = None;
        self.parsed = OnceCell::new();
    }

    /// What it comes to; nothing for a stream, whose caller has it.
    pub(super) fn into_result(self) -> Result<Option<Reply>, Error> {
        self.result
    }
}
