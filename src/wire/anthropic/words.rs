//! What several parts of the shape say alike: why an answer ended, what it took, ids of calls, and how a model is told to think.

use std::borrow::Cow;

use crate::model::chat::{Effort, Stop, Tokens};
use crate::wire::chat::push_number;
use crate::wire::pull::{Pull, Value, Wrong};

/// How a refusal names this shape.
pub(super) const SHAPE: &str = "Anthropic's messages";

/// What a `stop_reason` means. One that is not known is an end like any other.
pub(super) fn stop_of(reason: &str) -> Stop {
    match reason {
        "stop_sequence" => Stop::Text,
        "max_tokens" | "model_context_window_exceeded" => Stop::Length,
        "tool_use" => Stop::Tools,
        "refusal" => Stop::Refused,
        "pause_turn" => Stop::Paused,
        _ => Stop::End,
    }
}

/// The `stop_reason` for an end.
pub(super) const fn reason_of(stop: Stop) -> &'static str {
    match stop {
        Stop::End => "end_turn",
        Stop::Text => "stop_sequence",
        Stop::Length => "max_tokens",
        Stop::Tools => "tool_use",
        Stop::Refused => "refusal",
        Stop::Paused => "pause_turn",
    }
}

/// What the `usage` objects of an answer have said so far. In a stream they come twice or more often, each counting
/// from the beginning, and what one leaves out stays as it was said before ("Streaming messages").
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Of the request, without what a cache had or got.
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_written: Option<u64>,
    output: Option<u64>,
    thought: Option<u64>,
}

impl Counts {
    /// Takes over what the object that comes next says; what is no number says nothing.
    pub(super) fn take(&mut self, usage: &mut Pull<'_>) -> Result<(), Wrong> {
        if usage.peek() != Some(b'{') {
            return usage.value().map(drop);
        }
        usage.object(|pull, key| {
            let value = pull.value()?;
            let count = value.raw().parse().ok();
            match &*key {
                b"input_tokens" => self.input = count.or(self.input),
                b"cache_read_input_tokens" => self.cache_read = count.or(self.cache_read),
                b"cache_creation_input_tokens" => self.cache_written = count.or(self.cache_written),
                b"output_tokens" => self.output = count.or(self.output),
                b"output_tokens_details" => self.thought = thought(value)?.or(self.thought),
                _ => {}
            }
            Ok(())
        })
    }

    /// The sum, if anything was said: here what a cache had or got is of the input, too.
    pub(super) fn tokens(&self) -> Option<Tokens> {
        if self.input.is_none() && self.output.is_none() {
            return None;
        }
        let parts = [self.input, self.cache_read, self.cache_written].map(Option::unwrap_or_default);
        Some(Tokens {
            input: parts.into_iter().fold(0, u64::saturating_add),
            output: self.output.unwrap_or(0),
            cache_read: self.cache_read,
            cache_written: self.cache_written,
            thought: self.thought,
        })
    }
}

fn thought(details: Value<'_>) -> Result<Option<u64>, Wrong> {
    if !details.raw().starts_with('{') {
        return Ok(None);
    }
    let mut found = None;
    Pull::new(details.raw()).object(|pull, key| {
        let value = pull.value()?;
        if *key == *b"thinking_tokens" {
            found = value.raw().parse().ok();
        }
        Ok::<_, Wrong>(())
    })?;
    Ok(found)
}

/// Writes a `usage` object.
pub(super) fn push_usage(tokens: Tokens, out: &mut Vec<u8>) {
    let cached = tokens.cache_read.unwrap_or(0).saturating_add(tokens.cache_written.unwrap_or(0));
    push_count(b"{\"input_tokens\":", tokens.input.saturating_sub(cached), out);
    if let Some(written) = tokens.cache_written {
        push_count(b",\"cache_creation_input_tokens\":", written, out);
    }
    if let Some(read) = tokens.cache_read {
        push_count(b",\"cache_read_input_tokens\":", read, out);
    }
    push_count(b",\"output_tokens\":", tokens.output, out);
    if let Some(thought) = tokens.thought {
        push_count(b",\"output_tokens_details\":{\"thinking_tokens\":", thought, out);
        out.push(b'}');
    }
    out.push(b'}');
}

/// Writes a key, as it stands with what is before it, and a number.
pub(super) fn push_count(key: &[u8], count: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(key);
    push_number(out, count);
}

/// The id of a call as Anthropic takes it, `^[a-zA-Z0-9_-]+$`: any other is told from its like by a hash of it, so that call
/// and result still meet.
pub(super) fn call_id(id: &str) -> Cow<'_, str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !id.is_empty() && id.bytes().all(fits) {
        return Cow::Borrowed(id);
    }
    // FNV-1a.
    let hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut text: String = id.bytes().map(|byte| if fits(byte) { char::from(byte) } else { '_' }).collect();
    text.push_str(&format!("_{hash:016x}"));
    Cow::Owned(text)
}

/// Whether a model is told how much to think by an effort, and finds out by itself how many tokens that is; the others take a
/// number of tokens ("Adaptive thinking", "Effort"): those of Anthropic's before 4.6, and whatever else speaks this shape.
pub(crate) fn takes_effort(model: &str) -> bool {
    let mut parts = model.split(|c: char| !c.is_ascii_alphanumeric()).skip_while(|part| *part != "claude");
    if parts.next().is_none() {
        return false;
    }
    // A version is one or two short numbers, before or after the family's name; long ones are dates. Names without any are new.
    let is_number = |part: &&str| part.len() <= 2 && part.parse::<u32>().is_ok();
    let mut numbers =
        parts.skip_while(|part| !is_number(part)).take_while(is_number).filter_map(|part| part.parse().ok());
    let Some(major) = numbers.next() else { return true };
    (major, numbers.next().unwrap_or(0)) >= (4, 6)
}

/// The `effort` that comes nearest, for models that take one; `None` where the model is left to find its own.
pub(crate) const fn effort_of(effort: Effort) -> Option<&'static str> {
    match effort {
        Effort::None | Effort::Own => None,
        Effort::Minimal | Effort::Low | Effort::Tokens(..=1024) => Some("low"),
        Effort::Medium | Effort::Tokens(..=4096) => Some("medium"),
        Effort::High | Effort::Tokens(..=16_384) => Some("high"),
        Effort::Max | Effort::Tokens(_) => Some("max"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(texts: &[&str]) -> Option<Tokens> {
        let mut counts = Counts::default();
        for text in texts {
            counts.take(&mut Pull::new(text)).expect("JSON");
        }
        counts.tokens()
    }

    #[test]
    fn what_a_cache_had_and_got_is_of_the_input() {
        let begin = r#"{"input_tokens":3,"cache_creation_input_tokens":20,"cache_read_input_tokens":100,"output_tokens":1,"cache_creation":{"ephemeral_5m_input_tokens":20}}"#;
        let end = r#"{"output_tokens":9,"output_tokens_details":{"thinking_tokens":4},"server_tool_use":null}"#;
        let tokens = counted(&[begin, end]).expect("counted");
        let wanted = Tokens { input: 123, output: 9, cache_read: Some(100), cache_written: Some(20), thought: Some(4) };
        assert_eq!(tokens, wanted);
        let mut out = Vec::new();
        push_usage(tokens, &mut out);
        assert_eq!(counted(&[std::str::from_utf8(&out).expect("UTF-8")]), Some(wanted), "written and read again");
        assert_eq!(counted(&["null", "{}", r#"{"input_tokens":"x"}"#]), None);
    }

    #[test]
    fn reasons_are_what_they_are_called() {
        for stop in [Stop::End, Stop::Text, Stop::Length, Stop::Tools, Stop::Refused, Stop::Paused] {
            assert_eq!(stop_of(reason_of(stop)), stop);
        }
        assert_eq!(stop_of("model_context_window_exceeded"), Stop::Length);
        assert_eq!(stop_of("something_new"), Stop::End);
    }

    #[test]
    fn an_id_changes_only_where_it_breaks_the_rule() {
        assert!(matches!(call_id("toolu_01-Ab"), Cow::Borrowed("toolu_01-Ab")));
        let (dot, colon) = (call_id("f.1"), call_id("f:1"));
        assert!(dot.starts_with("f_1_") && dot != colon, "{dot} {colon}");
        assert_eq!(dot, call_id("f.1"), "the same always");
        for id in ["", "é", "a b", &dot] {
            assert!(call_id(id).bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')), "{id}");
        }
    }

    #[test]
    fn a_model_is_told_to_think_in_its_own_way() {
        for model in [
            "claude-opus-4-6",
            "claude-opus-4-8-20260528",
            "claude-sonnet-5",
            "claude-opus-5-5",
            "claude-fable-5",
            "claude-mythos-preview",
            "eu.anthropic.claude-sonnet-4-6",
        ] {
            assert!(takes_effort(model), "{model}");
        }
        for model in [
            "claude-3-7-sonnet-20250219",
            "claude-3-5-haiku-latest",
            "claude-sonnet-4-20250514",
            "claude-sonnet-4@20250514",
            "claude-opus-4-1-20250805",
            "claude-haiku-4-5",
            "us.anthropic.claude-opus-4-5-20251101-v1:0",
            "deepseek-reasoner",
            "echo",
        ] {
            assert!(!takes_effort(model), "{model}");
        }
        assert_eq!(effort_of(Effort::Tokens(5000)), Some("high"));
        assert_eq!((effort_of(Effort::Own), Effort::None.budget()), (None, None));
    }
}
