//! What a request took of a provider: a guess before it goes, and what is known when it has ended. For the plugins that
//! count tokens.

use serde::Deserialize;

use crate::error::{Code, Error};
use crate::metrics::tokens::{Usual, of_text};
use crate::model::{Operation, Usage};
use crate::plugin::{Outcome, Request};

/// How many tokens a request will take, as far as itself tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guess {
    input: u64,
    answers: Answers,
}

/// How long a request's answers will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    /// So many tokens in all at most.
    UpTo(u64),
    /// So many, each as long as they usually are.
    Usual(u32),
}

impl Guess {
    /// Its body's tokens by its length, and for each answer as many as it allows, or as answers usually have. Of what is
    /// forwarded nobody counts tokens, and counting takes none.
    pub(super) fn of(request: &Request<'_>) -> Self {
        let input = of_text(request.body().len() as u64);
        match request.operation() {
            Operation::Forward(_) | Operation::CountTokens => Self { input: 0, answers: Answers::Usual(0) },
            Operation::Embeddings => Self { input, answers: Answers::Usual(0) },
            _ => {
                let wish = Wish::of(request.body());
                let count = wish.n.unwrap_or(1).max(1);
                let longest = wish.max_completion_tokens.or(wish.max_output_tokens).or(wish.max_tokens);
                let longest = longest.or(wish.inference.and_then(|wish| wish.max_tokens));
                let up_to = |most: u64| Answers::UpTo(most.saturating_mul(count.into()));
                Self { input, answers: longest.map_or(Answers::Usual(count), up_to) }
            }
        }
    }

    /// One of so many tokens.
    #[cfg(test)]
    pub(super) fn sized(input: u64, output: u64) -> Self {
        Self { input, answers: Answers::UpTo(output) }
    }

    /// The tokens, where answers are usually so long.
    pub(super) fn tokens(self, usual: &Usual) -> Usage {
        let output = match self.answers {
            Answers::UpTo(most) => most,
            Answers::Usual(count) => usual.tokens(count),
        };
        Usage { input: self.input, output }
    }
}

/// What a body says of its answers' length.
#[derive(Default, Deserialize)]
struct Wish {
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    n: Option<u32>,
    /// Where Converse has it.
    #[serde(rename = "inferenceConfig")]
    inference: Option<Inference>,
}

#[derive(Deserialize)]
struct Inference {
    #[serde(rename = "maxTokens")]
    max_tokens: Option<u64>,
}

impl Wish {
    /// Nothing where it is no number that can be meant: the provider will say so.
    fn of(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }
}

/// What a request took, as far as its end tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Used<'a> {
    /// It reached no provider, or a plugin answered it: nothing.
    Unsent,
    /// A provider has refused it, which is told by its name and the model's: no tokens.
    Refused(&'a str, &'a str),
    /// A provider worked on it.
    Sent(Sent<'a>),
}

/// Who worked on a request, and how much is known of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent<'a> {
    pub(super) provider: &'a str,
    pub(super) model: &'a str,
    /// The tokens, if the provider counted them.
    pub(super) counted: Option<Usage>,
    pub(super) came: Came,
}

/// What came of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// All of it: so many bytes.
    Whole(u64),
    /// So many bytes of a stream's events, which may have ended early.
    Streamed(u64),
    /// Nothing: the request was left, or its provider failed in the middle of it.
    Nothing,
}

impl<'a> Used<'a> {
    /// What is known of a request that has ended so.
    pub(super) fn of(outcome: &'a Outcome) -> Self {
        let (served, counted, came) = match (outcome.stream(), outcome.came()) {
            (Some(stream), _) => (Some(&stream.served), stream.usage, Came::Streamed(stream.bytes)),
            (None, Ok(Some(reply))) => (reply.served(), reply.usage(), Came::Whole(reply.body().len() as u64)),
            (None, Ok(None)) => return Self::Unsent,
            (None, Err(error)) => return Self::of_error(error),
        };
        match served.filter(|served| served.attempts > 0) {
            // What a plugin answers with has no provider, or none that was asked now.
            None => Self::Unsent,
            Some(served) => Self::Sent(Sent { provider: &served.provider, model: &served.model, counted, came }),
        }
    }

    fn of_error(error: &'a Error) -> Self {
        // Who waited for a place or a worker alone has spent no time with a provider.
        if error.spent().is_some_and(|spent| spent.upstream.is_zero()) {
            return Self::Unsent;
        }
        let is = |outcome: &str, codes: &[Code]| codes.iter().any(|code| code.as_str() == outcome);
        let mut sent = error.attempts().iter().rev().filter(|attempt| !is(attempt.outcome, &UNSENT));
        match sent.next() {
            None => Self::Unsent,
            Some(last) if is(last.outcome, &[Code::UpstreamError, Code::CredentialsExhausted]) => {
                Self::Refused(&last.provider, &last.model)
            }
            Some(last) => {
                Self::Sent(Sent { provider: &last.provider, model: &last.model, counted: None, came: Came::Nothing })
            }
        }
    }
}

/// How attempts end that got to no provider.
const UNSENT: [Code; 11] = [
    Code::InvalidRequest,
    Code::ModelNotFound,
    Code::Unsupported,
    Code::Overloaded,
    Code::QueueFull,
    Code::RequestDropped,
    Code::QueueTimeout,
    Code::ResourceTimeout,
    Code::RateLimited,
    Code::CircuitOpen,
    Code::UpstreamConnectError,
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::{Attempt, Spent};

    fn failed(codes: &[Code], upstream_ms: u64) -> Error {
        let attempt = |code: &Code| Attempt::of("p", "m", Some(&Error::new(*code, "")), Duration::ZERO);
        let spent = Spent { upstream: Duration::from_millis(upstream_ms), ..Spent::default() };
        Error::new(Code::Internal, "").with_attempts(codes.iter().map(attempt).collect()).with_spent(spent)
    }

    #[test]
    fn what_reached_no_provider_took_nothing() {
        for codes in [&[][..], &[Code::QueueFull], &[Code::UpstreamConnectError, Code::CircuitOpen]] {
            assert_eq!(Used::of_error(&failed(codes, 5)), Used::Unsent, "{codes:?}");
        }
        assert_eq!(Used::of_error(&failed(&[Code::ClientClosed], 0)), Used::Unsent, "left in the queue");
    }

    #[test]
    fn what_was_refused_took_no_tokens_and_what_was_left_nobody_knows() {
        assert_eq!(Used::of_error(&failed(&[Code::UpstreamTimeout, Code::UpstreamError], 5)), Used::Refused("p", "m"));
        let sent = Sent { provider: "p", model: "m", counted: None, came: Came::Nothing };
        for codes in [&[Code::ClientClosed][..], &[Code::UpstreamTimeout, Code::QueueFull]] {
            assert_eq!(Used::of_error(&failed(codes, 5)), Used::Sent(sent), "{codes:?}");
        }
    }

    #[test]
    fn a_body_says_how_long_its_answers_may_be() {
        let wish = |body: &str| {
            let wish = Wish::of(body.as_bytes());
            (wish.max_tokens, wish.max_completion_tokens, wish.n)
        };
        assert_eq!(wish(r#"{"model":"a","messages":[{"n":9}],"max_tokens":5,"n":2}"#), (Some(5), None, Some(2)));
        assert_eq!(wish(r#"{"max_completion_tokens":7,"max_tokens":null}"#), (None, Some(7), None));
        for odd in [r#"{"max_tokens":-1}"#, r#"{"max_tokens":"x"}"#, "", "{"] {
            assert_eq!(wish(odd), (None, None, None), "{odd}");
        }
    }
}
