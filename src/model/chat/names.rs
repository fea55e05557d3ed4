//! What the shapes call what others may not have: a refusal, and the list of what was left out, speak the caller's language.

/// The names of fields as they stand in one shape, with dots where they stand deeper.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) tool_choice: &'static str,
    pub(crate) parallel_tools: &'static str,
    pub(crate) temperature: &'static str,
    pub(crate) top_p: &'static str,
    pub(crate) top_k: &'static str,
    pub(crate) stop: &'static str,
    pub(crate) format: &'static str,
    /// How much is thought.
    pub(crate) effort: &'static str,
    /// What was thought.
    pub(crate) thoughts: &'static str,
    pub(crate) user: &'static str,
    /// A mark for the cache.
    pub(crate) mark: &'static str,
    /// That a function failed.
    pub(crate) failed: &'static str,
    pub(crate) picture: &'static str,
    pub(crate) document: &'static str,
    /// What a document is called.
    pub(crate) title: &'static str,
}

impl Names {
    /// In OpenAI's chats.
    pub(crate) const OPENAI: Self = Self {
        tool_choice: "tool_choice",
        parallel_tools: "parallel_tool_calls",
        temperature: "temperature",
        top_p: "top_p",
        top_k: "top_k",
        stop: "stop",
        format: "response_format",
        effort: "reasoning_effort",
        thoughts: "reasoning_content",
        user: "user",
        mark: "prompt_cache_breakpoint",
        failed: "is_error",
        picture: "image_url",
        document: "file",
        title: "filename",
    };

    /// In Anthropic's messages.
    pub(crate) const ANTHROPIC: Self = Self {
        tool_choice: "tool_choice",
        parallel_tools: "tool_choice.disable_parallel_tool_use",
        temperature: "temperature",
        top_p: "top_p",
        top_k: "top_k",
        stop: "stop_sequences",
        format: "output_config.format",
        effort: "thinking",
        thoughts: "thinking",
        user: "metadata.user_id",
        mark: "cache_control",
        failed: "is_error",
        picture: "image",
        document: "document",
        title: "title",
    };

    /// In Bedrock's Converse.
    #[cfg(feature = "bedrock")]
    pub(crate) const BEDROCK: Self = Self {
        tool_choice: "toolConfig.toolChoice",
        parallel_tools: "toolConfig.toolChoice",
        temperature: "inferenceConfig.temperature",
        top_p: "inferenceConfig.topP",
        top_k: "additionalModelRequestFields.top_k",
        stop: "inferenceConfig.stopSequences",
        format: "outputConfig.textFormat",
        effort: "additionalModelRequestFields.thinking",
        thoughts: "reasoningContent",
        user: "requestMetadata",
        mark: "cachePoint",
        failed: "toolResult.status",
        picture: "image",
        document: "document",
        title: "document.name",
    };
}

impl Default for &'static Names {
    fn default() -> Self {
        &Names::OPENAI
    }
}
