//! What clients send and Anthropic answers, written from its public documentation, for the tests of each part.

macro_rules! golden {
    ($($(#[$doc:meta])* $name:ident = $file:literal;)*) => {
        $($(#[$doc])* pub(super) const $name: &str =
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/anthropic/", $file));)*
    };
}

golden! {
    REQUEST_TEXT = "request_text.json"; REQUEST_TOOLS = "request_tools.json"; REQUEST_MEDIA = "request_media.json";
    REPLY_TEXT = "reply_text.json"; REPLY_TOOLS = "reply_tools.json"; REPLY_CACHED = "reply_cached.json";
    ERROR_OVERLOADED = "error_overloaded.json"; ERROR_NOT_FOUND = "error_not_found.json";
    STREAM_TEXT = "stream_text.sse"; STREAM_TOOL = "stream_tool.sse"; STREAM_THINKING = "stream_thinking.sse";
    /// With a tool that Anthropic runs itself, which no other shape has.
    STREAM_SERVER_TOOL = "stream_server_tool.sse";
    STREAM_ERROR = "stream_error.sse";
    /// What is made of the events of another provider, whose tokens come last.
    STREAM_WRITTEN = "stream_written.sse";
}

/// Every stream.
pub(super) const STREAMS: [&str; 5] = [STREAM_TEXT, STREAM_TOOL, STREAM_THINKING, STREAM_SERVER_TOOL, STREAM_ERROR];
