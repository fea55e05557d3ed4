//! The trait of a provider that the program itself is.

use std::sync::Arc;

use super::{CallContext, ProviderError, ProviderVectors};
use crate::wire::openai::{ChatChunk, ChatRequest, EmbedRequest, ProviderReply};

/// The events of a stream, pulled one by one on the worker's thread. Dropped before its end if nobody reads on.
pub type ChunkIter = Box<dyn Iterator<Item = Result<ChatChunk, ProviderError>> + Send>;

/// A provider that the program itself is: a model in the process, a cache of answers, a protocol that the gateway lacks.
///
/// Its methods block, on a thread of the provider's pool; as many run at once as its
/// [`concurrency`](crate::ProviderSetup::concurrency) says. Nothing can interrupt them: one that runs past its limits holds
/// its worker until it returns, and its answer is thrown away then. Whoever takes long looks at
/// [`CallContext::is_cancelled`] now and then, or waits with [`CallContext::cancel`] in a `select!`. A panic fails its
/// request and no other.
///
/// ```
/// use sluicegate::custom::{CallContext, CustomProvider, ProviderError};
/// use sluicegate::{ChatRequest, Gateway, ProviderReply};
///
/// /// Says everything backwards.
/// struct Mirror;
///
/// impl CustomProvider for Mirror {
///     fn chat(&self, request: &ChatRequest, _: &CallContext<'_>) -> Result<ProviderReply, ProviderError> {
///         let last = request.messages.last().ok_or_else(|| ProviderError::new(400, "there is no message"))?;
///         Ok(ProviderReply::text(last.text().chars().rev().collect::<String>()).with_usage(1, 1))
///     }
///
///     fn models(&self) -> Result<Vec<String>, ProviderError> {
///         Ok(vec!["plain".to_owned()])
///     }
/// }
///
/// let gateway = Gateway::builder().custom_provider("mirror", Mirror).build()?;
/// assert_eq!(gateway.ask("mirror/plain", "abc")?, "cba");
/// assert_eq!(gateway.models()[0].to_string(), "mirror/plain");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait CustomProvider: Send + Sync + 'static {
    /// Answers a chat whole. `request.model` is the model's own name, without the provider's.
    ///
    /// # Errors
    /// Why there is no answer; what comes of it is told by the error's [status](ProviderError::new).
    fn chat(&self, request: &ChatRequest, context: &CallContext<'_>) -> Result<ProviderReply, ProviderError>;

    /// Answers a chat event by event. What it gives up to the first event can be tried again; an error after that ends the
    /// stream before the caller's eyes. A stream that never says why it finished has said all.
    ///
    /// By default the whole answer comes as one event.
    ///
    /// ```
    /// use sluicegate::custom::{CallContext, ChunkIter, CustomProvider, ProviderError};
    /// # use sluicegate::{ChatChunk, ChatRequest, Gateway, ProviderReply};
    ///
    /// struct Words;
    ///
    /// impl CustomProvider for Words {
    /// #   fn chat(&self, _: &ChatRequest, _: &CallContext<'_>) -> Result<ProviderReply, ProviderError> {
    /// #       Ok(ProviderReply::text("one two"))
    /// #   }
    ///     // …
    ///     fn chat_stream(&self, _: &ChatRequest, context: &CallContext<'_>) -> Result<ChunkIter, ProviderError> {
    ///         let cancel = context.cancel().clone();
    ///         let words = ["one ", "two"].into_iter().take_while(move |_| !cancel.is_cancelled());
    ///         Ok(Box::new(words.map(|word| Ok(ChatChunk::from_text(word)))))
    ///     }
    /// }
    ///
    /// let gateway = Gateway::builder().custom_provider("words", Words).build()?;
    /// let mut text = String::new();
    /// for chunk in gateway.chat_stream(&ChatRequest::new("words/any", "Go"))? {
    ///     text.push_str(chunk?.text());
    /// }
    /// assert_eq!(text, "one two");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`chat`](Self::chat).
    fn chat_stream(&self, request: &ChatRequest, context: &CallContext<'_>) -> Result<ChunkIter, ProviderError> {
        let reply = self.chat(request, context)?;
        Ok(Box::new(reply.into_chunks().into_iter().map(Ok)))
    }

    /// The vectors of some texts. By default it has none: `unsupported`.
    ///
    /// # Errors
    /// As [`chat`](Self::chat).
    fn embed(&self, request: &EmbedRequest, context: &CallContext<'_>) -> Result<ProviderVectors, ProviderError> {
        let _ = (request, context);
        Err(ProviderError::unsupported())
    }

    /// The models that it is known to have, by its own names; it may have more. By default none is known.
    ///
    /// Asked whenever somebody lists the models, on that one's thread, and by checks of the provider's health, so it should
    /// be quick; an error says that the provider is not there.
    ///
    /// # Errors
    /// If it is not there.
    fn models(&self) -> Result<Vec<String>, ProviderError> {
        Ok(Vec::new())
    }
}

impl<P: CustomProvider + ?Sized> CustomProvider for Arc<P> {
    fn chat(&self, request: &ChatRequest, context: &CallContext<'_>) -> Result<ProviderReply, ProviderError> {
        (**self).chat(request, context)
    }

    fn chat_stream(&self, request: &ChatRequest, context: &CallContext<'_>) -> Result<ChunkIter, ProviderError> {
        (**self).chat_stream(request, context)
    }

    fn embed(&self, request: &EmbedRequest, context: &CallContext<'_>) -> Result<ProviderVectors, ProviderError> {
        (**self).embed(request, context)
    }

    fn models(&self) -> Result<Vec<String>, ProviderError> {
        (**self).models()
    }
}
