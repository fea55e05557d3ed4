//! A line for a person: how it ended and how long it took first, in columns; then what was asked for; then the rest, by name.
//!
//! ```text
//! ok   200   1.20s chat.completions  sim/lorem-40                 ttft=310ms queue=0.1ms tokens=9/40 attempts=1 id=req_…
//! FAIL 429   214ms chat.completions  smart                        error=upstream_error upstream=429 by=openai/gpt-4o … id=…
//! ```
//!
//! What a caller names stands as it is if it is made of visible ASCII, and quoted with escapes if not: no line can be forged.

use std::fmt::{self, Formatter};

use super::Said;
use super::line::{Ended, Line};

/// Green, red, yellow; and back.
const COLOURS: [&str; 3] = ["\x1b[32m", "\x1b[1;31m", "\x1b[33m"];
const PLAIN: &str = "\x1b[0m";

impl Said for Line<'_> {
    fn json(&self) -> String {
        // Texts, numbers and their lists: there is nothing that JSON could not say.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn text(&self, colours: bool, f: &mut Formatter<'_>) -> fmt::Result {
        let (word, colour) = match self.outcome {
            Ended::Succeeded => ("ok", COLOURS[0]),
            Ended::Failed => ("FAIL", COLOURS[1]),
            Ended::Cancelled => ("left", COLOURS[2]),
        };
        let (colour, plain) = if colours { (colour, PLAIN) } else { ("", "") };
        write!(f, "{colour}{word:<4} {:>3}{plain} {:>7} ", self.status, took(self.total_us).to_string())?;
        let asked = self.path.or(self.model).unwrap_or("-");
        write!(f, "{:<17} {:<28}", self.operation, Word(asked).to_string())?;
        if let Some(error) = self.error {
            write!(f, " error={error}")?;
        }
        if let Some(status) = self.upstream_status {
            write!(f, " upstream={status}")?;
        }
        if let (Some(provider), Some(model)) = (self.provider, self.provider_model)
            && asked.split_once('/') != Some((provider, model))
        {
            write!(f, " by={}/{}", Word(provider), Word(model))?;
        }
        for (name, us) in [("ttft", self.first_token_us), ("queue", self.queue_us)] {
            if let Some(us) = us {
                write!(f, " {name}={}", took(us))?;
            }
        }
        if let (Some(input), Some(output)) = (self.tokens_in, self.tokens_out) {
            write!(f, " tokens={input}/{output}")?;
        }
        write!(f, " attempts={}", self.attempts)?;
        if self.fallbacks > 0 {
            write!(f, " fallbacks={}", self.fallbacks)?;
        }
        if let Some(key) = self.key {
            write!(f, " key={}", Word(key))?;
        }
        for (key, value) in self.tags.iter() {
            write!(f, " {}={}", Word(key), Word(value))?;
        }
        write!(f, " id={}", self.request_id)?;
        if let Some(trace) = &self.trace_id {
            write!(f, " trace={trace}")?;
        }
        for (name, body) in [("request", self.request), ("answer", self.answer.as_deref())] {
            if let Some(body) = body {
                write!(f, " {name}={body:?}")?;
            }
        }
        Ok(())
    }
}

/// Somebody else's word.
struct Word<'a>(&'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        match !self.0.is_empty() && self.0.bytes().all(is_plain) {
            true => f.write_str(self.0),
            false => write!(f, "{:?}", self.0),
        }
    }
}

/// A time as far as somebody cares.
fn took(us: u64) -> impl fmt::Display {
    fmt::from_fn(move |f| match us {
        ..10_000 => write!(f, "{:.1}ms", us as f64 / 1e3),
        10_000..1_000_000 => write!(f, "{}ms", us / 1000),
        1_000_000..100_000_000 => write!(f, "{:.2}s", us as f64 / 1e6),
        _ => write!(f, "{}s", us / 1_000_000),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_caller_names_makes_a_line_of_its_own_or_colours_one() {
        for (word, shown) in [
            ("openai/gpt-4o", "openai/gpt-4o"),
            ("", "\"\""),
            ("two words", "\"two words\""),
            ("a\nFAIL 500", "\"a\\nFAIL 500\""),
            ("\x1b[2J\u{9b}x", "\"\\u{1b}[2J\\u{9b}x\""),
            ("\u{202e}txt", "\"\\u{202e}txt\""),
            ("a\"b\\", "\"a\\\"b\\\\\""),
            ("modèle", "\"modèle\""),
        ] {
            assert_eq!(Word(word).to_string(), shown);
        }
    }

    #[test]
    fn times_are_short() {
        for (us, shown) in
            [(0, "0.0ms"), (9_940, "9.9ms"), (310_400, "310ms"), (1_204_000, "1.20s"), (3_600_000_000, "3600s")]
        {
            assert_eq!(took(us).to_string(), shown);
        }
    }
}
