//! How a key is shown to its provider: in a header line that is the same each time, or by a signature of each request.
//!
//! A signature is made when its request is sent, each time anew: it is good for some minutes, and of just these bytes.

use crate::secret::Secret;
#[cfg(feature = "bedrock")]
use crate::time::unix_ms;
#[cfg(feature = "bedrock")]
use crate::wire::sigv4::{self, Credentials, Scope, Signed};

/// What a key is shown by. Nothing prints it.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A header line: name in lower case, and value.
    Header(&'static str, Secret),
    /// A signature as AWS has it.
    #[cfg(feature = "bedrock")]
    Signature(Signer),
}

impl Credential {
    /// The header line that is the same each time, if that is what it is.
    pub(crate) fn line(&self) -> Option<(&str, &str)> {
        match self {
            Self::Header(name, value) => Some((name, value.expose())),
            #[cfg(feature = "bedrock")]
            Self::Signature(_) => None,
        }
    }
}

/// Who signs requests to one provider.
#[cfg(feature = "bedrock")]
#[derive(Clone, Debug)]
pub struct Signer {
    credentials: Credentials,
    region: String,
    /// What the `Host` header says.
    host: String,
    /// What stands before each path.
    prefix: String,
}

#[cfg(feature = "bedrock")]
impl Signer {
    /// Signs for Bedrock in a region, at a base URL.
    #[must_use]
    pub fn new(access_key: &Secret, secret_key: &Secret, token: Option<&Secret>, region: &str, base_url: &str) -> Self {
        let place = base_url.split_once("://").map_or(base_url, |(_, place)| place);
        let (host, prefix) = place.split_at(place.find('/').unwrap_or(place.len()));
        // As it is sent: without the port that goes without saying.
        let usual = if base_url.starts_with("http://") { ":80" } else { ":443" };
        let host = host.strip_suffix(usual).unwrap_or(host);
        Self {
            credentials: Credentials {
                access_key: access_key.clone(),
                secret_key: secret_key.clone(),
                session_token: token.cloned(),
            },
            region: region.to_owned(),
            host: host.to_owned(),
            prefix: prefix.trim_end_matches('/').to_owned(),
        }
    }

    /// The lines of a request that is sent now, of whose `headers` those are signed that say what it means, if there is one way
    /// to write them: what is signed is the value with its spaces squeezed, and who counts a tab among them differs. A client that
    /// chose one where AWS does not would have the key taken for a wrong one.
    pub(crate) fn sign(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Signature {
        let says = |name: &str| name == "content-type" || name.starts_with("x-amzn-");
        let is_plain = |value: &str| !value.contains('\t') && !value.contains("  ");
        let headers: Vec<_> = headers.iter().copied().filter(|(name, value)| says(name) && is_plain(value)).collect();
        let target = format!("{}{path}", self.prefix);
        let request = sigv4::Request { method, host: &self.host, target: &target, headers: &headers, body };
        let scope = Scope { region: &self.region, service: sigv4::BEDROCK };
        Signature(sigv4::sign(&self.credentials, scope, unix_ms() / 1000, &request))
    }
}

/// The signature of one request.
#[cfg(feature = "bedrock")]
pub(crate) struct Signature(Signed);

#[cfg(feature = "bedrock")]
impl Signature {
    /// Its header lines.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        let Signed { date, token, authorization } = &self.0;
        let token = token.iter().map(|token| ("x-amz-security-token", token.expose()));
        [("x-amz-date", date.as_str()), ("authorization", authorization.expose())].into_iter().chain(token)
    }
}

#[cfg(all(test, feature = "bedrock"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_what_is_sent() {
        let signer = |base_url| Signer::new(&"AKID".into(), &"secret".into(), None, "eu-west-1", base_url);
        for (base_url, host, prefix) in [
            ("https://bedrock-runtime.eu-west-1.amazonaws.com", "bedrock-runtime.eu-west-1.amazonaws.com", ""),
            ("http://127.0.0.1:8080", "127.0.0.1:8080", ""),
            ("https://h.example:443", "h.example", ""),
            ("http://h.example:80/aws", "h.example", "/aws"),
            ("http://h.example:443", "h.example:443", ""),
            ("https://[::1]:443", "[::1]", ""),
            ("https://proxy.example/aws/", "proxy.example", "/aws"),
        ] {
            let signer = signer(base_url);
            assert_eq!((signer.host.as_str(), signer.prefix.as_str()), (host, prefix));
        }
        let odd = ("x-amzn-bedrock-request-metadata", "a\tb");
        let headers = [("accept", "x"), ("content-type", "application/json"), ("x-amzn-bedrock-trace", "ENABLED"), odd];
        let signature = signer("https://h").sign("POST", "/model/x/converse", &headers, b"{}");
        let lines: Vec<_> = signature.lines().collect();
        let (name, value) = lines[1];
        assert_eq!((lines[0].0, name, lines.len()), ("x-amz-date", "authorization", 2));
        assert!(value.contains("SignedHeaders=content-type;host;x-amz-date;x-amzn-bedrock-trace,"), "{value}");
        assert!(value.contains("/eu-west-1/bedrock/aws4_request"), "{value}");
    }

    #[test]
    fn no_way_of_printing_shows_what_signs() {
        let token = Secret::new("canary-token");
        let signer = Signer::new(&"canary-id".into(), &"canary-key".into(), Some(&token), "r", "https://h");
        let printed = format!("{:?}", Credential::Signature(signer));
        assert!(!printed.contains("canary"), "{printed}");
    }
}
