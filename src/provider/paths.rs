//! Where a provider's routes live behind its base URL: put together once, not for each request.

use std::borrow::Cow;

use crate::model::Operation;
use crate::wire::route;

/// A provider's routes.
#[derive(Clone, Debug)]
pub struct Paths {
    prefix: String,
    chat: String,
    completions: String,
    embeddings: String,
    responses: String,
    messages: String,
    count_tokens: String,
    models: String,
}

impl Paths {
    /// The routes behind `prefix`, which is `/v1`, or empty where the base URL names its version itself.
    #[must_use]
    pub fn under(prefix: &str) -> Self {
        let path = |operation| format!("{prefix}{}", route(&operation).unwrap_or_default());
        Self {
            prefix: prefix.to_owned(),
            chat: path(Operation::ChatCompletions),
            completions: path(Operation::Completions),
            embeddings: path(Operation::Embeddings),
            responses: path(Operation::Responses),
            messages: path(Operation::Messages),
            count_tokens: path(Operation::CountTokens),
            models: format!("{prefix}/models"),
        }
    }

    /// Where the list of models is had.
    pub(super) fn models(&self) -> &str {
        &self.models
    }

    /// Where this is asked for.
    pub(super) fn of(&self, operation: &Operation) -> Cow<'_, str> {
        Cow::Borrowed(match operation {
            Operation::ChatCompletions => &self.chat,
            Operation::Completions => &self.completions,
            Operation::Embeddings => &self.embeddings,
            Operation::Responses => &self.responses,
            Operation::Messages => &self.messages,
            Operation::CountTokens => &self.count_tokens,
            Operation::Forward(forward) => return Cow::Owned(format!("{}{}", self.prefix, forward.path)),
        })
    }
}
