//! Where a provider's routes live behind its base URL, and which it has: put together once, not for each request.

use std::borrow::Cow;

use crate::config::{self, Has};
use crate::error::{Code, Error};
use crate::model::Operation;
#[cfg(feature = "bedrock")]
use crate::wire::bedrock;
use crate::wire::percent::percent_encode;
use crate::wire::{Dialect, route};

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
    /// What stands behind every path: a version of Azure's interface.
    query: String,
    /// Whether a path names the model: the deployment, in those of Azure's versions that are dates.
    names_model: bool,
    /// What the provider has, as far as is known beforehand.
    has: [Has; 3],
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
            query: String::new(),
            names_model: false,
            has: [Has::Unsaid; 3],
        }
    }

    /// The routes of a provider.
    #[must_use]
    pub(crate) fn of_provider(provider: &config::Provider) -> Self {
        let (network, offer) = (&provider.network, &provider.offer);
        let mut paths = Self::under(network.api_prefix);
        if let Some(prefix) = offer.chat_prefix {
            paths.chat = format!("{prefix}{}", route(&Operation::ChatCompletions).unwrap_or_default());
        }
        if let Some(version) = &network.api_version {
            paths.query = format!("?api-version={version}");
            paths.names_model = network.api_prefix.is_empty();
            for path in [&mut paths.responses, &mut paths.models] {
                path.push_str(&paths.query);
            }
            if !paths.names_model {
                for path in [&mut paths.chat, &mut paths.completions, &mut paths.embeddings] {
                    path.push_str(&paths.query);
                }
            }
        }
        paths.has = [offer.completions, offer.embeddings, offer.responses];
        paths
    }

    /// Where the list of models is had.
    pub(super) fn models(&self) -> &str {
        &self.models
    }

    /// The same of a list that is to be whole: Anthropic gives twenty models unless it is asked for more, a thousand at most
    /// ("List Models").
    pub(super) fn whole_list(&self, dialects: &[Dialect]) -> Cow<'_, str> {
        match dialects.first() {
            Some(Dialect::Anthropic) => Cow::Owned(format!("{}?limit=1000", self.models)),
            _ => Cow::Borrowed(&self.models),
        }
    }

    /// Sees to it that the provider is not known to lack this.
    ///
    /// # Errors
    /// [`Code::Unsupported`], naming the route, if it is.
    pub(super) fn check(&self, operation: &Operation) -> Result<(), Error> {
        let [completions, embeddings, responses] = self.has;
        let has = match operation {
            Operation::Completions => completions,
            Operation::Embeddings => embeddings,
            Operation::Responses => responses,
            _ => return Ok(()),
        };
        if has == Has::No {
            let route = route(operation).unwrap_or_default();
            return Err(Error::new(
                Code::Unsupported,
                format!("this provider has no {route}, as its documentation says"),
            ));
        }
        Ok(())
    }

    /// Where this is asked of `model`, by the provider's own name for it, streamed or not; where the route says neither, it is
    /// the same for all.
    #[cfg_attr(
        not(feature = "bedrock"),
        expect(unused_variables, reason = "no other route says whether it is streamed")
    )]
    pub(super) fn of(&self, operation: &Operation, model: &str, stream: bool) -> Cow<'_, str> {
        let path = match operation {
            Operation::ChatCompletions => &self.chat,
            Operation::Completions => &self.completions,
            Operation::Embeddings => &self.embeddings,
            Operation::Responses => return Cow::Borrowed(&self.responses),
            Operation::Messages => &self.messages,
            Operation::CountTokens => &self.count_tokens,
            #[cfg(feature = "bedrock")]
            Operation::Converse(_) | Operation::Invoke(_) => {
                let path = bedrock::path(operation, model, stream).unwrap_or_default();
                return Cow::Owned(format!("{}{path}", self.prefix));
            }
            Operation::Forward(forward) => {
                let query =
                    if forward.path.contains('?') { self.query.replacen('?', "&", 1) } else { self.query.clone() };
                return Cow::Owned(format!("{}{}{query}", self.prefix, forward.path));
            }
        };
        if self.names_model {
            return Cow::Owned(format!("{}/deployments/{}{path}{}", self.prefix, escaped(model), self.query));
        }
        Cow::Borrowed(path)
    }
}

/// A name as a segment of a path, percent-encoded; the dots of `.` and `..`, which lead elsewhere, are, too.
fn escaped(name: &str) -> String {
    if name.bytes().all(|byte| byte == b'.') {
        return "%2E".repeat(name.len());
    }
    let mut out = String::with_capacity(name.len());
    percent_encode(name, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::model::Forward;

    /// The paths of Azure in a version of its interface.
    fn azure(version: &str) -> Paths {
        let key = format!(
            r#"{{"value":"k","azure_key_config":{{"endpoint":"https://r.example","api_version":"{version}"}}}}"#
        );
        let document = format!(r#"{{"providers":{{"azure":{{"keys":[{key}]}}}}}}"#);
        let config = Config::from_json(&document, &|_: &str| None).expect("it is right");
        Paths::of_provider(&config.providers[0])
    }

    #[test]
    fn azures_version_stands_behind_every_path_and_a_query() {
        let forward = |path: &str| {
            let path = path.to_owned();
            Operation::Forward(Forward { method: "GET", path, content_type: None, accept: None })
        };
        for (version, models, chat) in [
            ("v1", "/v1/models", "/v1/chat/completions"),
            ("preview", "/v1/models?api-version=preview", "/v1/chat/completions?api-version=preview"),
            ("2024-10-21", "/models?api-version=2024-10-21", "/deployments/m/chat/completions?api-version=2024-10-21"),
        ] {
            let paths = azure(version);
            assert_eq!((paths.models(), &*paths.of(&Operation::ChatCompletions, "m", false)), (models, chat));
        }
        let paths = azure("2024-10-21");
        assert_eq!(paths.of(&forward("/files"), "", false), "/files?api-version=2024-10-21");
        assert_eq!(paths.of(&forward("/files?limit=2"), "", false), "/files?limit=2&api-version=2024-10-21");
        assert_eq!(azure("v1").of(&forward("/files?limit=2"), "", false), "/v1/files?limit=2");
    }
}
