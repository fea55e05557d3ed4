//! Where a provider lives: its URL taken apart, and whether it names a private place itself.

use std::net::IpAddr;

/// A provider's base URL, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BaseUrl {
    /// Scheme, host, port and path, without a trailing slash or `/v1`.
    pub(super) url: String,
    /// What stands between it and the route: `/v1`, or nothing if the URL names its version elsewhere, as in
    /// `…/v1beta/openai` or `…/v1/account/openai`.
    pub(super) api_prefix: &'static str,
    /// Whether it names localhost, a private address or plain `http`: consent to go there.
    pub(super) private: bool,
    /// The host and port that it names, for telling whether it is the gateway itself.
    pub(super) host: String,
    pub(super) port: u16,
}

/// Takes a URL apart.
///
/// # Errors
/// What would be right.
pub(super) fn parse(text: &str) -> Result<BaseUrl, &'static str> {
    const FORM: &str = "a URL such as https://api.example.com or http://127.0.0.1:8000/v1";
    if !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err(FORM);
    }
    let (scheme, rest) = text.split_once("://").ok_or(FORM)?;
    let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
        "https" => ("https", 443),
        "http" => ("http", 80),
        _ => return Err(FORM),
    };
    if rest.contains(['?', '#']) {
        return Err("a URL without query or fragment; a key goes into keys[].value");
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("a URL without user and password; a key goes into keys[].value");
    }
    let (host, port) = split_port(authority).ok_or(FORM)?;
    let number = |port: &str| {
        // `parse` would take a sign, too.
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        port.parse().ok().filter(|port| digits && *port != 0)
    };
    let port = port.map_or(Some(default_port), number).ok_or(FORM)?;
    let ip = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    };
    if (ip.is_none() && !is_name(host)) || !is_path(path) {
        return Err(FORM);
    }
    let path = path.trim_end_matches('/');
    let (path, api_prefix) = match path.strip_suffix("/v1") {
        Some(before) => (before.trim_end_matches('/'), "/v1"),
        None if path.split('/').any(is_version) => (path, ""),
        None => (path, "/v1"),
    };
    let host = host.to_ascii_lowercase();
    let local_name = host == "localhost" || host.ends_with(".localhost");
    let private = scheme == "http" || local_name || ip.is_some_and(is_private);
    let authority = authority.to_ascii_lowercase();
    Ok(BaseUrl { url: format!("{scheme}://{authority}{path}"), api_prefix, private, host, port })
}

impl BaseUrl {
    /// A text that leads to the same place when it is read: without `/v1`, unless reading would then cut or add another.
    pub(super) fn shown(&self) -> String {
        match parse(&self.url) {
            Ok(again) if again == *self => self.url.clone(),
            _ => format!("{}{}", self.url, self.api_prefix),
        }
    }
}

/// Whether `host` is a name as the DNS and certificates have them. One whose last label is a number is none: resolvers take
/// `127.1` and `2130706433` for addresses.
fn is_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    };
    let number = |label: &str| {
        let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
        hex.map_or_else(|| label.chars().all(|c| c.is_ascii_digit()), |hex| hex.chars().all(|c| c.is_ascii_hexdigit()))
    };
    host.len() <= 253 && host.split('.').all(label) && !host.rsplit('.').next().is_some_and(number)
}

/// Whether `path` has only what RFC 3986 allows in one.
fn is_path(path: &str) -> bool {
    path.chars().all(|c| c.is_ascii_alphanumeric() || "/-._~!$&'()*+,;=:@%".contains(c))
}

fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if authority.starts_with('[') {
        let (host, rest) = authority.split_at(authority.find(']')? + 1);
        return if rest.is_empty() { Some((host, None)) } else { Some((host, Some(rest.strip_prefix(':')?))) };
    }
    Some(authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))))
}

/// Whether a path segment names a version: `v1`, `v4`, `v1beta`.
fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_ascii_digit()) && rest.chars().all(|c| c.is_ascii_alphanumeric())
    })
}

/// Whether an address is not one of the public internet.
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified() || shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_added_only_where_the_url_names_none() {
        for (text, url, prefix) in [
            ("https://api.openai.com", "https://api.openai.com", "/v1"),
            ("https://api.openai.com/", "https://api.openai.com", "/v1"),
            ("https://api.openai.com/v1", "https://api.openai.com", "/v1"),
            ("HTTPS://API.openai.com/v1/", "https://api.openai.com", "/v1"),
            ("https://api.groq.com/openai", "https://api.groq.com/openai", "/v1"),
            ("https://g.example/v1beta/openai", "https://g.example/v1beta/openai", ""),
            ("https://g.example/api/paas/v4/", "https://g.example/api/paas/v4", ""),
            ("https://g.example/v1/account/openai", "https://g.example/v1/account/openai", ""),
            ("http://[::1]:8000/v1", "http://[::1]:8000", "/v1"),
        ] {
            let base = parse(text).unwrap_or_else(|expected| panic!("{text}: {expected}"));
            assert_eq!((base.url.as_str(), base.api_prefix), (url, prefix), "{text}");
        }
    }

    #[test]
    fn consent_to_private_places_is_read_off_the_url_itself() {
        for private in [
            "http://api.example.com",
            "https://localhost",
            "https://a.localhost",
            "https://127.0.0.1",
            "https://10.1.2.3",
            "https://192.168.1.1:8443",
            "https://100.64.0.1",
            "https://169.254.1.1",
            "https://[::1]",
            "https://[fd00::1]",
            "https://[::ffff:10.0.0.1]",
        ] {
            assert!(parse(private).unwrap_or_else(|e| panic!("{private}: {e}")).private, "{private}");
        }
        for public in ["https://api.example.com", "https://8.8.8.8", "https://172.32.0.1", "https://[2606:4700::1]"] {
            assert!(!parse(public).unwrap_or_else(|e| panic!("{public}: {e}")).private, "{public}");
        }
    }

    #[test]
    fn what_is_shown_leads_to_the_same_place() {
        for (text, shown) in [
            ("https://a.example/v1", "https://a.example"),
            ("https://a.example//v1//", "https://a.example"),
            ("https://a.example/v1/v1", "https://a.example/v1/v1"),
            ("https://a.example/v1beta/v1", "https://a.example/v1beta/v1"),
            ("https://a.example/v4", "https://a.example/v4"),
        ] {
            let base = parse(text).unwrap_or_else(|expected| panic!("{text}: {expected}"));
            assert_eq!(base.shown(), shown, "{text}");
            assert_eq!(parse(shown).as_ref(), Ok(&base), "{text}");
        }
    }

    #[test]
    fn what_is_no_plain_base_url_is_refused() {
        for text in [
            "",
            "api.openai.com",
            "ftp://x",
            "https://",
            "https:///v1",
            "https://a b",
            "https://user:pass@host",
            "https://host?key=1",
            "https://host#x",
            "https://host:0",
            "https://host:99999",
            "https://host:",
            "https://[::1",
            "https://[::1]x",
            "https://ho\r\nst",
            "https://a..b",
            "https://::1",
            "https://127.1",
            "https://2130706433",
            "https://0x7f.0x1",
            "https://[127.0.0.1]",
            "https://-a.example",
            "https://a-.example",
            "https://host/<a>",
            "https://host/a\\b",
            "https://host:+80",
            &format!("https://{}.example", "a".repeat(64)),
        ] {
            assert!(parse(text).is_err(), "{text:?} must be refused");
        }
    }
}
