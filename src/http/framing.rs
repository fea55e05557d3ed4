//! What the header lines say about framing: how long the body is, whether the client waits for leave to send it, whether
//! the connection goes on. Two lines that could be read in two ways are refused (P9).

use std::net::Ipv6Addr;

use super::head::{Head, Version, escaped};
use super::refusal::Refusal;

/// The longest body that is thrown away behind a refusal, so that the client need not connect again: less than what a new
/// connection costs both sides, TLS above all.
const DISCARDED_BYTES: u64 = 256 << 10;

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// By its length; 0 if there is none.
    Length(u64),
    /// By chunks.
    Chunked,
}

impl Body {
    /// How long it is, if that is known before it is read.
    pub(super) fn announced(self) -> Option<u64> {
        match self {
            Self::Length(length) => Some(length),
            Self::Chunked => None,
        }
    }
}

/// What a head says about framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framing {
    /// How the body is delimited.
    pub(super) body: Body,
    /// Whether the client waits for a `100 Continue`.
    pub(super) expects_continue: bool,
    /// Whether the connection closes after the answer.
    pub(super) close: bool,
}

impl Framing {
    /// Judges a head.
    pub(super) fn of(head: &Head) -> Result<Self, Refusal> {
        let old = head.version() == Version::Http10;
        let (mut host, mut length, mut coding) = (None, None, None);
        let (mut expects_continue, mut close) = (false, old);
        for (name, value) in head.headers() {
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => once(&mut host, value, "there are two Host lines")?,
                6 if name.eq_ignore_ascii_case("expect") => {
                    if expects_continue || !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Refusal::expectation());
                    }
                    expects_continue = true;
                }
                10 if name.eq_ignore_ascii_case("connection") => {
                    close |= list(value).any(|option| option.eq_ignore_ascii_case(b"close"));
                }
                14 if name.eq_ignore_ascii_case("content-length") => {
                    once(&mut length, value, "there are two Content-Length lines")?;
                }
                17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                    once(&mut coding, value, "there are two Transfer-Encoding lines")?;
                }
                _ => {}
            }
        }
        check_host(head, host)?;
        let body = match (length, coding) {
            (None, None) => Body::Length(0),
            (Some(length), None) => Body::Length(content_length(length)?),
            (None, Some(_)) if old => return Err(Refusal::malformed("HTTP/1.0 has no Transfer-Encoding")),
            (None, Some(coding)) => transfer_coding(coding)?,
            (Some(_), Some(_)) => {
                return Err(Refusal::malformed("Content-Length stands beside Transfer-Encoding"));
            }
        };
        // A client of HTTP/1.0 cannot wait for leave (RFC 9110, section 10.1.1), and one without a body need not.
        Ok(Self { body, expects_continue: expects_continue && !old && body != Body::Length(0), close })
    }

    /// Whether a body follows the head.
    pub(super) fn has_body(&self) -> bool {
        self.body != Body::Length(0)
    }

    /// How much is to be thrown away for the next request to be found, if the body is not read and that is little. A client
    /// that waits for leave to send it may send it or not, and a chunked one has no length before it is over.
    pub(super) fn discardable(&self) -> Option<u64> {
        self.body.announced().filter(|length| *length <= DISCARDED_BYTES && !self.expects_continue)
    }

    /// The refusal of a body that its own length says is longer than `most`.
    pub(super) fn too_long(&self, most: usize) -> Option<Refusal> {
        matches!(self.body, Body::Length(length) if length > most as u64).then(|| Refusal::body_too_large(most))
    }
}

fn once<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8], twice: &'static str) -> Result<(), Refusal> {
    if slot.replace(value).is_some() { Err(Refusal::malformed(twice)) } else { Ok(()) }
}

fn list(value: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn check_host(head: &Head, host: Option<&[u8]>) -> Result<(), Refusal> {
    match host {
        None if head.version() == Version::Http11 => return Err(Refusal::malformed("there is no Host line")),
        Some(host) if !is_authority(host) => return Err(Refusal::malformed("the Host line is malformed")),
        _ => {}
    }
    match (head.authority(), host) {
        (Some(authority), _) if !is_authority(authority) => Err(Refusal::malformed("the target's host is malformed")),
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            Err(Refusal::malformed("the target's host is not the Host line's"))
        }
        _ => Ok(()),
    }
}

/// Whether `text` is a host with an optional port: what RFC 3986 allows there, without user names, lists and emptiness.
fn is_authority(text: &[u8]) -> bool {
    let (host_fits, port) = match text {
        [b'[', rest @ ..] => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            let address = std::str::from_utf8(&rest[..end]).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
            (address.is_some(), &rest[end + 1..])
        }
        _ => {
            let (host, port) = text.split_at(memchr::memchr(b':', text).unwrap_or(text.len()));
            (is_name(host), port)
        }
    };
    let port_fits = match port {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            // The number's own parser takes a sign.
            let plain = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            plain.is_some_and(|text| text.parse::<u16>().is_ok())
        }
        _ => false,
    };
    host_fits && port_fits
}

fn is_name(host: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte);
    let mut escapes = memchr::memchr_iter(b'%', host);
    !host.is_empty() && host.iter().all(fits) && escapes.all(|at| escaped(&host[at + 1..]).is_some())
}

fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    let plain = !value.is_empty() && value.iter().all(u8::is_ascii_digit) && (value.len() == 1 || value[0] != b'0');
    let number = std::str::from_utf8(value).ok().filter(|_| plain).and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| Refusal::malformed("Content-Length is not one plain number"))
}

fn transfer_coding(value: &[u8]) -> Result<Body, Refusal> {
    let chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if chunked(value) {
        return Ok(Body::Chunked);
    }
    let mut codings = list(value).rev();
    // A body whose last coding is not chunked has no end that can be told (RFC 9112, section 6.3).
    if !codings.next().is_some_and(chunked) || codings.any(|coding| coding.is_empty() || chunked(coding)) {
        return Err(Refusal::malformed("Transfer-Encoding does not end in one chunked"));
    }
    Err(Refusal::transfer_coding())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(version: &str, lines: &str) -> Result<Framing, u16> {
        let text = format!("POST / HTTP/{version}\r\n{lines}\r\n");
        Framing::of(&Head::parse(text.as_bytes()).expect("a head")).map_err(|refusal| refusal.status)
    }

    fn body(line: &str) -> Result<Body, u16> {
        judge("1.1", &format!("Host: x\r\n{line}\r\n")).map(|framing| framing.body)
    }

    #[test]
    fn a_length_is_one_plain_number() {
        assert_eq!(body("Content-Length: 0"), Ok(Body::Length(0)));
        assert_eq!(body("content-length:18446744073709551615 "), Ok(Body::Length(u64::MAX)));
        for bad in
            ["", "+5", "-5", "5,5", "5, 5", "5 5", "0x5", "5.0", "05", "five", "18446744073709551616", "5;", "\u{665}"]
        {
            assert_eq!(body(&format!("Content-Length: {bad}")), Err(400), "{bad:?}");
        }
        assert_eq!(body("Content-Length: 5\r\nContent-Length: 5"), Err(400));
        assert_eq!(body("Content-Length: 5\r\nTransfer-Encoding: chunked"), Err(400));
    }

    #[test]
    fn a_transfer_coding_is_chunked_alone() {
        assert_eq!(body("Transfer-Encoding: Chunked"), Ok(Body::Chunked));
        assert_eq!(body("Transfer-Encoding: gzip, chunked"), Err(501));
        for bad in ["", "gzip", "identity", "chunked, gzip", "chunked, chunked", "xchunked", "chunked;q=1", ", chunked"]
        {
            assert_eq!(body(&format!("Transfer-Encoding: {bad}")), Err(400), "{bad:?}");
        }
        assert_eq!(body("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), Err(400));
        assert_eq!(judge("1.0", "Transfer-Encoding: chunked\r\n").err(), Some(400));
    }

    #[test]
    fn a_host_is_there_once_and_well_formed() {
        for good in ["x", "example.com:8080", "127.0.0.1", "[::1]:80", "x:", "a%20b", "[::ffff:1.2.3.4]", "x:65535"] {
            assert!(judge("1.1", &format!("Host: {good}\r\n")).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "a b",
            "a/b",
            "u@h",
            "a,b",
            "h:port",
            "h:123456",
            "h:65536",
            "h:+1",
            "[::1",
            "[]",
            "[:::]",
            "[1.2.3.4]",
            "[::1]x",
            ":80",
            "h:1:2",
            "%zz",
            "a%2",
            "a\\b",
        ] {
            assert_eq!(judge("1.1", &format!("Host: {bad}\r\n")).err(), Some(400), "{bad:?}");
        }
        assert_eq!(judge("1.1", "").err(), Some(400));
        assert_eq!(judge("1.1", "Host: x\r\nHost: x\r\n").err(), Some(400));
        assert!(judge("1.0", "").is_ok());
        let head = Head::parse(b"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n").expect("a head");
        assert_eq!(Framing::of(&head).err().map(|refusal| refusal.status), Some(400));
    }

    #[test]
    fn an_expectation_other_than_100_continue_fails() {
        let expects = |lines: &str| judge("1.1", &format!("Host: x\r\n{lines}")).map(|f| f.expects_continue);
        assert_eq!(expects("Expect: 100-Continue\r\nContent-Length: 5\r\n"), Ok(true));
        assert_eq!(expects("Expect: 100-continue\r\n"), Ok(false), "no body to wait with");
        assert_eq!(expects("Expect: 100-continue\r\nExpect: 100-continue\r\n"), Err(417));
        assert_eq!(expects("Expect: a-miracle\r\n"), Err(417));
        assert!(!judge("1.0", "Expect: 100-continue\r\nContent-Length: 5\r\n").unwrap().expects_continue);
    }

    #[test]
    fn only_a_short_body_of_known_length_that_is_on_its_way_can_be_thrown_away() {
        let discardable = |lines: &str| judge("1.1", &format!("Host: x\r\n{lines}\r\n")).unwrap().discardable();
        assert_eq!(discardable("Content-Length: 262144"), Some(262_144));
        for kept in
            ["Content-Length: 262145", "Transfer-Encoding: chunked", "Content-Length: 5\r\nExpect: 100-continue"]
        {
            assert_eq!(discardable(kept), None, "{kept}");
        }
    }

    #[test]
    fn the_connection_goes_on_unless_a_side_or_the_version_says_no() {
        let closes = |version, line: &str| judge(version, &format!("Host: x\r\n{line}\r\n")).unwrap().close;
        assert!(!closes("1.1", "Connection: keep-alive, upgrade"));
        assert!(closes("1.1", "Connection: upgrade ,  CLOSE"));
        assert!(closes("1.0", "Connection: keep-alive"));
    }
}
