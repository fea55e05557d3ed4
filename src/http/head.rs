//! The head of a request, found and read strictly: refuse, never repair (P9).
//!
//! `httparse` reads the header lines; what it tolerates and another server in the chain might read differently is refused
//! before it: a bare LF or CR, a folded line, a control character, a request line that is not three words. RFC 9112's
//! sections 2 to 5 are the measure, at their strictest.

use std::ops::Range;
use std::sync::Arc;

use super::refusal::Refusal;

/// The most header lines of a request.
const MAX_HEADERS: usize = 100;

/// The version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0, served and closed.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// Where the search for a head's end stands, so that a head that comes byte by byte is not searched again from its start.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    begin: usize,
    line: usize,
    searched: usize,
    lines: usize,
    /// Where the first line ends; 0 once it was looked at.
    first: usize,
}

impl Scan {
    /// Looks on in `bytes`, which begin where they did before. Gives the head's place once it is whole, with its final
    /// blank line and without the one blank line that may stand before it.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Option<Range<usize>>, Refusal> {
        while let Some(offset) = memchr::memchr(b'\n', &bytes[self.searched..]) {
            let lf = self.searched + offset;
            let Some((b'\r', line)) = bytes[self.line..lf].split_last() else {
                return Err(Refusal::malformed("a line ends in a bare LF"));
            };
            check_characters(line)?;
            let (blank, folded) = (line.is_empty(), matches!(line.first(), Some(b' ' | b'\t')));
            (self.searched, self.line) = (lf + 1, lf + 1);
            if blank && self.lines > 0 {
                return Ok(Some(self.begin..lf + 1));
            } else if blank && self.begin > 0 {
                return Err(Refusal::malformed("blank lines stand before the request"));
            } else if blank {
                // One is allowed: some clients end a body with it (RFC 9112, section 2.2).
                self.begin = lf + 1;
            } else if folded {
                return Err(Refusal::malformed("a line begins with white space"));
            } else {
                self.lines += 1;
                if self.lines == 1 {
                    self.first = lf - 1;
                }
            }
        }
        // What begins like no request is refused before the rest of it has come: a client of HTTP/0.9 sends no more.
        if self.first > 0 {
            request_line(&bytes[self.begin..std::mem::take(&mut self.first)])?;
        }
        // What is no text is refused at once, not when its head's time is over: a TLS greeting, for one.
        let rest = &bytes[self.searched..];
        check_characters(rest.strip_suffix(b"\r").unwrap_or(rest))?;
        self.searched = bytes.len();
        Ok(None)
    }
}

fn check_characters(line: &[u8]) -> Result<(), Refusal> {
    let fine = line.iter().all(|byte| (*byte >= 0x20 && *byte != 0x7f) || *byte == b'\t');
    if fine { Ok(()) } else { Err(Refusal::malformed("the head has a control character")) }
}

/// Whether a byte may stand in a token: a method or a header's name.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The place of `part` in `whole`, of which it is a slice.
    fn of(whole: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
        // A head is at most as long as its limit, far below 4 GiB.
        Self { start: start as u32, end: (start + part.len()) as u32 }
    }

    fn get(self, whole: &[u8]) -> &[u8] {
        whole.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

#[derive(Debug)]
struct Inner {
    bytes: Box<[u8]>,
    headers: Box<[(Span, Span)]>,
    method: Span,
    path: Span,
    query: Option<Span>,
    authority: Option<Span>,
    version: Version,
}

/// The head of a request. Cheap to clone.
#[derive(Clone)]
pub struct Head(Arc<Inner>);

impl Head {
    /// Reads a head as [`Scan`] found it, its final blank line included.
    pub(super) fn parse(block: &[u8]) -> Result<Self, Refusal> {
        let bytes: Box<[u8]> = block.into();
        let line_end = memchr::memchr(b'\r', &bytes).unwrap_or(bytes.len());
        let (method, target, version) = request_line(&bytes[..line_end])?;
        let target = Target::parse(method, target)?;
        let mut slots = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let lines = bytes.get(line_end + 2..).unwrap_or_default();
        let headers = match httparse::parse_headers(lines, &mut slots) {
            Ok(httparse::Status::Complete((used, headers))) if used == lines.len() => headers,
            Ok(_) => return Err(Refusal::malformed("the head does not end where it should")),
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::head_too_large("too many header lines")),
            Err(_) => return Err(Refusal::malformed("a header line is malformed")),
        };
        let headers: Box<[_]> =
            headers.iter().map(|h| (Span::of(&bytes, h.name.as_bytes()), Span::of(&bytes, h.value))).collect();
        let inner = Inner {
            method: Span::of(&bytes, method),
            path: Span::of(&bytes, target.path),
            query: target.query.map(|query| Span::of(&bytes, query)),
            authority: target.authority.map(|authority| Span::of(&bytes, authority)),
            version,
            headers,
            bytes,
        };
        Ok(Self(Arc::new(inner)))
    }

    fn text(&self, span: Span) -> &str {
        // All that is looked at through here was found to be ASCII.
        std::str::from_utf8(span.get(&self.0.bytes)).unwrap_or_default()
    }

    /// The method, as sent: one of the nine of RFC 9110 and 5789, without `CONNECT`.
    #[must_use]
    pub fn method(&self) -> &str {
        self.text(self.0.method)
    }

    /// The target's path, not decoded and without the query; `*` for the whole server.
    #[must_use]
    pub fn path(&self) -> &str {
        let path = self.text(self.0.path);
        if path.is_empty() { "/" } else { path }
    }

    /// What stands after the target's first `?`, not decoded.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.0.query.map(|span| self.text(span))
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.0.version
    }

    /// The first header line of that name, in any case; `None` too if its value is not UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers().find(|(own, _)| own.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// Every header line, as sent: its name, and its value without the white space around it.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> + Clone {
        self.0.headers.iter().map(|(name, value)| (self.text(*name), value.get(&self.0.bytes)))
    }

    /// The authority of a target in absolute form.
    pub(super) fn authority(&self) -> Option<&[u8]> {
        self.0.authority.map(|span| span.get(&self.0.bytes))
    }
}

impl std::fmt::Debug for Head {
    /// Shows no header's value and no query: either may hold a key (I10).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.headers().map(|(name, _)| name).collect();
        f.debug_struct("Head")
            .field("method", &self.method())
            .field("path", &self.path())
            .field("headers", &names)
            .finish()
    }
}

fn request_line(line: &[u8]) -> Result<(&[u8], &[u8], Version), Refusal> {
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Refusal::malformed("the request line is not a method, a target and a version"));
    };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Refusal::malformed("the method is not a token"));
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            return Err(Refusal::version());
        }
        _ => return Err(Refusal::malformed("the request line does not end in a version")),
    };
    match method {
        b"GET" | b"HEAD" | b"POST" | b"PUT" | b"DELETE" | b"OPTIONS" | b"TRACE" | b"PATCH" => {}
        // CONNECT asks for a tunnel, which is no resource of ours.
        _ => return Err(Refusal::unknown_method()),
    }
    Ok((method, target, version))
}

struct Target<'a> {
    path: &'a [u8],
    query: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    fn parse(method: &[u8], target: &'a [u8]) -> Result<Self, Refusal> {
        if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
            return Err(Refusal::malformed("the target has a character that no target has"));
        }
        let (authority, rest) = match target {
            [b'/', ..] => (None, target),
            b"*" if method == b"OPTIONS" => (None, target),
            _ => {
                let after = strip_scheme(target).ok_or_else(|| Refusal::malformed("the target is not a path"))?;
                let end = memchr::memchr2(b'/', b'?', after).unwrap_or(after.len());
                (Some(&after[..end]), &after[end..])
            }
        };
        let (path, query) = match memchr::memchr(b'?', rest) {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        check_path(path)?;
        Ok(Self { path, query, authority })
    }
}

/// Refuses a path that another server could take for another one: a character that no path has (RFC 3986, section 3.3; a
/// backslash is a slash to some), an escape that is none or hides a control character, and segments of dots, escaped or
/// not, which clients take out before they send and which would lead out of a prefix that is passed on.
fn check_path(path: &[u8]) -> Result<(), Refusal> {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(byte);
    if !path.iter().all(fits) {
        return Err(Refusal::malformed("the path has a character that no path has"));
    }
    let escapes_fit = memchr::memchr_iter(b'%', path)
        .all(|at| escaped(&path[at + 1..]).is_some_and(|byte| byte >= 0x20 && byte != 0x7f));
    if !escapes_fit {
        return Err(Refusal::malformed("the path has a malformed escape, or that of a control character"));
    }
    if path.split(|byte| *byte == b'/').any(is_dots) {
        return Err(Refusal::malformed("the path has a segment of dots"));
    }
    Ok(())
}

/// The byte that the two hexadecimal digits at the beginning stand for.
pub(super) fn escaped(digits: &[u8]) -> Option<u8> {
    let &[high, low, ..] = digits else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

/// Whether a segment is `.` or `..`, its dots escaped or not.
fn is_dots(mut segment: &[u8]) -> bool {
    let mut dots = 0;
    while let Some((first, rest)) = segment.split_first() {
        segment = match first {
            b'.' => rest,
            b'%' if escaped(rest) == Some(b'.') => &rest[2..],
            _ => return false,
        };
        dots += 1;
    }
    matches!(dots, 1 | 2)
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let (own, rest) = target.split_at_checked(scheme.len())?;
        own.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Head, u16> {
        let bytes = text.as_bytes();
        let range = Scan::default().advance(bytes).map_err(|refusal| refusal.status)?.expect("a whole head");
        Head::parse(&bytes[range]).map_err(|refusal| refusal.status)
    }

    #[test]
    fn a_head_shows_its_parts() {
        let head =
            parse("POST /v1/chat?a=b?c HTTP/1.1\r\nHost: x\r\nX-Key:  \t two words \t\r\nempty:\r\n\r\n").unwrap();
        assert_eq!((head.method(), head.path(), head.query()), ("POST", "/v1/chat", Some("a=b?c")));
        assert_eq!(head.version(), Version::Http11);
        assert_eq!(
            (head.header("x-key"), head.header("EMPTY"), head.header("no")),
            (Some("two words"), Some(""), None)
        );
        assert_eq!(head.headers().count(), 3);
        assert!(!format!("{head:?}").contains("two words"), "values may be secret");
    }

    #[test]
    fn a_target_in_absolute_form_gives_its_path() {
        for (target, path, query) in [
            ("http://example.com", "/", None),
            ("HTTP://example.com/a/b", "/a/b", None),
            ("https://example.com?q", "/", Some("q")),
        ] {
            let head = parse(&format!("GET {target} HTTP/1.1\r\nHost: example.com\r\n\r\n")).unwrap();
            assert_eq!((head.path(), head.query()), (path, query), "{target}");
            assert_eq!(head.authority(), Some(&b"example.com"[..]));
        }
        assert_eq!(parse("OPTIONS * HTTP/1.1\r\n\r\n").unwrap().path(), "*");
    }

    #[test]
    fn a_request_line_is_three_words_or_refused() {
        for (line, status) in [
            ("GET /", 400),
            ("GET", 400),
            ("GET  / HTTP/1.1", 400),
            ("GET /  HTTP/1.1", 400),
            ("GET / HTTP/1.1 ", 400),
            ("GET /a b HTTP/1.1", 400),
            ("GET\t/ HTTP/1.1", 400),
            (" GET / HTTP/1.1", 400),
            ("G@T / HTTP/1.1", 400),
            ("GET / http/1.1", 400),
            ("GET / HTTP/1.1.1", 400),
            ("GET / HTTP/11", 400),
            ("GET / HTTP/1.2", 505),
            ("GET / HTTP/0.9", 505),
            ("PRI * HTTP/2.0", 505),
            ("get / HTTP/1.1", 501),
            ("PROPFIND / HTTP/1.1", 501),
            ("CONNECT example.com:443 HTTP/1.1", 501),
            ("GET * HTTP/1.1", 400),
            ("GET example.com:80 HTTP/1.1", 400),
            ("GET ftp://example.com/ HTTP/1.1", 400),
            ("GET /a#b HTTP/1.1", 400),
            ("GET /a\\b HTTP/1.1", 400),
            ("GET /a<b HTTP/1.1", 400),
            ("GET /a[b HTTP/1.1", 400),
            ("GET /% HTTP/1.1", 400),
            ("GET /%2 HTTP/1.1", 400),
            ("GET /%g0 HTTP/1.1", 400),
            ("GET /%00 HTTP/1.1", 400),
            ("GET /%0d%0aA HTTP/1.1", 400),
            ("GET /%7f HTTP/1.1", 400),
            ("GET /. HTTP/1.1", 400),
            ("GET /a/../b HTTP/1.1", 400),
            ("GET /a/.%2E/b HTTP/1.1", 400),
            ("GET /a/%2e?b HTTP/1.1", 400),
            ("GET http://x/.. HTTP/1.1", 400),
            ("GET /\u{e9} HTTP/1.1", 400),
        ] {
            assert_eq!(parse(&format!("{line}\r\nHost: x\r\n\r\n")).err(), Some(status), "{line:?}");
        }
    }

    #[test]
    fn a_path_of_any_other_characters_and_any_query_are_taken_as_they_are() {
        for (target, path) in [
            ("/a.b/..c/.../%2e%2e%2e", "/a.b/..c/.../%2e%2e%2e"),
            ("/v1/models/a%2Fb:c@d,e;f=g", "/v1/models/a%2Fb:c@d,e;f=g"),
            ("//a//", "//a//"),
            ("/%E2%82%AC", "/%E2%82%AC"),
            ("/a?b[]=c|d\\%zz/../", "/a"),
        ] {
            assert_eq!(parse(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")).unwrap().path(), path);
        }
    }

    #[test]
    fn a_header_line_is_well_formed_or_refused() {
        for line in [
            "Name : x",
            "Name\t: x",
            ": x",
            "Name",
            "Na me: x",
            "Na\"me: x",
            "Name: a\rb",
            "Name: a\0b",
            "Name: a\x7fb",
            "Name: a\nb",
            "A: b\r\n folded",
            "A: b\r\n\tfolded",
            "Name: \x0bx",
            "N\u{e9}: x",
        ] {
            assert_eq!(parse(&format!("GET / HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n")).err(), Some(400), "{line:?}");
        }
        assert_eq!(parse("GET / HTTP/1.1\r\n folded: x\r\n\r\n").err(), Some(400), "no line to be folded onto");
        let many = "A: b\r\n".repeat(MAX_HEADERS + 1);
        assert_eq!(parse(&format!("GET / HTTP/1.1\r\n{many}\r\n")).err(), Some(431));
    }

    #[test]
    fn a_head_is_found_wherever_it_is_split() {
        let text = b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n\0body";
        for split in 0..text.len() {
            let mut scan = Scan::default();
            let found = scan.advance(&text[..split]).unwrap().or_else(|| scan.advance(text).unwrap());
            assert_eq!(found, Some(2..text.len() - 5), "split at {split}");
        }
    }

    #[test]
    fn what_is_no_text_is_refused_before_its_head_is_whole() {
        assert_eq!(Scan::default().advance(b"\x16\x03\x01\x02").err().map(|r| r.status), Some(400));
        assert!(Scan::default().advance(b"GET / HTTP/1.1\r").unwrap().is_none());
        assert_eq!(Scan::default().advance(b"GET /\n").err().map(|r| r.status), Some(400));
        assert_eq!(Scan::default().advance(b"GET /\r\n").err().map(|r| r.status), Some(400), "HTTP/0.9");
        assert_eq!(Scan::default().advance(b"\r\nPRI * HTTP/2.0\r\n").err().map(|r| r.status), Some(505));
        assert_eq!(Scan::default().advance(b"\r\n\r\n").err().map(|r| r.status), Some(400));
    }
}
