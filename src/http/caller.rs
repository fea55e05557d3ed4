//! Who sends a request, as far as its head tells: the key that it carries, the address behind trusted proxies, and whether
//! it is another site's page.

use std::net::{IpAddr, SocketAddr};

use super::head::Head;
use crate::config::AddressRange;
use crate::secret::Digest;

/// The headers that carry a key; the first as a bearer token.
const CARRIERS: [&str; 3] = ["authorization", "x-api-key", "api-key"];

/// What stands for keys that contradict each other: a line end, which neither a header nor a configured key can have.
const CONTRADICTION: &[u8] = b"\n";

/// The digest of the key that a request carries; of nothing if there is none.
///
/// There is exactly one: lines of several of the carrying headers must carry the same, and each of them stands once. What
/// contradicts itself is no key, because another house in the chain may have judged by the other line. An `Authorization`
/// of another scheme carries none. Whatever was sent takes the same way: one digest (P7).
#[must_use]
pub fn sent_key(head: &Head) -> Digest {
    let mut sent: Option<&[u8]> = None;
    let (mut seen, mut agree) = ([false; CARRIERS.len()], true);
    for (name, value) in head.headers() {
        let Some(at) = CARRIERS.iter().position(|own| own.eq_ignore_ascii_case(name)) else { continue };
        agree &= !std::mem::replace(&mut seen[at], true);
        let Some(key) = (if at == 0 { bearer(value) } else { Some(value) }) else { continue };
        agree &= *sent.get_or_insert(key) == key;
    }
    Digest::of(if agree { sent.unwrap_or_default() } else { CONTRADICTION })
}

/// The token of a bearer's line; empty if it has none, and `None` if the line is of another scheme.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let end = memchr::memchr(b' ', value).unwrap_or(value.len());
    let (scheme, token) = value.split_at(end);
    scheme.eq_ignore_ascii_case(b"bearer").then(|| token.trim_ascii())
}

/// Whether a browser says that another site's page sent this. Every browser of today says it to loopback and over TLS (Fetch
/// Metadata Request Headers, section 2.3), and no page can have it say something else. Each line counts, and one that is no
/// known word is foreign.
#[must_use]
pub fn is_from_another_site(head: &Head) -> bool {
    let mut sites = head.headers().filter(|(name, _)| name.eq_ignore_ascii_case("sec-fetch-site"));
    sites.any(|(_, site)| !matches!(site, b"same-origin" | b"none"))
}

/// The address that a request comes from: the peer's, or, if `trusted` has that, the right-most one of `X-Forwarded-For`
/// that it does not have. The peer's, too, if the way there leads over something that is no address.
///
/// What stands further left was written by who knows whom and is not looked at. Where every address is trusted, the left-most
/// is the client. It says whose failures are counted and what is told of them; nothing else believes a proxy.
#[must_use]
pub fn client_address(head: &Head, peer: SocketAddr, trusted: &[AddressRange]) -> IpAddr {
    let peer = peer.ip().to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|range| range.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    let lines: Vec<_> = head.headers().filter(|(name, _)| name.eq_ignore_ascii_case("x-forwarded-for")).collect();
    let mut client = peer;
    for entry in lines.iter().rev().flat_map(|(_, value)| value.rsplit(|byte| *byte == b',')) {
        let Some(address) = forwarded(entry) else { return peer };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    client
}

/// An address as proxies write it: bare, or with a port.
fn forwarded(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim_matches([' ', '\t']);
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let address = text.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|own| own.ip()));
    address.or_else(bracketed).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Config;

    fn head(lines: &[&str]) -> Head {
        Head::parse(format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n\r\n", lines.join("\r\n")).as_bytes()).expect("a head")
    }

    fn is(lines: &[&str], key: &str) -> bool {
        sent_key(&head(lines)).find_in([&Digest::of(key.as_bytes())]).is_some()
    }

    #[test]
    fn a_key_comes_in_any_of_three_headers() {
        for lines in [
            &["Authorization: Bearer k"][..],
            &["authorization: BEARER   k "],
            &["X-API-Key: k"],
            &["api-key:k"],
            &["Authorization: Bearer k", "x-api-key: k", "api-key: k"],
            &["Authorization: Basic Zzp3", "x-api-key: k"],
            &["Authorization: AWS4-HMAC-SHA256 Credential=a/b", "api-key: k"],
        ] {
            assert!(is(lines, "k"), "{lines:?}");
        }
        for lines in
            [&["x-other: k"][..], &["Authorization: k"], &["Authorization: Basic k"], &["Authorization: Bearer"]]
        {
            assert!(is(lines, ""), "{lines:?}");
        }
    }

    #[test]
    fn keys_that_contradict_each_other_are_none() {
        for lines in [
            &["Authorization: Bearer k", "x-api-key: other"][..],
            &["Authorization: Bearer other", "x-api-key: k"],
            &["x-api-key: k", "api-key: K"],
            &["x-api-key: k", "api-key:"],
            &["Authorization: Bearer", "x-api-key: k"],
            &["Authorization: Bearer k", "Authorization: Bearer k"],
            &["Authorization: Basic Zzp3", "Authorization: Bearer k"],
            &["x-api-key: k", "X-Api-Key: k"],
        ] {
            assert!(is(lines, "\n") && !is(lines, "k") && !is(lines, ""), "{lines:?}");
        }
    }

    fn client(peer: &str, trusted: &[&str], lines: &[&str]) -> String {
        let document = json!({ "server": { "trusted_proxies": trusted }, "providers": {} }).to_string();
        let config = Config::from_json(&document, &|_: &str| None).expect("a configuration");
        let peer = SocketAddr::new(peer.parse().expect("an address"), 5);
        client_address(&head(lines), peer, &config.server.trusted_proxies).to_string()
    }

    #[test]
    fn a_peer_that_is_not_trusted_is_the_client_whatever_it_says() {
        for lines in [&["x-none: 1"][..], &["X-Forwarded-For: 192.0.2.1"], &["Forwarded: for=192.0.2.1"]] {
            assert_eq!(client("198.51.100.9", &["10.0.0.0/8"], lines), "198.51.100.9");
            assert_eq!(client("127.0.0.1", &[], lines), "127.0.0.1");
        }
        assert_eq!(client("::ffff:198.51.100.9", &[], &["a: b"]), "198.51.100.9", "one address in two forms is one");
    }

    #[test]
    fn behind_trusted_proxies_the_right_most_stranger_is_the_client() {
        let trusted = ["10.0.0.0/8", "fd00::/8", "127.0.0.1"];
        for (lines, address) in [
            (&["X-Forwarded-For: 192.0.2.1"][..], "192.0.2.1"),
            (&["X-Forwarded-For: 203.0.113.5, 192.0.2.1, 10.1.1.1"], "192.0.2.1"),
            (&["x-forwarded-for: 203.0.113.5", "X-Forwarded-For: 192.0.2.1,10.0.0.3 , fd00::7"], "192.0.2.1"),
            (&["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 10.0.0.3"], "192.0.2.1"),
            (&["X-Forwarded-For: junk, 192.0.2.1"], "192.0.2.1"),
            (&["X-Forwarded-For: 192.0.2.1:4711"], "192.0.2.1"),
            (&["X-Forwarded-For: [2001:db8::1]:4711"], "2001:db8::1"),
            (&["X-Forwarded-For: [2001:db8::1]"], "2001:db8::1"),
            (&["X-Forwarded-For: ::ffff:192.0.2.1"], "192.0.2.1"),
            (&["X-Forwarded-For: 10.0.0.7, 10.0.0.8"], "10.0.0.7"),
            // What cannot be read on the way, and what does not say anything: the peer.
            (&["X-Forwarded-For: 192.0.2.1, junk"], "10.9.9.9"),
            (&["X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.3"], "10.9.9.9"),
            (&["X-Forwarded-For: 192.0.2.1,"], "10.9.9.9"),
            (&["X-Forwarded-For:"], "10.9.9.9"),
            (&["X-Forwarded-For: \u{e9}"], "10.9.9.9"),
            (&["X-Forwarded-For: 192.0.2.999"], "10.9.9.9"),
            (&["X-Real-IP: 192.0.2.1"], "10.9.9.9"),
        ] {
            assert_eq!(client("10.9.9.9", &trusted, lines), address, "{lines:?}");
        }
    }
}
