//! AWS Signature Version 4: the headers by which a service of AWS knows who sends a request, and that nobody changed it.
//!
//! Source: "Signature Version 4 signing process" and "Create a signed AWS API request" in AWS's Identity and Access Management
//! User Guide. Pure: the time is handed in. AWS's own crate for it brings an async runtime; botocore's signer is the judge of
//! this one (`tests/sdk/test_aws.py`, whose answers `tests/golden/sigv4` keeps). The secret is used and never shown, and every
//! key that is made of it is written over (I10).

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::calendar::Utc;
use crate::secret::Secret;
use crate::wire::percent::percent_encode;

/// The name under which Bedrock's runtime is signed for.
pub(crate) const BEDROCK: &str = "bedrock";

/// Who signs.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    /// The key's public name.
    pub(crate) access_key: Secret,
    /// The key.
    pub(crate) secret_key: Secret,
    /// What temporary credentials carry beside it.
    pub(crate) session_token: Option<Secret>,
}

/// What a signature is good for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    /// The region, as `us-east-1`.
    pub(crate) region: &'a str,
    /// The service, as [`BEDROCK`].
    pub(crate) service: &'a str,
}

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    /// The `Host` header, as it is sent.
    pub(crate) host: &'a str,
    /// Path and query, as they are sent: encoded.
    pub(crate) target: &'a str,
    /// Further headers that are signed, names in lower case.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

/// The headers that a signed request carries beside those that were signed.
#[derive(Debug)]
pub(crate) struct Signed {
    /// `x-amz-date`.
    pub(crate) date: String,
    /// `x-amz-security-token`, where the credentials are temporary.
    pub(crate) token: Option<Secret>,
    /// `authorization`. Whoever has it can send the same request again for some minutes.
    pub(crate) authorization: Secret,
}

/// Signs a request that is sent now.
pub(crate) fn sign(credentials: &Credentials, scope: Scope<'_>, unix_seconds: u64, request: &Request<'_>) -> Signed {
    let Utc { year, month, day, hour, minute, second } = Utc::at(unix_seconds);
    let date = format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z");
    let (day, token) = (&date[..8], credentials.session_token.as_ref());

    let mut headers: Vec<(&str, &str)> = vec![("host", request.host), ("x-amz-date", &date)];
    headers.extend(token.map(|token| ("x-amz-security-token", token.expose())));
    headers.extend(request.headers);
    // Stable: lines of one name keep their order.
    headers.sort_by_key(|(name, _)| *name);
    let names = names(&headers);

    let canonical = Zeroizing::new(canonical(request, &headers, &names));
    let within = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{within}\n{}", hex(&Sha256::digest(canonical.as_bytes())));

    let first = Zeroizing::new(["AWS4", credentials.secret_key.expose()].concat());
    let of_day = keyed(first.as_bytes(), day);
    let of_region = keyed(&*of_day, scope.region);
    let of_service = keyed(&*of_region, scope.service);
    let key = keyed(&*of_service, "aws4_request");
    let signature = hex(&*keyed(&*key, &to_sign));

    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{within}, SignedHeaders={names}, Signature={signature}",
        credentials.access_key.expose()
    );
    Signed { authorization: Secret::new(authorization), token: token.cloned(), date }
}

/// The request as both sides write it before they sign.
fn canonical(request: &Request<'_>, headers: &[(&str, &str)], names: &str) -> String {
    let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
    let mut out = String::with_capacity(512);
    out.push_str(request.method);
    out.push('\n');
    canonical_path(path, &mut out);
    out.push('\n');
    let mut pairs: Vec<_> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    pairs.sort_by_key(|pair| pair.split_once('=').unwrap_or((pair, "")));
    for (nth, pair) in pairs.into_iter().enumerate() {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let _ = write!(out, "{}{name}={value}", if nth > 0 { "&" } else { "" });
    }
    out.push('\n');
    let mut before = None;
    for (name, value) in headers {
        if before == Some(name) {
            // Another line of the same name goes behind a comma.
            out.pop();
            out.push(',');
        } else {
            let _ = write!(out, "{name}:");
        }
        for (nth, word) in value.split_whitespace().enumerate() {
            let _ = write!(out, "{}{word}", if nth > 0 { " " } else { "" });
        }
        out.push('\n');
        before = Some(name);
    }
    let _ = write!(out, "\n{names}\n{}", hex(&Sha256::digest(request.body)));
    out
}

/// The path without dots and empty parts, encoded once more than it is sent: every service but S3 wants it so, which makes
/// `%3A` of a sent path `%253A` here.
fn canonical_path(path: &str, out: &mut String) {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    for part in &parts {
        out.push('/');
        percent_encode(part, out);
    }
    if parts.is_empty() || path.ends_with('/') {
        out.push('/');
    }
}

/// The names of sorted headers, each once.
fn names(headers: &[(&str, &str)]) -> String {
    let mut names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    names.dedup();
    names.join(";")
}

/// The keyed digest of a text.
fn keyed(key: &[u8], text: &str) -> Zeroizing<[u8; 32]> {
    let mac = Hmac::<Sha256>::new_from_slice(key).map(|mac| mac.chain_update(text.as_bytes()));
    // HMAC takes a key of any length, so that there is no error to tell.
    mac.map_or_else(|_| Zeroizing::new([0; 32]), |mac| Zeroizing::new(mac.finalize().into_bytes().into()))
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// Half past noon and six minutes on the thirtieth of August 2015, when all of AWS's test suite is signed.
    const SUITE: u64 = 1_440_938_160;

    fn suite(method: &str, target: &str, headers: &[(&str, &str)]) -> String {
        let credentials = Credentials {
            access_key: "AKIDEXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        };
        let request = Request { method, host: "example.amazonaws.com", target, headers, body: b"" };
        let signed = sign(&credentials, Scope { region: "us-east-1", service: "service" }, SUITE, &request);
        assert_eq!(signed.date, "20150830T123600Z");
        signed.authorization.expose().rsplit_once('=').expect("a signature").1.to_owned()
    }

    #[test]
    fn the_cases_of_awss_own_test_suite_are_signed_as_it_says() {
        let vanilla = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        for (target, wanted) in [
            ("/", vanilla),
            ("/example/..", vanilla),
            ("/./", vanilla),
            ("//", vanilla),
            ("/?Param2=value2&Param1=value1", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
            ("/\u{1234}", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
            (
                "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
                "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
            ),
        ] {
            assert_eq!(suite("GET", target, &[]), wanted, "{target}");
        }
        let post = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
        assert_eq!(suite("POST", "/", &[]), post);
        let trimmed = [("my-header1", " value1"), ("my-header2", " \"a   b   c\"")];
        let wanted = "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736";
        assert_eq!(suite("GET", "/", &trimmed), wanted);
    }

    /// A request, and what botocore makes of it.
    #[derive(Deserialize)]
    struct Vector {
        name: String,
        access_key: String,
        secret_key: String,
        token: Option<String>,
        region: String,
        service: String,
        time: u64,
        method: String,
        host: String,
        target: String,
        headers: Vec<(String, String)>,
        body: String,
        date: String,
        authorization: String,
    }

    #[test]
    fn whatever_botocore_signs_is_signed_the_same_way() {
        let text = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/sigv4/vectors.json"));
        let vectors: Vec<Vector> = serde_json::from_slice(&text.expect("the vectors")).expect("vectors");
        assert!(vectors.len() > 10);
        for vector in vectors {
            let credentials = Credentials {
                access_key: vector.access_key.into(),
                secret_key: vector.secret_key.into(),
                session_token: vector.token.map(Secret::new),
            };
            let headers: Vec<_> = vector.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
            let request = Request {
                method: &vector.method,
                host: &vector.host,
                target: &vector.target,
                headers: &headers,
                body: vector.body.as_bytes(),
            };
            let scope = Scope { region: &vector.region, service: &vector.service };
            let signed = sign(&credentials, scope, vector.time, &request);
            assert_eq!(signed.date, vector.date, "{}", vector.name);
            assert_eq!(signed.token, credentials.session_token, "{}", vector.name);
            assert_eq!(signed.authorization.expose(), vector.authorization, "{}", vector.name);
        }
    }

    #[test]
    fn nothing_that_is_printed_shows_the_key_the_token_or_the_signature() {
        let credentials = Credentials {
            access_key: "AKID".into(),
            secret_key: "canary-key".into(),
            session_token: Some("canary-token".into()),
        };
        let request = Request { method: "POST", host: "h", target: "/", headers: &[], body: b"" };
        let signed = sign(&credentials, Scope { region: "r", service: BEDROCK }, 0, &request);
        assert!(signed.authorization.expose().contains("SignedHeaders=host;x-amz-date;x-amz-security-token,"));
        let printed = format!("{credentials:?} {signed:?}");
        assert!(!printed.contains("canary") && !printed.contains("Signature="), "{printed}");
    }
}
