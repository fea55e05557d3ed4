//! P9, the table: raw bytes, the statuses of their answers, and what becomes of the connection.
//!
//! Every case is sent to the real data plane over a socket of its own. Ideas are from Http11Probe and h1spec. A section
//! without a document is RFC 9112's; "ours" is stricter than both documents ask, or says what they leave open.

use std::borrow::Cow;

use Then::{Closes, Stays};

/// What becomes of the connection after its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The next request on it is served.
    Stays,
    /// It closes, and nothing more comes on it.
    Closes,
}

/// A case.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Where it is said.
    pub(super) section: &'static str,
    pub(super) bytes: Cow<'static, [u8]>,
    /// The client has no more to send, and says so.
    pub(super) ends: bool,
    /// The statuses of the answers; none: it closes without a word.
    pub(super) answers: &'static [u16],
    pub(super) then: Then,
}

/// The limits that the cases are made for, in bytes.
pub(super) const MOST_HEAD: usize = 8192;
pub(super) const MOST_BODY: usize = 65_536;

macro_rules! get {
    ($lines:literal) => {
        concat!("GET /livez HTTP/1.1\r\nHost: x\r\n", $lines, "\r\n").as_bytes()
    };
}

macro_rules! line {
    ($line:literal) => {
        concat!($line, "\r\nHost: x\r\n\r\n").as_bytes()
    };
}

macro_rules! post {
    ($lines:literal, $body:literal) => {
        concat!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n", $lines, "\r\n", $body).as_bytes()
    };
}

/// A body of 64 bytes, 0x40, that is answered 200.
macro_rules! chat {
    () => {
        r#"{"model":"sim/echo","messages":[{"role":"user","content":"hi"}]}"#
    };
}

macro_rules! chunked {
    ($before:literal, $after:literal) => {
        concat!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            $before,
            chat!(),
            $after
        )
        .as_bytes()
    };
}

type Row = (&'static str, &'static str, &'static [u8], &'static [u16], Then);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // The request line.
    ("plain", "3", get!(""), &[200], Stays),
    ("no version", "3", b"GET /livez\r\n\r\n", &[400], Closes),
    ("no version, and no more comes", "2.3", b"GET /livez\r\n", &[400], Closes),
    ("a method alone", "3", b"GET\r\n\r\n", &[400], Closes),
    ("no target", "3", line!("GET HTTP/1.1"), &[400], Closes),
    ("two spaces before the target", "3", line!("GET  /livez HTTP/1.1"), &[400], Closes),
    ("two spaces before the version", "3", line!("GET /livez  HTTP/1.1"), &[400], Closes),
    ("a space after the version", "3", line!("GET /livez HTTP/1.1 "), &[400], Closes),
    ("a space before the method", "3", line!(" GET /livez HTTP/1.1"), &[400], Closes),
    ("tabs between the words", "3", line!("GET\t/livez\tHTTP/1.1"), &[400], Closes),
    ("a fourth word", "3", line!("GET /livez HTTP/1.1 x"), &[400], Closes),
    ("words before the method", "3", line!("Extra lineGET /livez HTTP/1.1"), &[400], Closes),
    ("a line of spaces", "3", b"   \r\n\r\n", &[400], Closes),
    ("a CR between the lines", "2.2", b"GET /livez HTTP/1.1\rHost: x\r\n\r\n", &[400], Closes),
    ("two CRs at the line's end", "2.2", b"GET /livez HTTP/1.1\r\r\nHost: x\r\n\r\n", &[400], Closes),
    ("one blank line before", "2.2", b"\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n", &[200], Stays),
    ("two blank lines before", "2.2, ours", b"\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n", &[400], Closes),
    ("a bare LF before", "2.2", b"\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n", &[400], Closes),
    // The version.
    ("HTTP/1.0 without Host", "3.2", b"GET /livez HTTP/1.0\r\n\r\n", &[200], Closes),
    ("HTTP/1.0 that would go on", "9.3", b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &[200], Closes),
    ("HTTP/1.2", "9110 2.5", line!("GET /livez HTTP/1.2"), &[505], Closes),
    ("HTTP/0.9 written out", "9110 15.6.6", line!("GET /livez HTTP/0.9"), &[505], Closes),
    ("HTTP/2.0", "9110 15.6.6", line!("GET /livez HTTP/2.0"), &[505], Closes),
    ("HTTP/9.9", "9110 15.6.6", line!("GET /livez HTTP/9.9"), &[505], Closes),
    ("HTTP/3", "2.3", line!("GET /livez HTTP/3"), &[400], Closes),
    ("HTTP/1.10", "2.3", line!("GET /livez HTTP/1.10"), &[400], Closes),
    ("HTTP/01.1", "2.3", line!("GET /livez HTTP/01.1"), &[400], Closes),
    ("HTTP/1,1", "2.3", line!("GET /livez HTTP/1,1"), &[400], Closes),
    ("HTTP/+1.1", "2.3", line!("GET /livez HTTP/+1.1"), &[400], Closes),
    ("a space in the version", "2.3", line!("GET /livez HTTP/ 1.1"), &[400], Closes),
    ("http/1.1", "2.3", line!("GET /livez http/1.1"), &[400], Closes),
    ("HTTPS/1.1", "2.3", line!("GET /livez HTTPS/1.1"), &[400], Closes),
    ("HTTP/2's preface", "9113 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[505], Closes),
    ("a TLS greeting", "2.2", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[400], Closes),
    ("an SSL 2 greeting", "2.2", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00", &[400], Closes),
    // The method.
    ("an unknown method", "9110 9.1", line!("PROPFIND /livez HTTP/1.1"), &[501], Closes),
    ("a method in lower case", "9110 9.1", line!("get /livez HTTP/1.1"), &[501], Closes),
    ("a method that begins like one", "9110 9.1", line!("GETS /livez HTTP/1.1"), &[501], Closes),
    ("a method of every other token character", "9110 9.1", line!("!#$%&'*+-.^_`|~ /livez HTTP/1.1"), &[501], Closes),
    ("a method with an @", "9110 9.1", line!("G@T /livez HTTP/1.1"), &[400], Closes),
    ("a method with a colon", "9110 9.1", line!("GET: /livez HTTP/1.1"), &[400], Closes),
    ("a method with a NUL", "9110 9.1", line!("G\0T /livez HTTP/1.1"), &[400], Closes),
    ("CONNECT", "9110 9.3.6", line!("CONNECT x:443 HTTP/1.1"), &[501], Closes),
    ("CONNECT to a path", "9110 9.3.6", line!("CONNECT /livez HTTP/1.1"), &[501], Closes),
    ("TRACE", "9110 9.3.8", line!("TRACE /livez HTTP/1.1"), &[405], Stays),
    ("TRACE with a body", "9110 9.3.8", b"TRACE /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", &[405], Closes),
    ("DELETE", "9110 15.5.6", line!("DELETE /v1/chat/completions HTTP/1.1"), &[405], Stays),
    ("OPTIONS for the server", "3.2.4", line!("OPTIONS * HTTP/1.1"), &[404], Stays),
    ("HEAD", "9110 9.3.2", line!("HEAD /livez HTTP/1.1"), &[200], Stays),
    ("HEAD of what is not there", "9110 9.3.2", line!("HEAD /nowhere HTTP/1.1"), &[404], Stays),
    // The target.
    ("a query", "3.2.1", line!("GET /livez?a=b&c[]=%zz|d HTTP/1.1"), &[200], Stays),
    ("two question marks", "3.2.1", line!("GET /livez??a HTTP/1.1"), &[200], Stays),
    ("a fragment", "3.2", line!("GET /livez#a HTTP/1.1"), &[400], Closes),
    ("a fragment in the query", "3.2", line!("GET /livez?a#b HTTP/1.1"), &[400], Closes),
    ("no slash", "3.2", line!("GET livez HTTP/1.1"), &[400], Closes),
    ("* for GET", "3.2.4", line!("GET * HTTP/1.1"), &[400], Closes),
    ("an authority for GET", "3.2.3", line!("GET x:80 HTTP/1.1"), &[400], Closes),
    ("absolute", "3.2.2", line!("GET http://x/livez HTTP/1.1"), &[200], Stays),
    ("absolute, in capitals", "3.2.2", line!("GET HTTP://X/livez HTTP/1.1"), &[200], Stays),
    ("absolute, of HTTP/1.0", "3.2.2", b"GET http://x/livez HTTP/1.0\r\n\r\n", &[200], Closes),
    ("absolute without Host", "3.2", b"GET http://x/livez HTTP/1.1\r\n\r\n", &[400], Closes),
    ("absolute, of another host", "3.2.2, ours", line!("GET http://y/livez HTTP/1.1"), &[400], Closes),
    ("absolute, of another port", "3.2.2, ours", line!("GET http://x:81/livez HTTP/1.1"), &[400], Closes),
    ("absolute, of no host", "9110 4.2.1", line!("GET http:///livez HTTP/1.1"), &[400], Closes),
    ("absolute, of a user", "9110 4.2.4", line!("GET http://u@x/livez HTTP/1.1"), &[400], Closes),
    ("absolute, of another scheme", "3.2.2, ours", line!("GET ftp://x/livez HTTP/1.1"), &[400], Closes),
    ("a path is not made lower case", "9110 4.2.3", line!("GET /LIVEZ HTTP/1.1"), &[404], Stays),
    ("an escape is not taken off", "9110 4.2.3", line!("GET /%6Civez HTTP/1.1"), &[404], Stays),
    ("an escaped slash is none", "9110 4.2.3", line!("GET /nowhere/a%2Fb HTTP/1.1"), &[404], Stays),
    ("a doubled slash is not one", "ours", line!("GET //livez HTTP/1.1"), &[404], Stays),
    ("a slash at the end", "ours", line!("GET /livez/ HTTP/1.1"), &[404], Stays),
    ("dots in a path", "3986 5.2.4, ours", line!("GET /v1/../livez HTTP/1.1"), &[400], Closes),
    ("one dot in a path", "3986 5.2.4, ours", line!("GET /./livez HTTP/1.1"), &[400], Closes),
    ("escaped dots in a path", "3986 5.2.4, ours", line!("GET /v1/%2e%2E/livez HTTP/1.1"), &[400], Closes),
    ("an escaped NUL", "3986 7.3, ours", line!("GET /livez%00 HTTP/1.1"), &[400], Closes),
    ("an escaped line's end", "3986 7.3, ours", line!("GET /livez%0d%0aA:%20b HTTP/1.1"), &[400], Closes),
    ("an escape that is none", "3986 2.1", line!("GET /livez%zz HTTP/1.1"), &[400], Closes),
    ("an escape cut short", "3986 2.1", line!("GET /livez%2 HTTP/1.1"), &[400], Closes),
    ("a backslash", "3986 3.3", line!("GET /v1\\..\\livez HTTP/1.1"), &[400], Closes),
    ("a bracket in a path", "3986 3.3", line!("GET /livez[0] HTTP/1.1"), &[400], Closes),
    ("a quote in a path", "3986 3.3", line!("GET /livez\" HTTP/1.1"), &[400], Closes),
    ("a target beyond ASCII", "3986 2", b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n", &[400], Closes),
    ("an overlong slash", "3986 2", b"GET \xc0\xaflivez HTTP/1.1\r\nHost: x\r\n\r\n", &[400], Closes),
    ("a NUL in the target", "3986 2", line!("GET /livez\0 HTTP/1.1"), &[400], Closes),
    ("a DEL in the target", "3986 2", line!("GET /livez\x7f HTTP/1.1"), &[400], Closes),
    // Host.
    ("no Host", "3.2", b"GET /livez HTTP/1.1\r\n\r\n", &[400], Closes),
    ("two Hosts", "3.2", get!("Host: y\r\n"), &[400], Closes),
    ("the same Host twice", "3.2", get!("hOST: x\r\n"), &[400], Closes),
    ("two Hosts of HTTP/1.0", "3.2", b"GET /livez HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n", &[400], Closes),
    ("an empty Host", "3.2, ours", b"GET /livez HTTP/1.1\r\nHost: \r\n\r\n", &[400], Closes),
    ("a list of Hosts", "3.2", b"GET /livez HTTP/1.1\r\nHost: x, y\r\n\r\n", &[400], Closes),
    ("a Host with a path", "3.2", b"GET /livez HTTP/1.1\r\nHost: x/y\r\n\r\n", &[400], Closes),
    ("a Host with a user", "3.2", b"GET /livez HTTP/1.1\r\nHost: u@x\r\n\r\n", &[400], Closes),
    ("a Host with two ports", "3.2", b"GET /livez HTTP/1.1\r\nHost: x:80:80\r\n\r\n", &[400], Closes),
    ("a Host with a port that is none", "3.2", b"GET /livez HTTP/1.1\r\nHost: x:65536\r\n\r\n", &[400], Closes),
    ("a Host beyond ASCII", "3.2", b"GET /livez HTTP/1.1\r\nHost: \xc3\xa9\r\n\r\n", &[400], Closes),
    ("a Host with a bad escape", "3.2", b"GET /livez HTTP/1.1\r\nHost: %zz\r\n\r\n", &[400], Closes),
    ("an address of six", "3.2", b"GET /livez HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", &[200], Stays),
    ("an address of six that is none", "3.2", b"GET /livez HTTP/1.1\r\nHost: [:::]\r\n\r\n", &[400], Closes),
    ("an address of six left open", "3.2", b"GET /livez HTTP/1.1\r\nHost: [::1\r\n\r\n", &[400], Closes),
    // Header lines.
    ("names of any case, empty and odd values", "5", b"GET /livez HTTP/1.1\r\nhOsT:x\r\nA:\r\nB: \t c\td \xff \r\n\r\n", &[200], Stays),
    ("LF alone", "2.2", b"GET /livez HTTP/1.1\nHost: x\n\n", &[400], Closes),
    ("LF alone after a header", "2.2", b"GET /livez HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", &[400], Closes),
    ("LF alone at the end", "2.2", b"GET /livez HTTP/1.1\r\nHost: x\r\n\n", &[400], Closes),
    ("a CR in a value", "2.2", get!("A: b\rc\r\n"), &[400], Closes),
    ("a CR before a name", "2.2", get!("\rA: b\r\n"), &[400], Closes),
    ("a NUL in a value", "9110 5.5", get!("A: b\0c\r\n"), &[400], Closes),
    ("a BEL in a value", "9110 5.5", get!("A: b\x07c\r\n"), &[400], Closes),
    ("a DEL in a value", "9110 5.5", get!("A: b\x7fc\r\n"), &[400], Closes),
    ("a folded line", "5.2", get!("A: b\r\n c\r\n"), &[400], Closes),
    ("a line folded by a tab", "5.2", get!("A: b\r\n\tc\r\n"), &[400], Closes),
    ("a folded line with nothing on it", "5.2", get!("A: b\r\n \r\n"), &[400], Closes),
    ("a first header that is folded", "2.2", b"GET /livez HTTP/1.1\r\n Host: x\r\n\r\n", &[400], Closes),
    ("a space before a colon", "5.1", get!("A : b\r\n"), &[400], Closes),
    ("a tab before a colon", "5.1", get!("A\t: b\r\n"), &[400], Closes),
    ("a space in a name", "5.1", get!("A b: c\r\n"), &[400], Closes),
    ("no name", "5.1", get!(": b\r\n"), &[400], Closes),
    ("no colon", "5.1", get!("A\r\n"), &[400], Closes),
    ("a bracket in a name", "9110 5.1", get!("A[]: b\r\n"), &[400], Closes),
    ("a name beyond ASCII", "9110 5.1", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-T\xebst: b\r\n\r\n", &[400], Closes),
    // What says whether the connection goes on.
    ("close", "9.6", get!("Connection: close\r\n"), &[200], Closes),
    ("close in a list", "9.6", get!("Connection: keep-alive ,\tCLOSE\r\n"), &[200], Closes),
    ("close among empty ones", "9110 5.6.1", get!("Connection: ,close,\r\n"), &[200], Closes),
    ("close on a second line", "9.6", get!("Connection: keep-alive\r\nConnection: close\r\n"), &[200], Closes),
    ("what only begins like close", "9.6", get!("Connection: closed\r\n"), &[200], Stays),
    ("keep-alive", "9.3", get!("Connection: keep-alive\r\nKeep-Alive: timeout=1\r\n"), &[200], Stays),
    ("an upgrade to h2c is not taken up", "9110 7.8", get!("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"), &[200], Stays),
    ("an upgrade to a websocket is not taken up", "9110 7.8", get!("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"), &[200], Stays),
    // Expectations.
    ("an unknown expectation", "9110 10.1.1", get!("Expect: 200-ok\r\n"), &[417], Closes),
    ("an empty expectation", "9110 10.1.1", get!("Expect:\r\n"), &[417], Closes),
    ("an expectation and more", "9110 10.1.1", post!("Expect: 100-continue, more\r\nContent-Length: 64\r\n", ""), &[417], Closes),
    ("two expectations", "9110 10.1.1, ours", post!("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 64\r\n", ""), &[417], Closes),
    ("an expectation without a body", "9110 10.1.1", get!("Expect: 100-continue\r\n"), &[200], Stays),
    ("an expectation with the body beside it", "9110 10.1.1", concat!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 64\r\n\r\n", chat!()).as_bytes(), &[200], Stays),
    ("an expectation of HTTP/1.0", "9110 10.1.1", concat!("POST /v1/chat/completions HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 64\r\n\r\n", chat!()).as_bytes(), &[200], Closes),
    ("an expectation with too long a body", "9110 10.1.1", post!("Expect: 100-continue\r\nContent-Length: 65537\r\n", ""), &[413], Closes),
    ("an expectation nowhere", "9110 10.1.1", b"POST /nowhere HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", &[404], Closes),
    // The length.
    ("a length", "6.2", concat!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 64\r\n\r\n", chat!()).as_bytes(), &[200], Stays),
    ("a length between tabs", "9110 5.5", concat!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length:\t64 \r\n\r\n", chat!()).as_bytes(), &[200], Stays),
    ("no length: no body", "6.3", post!("", ""), &[400], Stays),
    ("a length of nothing", "6.2", post!("Content-Length: 0\r\n", ""), &[400], Stays),
    ("a length of HTTP/1.0", "6.3", concat!("POST /v1/chat/completions HTTP/1.0\r\nContent-Length: 64\r\n\r\n", chat!()).as_bytes(), &[200], Closes),
    ("two lengths", "6.3", post!("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), &[400], Closes),
    ("the same length twice", "6.3, ours", post!("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), &[400], Closes),
    ("a list of lengths", "6.3", post!("Content-Length: 5, 6\r\n", "hello"), &[400], Closes),
    ("a list of the same length", "6.3, ours", post!("Content-Length: 5, 5\r\n", "hello"), &[400], Closes),
    ("an empty length", "6.3", post!("Content-Length: \r\n", "hello"), &[400], Closes),
    ("a length with a plus", "9110 8.6", post!("Content-Length: +5\r\n", "hello"), &[400], Closes),
    ("a length with a minus", "9110 8.6", post!("Content-Length: -5\r\n", "hello"), &[400], Closes),
    ("less than nothing", "9110 8.6", post!("Content-Length: -0\r\n", ""), &[400], Closes),
    ("a hexadecimal length", "9110 8.6", post!("Content-Length: 0x5\r\n", "hello"), &[400], Closes),
    ("an octal length", "9110 8.6", post!("Content-Length: 0o5\r\n", "hello"), &[400], Closes),
    ("a length with zeros before it", "9110 8.6, ours", post!("Content-Length: 005\r\n", "hello"), &[400], Closes),
    ("nothing, twice", "9110 8.6, ours", post!("Content-Length: 00\r\n", ""), &[400], Closes),
    ("a length with a space in it", "9110 8.6", post!("Content-Length: 1 0\r\n", "hello12345"), &[400], Closes),
    ("a length with an underscore", "9110 8.6", post!("Content-Length: 1_0\r\n", "hello12345"), &[400], Closes),
    ("a length with a fraction", "9110 8.6", post!("Content-Length: 5.0\r\n", "hello"), &[400], Closes),
    ("a length in words", "9110 8.6", post!("Content-Length: five\r\n", "hello"), &[400], Closes),
    ("a space before a length's colon", "5.1", post!("Content-Length : 5\r\n", "hello"), &[400], Closes),
    ("a length past 64 bits", "9110 8.6", post!("Content-Length: 18446744073709551616\r\n", "hello"), &[400], Closes),
    ("the longest length of 64 bits", "9110 15.5.14", post!("Content-Length: 18446744073709551615\r\n", "hello"), &[413], Closes),
    ("a gigabyte", "9110 15.5.14", post!("Content-Length: 1073741824\r\n", ""), &[413], Closes),
    ("one byte too many", "9110 15.5.14", post!("Content-Length: 65537\r\n", ""), &[413], Closes),
    ("a body for a probe", "9110 9.3.1", get!("Content-Length: 2\r\n\r\nhi"), &[413], Closes),
    ("a body for HEAD", "9110 9.3.2", b"HEAD /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", &[413], Closes),
    ("a body for nobody", "9.3", b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 41\r\n\r\nGET /livez HTTP/1.1\r\nHost: smuggled.x\r\n\r\n", &[404], Closes),
    // The transfer coding.
    ("chunked", "7.1", chunked!("40\r\n", "\r\n0\r\n\r\n"), &[200], Stays),
    ("chunked with a length", "6.3", post!("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), &[400], Closes),
    ("a length with chunked", "6.3", post!("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), &[400], Closes),
    ("a request behind the last chunk and within the length", "6.3", post!("Content-Length: 43\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n"), &[400], Closes),
    ("chunked with a bad length", "6.3", post!("Content-Length: +5\r\nTransfer-Encoding: Chunked\r\n", "0\r\n\r\n"), &[400], Closes),
    ("chunked twice", "6.1", post!("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), &[400], Closes),
    ("chunked on two lines", "6.1", post!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), &[400], Closes),
    ("chunked and identity", "6.1", post!("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"), &[400], Closes),
    ("gzip after chunked", "6.3", post!("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"), &[400], Closes),
    ("gzip before chunked", "6.1", post!("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), &[501], Closes),
    ("gzip alone", "6.3", post!("Transfer-Encoding: gzip\r\n", "hello"), &[400], Closes),
    ("identity", "6.3", post!("Transfer-Encoding: identity\r\n", "hello"), &[400], Closes),
    ("what only ends like chunked", "6.3", post!("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), &[400], Closes),
    ("chunked with a parameter", "7", post!("Transfer-Encoding: chunked;a=b\r\n", "0\r\n\r\n"), &[400], Closes),
    ("chunked with a comma before", "9110 5.6.1, ours", post!("Transfer-Encoding: , chunked\r\n", "0\r\n\r\n"), &[400], Closes),
    ("chunked with a comma after", "9110 5.6.1, ours", post!("Transfer-Encoding: chunked,\r\n", "0\r\n\r\n"), &[400], Closes),
    ("chunked in quotes", "7", post!("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"), &[400], Closes),
    ("no coding", "6.1", post!("Transfer-Encoding:\r\n", "0\r\n\r\n"), &[400], Closes),
    ("a vertical tab before chunked", "9110 5.5", post!("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"), &[400], Closes),
    ("a NUL after chunked", "9110 5.5", post!("Transfer-Encoding: chunked\0\r\n", "0\r\n\r\n"), &[400], Closes),
    ("chunked on a folded line", "5.2", post!("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), &[400], Closes),
    ("a space before the coding's colon", "5.1", post!("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), &[400], Closes),
    ("chunked of HTTP/1.0", "6.1", b"POST /v1/chat/completions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", &[400], Closes),
    ("a name with an underscore is another name", "6.1", concat!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer_Encoding: chunked\r\nContent-Length: 64\r\n\r\n", chat!()).as_bytes(), &[200], Stays),
    ("what I take back", "9110 10.1.4", get!("TE: trailers, gzip;q=0\r\n"), &[200], Stays),
    ("chunks for a probe", "9110 9.3.1", get!("Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"), &[413], Closes),
    ("no chunk but the last, for a probe", "7.1", get!("Transfer-Encoding: chunked\r\n\r\n0\r\n"), &[200], Stays),
    // Chunks.
    ("zeros before a size", "7.1", chunked!("0000000000000040\r\n", "\r\n000\r\n\r\n"), &[200], Stays),
    ("a size of 17 digits", "7.1.1, ours", chunked!("00000000000000040\r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("a size past 64 bits", "7.1.1", chunked!("FFFFFFFFFFFFFFFF0\r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("the longest size of 64 bits", "9110 15.5.14", chunked!("ffffffffffffffff\r\n", "\r\n0\r\n\r\n"), &[413], Closes),
    ("a size below nothing as 64 bits", "9110 15.5.14", chunked!("fffffffffffffffe\r\n", "\r\n0\r\n\r\n"), &[413], Closes),
    ("no size", "7.1", chunked!("\r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("a size with 0x", "7.1", chunked!("0x40\r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("a size with a plus", "7.1", chunked!("+40\r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("a size with a minus", "7.1", chunked!("-1\r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("a size with an underscore", "7.1", chunked!("4_0\r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("a size with a comma", "7.1", chunked!("40,40\r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("a space before a size", "7.1", chunked!(" 40\r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("a space after a size", "7.1", chunked!("40 \r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("a size's line that ends in LF", "2.2", chunked!("40\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("a size's line that ends in CR", "2.2", chunked!("40\r", "\r\n0\r\n\r\n"), &[400], Closes),
    ("a chunk that ends in LF", "7.1", chunked!("40\r\n", "\n0\r\n\r\n"), &[400], Closes),
    ("a chunk that does not end", "7.1", chunked!("40\r\n", "0\r\n\r\n"), &[400], Closes),
    ("a chunk longer than its size", "7.1", chunked!("3f\r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("a chunk shorter than its size", "7.1", chunked!("41\r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("a last chunk that ends in LF", "7.1", chunked!("40\r\n", "\r\n0\n\r\n"), &[400], Closes),
    ("trailers that end in LF", "7.1", chunked!("40\r\n", "\r\n0\r\n\n"), &[400], Closes),
    ("a last chunk with a plus", "7.1", chunked!("40\r\n", "\r\n+0\r\n\r\n"), &[400], Closes),
    ("extensions", "7.1.1", chunked!("40;a;b=c;d=\"e;\\\"f\"\r\n", "\r\n0;g\r\n\r\n"), &[200], Stays),
    ("an extension without a name", "7.1.1", chunked!("40;\r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("an extension without a value", "7.1.1", chunked!("40;a=\r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("an extension that is no token", "7.1.1", chunked!("40;a[=b\r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("an extension with a quote left open", "7.1.1", chunked!("40;a=\"b\r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("an extension with a NUL", "7.1.1", chunked!("40;a\0\r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("an extension with a CR", "7.1.1", chunked!("40;a\rX\r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    ("an extension with an LF", "7.1.1", chunked!("40;a\nb\r\n", "\r\n0\r\n\r\n"), &[400], Closes),
    // Trailers.
    ("a trailer", "7.1.2", chunked!("40\r\n", "\r\n0\r\nX-Sum: 1\r\nX-Other:\r\n\r\n"), &[200], Stays),
    ("a trailer without a colon", "7.1.2", chunked!("40\r\n", "\r\n0\r\nX-Sum\r\n\r\n"), &[400], Closes),
    ("a trailer with a space before its colon", "5.1", chunked!("40\r\n", "\r\n0\r\nX-Sum : 1\r\n\r\n"), &[400], Closes),
    ("a folded trailer", "5.2", chunked!("40\r\n", "\r\n0\r\nX-Sum: 1\r\n 2\r\n\r\n"), &[400], Closes),
    ("a trailer with a NUL", "9110 5.5", chunked!("40\r\n", "\r\n0\r\nX-Sum: \x00\r\n\r\n"), &[400], Closes),
    ("a trailer that is a length", "9110 6.5.1", chunked!("40\r\n", "\r\n0\r\nContent-Length: 5\r\n\r\n"), &[400], Closes),
    ("a trailer that is a coding", "9110 6.5.1", chunked!("40\r\n", "\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"), &[400], Closes),
    ("a trailer that is a Host", "9110 6.5.1", chunked!("40\r\n", "\r\n0\r\nhost: y\r\n\r\n"), &[400], Closes),
    ("a trailer that is a key", "9110 6.5.1", chunked!("40\r\n", "\r\n0\r\nAuthorization: Bearer x\r\n\r\n"), &[400], Closes),
    ("a trailer that is a type", "9110 6.5.1", chunked!("40\r\n", "\r\n0\r\nContent-Type: text/plain\r\n\r\n"), &[400], Closes),
    // One behind the other.
    ("two", "9.3.2", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", &[200, 404], Stays),
    ("good ones and then a bad one", "9.3.2", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\n\r\n", &[200, 200, 400], Closes),
    ("a bad one and then a good one", "9.3.2", b"GET /livez HTTP/1.1\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n", &[400], Closes),
    ("one after a close", "9.6", b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n", &[200], Closes),
    ("one after a body", "9.3.2", concat!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 64\r\n\r\n", chat!(), "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(), &[200, 200], Stays),
    ("one after a body and a blank line", "2.2", concat!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 64\r\n\r\n", chat!(), "\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(), &[200, 200], Stays),
    ("one after chunks", "9.3.2", chunked!("40\r\n", "\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n"), &[200, 200], Stays),
    ("a byte more than the length", "6.2", post!("Content-Length: 0\r\n", "XGET /livez HTTP/1.1\r\nHost: x\r\n\r\n"), &[400, 501], Closes),
];

/// What is cut off by the client's end.
#[rustfmt::skip]
const ENDED: &[Row] = &[
    ("nothing", "9.5", b"", &[], Closes),
    ("a blank line", "2.2", b"\r\n", &[], Closes),
    ("half a request line", "8", b"GET /liv", &[], Closes),
    ("half a head", "8", b"GET /livez HTTP/1.1\r\nHost: x\r\nA: b", &[], Closes),
    ("half a body", "8", post!("Content-Length: 64\r\n", "hello"), &[], Closes),
    ("half a chunk", "8", post!("Transfer-Encoding: chunked\r\n", "40\r\nhello"), &[], Closes),
    ("no last chunk", "8", post!("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"), &[], Closes),
    ("no end of the trailers", "8", post!("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n"), &[], Closes),
    ("no body after its leave", "9110 10.1.1", post!("Expect: 100-continue\r\nContent-Length: 64\r\n", ""), &[100], Closes),
];

/// What is never whole, and waited for as long as may be.
#[rustfmt::skip]
const AWAITED: &[Row] = &[
    ("half a request line, and silence", "9110 15.5.9", b"GET /liv", &[408], Closes),
    ("half a head, and silence", "9110 15.5.9", b"GET /livez HTTP/1.1\r\nHost: x\r\nA: b", &[408], Closes),
    ("half a body, and silence", "9110 15.5.9", post!("Content-Length: 64\r\n", "hello"), &[408], Closes),
    ("half a chunk, and silence", "9110 15.5.9", post!("Transfer-Encoding: chunked\r\n", "40\r\nhello"), &[408], Closes),
    ("no body after its leave, and silence", "9110 10.1.1", post!("Expect: 100-continue\r\nContent-Length: 64\r\n", ""), &[100, 408], Closes),
];

type Made = (&'static str, &'static str, Vec<u8>, &'static [u16], Then);

/// What is too long to be written down.
fn long() -> Vec<Case> {
    let head = |from: &str, filler: usize| format!("{from}{}\r\n\r\n", "a".repeat(filler)).into_bytes();
    let value = "GET /livez HTTP/1.1\r\nHost: x\r\nA: ";
    let of_length = |length: usize| head(value, length - value.len() - 4);
    let lines = |count: usize| get_with(&"A: b\r\n".repeat(count - 1));
    let chunks = |text: String| {
        format!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{text}")
            .into_bytes()
    };
    let half = format!("8000\r\n{}\r\n", "a".repeat(0x8000));
    let rows: Vec<Made> = vec![
        ("a head of the limit", "9110 15.5.15", of_length(MOST_HEAD), &[200], Stays),
        ("a head of a byte more", "6585 5", of_length(MOST_HEAD + 1), &[431], Closes),
        ("a target without end", "6585 5", head("GET /", 4 * MOST_HEAD), &[431], Closes),
        ("a method without end", "6585 5", "A".repeat(4 * MOST_HEAD).into_bytes(), &[431], Closes),
        ("a name without end", "6585 5", head("GET /livez HTTP/1.1\r\nHost: x\r\n", 4 * MOST_HEAD), &[431], Closes),
        ("a value without end", "6585 5", head(value, 4 * MOST_HEAD), &[431], Closes),
        ("a hundred header lines", "6585 5", lines(100), &[200], Stays),
        ("a hundred and one", "6585 5", lines(101), &[431], Closes),
        (
            "digits without end",
            "9110 8.6",
            get_with(&format!("Content-Length: {}\r\n", "9".repeat(4000))),
            &[400],
            Closes,
        ),
        ("chunks of the limit", "ours", chunks(format!("{half}{half}0\r\n\r\n")), &[400], Stays),
        ("chunks of a byte more", "9110 15.5.14", chunks(format!("{half}{half}1\r\na\r\n0\r\n\r\n")), &[413], Closes),
        ("an extension without end", "7.1.1", chunks(format!("1;{}", "a".repeat(9000))), &[400], Closes),
        ("trailers without end", "7.1.2", chunks(format!("0\r\n{}", "A: b\r\n".repeat(3000))), &[431], Closes),
    ];
    rows.into_iter()
        .map(|(name, section, bytes, answers, then)| Case {
            name,
            section,
            bytes: bytes.into(),
            ends: false,
            answers,
            then,
        })
        .collect()
}

fn get_with(lines: &str) -> Vec<u8> {
    format!("GET /livez HTTP/1.1\r\nHost: x\r\n{lines}\r\n").into_bytes()
}

fn written(rows: &'static [Row], ends: bool) -> impl Iterator<Item = Case> {
    rows.iter().map(move |&(name, section, bytes, answers, then)| Case {
        name,
        section,
        bytes: bytes.into(),
        ends,
        answers,
        then,
    })
}

/// Those that are answered at once.
pub(super) fn at_once() -> Vec<Case> {
    written(ROWS, false).chain(written(ENDED, true)).chain(long()).collect()
}

/// Those that are waited for.
pub(super) fn awaited() -> Vec<Case> {
    written(AWAITED, false).collect()
}
