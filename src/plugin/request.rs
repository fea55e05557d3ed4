//! A request as a plugin sees it before it goes anywhere: its body, and a draft of what the plugin makes of it.

use std::cell::OnceCell;
use std::fmt;

use serde_json::Value;

use super::PluginError;
use crate::model::{BodyFields, Call, Operation};
use crate::wire;
use crate::wire::pieces::Framing;

/// A request on its way to a provider.
///
/// ```
/// use std::sync::Arc;
/// use sluicegate::Gateway;
/// use sluicegate::plugin::{Context, Flow, Plugin, PluginError, Request};
/// use sluicegate::testing::{Canned, Script};
///
/// /// Keeps every answer short.
/// struct Short(u64);
///
/// impl Plugin for Short {
///     fn name(&self) -> &str {
///         "short"
///     }
///
///     fn pre(&self, request: &mut Request<'_>, _: &mut Context<'_>) -> Result<Flow, PluginError> {
///         if let Some(body) = request.json_mut() {
///             let most = body["max_tokens"].as_u64().unwrap_or(self.0).min(self.0);
///             body["max_tokens"] = most.into();
///         }
///         Ok(Flow::Continue)
///     }
/// }
///
/// let script = Script::new().then(Canned::text("fine"));
/// let gateway = Gateway::builder().plugin(Short(50)).transport("p", Arc::new(script.clone())).build()?;
/// gateway.ask("p/m", "How are you?")?;
/// assert_eq!(script.requests()[0].body["max_tokens"], 50);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Request<'a> {
    call: &'a Call,
    /// What the plugins before have made of it.
    changed: Option<(Vec<u8>, BodyFields)>,
    parsed: OnceCell<Option<Value>>,
    draft: Option<Value>,
    /// The model that a plugin has chosen where the body names none.
    renamed: Option<String>,
}

impl<'a> Request<'a> {
    pub(super) fn new(call: &'a Call) -> Self {
        Self { call, changed: None, parsed: OnceCell::new(), draft: None, renamed: None }
    }

    /// What is asked for.
    #[must_use]
    pub fn operation(&self) -> &Operation {
        &self.call.operation
    }

    /// The body as it would go now, without what this hook has changed.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.changed.as_ref().map_or(&self.call.body, |(body, _)| body)
    }

    /// The model that it names now; empty for what is forwarded.
    #[must_use]
    pub fn model(&self) -> &str {
        match &self.draft {
            _ if self.is_named_beside() => self.renamed.as_deref().unwrap_or(&self.fields().model),
            Some(draft) => draft.get("model").and_then(Value::as_str).unwrap_or_default(),
            None => &self.fields().model,
        }
    }

    /// Whether a stream is asked for; no plugin can change that.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.call.fields.stream
    }

    /// The body parsed; `None` if it is no JSON, as that of what is forwarded may be, or none that can be read here: half a
    /// surrogate pair and a number beyond all bounds pass for JSON with some readers. One of the latter goes past no plugin
    /// that has looked and must not be left out ([`OnFailure::Refuse`](super::OnFailure)); the caller is told
    /// `invalid_request`.
    #[must_use]
    pub fn json(&self) -> Option<&Value> {
        match &self.draft {
            Some(draft) => Some(draft),
            None => self.parsed.get_or_init(|| serde_json::from_slice(self.body()).ok()).as_ref(),
        }
    }

    /// The body to be changed; `None` if it is no JSON. What is not changed is written as it was, as far as JSON has a
    /// meaning: blanks, the writing of numbers and the like may come out otherwise.
    pub fn json_mut(&mut self) -> Option<&mut Value> {
        if self.draft.is_none() {
            self.draft = Some(self.json()?.clone());
        }
        self.draft.as_mut()
    }

    /// Sends it to another model: `provider/model`, or an alias. What the caller may not name it is refused for.
    pub fn set_model(&mut self, model: &str) {
        if self.is_named_beside() {
            self.renamed = Some(model.to_owned());
        } else if let Some(Value::Object(body)) = self.json_mut() {
            body.insert("model".to_owned(), model.into());
        }
    }

    /// Whether the route names the model, and not the body.
    fn is_named_beside(&self) -> bool {
        Framing::of(&self.call.operation) != Framing::Events
    }

    /// What routing needs of the body as it would go now.
    pub(super) fn fields(&self) -> &BodyFields {
        self.changed.as_ref().map_or(&self.call.fields, |(_, fields)| fields)
    }

    /// Takes the draft, if there is one.
    pub(super) fn settle(&mut self) -> Result<(), PluginError> {
        let renamed = self.renamed.take();
        let Some(draft) = self.draft.take() else {
            if let Some(model) = renamed {
                let fields = BodyFields { model, ..self.fields().clone() };
                self.changed = Some((self.body().to_vec(), fields));
            }
            return Ok(());
        };
        let body = serde_json::to_vec(&draft)?;
        let mut fields = wire::parse(&self.call.operation, &body)
            .map_err(|error| format!("what it made of the request is none: {}", error.message()))?;
        if fields.stream != self.call.fields.stream {
            return Err("it changed whether a stream is asked for".into());
        }
        if self.is_named_beside() {
            fields.model = renamed.unwrap_or_else(|| self.fields().model.clone());
        }
        let before = self.parsed.get().and_then(Option::as_ref);
        if draft.get("fallbacks") == before.and_then(|body| body.get("fallbacks")) {
            // They may have come beside the body.
            fields.fallbacks.clone_from(&self.fields().fallbacks);
        }
        self.changed = Some((body, fields));
        self.parsed = OnceCell::from(Some(draft));
        Ok(())
    }

    /// Whether a hook has looked for JSON where there had to be some, and found none that it can read: what readers differ
    /// about, such as half a surrogate pair, or a number beyond all bounds.
    pub(super) fn is_unreadable(&self) -> bool {
        matches!(self.parsed.get(), Some(None)) && !self.call.operation.is_forward()
    }

    /// Throws the draft away.
    pub(super) fn forget(&mut self) {
        (self.draft, self.renamed) = (None, None);
    }

    /// What became of the body, if anything was changed.
    pub(super) fn into_changed(self) -> Option<(Vec<u8>, BodyFields)> {
        self.changed
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("model", &self.model()).field("changed", &self.changed.is_some()).finish()
    }
}
