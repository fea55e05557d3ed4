//! What is known of others' files: the keys and the providers of Bifrost's config.json that have no counterpart here.

use super::expand::Env;

/// Providers of Bifrost's that there are none of here: a file that lists them starts without them.
pub(super) const OTHERS: [&str; 13] = [
    "bedrock_mantle",
    "cohere",
    "deepgram",
    "elevenlabs",
    "huggingface",
    "opencode-go",
    "opencode-zen",
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

/// Kinds that this build has not, with the variables that say that somebody means to use them.
#[cfg(not(feature = "bedrock"))]
pub(super) const UNBUILT_KINDS: [(&str, &[&str]); 1] =
    [("bedrock", &["AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID"])];
#[cfg(feature = "bedrock")]
pub(super) const UNBUILT_KINDS: [(&str, &[&str]); 0] = [];

/// The variable, of those given, that is set and not empty.
pub(super) fn first_set<'v>(names: &[&'v str], env: &Env<'_>) -> Option<&'v str> {
    names.iter().copied().find(|name| env(name).is_some_and(|value| !value.is_empty()))
}

/// A key of Bifrost's: what it means there, and what to do instead where there is something.
pub(super) struct Foreign {
    pub(super) key: &'static str,
    pub(super) means: &'static str,
    pub(super) instead: &'static str,
}

const fn f(key: &'static str, means: &'static str, instead: &'static str) -> Foreign {
    Foreign { key, means, instead }
}

const ADMITTED: &str = "server.keys alone says which clients are let in";
const MCP: &str = "tools by MCP; here a client calls its tools itself";
const STORE: &str = "a store beside the file";
const BY_FILE: &str = "the file is all there is: edit it, then SIGHUP or POST /reload";
const LOGGED: &str = "the plugin request_log writes a line for each request";

/// At the top of the document.
pub(super) const TOP: &[Foreign] = &[
    f("version", "how empty lists of models and keys are read", ""),
    f("source_of_truth", "which of file and store is right", BY_FILE),
    f("encryption_key", "what its store is encrypted with; there is none here", ""),
    f("env_label", "a word in its pages", ""),
    f("auth_config", "who may use its pages", ADMITTED),
    f(
        "governance",
        "virtual keys, budgets, limits, teams",
        "server.keys says who is let in and to which models; the plugins rate_limit and accounting limit how much",
    ),
    f("access_profiles", "what roles may do", ADMITTED),
    f("scim_config", "users from a directory", ADMITTED),
    f("framework", "where prices come from; here the plugin accounting has them in its config", ""),
    f("mcp", MCP, ""),
    f("config_store", STORE, BY_FILE),
    f("logs_store", "where logs of requests are kept", LOGGED),
    f("vector_store", "what its semantic cache stands on", "the plugin response_cache needs no store"),
    f("local_cache", "a cache of older versions", "use the plugin response_cache"),
    f("guardrails_config", "checks of what is said", "the plugin redaction takes secrets and names out"),
    f("load_balancer_config", "how targets are weighed", "write an alias with targets and a strategy"),
    f("cluster_config", "several gateways as one; here each stands for itself", ""),
    f("audit_logs", "who changed what in its pages", ""),
    f("websocket", "limits of its realtime sockets; there are none here", ""),
    f("feature_flags", "parts of it that are on trial", ""),
    f(
        "large_payload_optimization",
        "bodies that it does not hold; server.max_buffered_bytes bounds those held here",
        "",
    ),
];

/// Under `server`.
pub(super) const SERVER: &[Foreign] =
    &[f("read_buffer_size", "room for a request's head", "server.max_header_bytes bounds the head")];

/// Under `client`.
pub(super) const CLIENT: &[Foreign] = &[
    f("prometheus_labels", "labels of its metrics; here they are fixed", ""),
    f("allowed_origins", "which pages may call it from a browser", "use server.cors_origins"),
    f("allowed_headers", "which headers such pages may send; here all that clients need", ""),
    f("enable_logging", "its log of requests", LOGGED),
    f("enable_local_cache", "a cache of older versions", "use the plugin response_cache"),
    f("disable_content_logging", "whether prompts stay out of its log; here they are in none", ""),
    f("allow_per_request_content_storage_override", "prompts kept at a client's word; here none are", ""),
    f("allow_per_request_raw_override", "raw answers at a client's word; here answers pass untouched anyway", ""),
    f("disable_db_pings_in_health", "whether its health depends on its store", ""),
    f("dump_errors_in_console_logs", "whole errors in its output", "RUST_LOG says what is logged"),
    f("webhook_config", "calls to others about what happens", "GET /events tells the same"),
    f("log_retention_days", "how long its log is kept", "the file of the plugin request_log is yours to rotate"),
    f("logging_headers", "headers in its log", ""),
    f("enforce_governance_header", "whether clients need a key", ADMITTED),
    f("enforce_auth_on_inference", "whether clients need a key", ADMITTED),
    f("enforce_scim_auth", "whether clients need a key", ADMITTED),
    f("dual_credential_conflict_behavior", "what two keys in one request mean; here they are no key", ADMITTED),
    f("allow_direct_keys", "a client's own key for the provider", "a caller never chooses the provider's key"),
    f("whitelisted_routes", "routes without a key; here /livez, /readyz and /health", ""),
    f("required_headers", "headers that each request must have", ""),
    f("header_filter_config", "which headers pass on; here two fixed lists do", "extra_headers sets more"),
    f("max_request_body_size_mb", "the longest body", "use server.max_body_bytes"),
    f("compat", "requests made to fit a model", ""),
    f("enable_litellm_fallbacks", "text completions asked as chats", ""),
    f("async_job_result_ttl", "answers that are fetched later; there are none here", ""),
    f("hide_deleted_virtual_keys_in_filters", "what its pages show", ""),
    f("routing_chain_max_depth", "how many rules a request goes through; here an alias names no other", ""),
    f("mcp_agent_depth", MCP, ""),
    f("mcp_tool_execution_timeout", MCP, ""),
    f("mcp_code_mode_binding_level", MCP, ""),
    f("mcp_tool_sync_interval", MCP, ""),
    f("mcp_disable_auto_tool_inject", MCP, ""),
    f("mcp_enable_temp_token_auth", MCP, ""),
    f("mcp_external_client_url", MCP, ""),
    f("mcp_server_auth_mode", MCP, ""),
    f("oauth2_server_config", MCP, ""),
];

/// Under `providers.NAME`.
pub(super) const PROVIDER: &[Foreign] = &[
    f("proxy_config", "a proxy on the way to the provider", "the provider is called directly"),
    f("send_back_raw_request", "what was sent, in the answer", ""),
    f("send_back_raw_response", "what was answered, in the answer; here it passes untouched", ""),
    f("store_raw_request_response", "both, in its log", ""),
    f("custom_provider_config", "whose shape a provider of one's own speaks", "use \"kind\": \"openai\""),
    f("openai_config", "how OpenAI's routes are chosen; here a request goes to the route that it came by", ""),
    f("pricing_overrides", "prices of models; here the plugin accounting has them in its config", ""),
    f("meta_config", "what keys have now: older versions had it here", "region and endpoint stand in the key's config"),
];

/// Under `providers.NAME.network_config`.
pub(super) const NETWORK: &[Foreign] = &[
    f("enforce_http2", "HTTP/2 to the provider; here HTTP/1.1 is spoken", ""),
    f("insecure_skip_verify", "certificates that nobody checks", "certificates are always checked: use ca_cert_pem"),
    f("keep_alive_timeout_in_seconds", "how long idle connections are kept", "use idle_connection_timeout"),
    f("max_conns_per_host", "the most connections", "concurrency bounds the connections"),
    f("beta_header_overrides", "which of Anthropic's betas pass; here a client's do", ""),
    f(
        "allow_private_network",
        "whether it may call private addresses",
        "a base_url that names a private address is consent",
    ),
    f("retry_backoff_initial_ms", "the first pause between tries", "use retry_backoff_initial"),
    f("retry_backoff_max_ms", "the longest pause between tries", "use retry_backoff_max"),
];

/// In `providers.NAME.keys[]`.
pub(super) const KEY: &[Foreign] = &[
    f("id", "the key's name in its store; here name is all", ""),
    f("use_for_batch_api", "whether the key is for its batch jobs; there are none here", ""),
    f("enabled", "whether the key is used: here each that stands there is", ""),
    f("blacklisted_models", "models that the key is not for", "models lists those that it is for"),
    f("vertex_key_config", "where Vertex is", ""),
    f("bedrock_mantle_key_config", "where Bedrock Mantle is", ""),
    f("vllm_key_config", "where vLLM is", "use network_config.base_url"),
    f("ollama_key_config", "where Ollama is", "use network_config.base_url"),
    f("sgl_key_config", "where SGLang is", "use network_config.base_url"),
    f("replicate_key_config", "how Replicate is asked", ""),
];

/// In `providers.NAME.keys[].azure_key_config`.
pub(super) const AZURE: &[Foreign] = &[
    f("client_id", ENTRA, BY_KEY),
    f("client_secret", ENTRA, BY_KEY),
    f("tenant_id", ENTRA, BY_KEY),
    f("scopes", ENTRA, BY_KEY),
];

const ENTRA: &str = "who signs in at Microsoft Entra ID";
const BY_KEY: &str = "the key in value is what is sent: Microsoft Entra ID is not supported";

/// The same of a provider that is not Bedrock.
pub(super) const KEY_OF_BEDROCK: &[Foreign] =
    &[f("bedrock_key_config", "how requests to Bedrock are signed", "only keys of kind \"bedrock\" sign")];

/// In `providers.NAME.keys[].bedrock_key_config`.
#[cfg(feature = "bedrock")]
pub(super) const BEDROCK_KEY: &[Foreign] = &[
    f("arn", "what model ids are put behind", "name the profile's ARN as the model"),
    f("deployments", "what models are called there", "name the profile as the model, or write an alias"),
    f("role_arn", ROLE, "roles are not assumed"),
    f("external_id", ROLE, "roles are not assumed"),
    f("session_name", ROLE, "roles are not assumed"),
    f("role_session_name", ROLE, "roles are not assumed"),
    f("batch_s3_config", "where its batch jobs are; there are none here", ""),
];

#[cfg(feature = "bedrock")]
const ROLE: &str = "a role that is assumed to sign";

/// Plugins of Bifrost's: a file that lists them starts without them.
pub(super) const PLUGINS: &[Foreign] = &[
    f("datadog", "the plugin datadog, which sends figures there", METRICS),
    f(
        "governance",
        "the plugin governance: who may ask for how much",
        "server.keys, and the plugins rate_limit and accounting",
    ),
    f("jsonparser", "the plugin jsonparser, which mends JSON that is cut", ""),
    f("litellmcompat", "the plugin litellmcompat, which makes requests fit", ""),
    f("logging", "the plugin logging", LOGGED),
    f("maxim", "the plugin maxim, which sends requests there", ""),
    f("mocker", "the plugin mocker, which answers by itself", "a provider of kind \"sim\" answers on this machine"),
    f("otel", "the plugin otel, which sends traces", METRICS),
    f(
        "semantic_cache",
        "the plugin semantic_cache",
        "the plugin response_cache answers what was asked before, word for word",
    ),
    f("telemetry", "the plugin telemetry: figures for Prometheus", METRICS),
];

const METRICS: &str = "GET /metrics on the admin plane has the figures";
