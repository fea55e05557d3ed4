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
    ("use_for_batch_api", ""),
    ("enabled", ""),
    ("blacklisted_models", ""),
    ("vertex_key_config", ""),
    ("bedrock_mantle_key_config", ""),
    ("vllm_key_config", "use network_config.base_url"),
    ("ollama_key_config", "use network_config.base_url"),
    ("sgl_key_config", "use network_config.base_url"),
    ("replicate_key_config", ""),
];

/// In `providers.NAME.keys[].azure_key_config`.
pub(super) const AZURE: &[Foreign] =
    &[("client_id", BY_KEY), ("client_secret", BY_KEY), ("tenant_id", BY_KEY), ("scopes", BY_KEY)];

const BY_KEY: &str = "the key in value is what is sent: Microsoft Entra ID is not supported";

/// The same of a provider that is not Bedrock.
pub(super) const KEY_OF_BEDROCK: &[Foreign] = &[("bedrock_key_config", "only keys of kind \"bedrock\" sign")];

/// In `providers.NAME.keys[].bedrock_key_config`.
#[cfg(feature = "bedrock")]
pub(super) const BEDROCK_KEY: &[Foreign] = &[
    ("arn", "name the profile's ARN as the model"),
    ("deployments", "name the profile as the model, or write an alias"),
    ("role_arn", "roles are not assumed"),
    ("external_id", "roles are not assumed"),
    ("session_name", "roles are not assumed"),
    ("role_session_name", "roles are not assumed"),
    ("batch_s3_config", ""),
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
