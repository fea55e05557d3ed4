//! The guard of the admin plane: checks a request whole, then hands it to the pages and passes their answer back.
//!
//! What is refused here never reaches the pages: a foreign `Host` (a page on the web that rebinds its name to loopback), a
//! request that another site's page sent, a POST without our own header, a wrong key.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::error::Error;
use crate::http::{Admission, Exchange, Finished, Head, Request, Response, Service};
use crate::secret::{Digest, Secret};
use crate::sync::{State, threads};

/// How long the pages may take for an answer.
const PAGES_WAIT: Duration = Duration::from_secs(5);

/// The longest answer of the pages, in bytes: `/stats` with thousands of workers is the largest.
const MAX_ANSWER: u64 = 64 << 20;

/// Lines of a head that the pages send.
const MAX_HEADERS: usize = 16;

/// The methods that any page takes.
const METHODS: &str = "GET, HEAD, POST";

#[derive(Debug)]
pub(super) struct Guard {
    socket: PathBuf,
    own: SocketAddr,
    key: Option<Digest>,
}

impl Guard {
    pub(super) fn new(socket: PathBuf, own: SocketAddr, key: Option<&Secret>) -> Self {
        Self { socket, own, key: key.map(|key| Digest::of(key.expose().as_bytes())) }
    }

    fn check(&self, head: &Head) -> Result<(), (u16, &'static str)> {
        if !head.header("host").is_none_or(|host| self.is_own(host)) {
            return Err((403, "the Host header names neither this listener nor loopback"));
        }
        if !head.header("origin").is_none_or(|origin| self.is_own_origin(origin)) {
            return Err((403, "the request comes from another site's page (Origin)"));
        }
        if !matches!(head.header("sec-fetch-site"), None | Some("same-origin" | "none")) {
            return Err((403, "the request comes from another site's page (Sec-Fetch-Site)"));
        }
        if let Some(key) = &self.key {
            let sent = head.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
            let sent = sent.or_else(|| head.header("x-api-key")).unwrap_or("");
            if Digest::of(sent.as_bytes()).find_in(std::slice::from_ref(key)).is_none() {
                return Err((401, "the admin key is missing or wrong; send it as Authorization: Bearer <key>"));
            }
        }
        match head.method() {
            "GET" | "HEAD" => Ok(()),
            "POST" if head.header("x-sluicegate-admin") == Some("1") => Ok(()),
            "POST" => Err((403, "a POST to the admin plane needs the header x-sluicegate-admin: 1")),
            _ => Err((405, "the admin plane takes GET, HEAD and POST")),
        }
    }

    fn is_own(&self, host: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !port.is_empty() => (name, Some(port)),
            _ => (host, None),
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        let port_fits = port.is_none_or(|port| port == self.own.port().to_string());
        let own = !self.own.ip().is_unspecified() && name == self.own.ip().to_string();
        // Any loopback name with any port: a tunnel changes the port and nothing else.
        let loopback = name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        // Bound to every address, it is reached by addresses that it cannot know; a key is asked for there.
        let literal = self.own.ip().is_unspecified() && name.parse::<std::net::IpAddr>().is_ok();
        loopback || ((own || literal) && port_fits)
    }

    fn is_own_origin(&self, origin: &str) -> bool {
        origin.strip_prefix("http://").is_some_and(|host| self.is_own(host))
    }

    fn ask(&self, request: &Request) -> std::io::Result<Response> {
        let _io = threads::enter(State::Io);
        let mut socket = UnixStream::connect(&self.socket)?;
        socket.set_read_timeout(Some(PAGES_WAIT))?;
        socket.set_write_timeout(Some(PAGES_WAIT))?;
        let head = &request.head;
        // HEAD is asked as GET, and the server leaves the body out.
        let method = if head.method() == "POST" { "POST" } else { "GET" };
        let query = head.query().map(|query| format!("?{query}")).unwrap_or_default();
        let line = format!(
            "{method} {}{query} HTTP/1.1\r\nHost: pages\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            head.path(),
            request.body.len(),
        );
        socket.write_all(&[line.as_bytes(), &request.body].concat())?;
        let mut answer = Vec::new();
        socket.take(MAX_ANSWER).read_to_end(&mut answer)?;
        parse(answer)
    }
}

/// The pages' answer: whole, with its length or up to its end.
fn parse(mut answer: Vec<u8>) -> std::io::Result<Response> {
    let broken = || std::io::Error::other("the pages gave no whole answer");
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = head.parse(&answer) else { return Err(broken()) };
    let header = |name: &str| {
        let found = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let body_length: usize = header("content-length").and_then(|length| length.parse().ok()).ok_or_else(broken)?;
    let content_type = header("content-type").unwrap_or("application/octet-stream").to_owned();
    let allow = header("allow").map(str::to_owned);
    let status = head.code.ok_or_else(broken)?;
    let body = answer.split_off(length);
    if body.len() != body_length {
        return Err(broken());
    }
    let mut response = Response::new(status).header("content-type", content_type);
    response.body = body.into();
    if let Some(allow) = allow {
        response = response.header("allow", allow);
    }
    Ok(response.header("cache-control", "no-store").header("x-content-type-options", "nosniff"))
}

fn error(status: u16, message: &str) -> Response {
    Response::new(status).body(json!({ "error": { "message": message } }).to_string(), "application/json")
}

impl Service for Guard {
    fn admit(&self, head: &Head, _peer: SocketAddr) -> Result<Admission, Response> {
        self.check(head).map(|()| Admission::default()).map_err(|(status, text)| match status {
            405 => error(status, text).header("allow", METHODS),
            _ => error(status, text),
        })
    }

    fn serve(&self, request: Request, exchange: Exchange) -> Finished {
        exchange.respond(self.ask(&request).unwrap_or_else(|cause| {
            log::error!("the admin pages failed: {cause}");
            error(503, "the admin pages did not answer")
        }))
    }

    fn refusal(
        &self,
        _head: Option<&Head>,
        status: u16,
        cause: &Error,
        _hold: Option<Box<dyn std::any::Any + Send>>,
    ) -> Response {
        error(status, cause.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(own: &str) -> Guard {
        Guard::new(PathBuf::new(), own.parse().expect("an address"), None)
    }

    #[test]
    fn a_name_that_was_rebound_to_loopback_is_foreign() {
        let guard = guard("127.0.0.1:8081");
        for own in ["127.0.0.1:8081", "localhost:8081", "localhost", "[::1]:9000", "127.0.0.1:9000"] {
            assert!(guard.is_own(own), "{own}");
        }
        for foreign in ["evil.example", "evil.example:8081", "localhost.evil.example", "10.0.0.1:8081", ""] {
            assert!(!guard.is_own(foreign), "{foreign}");
        }
        assert!(guard.is_own_origin("http://localhost:8081") && !guard.is_own_origin("https://evil.example"));
    }

    #[test]
    fn beyond_loopback_its_own_address_counts() {
        assert!(guard("192.0.2.7:8081").is_own("192.0.2.7:8081"));
        assert!(!guard("192.0.2.7:8081").is_own("192.0.2.7:1"));
        assert!(guard("0.0.0.0:8081").is_own("192.0.2.9:8081"));
        assert!(!guard("0.0.0.0:8081").is_own("evil.example:8081"));
    }

    #[test]
    fn an_answer_that_is_not_whole_is_no_answer() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok".to_vec();
        assert_eq!(parse(whole.clone()).expect("whole").body, b"ok");
        for cut in 0..whole.len() {
            assert!(parse(whole[..cut].to_vec()).is_err(), "cut at {cut}");
        }
    }
}
