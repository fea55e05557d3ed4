//! The guard of the admin plane: checks a request whole, then hands it to the pages and passes their answer back.
//!
//! What is refused here never reaches the pages: a foreign `Host` (a page on the web that rebinds its name to loopback), a
//! request that another site's page sent, a POST without our own header, a wrong key. A line that a browser sends once is
//! judged each time that it stands there, and one that is no text is foreign.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::{dashboard, pages};
use crate::config::Server;
use crate::error::Error;
use crate::gateway::Gateway;
use crate::http::{
    Admission, Exchange, Finished, Head, Request, Response, Service, client_address, is_from_another_site, sent_key,
};
use crate::secret::Digest;
use crate::sync::{State, threads};
use crate::time::now;

/// How long the pages may take for an answer.
const PAGES_WAIT: Duration = Duration::from_secs(5);

/// How long one may take that waits for new pools to be up, behind another such.
const SLOW_WAIT: Duration = Duration::from_secs(30);

/// The longest answer of the pages, in bytes: `/stats` with thousands of workers is the largest.
const MAX_ANSWER: u64 = 64 << 20;

/// Lines of a head that the pages send.
const MAX_HEADERS: usize = 16;

/// The header without which a POST is refused: no page can send it without a browser's asking first.
const ASKED: &str = "x-sluicegate-admin";

/// The methods that any page takes.
const METHODS: &str = "GET, HEAD, POST";

#[derive(Debug)]
pub(super) struct Guard {
    socket: PathBuf,
    own: SocketAddr,
    gateway: Gateway,
}

/// Why a request is not handed on.
#[derive(Debug)]
struct Refused {
    status: u16,
    text: &'static str,
    /// When to come again, for an address that fails too often.
    after: Option<Duration>,
}

impl Refused {
    fn new(status: u16, text: &'static str) -> Self {
        Self { status, text, after: None }
    }
}

impl Guard {
    /// A guard that listens on `own`, and asks for the key that the gateway's configuration says at the time.
    pub(super) fn new(socket: PathBuf, own: SocketAddr, gateway: Gateway) -> Self {
        Self { socket, own, gateway }
    }

    fn check(&self, head: &Head, peer: SocketAddr) -> Result<(), Refused> {
        let every = |name: &str, fits: &dyn Fn(&str) -> bool| {
            let mut lines = head.headers().filter(|(own, _)| own.eq_ignore_ascii_case(name));
            lines.all(|(_, value)| std::str::from_utf8(value).is_ok_and(fits))
        };
        if !every("host", &|host| self.is_own(host)) {
            return Err(Refused::new(403, "the Host header names neither this listener nor loopback"));
        }
        if !every("origin", &|origin| self.is_own_origin(origin)) {
            return Err(Refused::new(403, "the request comes from another site's page (Origin)"));
        }
        if is_from_another_site(head) {
            return Err(Refused::new(403, "the request comes from another site's page (Sec-Fetch-Site)"));
        }
        // The dashboard has nothing to hide, and asks for the key itself; what it reads with it passes here, too.
        if !dashboard::is_asked_for(head.method(), head.path()) {
            self.gateway.with_config(|config| self.check_key(&config.server, head, peer))?;
        }
        match head.method() {
            "GET" | "HEAD" => Ok(()),
            "POST" if head.header(ASKED).is_some() && every(ASKED, &|value| value == "1") => Ok(()),
            "POST" => Err(Refused::new(403, "a POST to the admin plane needs the header x-sluicegate-admin: 1")),
            _ => Err(Refused::new(405, "the admin plane takes GET, HEAD and POST")),
        }
    }

    fn check_key(&self, server: &Server, head: &Head, peer: SocketAddr) -> Result<(), Refused> {
        let Some(key) = &server.admin_key else { return Ok(()) };
        if sent_key(head).find_in([&Digest::of(key.expose().as_bytes())]).is_some() {
            return Ok(());
        }
        let address = client_address(head, peer, &server.trusted_proxies);
        let after = self.gateway.strangers().failed(address, now());
        let text = "the admin key is missing or wrong; send it as Authorization: Bearer <key>";
        Err(Refused { after, ..Refused::new(401, text) })
    }

    /// Whether a `Host` is this listener, or loopback.
    fn is_own(&self, host: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            // A colon within brackets is the address' own.
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (host, None),
        };
        let port_fits = |wanted: u16| port.is_none_or(|port| port == wanted.to_string());
        let is_port = port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok());
        // Any loopback name with any port: a tunnel changes the port and nothing else.
        if name.eq_ignore_ascii_case("localhost") {
            return is_port;
        }
        let address: Option<IpAddr> = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            Some(v6) => v6.parse().ok().map(IpAddr::V6),
            None => name.parse().ok().map(IpAddr::V4),
        };
        address.is_some_and(|address| {
            // Bound to every address, it is reached by addresses that it cannot know; a key is asked for there.
            let own = self.own.ip().is_unspecified() || address == self.own.ip();
            (address.is_loopback() && is_port) || (own && port_fits(self.own.port()))
        })
    }

    fn is_own_origin(&self, origin: &str) -> bool {
        origin.strip_prefix("http://").is_some_and(|host| self.is_own(host))
    }

    fn ask(&self, request: &Request) -> std::io::Result<Response> {
        let _io = threads::enter(State::Io);
        let mut socket = UnixStream::connect(&self.socket)?;
        let head = &request.head;
        let wait = if pages::is_slow(head.method(), head.path()) { SLOW_WAIT } else { PAGES_WAIT };
        socket.set_read_timeout(Some(wait))?;
        socket.set_write_timeout(Some(PAGES_WAIT))?;
        // HEAD is asked as GET, and the server leaves the body out.
        let method = if head.method() == "POST" { "POST" } else { "GET" };
        let query = head.query().map(|query| format!("?{query}")).unwrap_or_default();
        // One line, as whoever parsed the head has seen to; the server there takes ASCII alone.
        let accept = head
            .header("accept")
            .filter(|accept| accept.is_ascii())
            .map(|accept| format!("Accept: {accept}\r\n"))
            .unwrap_or_default();
        let line = format!(
            "{method} {}{query} HTTP/1.1\r\nHost: pages\r\nConnection: close\r\n{accept}Content-Length: {}\r\n\r\n",
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
    let response = response.header("cache-control", "no-store").header("x-content-type-options", "nosniff");
    Ok(response.header("referrer-policy", "no-referrer").header("content-security-policy", dashboard::policy()))
}

fn error(status: u16, message: &str) -> Response {
    Response::new(status).body(json!({ "error": { "message": message } }).to_string(), "application/json")
}

impl Service for Guard {
    fn admit(&self, head: &Head, peer: SocketAddr) -> Result<Admission, Response> {
        self.check(head, peer).map(|()| Admission::default()).map_err(|Refused { status, text, after }| {
            let response = error(status, text);
            let response = match status {
                401 => response.header("www-authenticate", "Bearer"),
                405 => response.header("allow", METHODS),
                _ => response,
            };
            match after {
                // Each further guess pays for a connection of its own.
                Some(after) => response.header("retry-after", after.as_secs().to_string()).close(),
                None => response,
            }
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
        let document = r#"{ "providers": {} }"#;
        let config = crate::Config::from_json(document, &|_: &str| None).expect("a configuration");
        let gateway = Gateway::builder().config(config).build().expect("it starts");
        Guard::new(PathBuf::new(), own.parse().expect("an address"), gateway)
    }

    #[test]
    fn a_name_that_was_rebound_to_loopback_is_foreign() {
        let guard = guard("127.0.0.1:8081");
        for own in [
            "127.0.0.1:8081",
            "localhost:8081",
            "localhost",
            "LocalHost:8081",
            "[::1]:9000",
            "[::1]",
            "127.0.0.1:9000",
            "127.9.9.9",
        ] {
            assert!(guard.is_own(own), "{own}");
        }
        for foreign in [
            "evil.example",
            "evil.example:8081",
            "localhost.evil.example",
            "evil.localhost:8081",
            "localhost.",
            "localhost:",
            "localhost:x",
            "localhost:99999",
            "127.0.0.1.evil.example:8081",
            "127.0.0.1:8081@evil.example",
            "127.1:8081",
            "2130706433",
            "0x7f.0.0.1",
            "0.0.0.0:8081",
            "[::]:8081",
            "[::ffff:127.0.0.1]:8081",
            "::1",
            "::1:8081",
            "[::1",
            "[[::1]]",
            "[127.0.0.1]",
            "[::1]x",
            "10.0.0.1:8081",
            "",
            ":8081",
        ] {
            assert!(!guard.is_own(foreign), "{foreign}");
        }
        assert!(guard.is_own_origin("http://localhost:8081") && !guard.is_own_origin("https://evil.example"));
        assert!(!guard.is_own_origin("null") && !guard.is_own_origin("") && !guard.is_own_origin("http://"));
    }

    #[test]
    fn beyond_loopback_its_own_address_counts() {
        assert!(guard("192.0.2.7:8081").is_own("192.0.2.7:8081"));
        assert!(!guard("192.0.2.7:8081").is_own("192.0.2.7:1"));
        assert!(guard("[2001:db8::7]:8081").is_own("[2001:db8::7]:8081"));
        assert!(guard("[2001:db8::7]:8081").is_own("[2001:db8:0:0::7]"));
        assert!(!guard("[2001:db8::7]:8081").is_own("[2001:db8::8]:8081"));
        assert!(guard("0.0.0.0:8081").is_own("192.0.2.9:8081"));
        assert!(!guard("0.0.0.0:8081").is_own("192.0.2.9:80"));
        assert!(!guard("0.0.0.0:8081").is_own("evil.example:8081"));
        assert!(guard("[::]:8081").is_own("[2001:db8::7]:8081"));
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
