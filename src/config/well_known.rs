//! Providers by name: a table of data, a line each, from each one's own documentation.
//!
//! A line says where a provider lives, what carries its key and which variable holds it, which routes of OpenAI's interface it
//! has, and some of its models. The models are for people who look at `/v1/models`: nothing is refused because it does not
//! stand there. A route is refused only where the documentation says that there is none; where it says nothing, the
//! provider's own answer decides. The table in the README has the same lines, which a test here compares.

use super::types::{Has, KeyHeader, Kind, Offer};

/// A provider that is known by its name.
#[derive(Clone, Copy)]
pub(super) struct WellKnown {
    /// Its name in the configuration and in `provider/model`.
    pub(super) name: &'static str,
    /// How it is spoken to.
    pub(super) kind: Kind,
    /// What carries its key.
    pub(super) key_header: KeyHeader,
    /// Where it lives; none for one that lives somewhere else for everybody.
    pub(super) base_url: Option<&'static str>,
    /// The variable that holds its key; none for one that runs on the user's own machine.
    pub(super) key_variable: Option<&'static str>,
    /// The variable that says where it lives instead.
    pub(super) url_variable: Option<&'static str>,
    /// What it has.
    pub(super) offer: Offer,
    /// Models of its that are most asked for, under its own names; none for one that serves what its user put on it.
    pub(super) models: &'static [&'static str],
}

impl WellKnown {
    /// The same of one whose paths of chats begin with something else.
    const fn chat_under(mut self, prefix: &'static str) -> Self {
        self.offer.chat_prefix = Some(prefix);
        self
    }

    /// The same of one that refuses `stream_options` and says the tokens of a stream unasked.
    const fn says_usage_unasked(mut self) -> Self {
        self.offer.stream_usage = false;
        self
    }
}

use Has::{No, Unsaid, Yes};

/// One in the cloud that speaks OpenAI's shapes. `[completions, embeddings, responses]` is what it has beside chats.
const fn cloud(
    name: &'static str,
    base_url: &'static str,
    key_variable: &'static str,
    has: [Has; 3],
    models: &'static [&'static str],
) -> WellKnown {
    let [completions, embeddings, responses] = has;
    WellKnown {
        name,
        kind: Kind::OpenAi,
        key_header: KeyHeader::BEARER,
        base_url: Some(base_url),
        key_variable: Some(key_variable),
        url_variable: None,
        offer: Offer { completions, embeddings, responses, ..Offer::UNSAID },
        models,
    }
}

/// One on the user's own machine.
const fn local(name: &'static str, base_url: &'static str, has: [Has; 3]) -> WellKnown {
    WellKnown { key_variable: None, ..cloud(name, base_url, "", has, &[]) }
}

/// The providers that are known by name.
#[rustfmt::skip] // A line each.
pub(super) const WELL_KNOWN: &[WellKnown] = &[
    WellKnown { url_variable: Some("OPENAI_BASE_URL"), ..cloud("openai", "https://api.openai.com", "OPENAI_API_KEY", [Yes, Yes, Yes],
        &["gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-4o", "gpt-4o-mini", "gpt-5", "gpt-5-mini", "gpt-5-nano", "gpt-3.5-turbo-instruct", "o3", "o4-mini", "text-embedding-3-small", "text-embedding-3-large"]) },
    WellKnown { kind: Kind::Anthropic, key_header: KeyHeader::plain("x-api-key"), ..cloud("anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY", [No, No, No],
        &["claude-opus-4-6", "claude-sonnet-4-6", "claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5", "claude-opus-4-1"]) },
    // Profiles that route a request within a geography: most models are had by one alone. The address is that of the usual region.
    #[cfg(feature = "bedrock")]
    WellKnown { kind: Kind::Bedrock, ..cloud("bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com", "AWS_BEARER_TOKEN_BEDROCK", [No, No, No],
        &["us.anthropic.claude-sonnet-4-5-20250929-v1:0", "us.anthropic.claude-haiku-4-5-20251001-v1:0", "us.anthropic.claude-opus-4-1-20250805-v1:0", "us.amazon.nova-pro-v1:0", "us.amazon.nova-lite-v1:0", "us.amazon.nova-micro-v1:0", "us.meta.llama3-3-70b-instruct-v1:0", "openai.gpt-oss-120b-1:0"]) },
    // "Azure OpenAI in Microsoft Foundry Models v1 API", and the REST API reference for versions that are dates.
    WellKnown { base_url: None, url_variable: Some("AZURE_OPENAI_ENDPOINT"), key_header: KeyHeader::plain("api-key"), ..cloud("azure", "", "AZURE_OPENAI_API_KEY", [Yes, Yes, Yes], &[]) },
    // "OpenAI Compatibility": text completions are not supported.
    cloud("groq", "https://api.groq.com/openai", "GROQ_API_KEY", [No, Unsaid, Yes],
        &["llama-3.1-8b-instant", "llama-3.3-70b-versatile", "openai/gpt-oss-20b", "openai/gpt-oss-120b"]),
    // `stream_options` is an "extra input" that is "not permitted" (422); the last chunk of a stream has its tokens.
    cloud("mistral", "https://api.mistral.ai", "MISTRAL_API_KEY", [Unsaid, Yes, Unsaid],
        &["mistral-large-latest", "mistral-medium-latest", "mistral-small-latest", "codestral-latest", "mistral-embed"]).says_usage_unasked(),
    cloud("gemini", "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY", [Unsaid, Yes, Unsaid],
        &["gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-embedding-001"]),
    // The completions that it has are under `/beta`, and the API reference has no embeddings.
    cloud("deepseek", "https://api.deepseek.com", "DEEPSEEK_API_KEY", [Unsaid, No, Unsaid],
        &["deepseek-v4-flash", "deepseek-v4-pro"]),
    cloud("together", "https://api.together.ai", "TOGETHER_API_KEY", [Yes, Yes, Unsaid],
        &["openai/gpt-oss-20b", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "deepseek-ai/DeepSeek-V3"]),
    cloud("fireworks", "https://api.fireworks.ai/inference", "FIREWORKS_API_KEY", [Yes, Yes, Yes],
        &["accounts/fireworks/models/gpt-oss-120b", "accounts/fireworks/models/deepseek-v3", "accounts/fireworks/models/llama-v3p3-70b-instruct"]),
    cloud("openrouter", "https://openrouter.ai/api", "OPENROUTER_API_KEY", [Yes, Yes, Yes],
        &["openrouter/auto", "openai/gpt-4o-mini", "anthropic/claude-sonnet-4.5", "google/gemini-2.5-flash"]),
    cloud("xai", "https://api.x.ai", "XAI_API_KEY", [Unsaid, Unsaid, Yes],
        &["grok-4.3", "grok-4", "grok-3-mini"]),
    // "OpenAI compatibility" of Sonar: chats have no `/v1`; of the Agent API and the embeddings: they have.
    cloud("perplexity", "https://api.perplexity.ai", "PERPLEXITY_API_KEY", [No, Yes, Yes],
        &["sonar", "sonar-pro", "sonar-reasoning-pro", "sonar-deep-research", "pplx-embed-v1-0.6b", "pplx-embed-v1-4b"]).chat_under(""),
    cloud("cerebras", "https://api.cerebras.ai", "CEREBRAS_API_KEY", [Yes, Unsaid, Unsaid],
        &["gpt-oss-120b", "zai-glm-4.7"]),
    cloud("nebius", "https://api.studio.nebius.com", "NEBIUS_API_KEY", [Yes, Yes, Unsaid],
        &["meta-llama/Llama-3.3-70B-Instruct", "deepseek-ai/DeepSeek-V3"]),
    cloud("parasail", "https://api.parasail.io", "PARASAIL_API_KEY", [Unsaid, Unsaid, Unsaid],
        &["parasail-llama-33-70b-fp8"]),
    local("ollama", "http://localhost:11434", [Yes, Yes, Yes]),
    local("vllm", "http://localhost:8000", [Yes, Yes, Yes]),
    local("sgl", "http://localhost:30000", [Yes, Yes, Unsaid]),
];

/// The well-known provider of this name.
pub(super) fn well_known(name: &str) -> Option<&'static WellKnown> {
    WELL_KNOWN.iter().find(|known| known.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{base_url, known};

    #[test]
    fn every_built_in_address_is_right_and_every_name_stands_once() {
        let mut names: Vec<_> = WELL_KNOWN.iter().map(|known| known.name).collect();
        names.extend(known::OTHERS);
        for known in WELL_KNOWN {
            let Some(base_url) = known.base_url else {
                assert!(known.url_variable.is_some(), "{}", known.name);
                continue;
            };
            let base = base_url::parse(base_url).unwrap_or_else(|e| panic!("{}: {e}", known.name));
            assert_eq!(base.url, base_url, "{}", known.name);
            assert_eq!(base.private, known.key_variable.is_none(), "{}", known.name);
        }
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    /// A line of the README's table.
    fn row(known: &WellKnown) -> String {
        let has = |name: &str, has: Has| match has {
            Yes => Some(name.to_owned()),
            Unsaid => Some(format!("{name}?")),
            No => None,
        };
        let first = match known.kind {
            Kind::Anthropic => "messages",
            #[cfg(feature = "bedrock")]
            Kind::Bedrock => "converse",
            _ => "chat",
        };
        let Offer { completions, embeddings, responses, .. } = known.offer;
        let others = [("completions", completions), ("embeddings", embeddings), ("responses", responses)];
        let offers: Vec<_> =
            [Some(first.to_owned())].into_iter().chain(others.map(|(name, it)| has(name, it))).flatten().collect();
        let variables: Vec<_> =
            [known.key_variable, known.url_variable].into_iter().flatten().map(|name| format!("`{name}`")).collect();
        let header = format!("{}: {}KEY", known.key_header.name, known.key_header.scheme);
        let url = known.base_url.map_or("your resource's".to_owned(), |url| format!("`{url}`"));
        let variables = if variables.is_empty() { "none".to_owned() } else { variables.join(", ") };
        format!("| `{}` | {url} | {variables} | `{header}` | {} |", known.name, offers.join(", "))
    }

    #[test]
    fn the_readmes_table_of_providers_has_these_lines() {
        let readme = include_str!("../../README.md");
        let table: Vec<_> = WELL_KNOWN.iter().map(row).collect();
        let there: Vec<_> = readme.lines().filter(|line| table.iter().any(|row| row == line)).collect();
        assert_eq!(there, table, "the table is to be:\n{}", table.join("\n"));
    }
}
