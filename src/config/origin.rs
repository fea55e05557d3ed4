//! The origins whose pages a browser lets read answers: exact ones, or any.

use std::fmt;

/// An entry of `server.cors_origins`. Prints as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `*`: every page.
    Any,
    /// `scheme://host[:port]`, as a browser writes it in `Origin`.
    Exact(String),
}

impl Origin {
    /// Reads an origin: in lower case, without a path, a final slash or a port that the scheme has anyway, because what
    /// a browser never sends would never fit.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let (scheme, authority) = text.split_once("://")?;
        let (host, port) = match authority.rsplit_once(':') {
            // A colon within brackets is the address' own.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let is_scheme = scheme.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
        let usual = match scheme {
            "http" => Some("80"),
            "https" => Some("443"),
            _ => None,
        };
        let port_fits = port.is_none_or(|port| {
            let number = port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port);
            number && Some(port) != usual
        });
        let fits = scheme.starts_with(|c: char| c.is_ascii_lowercase()) && is_scheme && is_host(host) && port_fits;
        fits.then(|| Self::Exact(text.to_owned()))
    }
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok_and(|own| own.to_string() == address),
        None => {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b))
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(origin) => f.write_str(origin),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends_and_nothing_else() {
        for right in [
            "*",
            "https://app.example",
            "http://localhost:3000",
            "http://127.0.0.1:8080",
            "http://[::1]:3000",
            "https://xn--bcher-kva.example",
            "chrome-extension://abcdefghijklmnop",
            "tauri://localhost",
            "http://app.example:443",
        ] {
            assert_eq!(Origin::parse(right).map(|origin| origin.to_string()).as_deref(), Some(right));
        }
        for wrong in [
            "",
            "null",
            "app.example",
            "//app.example",
            "://app.example",
            "https://",
            "https://app.example/",
            "https://app.example/path",
            "https://App.example",
            "HTTPS://app.example",
            "https://*.example",
            "https://a@b",
            "https://app.example:443",
            "http://app.example:80",
            "https://app.example:",
            "https://app.example:0",
            "https://app.example:08",
            "https://app.example:99999",
            "https://b\u{fc}cher.example",
            "https://a b",
            "https://a,https://b",
            "https://[::1",
            "https://[0:0::1]",
            "https://app.example?x",
            "https://a\r\nb",
            "*.example",
        ] {
            assert_eq!(Origin::parse(wrong), None, "{wrong:?}");
        }
    }
}
