//! What is known beforehand: providers by name, and the keys of Bifrost's config.json that have no counterpart here.

use super::expand::Env;
use super::types::{KeyHeader, Kind};

/// A provider whose address is built in.
pub(super) struct WellKnown {
    /// Its name in the configuration and in `provider/model`.
    pub(super) name: &'static str,
    /// How it is spoken to.
    pub(super) kind: Kind,
    /// What carries its key.
    pub(super) key_header: KeyHeader,
    /// Where it lives.
    pub(super) base_url: &'static str,
    /// The variable that holds its key; none for one that runs on the user's own machine.
    pub(super) key_variable: Option<&'static str>,
    /// Models of its that are most asked for, under its own names; none for one that serves what its user put on it.
    pub(super) models: &'static [&'static str],
}

const fn cloud(
    name: &'static str,
    base_url: &'static str,
    key_variable: &'static str,
    models: &'static [&'static str],
) -> WellKnown {
    let (kind, key_header) = (Kind::OpenAi, KeyHeader::BEARER);
    WellKnown { name, kind, key_header, base_url, key_variable: Some(key_variable), models }
}

const fn local(name: &'static str, base_url: &'static str) -> WellKnown {
    let (kind, key_header) = (Kind::OpenAi, KeyHeader::BEARER);
    WellKnown { name, kind, key_header, base_url, key_variable: None, models: &[] }
}

/// Providers known by name, with some of their models, from each one's own documentation. The lists of
/// models are for people who look at `/v1/models`: nothing is refused because it does not stand there.
pub(super) const WELL_KNOWN: &[WellKnown] = &[
    cloud(
        "openai",
        "https://api.openai.com",
        "OPENAI_API_KEY",
        &[
            "gpt-4.1",
            "gpt-4.1-mini",
            "gpt-4.1-nano",
            "gpt-4o",
            "gpt-4o-mini",
            "gpt-5",
            "gpt-5-mini",
            "gpt-5-nano",
            "gpt-3.5-turbo-instruct",
            "o3",
            "o4-mini",
            "text-embedding-3-small",
            "text-embedding-3-large",
        ],
    ),
    WellKnown {
        kind: Kind::Anthropic,
        key_header: KeyHeader::plain("x-api-key"),
        ..cloud(
            "anthropic",
            "https://api.anthropic.com",
            "ANTHROPIC_API_KEY",
            &[
                "claude-opus-4-6",
                "claude-sonnet-4-6",
                "claude-opus-4-5",
                "claude-sonnet-4-5",
                "claude-haiku-4-5",
                "claude-opus-4-1",
            ],
        )
    },
    cloud(
        "groq",
        "https://api.groq.com/openai",
        "GROQ_API_KEY",
        &["llama-3.1-8b-instant", "llama-3.3-70b-versatile", "openai/gpt-oss-20b", "openai/gpt-oss-120b"],
    ),
    cloud(
        "mistral",
        "https://api.mistral.ai",
        "MISTRAL_API_KEY",
        &["mistral-large-latest", "mistral-medium-latest", "mistral-small-latest", "codestral-latest", "mistral-embed"],
    ),
    cloud(
        "gemini",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
        &["gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-embedding-001"],
    ),
    cloud("deepseek", "https://api.deepseek.com", "DEEPSEEK_API_KEY", &["deepseek-chat", "deepseek-reasoner"]),
    cloud(
        "together",
        "https://api.together.xyz",
        "TOGETHER_API_KEY",
        &["meta-llama/Llama-3.3-70B-Instruct-Turbo", "deepseek-ai/DeepSeek-V3", "Qwen/Qwen2.5-72B-Instruct-Turbo"],
    ),
    cloud(
        "openrouter",
        "https://openrouter.ai/api",
        "OPENROUTER_API_KEY",
        &["openrouter/auto", "openai/gpt-4o-mini", "anthropic/claude-sonnet-4.5", "google/gemini-2.5-flash"],
    ),
    cloud("xai", "https://api.x.ai", "XAI_API_KEY", &["grok-4", "grok-3", "grok-3-mini"]),
    cloud(
        "fireworks",
        "https://api.fireworks.ai/inference",
        "FIREWORKS_API_KEY",
        &["accounts/fireworks/models/deepseek-v3", "accounts/fireworks/models/llama-v3p3-70b-instruct"],
    ),
    cloud("cerebras", "https://api.cerebras.ai", "CEREBRAS_API_KEY", &["llama3.1-8b", "llama-3.3-70b", "gpt-oss-120b"]),
    cloud(
        "nebius",
        "https://api.studio.nebius.com",
        "NEBIUS_API_KEY",
        &["meta-llama/Llama-3.3-70B-Instruct", "deepseek-ai/DeepSeek-V3"],
    ),
    cloud("parasail", "https://api.parasail.io", "PARASAIL_API_KEY", &["parasail-llama-33-70b-fp8"]),
    local("ollama", "http://localhost:11434"),
    local("vllm", "http://localhost:8000"),
    local("sgl", "http://localhost:30000"),
];

/// The well-known provider of this name.
pub(super) fn well_known(name: &str) -> Option<&'static WellKnown> {
    WELL_KNOWN.iter().find(|known| known.name == name)
}

/// Providers of Bifrost's that there are none of here: a file that lists them starts without them.
const OTHERS: [&str; 15] = [
    "azure",
    "bedrock_mantle",
    "cohere",
    "deepgram",
    "elevenlabs",
    "huggingface",
    "opencode-go",
    "opencode-zen",
    "perplexity",
    "replicate",
    "runware",
    "runway",
    "sarvam",
    "vertex",
    "wafer",
];

/// Whether Bifrost has a provider of this name and we have none.
pub(super) fn is_others(name: &str) -> bool {
    OTHERS.contains(&name)
}

/// Kinds whose part is not built yet, with the variables that say that somebody means to use them.
pub(super) const UNBUILT_KINDS: [(&str, &[&str]); 1] =
    [("bedrock", &["AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID"])];

/// The variable, of those given, that is set and not empty.
pub(super) fn first_set<'v>(names: &[&'v str], env: &Env<'_>) -> Option<&'v str> {
    names.iter().copied().find(|name| env(name).is_some_and(|value| !value.is_empty()))
}

/// A key of Bifrost's, and what to do instead where there is something.
pub(super) type Foreign = (&'static str, &'static str);

const ADMITTED: &str = "server.keys alone says which clients are let in";

/// At the top of the document.
pub(super) const TOP: &[Foreign] = &[
    ("version", ""),
    ("source_of_truth", ""),
    ("encryption_key", ""),
    ("env_label", ""),
    ("auth_config", ADMITTED),
    ("governance", ADMITTED),
    ("access_profiles", ADMITTED),
    ("scim_config", ADMITTED),
    ("framework", ""),
    ("mcp", ""),
    ("config_store", ""),
    ("logs_store", ""),
    ("vector_store", ""),
    ("guardrails_config", ""),
    ("load_balancer_config", ""),
    ("cluster_config", ""),
    ("audit_logs", ""),
    ("websocket", ""),
    ("feature_flags", ""),
    ("large_payload_optimization", ""),
];

/// Under `server`.
pub(super) const SERVER: &[Foreign] = &[("read_buffer_size", "server.max_header_bytes bounds the head")];

/// Under `client`.
pub(super) const CLIENT: &[Foreign] = &[
    ("prometheus_labels", ""),
    ("allowed_origins", ""),
    ("allowed_headers", ""),
    ("enable_logging", ""),
    ("disable_content_logging", ""),
    ("allow_per_request_content_storage_override", ""),
    ("allow_per_request_raw_override", ""),
    ("disable_db_pings_in_health", ""),
    ("dump_errors_in_console_logs", ""),
    ("webhook_config", ""),
    ("log_retention_days", ""),
    ("logging_headers", ""),
    ("enforce_governance_header", ADMITTED),
    ("enforce_auth_on_inference", ADMITTED),
    ("enforce_scim_auth", ADMITTED),
    ("dual_credential_conflict_behavior", ADMITTED),
    ("allow_direct_keys", "a caller never chooses the provider's key"),
    ("whitelisted_routes", ""),
    ("required_headers", ""),
    ("header_filter_config", ""),
    ("max_request_body_size_mb", "use server.max_body_bytes"),
    ("compat", ""),
    ("enable_litellm_fallbacks", ""),
    ("async_job_result_ttl", ""),
    ("hide_deleted_virtual_keys_in_filters", ""),
    ("routing_chain_max_depth", ""),
    ("mcp_agent_depth", ""),
    ("mcp_tool_execution_timeout", ""),
    ("mcp_code_mode_binding_level", ""),
    ("mcp_tool_sync_interval", ""),
    ("mcp_disable_auto_tool_inject", ""),
    ("mcp_enable_temp_token_auth", ""),
    ("mcp_external_client_url", ""),
    ("mcp_server_auth_mode", ""),
    ("oauth2_server_config", ""),
];

/// Under `providers.NAME`.
pub(super) const PROVIDER: &[Foreign] = &[
    ("proxy_config", "the provider is called directly"),
    ("send_back_raw_request", ""),
    ("send_back_raw_response", ""),
    ("store_raw_request_response", ""),
    ("custom_provider_config", "use \"kind\": \"openai\""),
    ("openai_config", ""),
    ("pricing_overrides", ""),
    ("meta_config", ""),
];

/// Under `providers.NAME.network_config`.
pub(super) const NETWORK: &[Foreign] = &[
    ("enforce_http2", ""),
    ("insecure_skip_verify", "certificates are always checked: use ca_cert_pem"),
    ("keep_alive_timeout_in_seconds", "use idle_connection_timeout"),
    ("max_conns_per_host", "concurrency bounds the connections"),
    ("beta_header_overrides", ""),
    ("allow_private_network", "a base_url that names a private address is consent"),
    ("retry_backoff_initial_ms", "use retry_backoff_initial"),
    ("retry_backoff_max_ms", "use retry_backoff_max"),
];

/// In `providers.NAME.keys[]`.
pub(super) const KEY: &[Foreign] = &[
    ("id", ""),
    ("aliases", ""),
    ("use_for_batch_api", ""),
    ("enabled", ""),
    ("blacklisted_models", ""),
    ("azure_key_config", ""),
    ("vertex_key_config", ""),
    ("bedrock_key_config", ""),
    ("bedrock_mantle_key_config", ""),
    ("vllm_key_config", "use network_config.base_url"),
    ("ollama_key_config", "use network_config.base_url"),
    ("sgl_key_config", "use network_config.base_url"),
    ("replicate_key_config", ""),
];

/// Plugins of Bifrost's: a file that lists them starts without them.
pub(super) const PLUGINS: [&str; 10] = [
    "datadog",
    "governance",
    "jsonparser",
    "litellmcompat",
    "logging",
    "maxim",
    "mocker",
    "otel",
    "semantic_cache",
    "telemetry",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::base_url;

    #[test]
    fn every_built_in_address_is_right_and_every_name_stands_once() {
        let mut names: Vec<_> = WELL_KNOWN.iter().map(|known| known.name).collect();
        names.extend(OTHERS);
        for known in WELL_KNOWN {
            let base = base_url::parse(known.base_url).unwrap_or_else(|e| panic!("{}: {e}", known.name));
            assert_eq!(base.url, known.base_url, "{}", known.name);
            assert_eq!(base.private, known.key_variable.is_none(), "{}", known.name);
        }
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
