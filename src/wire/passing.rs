//! Which header lines pass between client and provider: two lists of what does, and everything else stays (P8).
//!
//! What is on neither list never passes, whoever sends it: `Host`, `Authorization`, `Cookie`, `Forwarded` and
//! `X-Forwarded-*`, `User-Agent`, `Set-Cookie`, `Server`, and what speaks of one connection alone (RFC 9110, section 7.6.1);
//! a line that `Connection` names stays even if it is listed. What the configuration sets for a provider goes before what a
//! client sends. Pure.

use crate::error::Error;

/// What goes from a client to the provider, in lower case.
///
/// Left out with a reason: `idempotency-key`, because clients of one gateway share an account, and one that names another's
/// key would be given the other's answer (I3); `baggage`, which carries a house's own words to strangers; `x-stainless-*`
/// and `user-agent`, which describe the client's machine; `x-goog-user-project` and the like, which choose who pays beyond
/// what an account's own organisation and project do.
pub const UPSTREAM: [&str; 14] = [
    // The version and the trials of Anthropic's protocol that the client's body is written for.
    "anthropic-beta",
    "anthropic-version",
    // The trials of OpenAI's protocol that the body is written for; whose budget it goes to within the key's account.
    "openai-beta",
    "openai-organization",
    "openai-project",
    // One trace through all houses (W3C Trace Context); `ids::trace` says what becomes of them.
    "traceparent",
    "tracestate",
    // What InvokeModel says beside a model's own body: who judges what is said, how it is served, labels for the account's
    // logs, whether the judgement is told.
    "x-amzn-bedrock-guardrailidentifier",
    "x-amzn-bedrock-guardrailversion",
    "x-amzn-bedrock-performanceconfig-latency",
    "x-amzn-bedrock-request-metadata",
    "x-amzn-bedrock-service-tier",
    "x-amzn-bedrock-trace",
    // A client's own name for the request, which OpenAI's support asks for.
    "x-client-request-id",
];

/// What comes back from the provider to the client, in lower case.
pub const DOWNSTREAM: [&str; 6] = [
    // What the bytes are.
    "content-type",
    // When to come again, and whether at all, as SDKs read it.
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    // Anthropic's name for the request. OpenAI's is `x-request-id`, which is ours here.
    "request-id",
    // AWS's.
    "x-amzn-requestid",
];

/// What comes back besides with an answer that is handed on unread: what a client needs to read it.
const WITH_BYTES: [&str; 2] = ["content-disposition", "content-encoding"];

/// What names begin with that come back: limits and times, in the ways of the providers.
pub const DOWNSTREAM_FAMILIES: [&str; 4] = ["anthropic-", "openai-", "x-amzn-bedrock-", "x-ratelimit-"];

/// What stays behind of those: it names the account that the gateway's operator has.
const OWN_ACCOUNT: [&str; 3] = ["anthropic-organization-id", "openai-organization", "openai-project"];

/// The lengths of the names of [`UPSTREAM`], a bit each: most lines of most requests are told from them by it alone.
const LENGTHS: u64 = {
    let (mut lengths, mut at) = (0, 0);
    while at < UPSTREAM.len() {
        assert!(UPSTREAM[at].len() < 64, "a name's length is a bit of one word");
        lengths |= 1 << UPSTREAM[at].len();
        at += 1;
    }
    lengths
};

/// The lines of a request's head that go upstream. Takes no memory if there are none.
///
/// # Errors
/// [`Code::InvalidRequest`](crate::error::Code::InvalidRequest) that names the line, if one has a character that is neither
/// printable ASCII nor a tab: what is passed on could be read in two ways there.
pub fn upstream<'a>(
    head: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
) -> Result<Vec<(&'static str, String)>, Error> {
    let mut passing = Vec::new();
    for (name, value) in head.clone() {
        if name.len() >= 64 || LENGTHS & (1 << name.len()) == 0 {
            continue;
        }
        let Some(own) = UPSTREAM.into_iter().find(|own| own.eq_ignore_ascii_case(name)) else { continue };
        // What is no trace is not the client's fault to pay for: a new one begins.
        let text = if own.starts_with("trace") { plain(value).or(Some("")) } else { plain(value) };
        let Some(text) = text else {
            return Err(Error::invalid(own, format!("the header {own} has a character that cannot be passed on")));
        };
        passing.push((own, text.to_owned()));
    }
    if !passing.is_empty() {
        for (_, options) in head.filter(|(name, _)| name.eq_ignore_ascii_case("connection")) {
            passing.retain(|(name, _)| !names(options, name));
        }
    }
    Ok(passing)
}

/// The lines of a provider's answer, whose names are in lower case, that go to the client; `unread` says that the answer's
/// bytes are handed on as they are.
#[must_use]
pub fn downstream(mut head: Vec<(String, String)>, unread: bool) -> Vec<(String, String)> {
    let bound: Vec<String> =
        head.iter().filter(|(name, _)| name == "connection").map(|(_, options)| options.clone()).collect();
    let passes = |name: &str| passes_down(name) || (unread && WITH_BYTES.contains(&name));
    head.retain(|(name, _)| passes(name) && !bound.iter().any(|options| names(options.as_bytes(), name)));
    head
}

fn passes_down(name: &str) -> bool {
    let family = || DOWNSTREAM_FAMILIES.iter().any(|family| name.starts_with(family));
    DOWNSTREAM.contains(&name) || (family() && !OWN_ACCOUNT.contains(&name))
}

/// A line's value as text, if it is printable ASCII and tabs: nobody reads that in two ways.
#[must_use]
pub fn plain(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)))
}

/// Whether a `Connection` line names a header.
fn names(options: &[u8], name: &str) -> bool {
    options.split(|byte| *byte == b',').any(|option| option.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn up(lines: &[(&str, &[u8])]) -> Result<Vec<(&'static str, String)>, Error> {
        upstream(lines.iter().copied())
    }

    #[test]
    fn what_is_listed_goes_upstream_and_nothing_else() {
        let lines: Vec<(&str, &[u8])> = vec![
            ("Host", b"evil.example"),
            ("Authorization", b"Bearer x"),
            ("X-Api-Key", b"x"),
            ("Api-Key", b"x"),
            ("Cookie", b"a=b"),
            ("X-Forwarded-For", b"1.2.3.4"),
            ("X-Forwarded-Host", b"evil.example"),
            ("Forwarded", b"for=1.2.3.4"),
            ("Accept-Encoding", b"gzip"),
            ("Idempotency-Key", b"k"),
            ("Proxy-Authorization", b"x"),
            ("Anthropic-Betas", b"x"),
            ("OPENAI-ORGANIZATION", b"org-1"),
            ("anthropic-beta", b"a"),
            ("Anthropic-Beta", b"b,c"),
            ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ];
        let passing = up(&lines).expect("they are good");
        let names: Vec<_> = passing.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(names[..3], [("openai-organization", "org-1"), ("anthropic-beta", "a"), ("anthropic-beta", "b,c")]);
        assert_eq!((names[3].0, names.len()), ("traceparent", 4));
        assert_eq!(up(&lines[..12]).expect("good").capacity(), 0, "nothing passes, and nothing is taken for it");
        for name in UPSTREAM {
            assert_eq!(up(&[(&name.to_uppercase(), b"v")]).expect("good"), [(name, "v".to_owned())]);
        }
    }

    #[test]
    fn a_line_that_connection_names_stays() {
        let lines: [(&str, &[u8]); 4] = [
            ("connection", b"keep-alive, TraceState"),
            ("traceparent", b"1"),
            ("tracestate", b"2"),
            ("Connection", b"openai-beta"),
        ];
        assert_eq!(up(&lines).expect("good"), [("traceparent", "1".to_owned())]);
        let answer = [("connection", "close, x-ratelimit-b"), ("x-ratelimit-a", "1"), ("x-ratelimit-b", "2")];
        let answer = answer.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        assert_eq!(downstream(answer, false), [("x-ratelimit-a".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn a_value_that_could_be_read_in_two_ways_is_refused_by_name() {
        for value in [&b"a\r\nauthorization: Bearer x"[..], b"a\nb", b"a\0b", b"\x7f", b"\xff", "\u{e9}".as_bytes()] {
            let error = up(&[("OpenAI-Beta", value)]).expect_err("it is refused");
            assert_eq!((error.code(), error.param()), (Code::InvalidRequest, Some("openai-beta")), "{value:?}");
        }
        assert!(up(&[("openai-beta", b"a\tb"), ("x-other", b"\xff")]).is_ok(), "what stays is not judged");
    }

    #[test]
    fn limits_come_back_and_cookies_servers_and_accounts_stay_behind() {
        let all = [
            ("content-type", true),
            ("retry-after", true),
            ("request-id", true),
            ("x-ratelimit-remaining-requests", true),
            ("openai-processing-ms", true),
            ("openai-version", true),
            ("anthropic-ratelimit-tokens-remaining", true),
            ("openai-organization", false),
            ("anthropic-organization-id", false),
            ("set-cookie", false),
            ("server", false),
            ("location", false),
            ("x-request-id", false),
            ("x-sluicegate-provider", false),
            ("access-control-allow-origin", false),
            ("transfer-encoding", false),
            ("content-length", false),
            ("keep-alive", false),
            ("www-authenticate", false),
            ("strict-transport-security", false),
        ];
        for (name, passes) in all {
            assert_eq!(downstream(vec![(name.to_owned(), "v".to_owned())], false).len() == 1, passes, "{name}");
        }
    }
}
