//! An answer, and how its head is written: framing is the server's alone, and no header can break out of its line.

use std::borrow::Cow;

use super::head::is_token;
use crate::calendar;
use crate::recycle::Buffer;

/// An answer to a request.
///
/// Framing and `date` belong to the server: `content-length`, `transfer-encoding`, `connection` and `date` among the headers are
/// left out when the head is written, but a `connection: close` is heeded. A header whose name is no token is left out, and in a
/// value each control character (CR, LF and NUL above all) becomes a space, so that no text of an upstream or of a client
/// can add a line.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Response {
    /// The status; what is not within 200 to 999 is sent as 500.
    pub status: u16,
    /// The header lines beside the framing.
    pub headers: Vec<(Cow<'static, str>, String)>,
    /// The body; not sent with 204 and 304, nor in answer to `HEAD`.
    pub body: Buffer,
    close: bool,
    discards: bool,
}

/// How the end of an answer's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// By its length.
    Length,
    /// By the last chunk.
    Chunks,
    /// By the end of the connection: a stream to a client of HTTP/1.0.
    Close,
}

impl Response {
    /// An answer without headers and body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Buffer::default(), close: false, discards: false }
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body and says what it is.
    #[must_use]
    pub fn body(mut self, body: impl Into<Buffer>, content_type: &'static str) -> Self {
        self.body = body.into();
        self.header("content-type", content_type)
    }

    /// Has the connection closed after this answer.
    #[must_use]
    pub fn close(mut self) -> Self {
        self.close = true;
        self
    }

    /// Has the connection go on after a refusal whose request's body was not read, if its head announced a short one: what
    /// comes of it is thrown away. Otherwise it closes.
    #[must_use]
    pub fn discard_body(mut self) -> Self {
        self.discards = true;
        self
    }

    /// Whether a short body that was not read is to be thrown away.
    pub(super) fn discards_body(&self) -> bool {
        self.discards
    }

    /// Whether the answer itself asks for the connection's end.
    pub(super) fn wants_close(&self) -> bool {
        self.close
            || self.headers.iter().any(|(name, value)| {
                name.eq_ignore_ascii_case("connection")
                    && value.split(',').any(|option| option.trim().eq_ignore_ascii_case("close"))
            })
    }

    /// Whether a body may follow this status (RFC 9110, section 6.4.1).
    pub(super) fn may_have_body(&self) -> bool {
        !matches!(self.status, 204 | 304)
    }

    /// Appends the head, its blank line included; `at` is the time, in seconds since the Unix epoch, which an origin server with
    /// a clock has to say (RFC 9110, section 6.6.1).
    pub(super) fn write_head(&self, ending: Ending, close: bool, at: u64, out: &mut Vec<u8>) {
        let status = if (200..=999).contains(&self.status) { self.status } else { 500 };
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
        out.push(b' ');
        out.extend_from_slice(reason(status).as_bytes());
        out.extend_from_slice(b"\r\ndate: ");
        calendar::write_http_date(at, out);
        out.extend_from_slice(b"\r\n");
        for (name, value) in &self.headers {
            if is_own(name) || name.is_empty() || !name.bytes().all(is_token) {
                continue;
            }
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            let from = out.len();
            out.extend_from_slice(value.as_bytes());
            for byte in &mut out[from..] {
                if (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f {
                    *byte = b' ';
                }
            }
            out.extend_from_slice(b"\r\n");
        }
        match ending {
            Ending::Length if self.may_have_body() => {
                out.extend_from_slice(b"content-length: ");
                out.extend_from_slice(itoa::Buffer::new().format(self.body.len()).as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            Ending::Chunks if self.may_have_body() => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            Ending::Length | Ending::Chunks | Ending::Close => {}
        }
        if close {
            out.extend_from_slice(b"connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether a line is the server's own to write.
fn is_own(name: &str) -> bool {
    ["content-length", "transfer-encoding", "connection", "date"].iter().any(|own| name.eq_ignore_ascii_case(own))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        // The phrase may be empty (RFC 9112, section 4); the space before it may not.
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(response: &Response, ending: Ending, close: bool) -> String {
        let mut out = Vec::new();
        response.write_head(ending, close, 784_111_777, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_head_carries_its_headers_and_its_length() {
        let response = Response::new(200).header("x-a", "1").body("{}", "application/json");
        assert_eq!(
            head(&response, Ending::Length, true),
            "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nx-a: 1\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"
        );
        assert!(head(&response, Ending::Chunks, false).ends_with("transfer-encoding: chunked\r\n\r\n"));
    }

    #[test]
    fn no_header_breaks_out_of_its_line() {
        let response = Response::new(299)
            .header("x-a", "b\r\nset-cookie: c\0\x7f\td")
            .header("x b", "no token")
            .header("", "no name")
            .header("Content-Length", "7")
            .header("Transfer-Encoding", "chunked")
            .header("Date", "yesterday");
        assert_eq!(
            head(&response, Ending::Length, false),
            "HTTP/1.1 299 \r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nx-a: b  set-cookie: c  \td\r\ncontent-length: 0\r\n\r\n"
        );
    }

    #[test]
    fn a_status_without_a_body_announces_none() {
        assert_eq!(
            head(&Response::new(204), Ending::Length, false),
            "HTTP/1.1 204 No Content\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
        );
        assert!(head(&Response::new(100), Ending::Length, false).starts_with("HTTP/1.1 500 "));
    }

    #[test]
    fn an_answer_can_ask_for_the_connections_end() {
        assert!(Response::new(200).close().wants_close());
        assert!(Response::new(200).header("Connection", "x, Close").wants_close());
        assert!(!Response::new(200).header("connection", "keep-alive").wants_close());
    }
}
