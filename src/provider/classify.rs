//! What a failed attempt means: what comes next, and who is to blame. One pure table over an [`Error`].
//!
//! It judges by code and status, and by the provider's own words only where these say less than the words do. The words
//! are those of the providers' published errors; a phrase that is not known changes nothing, so that a wrong guess costs a
//! chance and never sends a request where it must not go.

use std::time::Duration;

use crate::error::{Code, Error, UpstreamAnswer};
use crate::transport::{TransportError, TransportErrorKind as Kind};

/// How long a key rests whose account has nothing left: nothing but a payment changes that.
const NO_QUOTA: Duration = Duration::from_secs(60);

/// Codes that speak of a key, or of the account that it belongs to.
const OF_KEYS: [&str; 5] =
    ["invalid_api_key", "api_key_disabled", "account_deactivated", "access_terminated", "billing_not_active"];

/// Where a request goes after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// To the same target once more, after a pause.
    Same,
    /// To the same target with another key, at once; without one, as its keys allow.
    Key,
    /// To the next target.
    Other,
    /// To the next target that is another model: this one can never do it.
    OtherModel,
    /// Nowhere: the answer would be the same everywhere, or load is being shed.
    Nowhere,
}

/// What AWS says of a key that is none, of a signature that is wrong, and of temporary keys that have ended.
const OF_SIGNATURES: [&str; 7] = [
    "unrecognizedclientexception",
    "invalidsignatureexception",
    "incompletesignatureexception",
    "missingauthenticationtokenexception",
    "expiredtokenexception",
    "expiredtoken",
    "invalidclienttokenid",
];

/// Who is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// Nobody that anything could be kept from: the request, its client, or this gateway.
    Nobody,
    /// The provider as a whole: it cannot be reached.
    Provider,
    /// The model at this provider.
    Model,
    /// The key has had enough for now, for so long if that was said.
    KeyCools(Option<Duration>),
    /// The key is not accepted.
    KeyRefused,
    /// The key is not accepted for this model.
    KeyRefusedForModel,
}

/// What an error says about what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) next: Next,
    pub(crate) blame: Blame,
}

/// Judges the error of an attempt.
pub(crate) fn judge(error: &Error) -> Verdict {
    let (next, blame) = match error.code() {
        Code::UpstreamError => match error.upstream_answer() {
            Some(answer) => of_answer(answer, error.retry_after()),
            None => (Next::Same, Blame::Model),
        },
        Code::UpstreamConnectError if was_connected(error) => (Next::Same, Blame::Model),
        Code::UpstreamConnectError => (Next::Same, Blame::Provider),
        Code::UpstreamBadResponse => (Next::Same, Blame::Model),
        // A route that says nothing is not asked again: whoever waits has waited long enough there.
        Code::UpstreamTimeout | Code::FirstTokenTimeout => (Next::Other, Blame::Model),
        // Where nothing was delivered yet, a stream that died may be had again.
        Code::StreamCut => (Next::Same, Blame::Model),
        Code::StreamIdleTimeout => (Next::Other, Blame::Model),
        Code::StreamTooLong => (Next::Other, Blame::Nobody),
        // What the gateway made is not tried again here, only elsewhere.
        Code::QueueFull
        | Code::QueueTimeout
        | Code::ResourceTimeout
        | Code::RateLimited
        | Code::CircuitOpen
        | Code::CredentialsExhausted
        | Code::Internal => (Next::Other, Blame::Nobody),
        // The request itself, its client, or load that is being shed: it would be the same elsewhere.
        Code::Unsupported
        | Code::InvalidRequest
        | Code::Unauthorized
        | Code::Forbidden
        | Code::ModelNotFound
        | Code::NotFound
        | Code::MethodNotAllowed
        | Code::BodyTooLarge
        | Code::HeaderTooLarge
        | Code::RequestTimeout
        | Code::Overloaded
        | Code::RequestDropped
        | Code::ShuttingDown
        | Code::ClientClosed
        | Code::ClientTooSlow => (Next::Nowhere, Blame::Nobody),
    };
    Verdict { next, blame }
}

/// Whether there was a connection, which ended without an answer: the provider is there, and it may be this model that it
/// crashes over.
fn was_connected(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<TransportError>());
    source.is_some_and(|source| matches!(source.kind, Kind::Send | Kind::NoAnswer | Kind::Cut))
}

/// Judges an error that the provider itself answered with.
fn of_answer(answer: &UpstreamAnswer, retry_after: Option<Duration>) -> (Next, Blame) {
    let words = Words::of(answer);
    if words.any_code(&["content_policy_violation", "content_filter", "moderation_blocked", "safety_violations"])
        || words.any_phrase(&[
            "content management policy",
            "content policy",
            "flagged by our",
            "input was flagged",
            "safety system",
        ])
    {
        return (Next::Nowhere, Blame::Nobody);
    }
    if let Some(judged) = of_aws(&words) {
        return judged;
    }
    // A provider may say these with 400, 404, 413 or 422, and inside a good answer, which is a 502 then.
    if !matches!(answer.status, 401 | 403 | 408 | 429) {
        if words.any_code(&["context_length_exceeded", "string_above_max_length", "context_window_exceeded"])
            || words.any_phrase(&[
                "maximum context length",
                "context length exceeded",
                "context window",
                "prompt is too long",
                "input is too long",
                "exceeds the maximum number of tokens",
                "reduce the length of the messages",
            ])
        {
            return (Next::OtherModel, Blame::Nobody);
        }
        if words.any_code(&["model_not_found", "model_not_available", "model_decommissioned", "invalid_model"])
            || (answer.status == 404 && words.speaks_of("model"))
        {
            return (Next::Other, Blame::Nobody);
        }
    }
    match answer.status {
        401 => (Next::Key, Blame::KeyRefused),
        403 if words.any_phrase(&["region", "country", "territory", "location"]) => (Next::Other, Blame::Nobody),
        // What a key may do is less than what it is for: it may do something else.
        403 if words.speaks_of("model") || words.any_phrase(&["permission", "scope"]) => {
            (Next::Key, Blame::KeyRefusedForModel)
        }
        403 if words.any_code(&OF_KEYS) || words.any_phrase(&["api key", "account", "deactivated", "revoked"]) => {
            (Next::Key, Blame::KeyRefused)
        }
        // It may be the request that is forbidden, and a caller must not be able to end everybody's keys by one of those.
        403 => (Next::Key, Blame::Nobody),
        // Google's protocol has no 401. Only what the message begins with: further on it may repeat what a caller sent, who must
        // not be able to end everybody's keys.
        400 if words.message.starts_with("api key not valid") => (Next::Key, Blame::KeyRefused),
        // Anthropic says it with 400, too: "Your credit balance is too low to access the Anthropic API".
        400 if words.message.starts_with("your credit balance is too low") => {
            (Next::Key, Blame::KeyCools(Some(NO_QUOTA)))
        }
        402 if words.any_code(&["billing_error"]) => (Next::Key, Blame::KeyCools(Some(NO_QUOTA))),
        429 if words.any_code(&["insufficient_quota", "billing_hard_limit_reached"]) => {
            (Next::Key, Blame::KeyCools(Some(retry_after.unwrap_or_default().max(NO_QUOTA))))
        }
        429 => (Next::Key, Blame::KeyCools(retry_after)),
        // Said inside a good answer.
        502 if words.any_code(&["429", "rate_limit_exceeded", "rate_limit_error"]) => {
            (Next::Key, Blame::KeyCools(retry_after))
        }
        408 | 500.. => (Next::Same, Blame::Model),
        // An error inside a 200 is a 502 of ours; what is below 400 never comes here.
        _ => (Next::Nowhere, Blame::Nobody),
    }
}

/// Judges by the names that AWS has for its errors, where a status says less ("Error responses" and "Common errors" in the Amazon
/// Bedrock API reference): of several each stands for one thing.
fn of_aws(words: &Words) -> Option<(Next, Blame)> {
    if words.any_code(&OF_SIGNATURES) {
        return Some((Next::Key, Blame::KeyRefused));
    }
    // A 429, and no key's: the model is being made ready, as AWS's SDKs wait for by themselves. A 424 is the model's failure.
    if words.any_code(&["modelnotreadyexception", "modelerrorexception", "modelstreamerrorexception"]) {
        return Some((Next::Same, Blame::Model));
    }
    if words.any_code(&["servicequotaexceededexception"]) {
        return Some((Next::Key, Blame::KeyCools(Some(NO_QUOTA))));
    }
    // "The provided model identifier is invalid", and that a model is had by a profile alone.
    let no_model = words.any_phrase(&["model identifier is invalid", "with on-demand throughput"]);
    (no_model && words.any_code(&["validationexception"])).then_some((Next::Other, Blame::Nobody))
}

/// What a provider's error says, in small letters.
struct Words {
    codes: [String; 2],
    message: String,
}

impl Words {
    fn of(answer: &UpstreamAnswer) -> Self {
        let lower = |text: &Option<String>| text.as_deref().unwrap_or_default().to_ascii_lowercase();
        Self { codes: [lower(&answer.code), lower(&answer.kind)], message: answer.message.to_ascii_lowercase() }
    }

    fn any_code(&self, wanted: &[&str]) -> bool {
        self.codes.iter().any(|code| wanted.contains(&code.as_str()))
    }

    fn any_phrase(&self, wanted: &[&str]) -> bool {
        wanted.iter().any(|phrase| self.message.contains(phrase))
    }

    fn speaks_of(&self, what: &str) -> bool {
        self.message.contains(what) || self.codes.iter().any(|code| code.contains(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Duration = Duration::from_secs(7);

    fn answer(status: u16, code: &str, message: &str) -> Error {
        let code = (!code.is_empty()).then(|| code.to_owned());
        Error::upstream(UpstreamAnswer { status, message: message.to_owned(), kind: None, param: None, code })
    }

    fn of(error: &Error) -> (Next, Blame) {
        let Verdict { next, blame } = judge(error);
        (next, blame)
    }

    #[test]
    fn every_code_has_its_row() {
        use Blame::{Model, Nobody, Provider};
        use Next::{Nowhere, Other, Same};
        for code in Code::ALL {
            let wanted = match code {
                Code::UpstreamConnectError => (Same, Provider),
                Code::UpstreamBadResponse | Code::StreamCut | Code::UpstreamError => (Same, Model),
                Code::UpstreamTimeout | Code::FirstTokenTimeout | Code::StreamIdleTimeout => (Other, Model),
                Code::QueueFull
                | Code::QueueTimeout
                | Code::ResourceTimeout
                | Code::RateLimited
                | Code::CircuitOpen
                | Code::CredentialsExhausted
                | Code::StreamTooLong
                | Code::Internal => (Other, Nobody),
                _ => (Nowhere, Nobody),
            };
            assert_eq!(of(&Error::new(code, "x")), wanted, "{code}");
        }
    }

    #[test]
    fn an_answer_is_judged_by_its_status_and_by_its_words_where_these_say_more() {
        use Blame::{KeyCools, KeyRefused, KeyRefusedForModel, Model, Nobody};
        use Next::{Key, Nowhere, Other, OtherModel, Same};
        for (status, code, message, wanted) in [
            (400, "", "bad temperature", (Nowhere, Nobody)),
            (400, "context_length_exceeded", "x", (OtherModel, Nobody)),
            (400, "", "This model's maximum context length is 8192 tokens", (OtherModel, Nobody)),
            (400, "", "prompt is too long: 210000 tokens > 200000 maximum", (OtherModel, Nobody)),
            (413, "", "Input is too long for requested model", (OtherModel, Nobody)),
            (413, "", "payload too large", (Nowhere, Nobody)),
            (502, "context_length_exceeded", "inside a 200", (OtherModel, Nobody)),
            (502, "model_not_found", "inside a 200", (Other, Nobody)),
            (400, "content_policy_violation", "x", (Nowhere, Nobody)),
            (400, "content_filter", "The response was filtered", (Nowhere, Nobody)),
            (400, "", "Your request was rejected by our safety system", (Nowhere, Nobody)),
            (400, "invalid_model", "x", (Other, Nobody)),
            (404, "model_not_found", "x", (Other, Nobody)),
            (404, "", "The model `gpt-9` does not exist", (Other, Nobody)),
            (404, "", "no such route", (Nowhere, Nobody)),
            (422, "", "unprocessable", (Nowhere, Nobody)),
            (402, "", "pay first", (Nowhere, Nobody)),
            (401, "", "no", (Key, KeyRefused)),
            (403, "", "forbidden", (Key, Nobody)),
            (403, "", "The API key has been revoked", (Key, KeyRefused)),
            (403, "account_deactivated", "x", (Key, KeyRefused)),
            (403, "", "Your API key does not have permission to use the specified resource", (Key, KeyRefusedForModel)),
            (403, "", "openai/m requires moderation. Your input was flagged for \"x\"", (Nowhere, Nobody)),
            (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", (Key, KeyRefused)),
            (403, "", "Project does not have access to model gpt-4o", (Key, KeyRefusedForModel)),
            (403, "unsupported_country_region_territory", "Country not supported", (Other, Nobody)),
            (429, "", "slow down", (Key, KeyCools(None))),
            (429, "insufficient_quota", "You exceeded your current quota", (Key, KeyCools(Some(NO_QUOTA)))),
            (408, "", "x", (Same, Model)),
            (500, "", "x", (Same, Model)),
            (502, "", "x", (Same, Model)),
            (503, "", "x", (Same, Model)),
            (504, "", "x", (Same, Model)),
            (529, "overloaded_error", "x", (Same, Model)),
            (401, "authentication_error", "invalid x-api-key", (Key, KeyRefused)),
            (403, "permission_error", "Your API key does not have permission to use x", (Key, KeyRefusedForModel)),
            (404, "not_found_error", "model: claude-0", (Other, Nobody)),
            (413, "request_too_large", "Request exceeds the maximum size", (Nowhere, Nobody)),
            (429, "rate_limit_error", "This request would exceed your account's rate limit", (Key, KeyCools(None))),
            (502, "rate_limit_error", "inside a 200", (Key, KeyCools(None))),
            (502, "overloaded_error", "inside a 200", (Same, Model)),
            (504, "timeout_error", "x", (Same, Model)),
            (400, "invalid_request_error", "Your credit balance is too low to access", (Key, KeyCools(Some(NO_QUOTA)))),
            (402, "billing_error", "x", (Key, KeyCools(Some(NO_QUOTA)))),
            (418, "", "x", (Nowhere, Nobody)),
            (429, "ThrottlingException", "Too many requests", (Key, KeyCools(None))),
            (429, "ModelNotReadyException", "The model is not ready", (Same, Model)),
            (424, "ModelErrorException", "x", (Same, Model)),
            (424, "ModelStreamErrorException", "x", (Same, Model)),
            (408, "ModelTimeoutException", "x", (Same, Model)),
            (503, "ServiceUnavailableException", "x", (Same, Model)),
            (500, "InternalServerException", "x", (Same, Model)),
            (400, "ServiceQuotaExceededException", "x", (Key, KeyCools(Some(NO_QUOTA)))),
            (
                403,
                "AccessDeniedException",
                "You don't have access to the model with the specified model ID.",
                (Key, KeyRefusedForModel),
            ),
            (
                403,
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
                (Key, KeyRefused),
            ),
            (403, "ExpiredTokenException", "The security token included in the request is expired", (Key, KeyRefused)),
            (403, "InvalidSignatureException", "Credential should be scoped to a valid region.", (Key, KeyRefused)),
            (400, "ValidationException", "Input is too long for requested model.", (OtherModel, Nobody)),
            (400, "ValidationException", "The provided model identifier is invalid.", (Other, Nobody)),
            (
                400,
                "ValidationException",
                "Invocation of model ID m with on-demand throughput isn't supported.",
                (Other, Nobody),
            ),
            (400, "ValidationException", "1 validation error detected", (Nowhere, Nobody)),
            (
                404,
                "ResourceNotFoundException",
                "Could not resolve the foundation model from the identifier.",
                (Other, Nobody),
            ),
        ] {
            assert_eq!(of(&answer(status, code, message)), wanted, "{status} {code} {message}");
        }
    }

    #[test]
    fn a_connection_that_is_not_had_is_the_providers_and_one_that_breaks_the_models() {
        let of = |kind| {
            let error = Error::new(Code::UpstreamConnectError, "x").with_source(TransportError::new(kind, "y"));
            judge(&error).blame
        };
        for kind in [Kind::Resolve, Kind::Refused, Kind::Connect, Kind::ConnectTimeout, Kind::Tls] {
            assert_eq!(of(kind), Blame::Provider, "{kind:?}");
        }
        for kind in [Kind::Send, Kind::NoAnswer, Kind::Cut] {
            assert_eq!(of(kind), Blame::Model, "{kind:?}");
        }
    }

    #[test]
    fn a_rate_limit_inside_a_good_answer_cools_its_key() {
        for code in ["429", "rate_limit_exceeded", "rate_limit_error"] {
            assert_eq!(of(&answer(502, code, "x")), (Next::Key, Blame::KeyCools(None)), "{code}");
        }
        // Only what a message begins with is the provider's own word.
        assert_eq!(of(&answer(400, "", "API key not valid. Please pass a valid one")), (Next::Key, Blame::KeyRefused));
        assert_eq!(of(&answer(400, "", "Invalid value: 'api key not valid'")), (Next::Nowhere, Blame::Nobody));
    }

    #[test]
    fn a_key_cools_as_long_as_the_provider_says() {
        let told = answer(429, "", "slow down").with_retry_after(RETRY);
        assert_eq!(judge(&told).blame, Blame::KeyCools(Some(RETRY)));
        let spent = answer(429, "insufficient_quota", "x").with_retry_after(RETRY);
        assert_eq!(judge(&spent).blame, Blame::KeyCools(Some(NO_QUOTA)));
    }

    #[test]
    fn a_refusal_for_its_content_goes_nowhere_else_whatever_its_status() {
        for status in [400, 403, 422, 500, 502] {
            assert_eq!(
                of(&answer(status, "content_policy_violation", "x")),
                (Next::Nowhere, Blame::Nobody),
                "{status}"
            );
        }
    }
}
