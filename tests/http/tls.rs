//! TLS: everything that plain HTTP does, and what only TLS can do wrong.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::bounded;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};
use sluicegate::config::{Tls, TlsVersion};
use sluicegate::http::{Certificates, Exchange, Finished, Limits, Look, Request, Response, Server, Watcher};
use sluicegate::sync::{CancelReason, CancelToken, Role, Threads};

use super::support::{Client, FUSE, House, closure, echo, eventually, ms, timed};
use crate::certificates::{Authority, Files, Pair, Stream, connect};

/// A house that speaks TLS, its certificate, and the authority behind it.
struct Secure {
    house: House,
    authority: Authority,
    files: Files,
    certificates: Arc<Certificates>,
}

impl Secure {
    fn new(limits: Limits, serve: impl Fn(Request, Exchange) -> Finished + Send + Sync + 'static) -> Self {
        Self::of(limits, |tls, _| tls, serve)
    }

    fn of(
        limits: Limits,
        settings: impl FnOnce(Tls, &Files) -> Tls,
        serve: impl Fn(Request, Exchange) -> Finished + Send + Sync + 'static,
    ) -> Self {
        let authority = Authority::new("root");
        let files = Files::of(&authority.issue());
        let settings = settings(files.settings(), &files);
        let certificates = Arc::new(Certificates::load(&settings).expect("they fit"));
        let threads = Threads::new(1000, 256 << 10);
        let watcher = Watcher::start(&threads).expect("a watcher");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let (own, service) = (Some(Arc::clone(&certificates)), Arc::new(closure(serve)));
        let server = Server::secured(listener, limits, own, threads.clone(), watcher, service, "test");
        let server = server.expect("a server");
        let addr = server.local_addr();
        Self { house: House { threads, server: Some(server), addr }, authority, files, certificates }
    }

    fn client(&self) -> Talk {
        Talk::new(self.house.addr, &Arc::new(self.authority.client()))
    }
}

/// A client in the middle of a session.
struct Talk {
    stream: Stream,
    ahead: Vec<u8>,
}

impl Talk {
    fn new(to: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        Self { stream: connect(to, config), ahead: Vec::new() }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).expect("it is read");
        self
    }

    fn get(&mut self, path: &str) -> String {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).answer().1
    }

    fn post(&mut self, body: &[u8]) -> String {
        self.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()));
        self.send(body).answer().1
    }

    /// One answer: its status and body.
    fn answer(&mut self) -> (u16, String) {
        let head = self.upto(b"\r\n\r\n");
        let head = String::from_utf8(head).expect("a head is text");
        let status = head[9..12].parse().expect("a status");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let body = match length {
            Some(length) => self.exactly(length.parse().expect("a length")),
            None => self.upto(b"0\r\n\r\n"),
        };
        (status, String::from_utf8(body).expect("text"))
    }

    fn upto(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.ahead.windows(end.len()).position(|window| window == end) {
                return self.ahead.drain(..at + end.len()).collect();
            }
            self.more();
        }
    }

    fn exactly(&mut self, n: usize) -> Vec<u8> {
        while self.ahead.len() < n {
            self.more();
        }
        self.ahead.drain(..n).collect()
    }

    fn more(&mut self) {
        let mut piece = [0; 16 << 10];
        let n = self.stream.read(&mut piece).expect("an answer");
        assert!(n > 0, "it ended after {:?}", String::from_utf8_lossy(&self.ahead));
        self.ahead.extend_from_slice(&piece[..n]);
    }

    /// How it ends: `Ok` if the server said so before it closed.
    fn end(&mut self) -> std::io::Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.ahead);
        self.stream.read_to_end(&mut rest).map(|_| rest)
    }
}

/// What came of a handshake, as the client sees it.
fn handshake(to: SocketAddr, config: ClientConfig) -> std::io::Result<()> {
    let mut stream = connect(to, &Arc::new(config));
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

#[test]
fn requests_are_answered_one_after_the_other_pipelined_parked_and_woken() {
    let secure = Secure::new(Limits::default(), echo);
    let mut client = secure.client();
    assert_eq!(client.get("/first"), "GET /first");
    // Two in one record, and one in three.
    client.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!([client.answer().1, client.answer().1], ["GET /a", "GET /b"]);
    for piece in ["GET /in", "-pieces HTTP/1.1\r\nHo", "st: x\r\n\r\n"] {
        client.send(piece);
        std::thread::park_timeout(ms(10));
    }
    assert_eq!(client.answer().1, "GET /in-pieces");
    for _ in 0..3 {
        eventually("it is parked", || secure.house.stats().idle == 1);
        assert_eq!(client.get("/woken"), "GET /woken");
    }
    // More requests at once than a buffer of ours holds: what is decrypted and not read is not forgotten.
    let many: String = (0..400).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    client.send(many);
    for n in 0..400 {
        assert_eq!(client.answer().1, format!("GET /{n}"));
    }
    client.stream.conn.send_close_notify();
    let _ = client.stream.flush();
    assert!(client.end().is_ok(), "the end is said on both sides");
    let stats = secure.house.stats();
    assert_eq!((stats.accepted_total, stats.bad_requests_total, stats.header_timeouts_total), (1, 0, 0));
    secure.house.close();
}

#[test]
fn bodies_of_megabytes_pass_both_ways_by_length_and_in_chunks() {
    let secure = Secure::new(Limits::default(), echo);
    let body: Vec<u8> = (0..8 << 20).map(|i| b'a' + (i % 23) as u8).collect();
    let mut client = secure.client();
    assert!(client.post(&body).as_bytes() == body, "by length");
    client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in body.chunks(100_000) {
        client.send(format!("{:x}\r\n", piece.len())).send(piece).send("\r\n");
    }
    assert!(client.send("0\r\n\r\n").answer().1.as_bytes() == body, "in chunks");
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.upto(b"\r\n\r\n"), b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.send("ok").answer().1, "ok");
    secure.house.close();
}

#[test]
fn a_stream_moves_to_another_thread_with_its_session_and_back() {
    let others = Threads::new(10, 256 << 10);
    let secure = Secure::new(Limits::default(), move |request, exchange| {
        if request.head.path() != "/stream" {
            return echo(request, exchange);
        }
        let mut writer = exchange.stream(Response::new(200));
        let stream = move || {
            for n in 0..20 {
                writer.send(format!("event {n} ").as_bytes()).expect("it is read");
            }
            writer.finish();
        };
        others.spawn(Role::Worker, "worker", stream).expect("room");
        Finished::moved()
    });
    let mut client = secure.client();
    for _ in 0..5 {
        client.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n");
        let stream = client.answer().1;
        assert!(stream.contains("event 0 ") && stream.contains("event 19 "), "{stream}");
        assert_eq!(client.answer().1, "GET /next", "what came with the stream's request is still there");
    }
    secure.house.close();
}

#[test]
fn a_slow_handshake_is_cut_at_its_deadline_and_its_slot_is_free() {
    let limits = Limits { header_timeout: ms(200), max_connections: 3, ..Limits::default() };
    let secure = Secure::new(limits, echo);
    let mut silent = TcpStream::connect(secure.house.addr).expect("it listens");
    let mut begun = TcpStream::connect(secure.house.addr).expect("it listens");
    begun.write_all(&[0x16, 3, 1, 2, 0, 1]).expect("connected");
    let (end, took) = timed(|| (silent.read(&mut [0; 64]), begun.read(&mut [0; 64])));
    assert!(took >= ms(140) && took < ms(1000), "{took:?}");
    // Without a word, or with the one that TLS has for it.
    assert!(!matches!(end.0, Ok(n) if n > 0), "{end:?}");
    // A drip that never falls silent for as long as a thread lingers.
    let mut drip = TcpStream::connect(secure.house.addr).expect("it listens");
    drip.write_all(&[0x16, 3, 1, 64, 0]).expect("connected");
    let (_, took) = timed(|| {
        while drip.write_all(&[0]).is_ok() {
            std::thread::park_timeout(ms(2))
        }
    });
    assert!(took >= ms(140) && took < ms(1000), "{took:?}");
    eventually("the slots are free", || secure.house.stats().open == 0);
    assert_eq!(secure.house.stats().header_timeouts_total, 3);
    assert_eq!(secure.client().get("/"), "GET /");
    secure.house.close();
}

#[test]
fn a_hundred_half_open_handshakes_hold_no_thread_while_others_are_served() {
    let secure = Secure::new(Limits::default(), echo);
    let before = secure.house.threads.active();
    let hello = first_flight(&secure);
    let mut half: Vec<_> = (0..100)
        .map(|n| {
            let mut socket = TcpStream::connect(secure.house.addr).expect("it listens");
            // Some say nothing, some half of their first word, some all of it and nothing more.
            socket.write_all(&hello[..hello.len() * (n % 3) / 2]).expect("connected");
            socket
        })
        .collect();
    eventually("all are parked", || secure.house.stats().idle == 100);
    let mut client = secure.client();
    let (_, took) = timed(|| (0..50).for_each(|n| assert_eq!(client.get(&format!("/{n}")), format!("GET /{n}"))));
    assert!(took < FUSE, "{took:?}");
    // One thread at a time is enough for all of them; a few more came while they connected at once.
    assert!(secure.house.threads.active() - before <= 100);
    eventually("nobody waits in a thread", || secure.house.stats().idle == 101);
    half.truncate(50);
    eventually("those that left are gone", || secure.house.stats().open == 51);
    drop((half, client));
    eventually("and the rest", || secure.house.stats().open == 0);
    secure.house.close();
}

/// What a client says first.
fn first_flight(secure: &Secure) -> Vec<u8> {
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let config = Arc::new(secure.authority.client());
    let mut hello = Vec::new();
    rustls::ClientConnection::new(config, name).expect("a session").write_tls(&mut hello).expect("in memory");
    hello
}

#[test]
fn plain_http_is_told_in_plain_that_this_port_speaks_tls() {
    let secure = Secure::new(Limits::default(), echo);
    let mut client = Client::connect(secure.house.addr);
    let answer = client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc").answer();
    assert_eq!((answer.status, client.is_closed()), (400, true));
    let mut garbage = Client::connect(secure.house.addr);
    garbage.send([0, 1, 2, 3, 4, 5, 6, 7]);
    while garbage.read_byte().is_some() {}
    eventually("both are counted", || secure.house.stats().bad_requests_total == 2);
    assert_eq!(secure.client().get("/"), "GET /");
    secure.house.close();
}

#[test]
fn both_versions_are_spoken_and_1_3_alone_if_that_is_the_least() {
    let secure = Secure::new(Limits::default(), echo);
    for (version, wanted) in
        [(&rustls::version::TLS12, ProtocolVersion::TLSv1_2), (&rustls::version::TLS13, ProtocolVersion::TLSv1_3)]
    {
        let mut client = Talk::new(secure.house.addr, &Arc::new(secure.authority.client_of(&[version], None)));
        assert_eq!(client.get("/"), "GET /");
        assert_eq!(client.stream.conn.protocol_version(), Some(wanted));
    }
    secure.house.close();
    let secure = Secure::of(Limits::default(), |tls, _| Tls { min_version: TlsVersion::Tls13, ..tls }, echo);
    let old = secure.authority.client_of(&[&rustls::version::TLS12], None);
    assert!(handshake(secure.house.addr, old).is_err());
    assert!(handshake(secure.house.addr, secure.authority.client()).is_ok());
    eventually("it is counted", || secure.house.stats().bad_requests_total == 1);
    secure.house.close();
}

#[test]
fn http_1_1_is_the_only_protocol_that_is_agreed_upon() {
    let secure = Secure::new(Limits::default(), echo);
    let offering = |protocols: &[&str]| {
        let mut config = secure.authority.client();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    };
    let mut client = Talk::new(secure.house.addr, &Arc::new(offering(&["h2", "http/1.1"])));
    assert_eq!(client.get("/"), "GET /");
    assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(handshake(secure.house.addr, offering(&[])).is_ok());
    let error = handshake(secure.house.addr, offering(&["h2"])).expect_err("it speaks no HTTP/2");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    secure.house.close();
}

#[test]
fn a_client_certificate_is_asked_for_if_an_authority_for_them_is_named() {
    let (clients, strangers) = (Authority::new("clients"), Authority::new("strangers"));
    let pem = clients.pem();
    let with_ca = |tls: Tls, files: &Files| Tls { client_ca_file: Some(files.write("clients.pem", &pem)), ..tls };
    let secure = Secure::of(Limits::default(), with_ca, echo);
    for versions in [[&rustls::version::TLS12], [&rustls::version::TLS13]] {
        let try_with = |own: Option<&Pair>| {
            handshake(secure.house.addr, secure.authority.client_of(&versions, own)).map_err(|error| error.to_string())
        };
        assert_eq!(try_with(Some(&clients.issue())), Ok(()));
        assert!(try_with(None).is_err());
        assert!(try_with(Some(&strangers.issue())).is_err());
        assert!(try_with(Some(&clients.issue_expired())).is_err());
    }
    eventually("each is counted", || secure.house.stats().bad_requests_total == 6);
    secure.house.close();
}

#[test]
fn a_session_is_resumed_on_the_next_connection() {
    let secure = Secure::new(Limits::default(), echo);
    for versions in [[&rustls::version::TLS12], [&rustls::version::TLS13]] {
        let config = Arc::new(secure.authority.client_of(&versions, None));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut client = Talk::new(secure.house.addr, &config);
            // The tickets come with or before the answer.
            assert_eq!(client.get("/"), "GET /");
            assert_eq!(client.stream.conn.handshake_kind(), Some(kind));
        }
    }
    secure.house.close();
}

#[test]
fn new_files_are_taken_and_bad_ones_change_nothing_while_requests_go_on() {
    let secure = Secure::new(Limits::default(), echo);
    let other = Authority::new("another root");
    let (old, new) = (Arc::new(secure.authority.client()), Arc::new(other.client()));
    let look_twice = || [secure.certificates.look(), secure.certificates.look()];
    let trusted = |config: &Arc<ClientConfig>| handshake(secure.house.addr, ClientConfig::clone(config)).is_ok();
    let (stop, files) = (AtomicBool::new(false), &secure.files);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut kept = Talk::new(secure.house.addr, &old);
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(kept.get("/kept"), "GET /kept", "an old connection goes on");
                    // A new one finds either the old certificate or the new one, and never none.
                    assert!(trusted(&old) || trusted(&new) || trusted(&old), "neither");
                }
            });
        }
        assert_eq!(look_twice(), [Look::Same, Look::Same]);
        for wrong in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", &other.issue().key] {
            files.write("key.pem", wrong);
            let [first, Look::Refused(why)] = look_twice() else { panic!("it was taken") };
            assert!(first == Look::Same && why.contains("server.tls.key_file"), "{why}");
            assert!(!why.contains("AAAA"), "{why}");
            assert!(trusted(&old) && look_twice() == [Look::Same, Look::Same], "it is told once");
        }
        std::fs::remove_file(files.path("cert.pem")).expect("it is there");
        assert!(matches!(look_twice(), [Look::Same, Look::Refused(why)] if why.contains("cert_file")));
        for round in 0..10 {
            let authority = if round % 2 == 0 { &other } else { &secure.authority };
            files.put(&authority.issue());
            assert_eq!(look_twice(), [Look::Same, Look::Taken]);
            assert_eq!((trusted(&old), trusted(&new)), (round % 2 == 1, round % 2 == 0));
        }
        stop.store(true, Ordering::Relaxed);
    });
    secure.house.close();
}

#[test]
fn the_end_is_said_before_it_comes_whatever_ends_the_connection() {
    let limits = Limits { idle_timeout: ms(100), ..Limits::default() };
    let secure = Secure::new(limits, echo);
    let mut asked = secure.client();
    asked.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").answer();
    assert_eq!(asked.end().expect("by the client's wish"), b"");
    let mut idle = secure.client();
    idle.get("/");
    assert_eq!(idle.end().expect("for idleness"), b"");
    let mut bad = secure.client();
    assert_eq!(bad.send("GET / nonsense\r\n\r\n").answer().0, 400);
    assert_eq!(bad.end().expect("after a refusal"), b"");
    let mut served = secure.client();
    served.get("/");
    secure.house.server.as_ref().expect("it runs").stop_accepting();
    assert_eq!(served.end().expect("at the server's end"), b"");
    secure.house.close();
}

#[test]
fn a_client_that_just_closes_its_side_is_answered_and_one_that_cuts_a_body_is_not() {
    let secure = Secure::new(Limits::default(), echo);
    let mut client = secure.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok");
    // A FIN, without TLS's word for it.
    client.stream.sock.shutdown(Shutdown::Write).expect("connected");
    assert_eq!(client.answer().1, "ok");
    let mut cut = secure.client();
    cut.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nok");
    cut.stream.sock.shutdown(Shutdown::Write).expect("connected");
    assert!(!cut.end().is_ok_and(|rest| !rest.is_empty()), "nothing is answered to half a request");
    eventually("both are gone", || secure.house.stats().open == 0);
    secure.house.close();
}

#[test]
fn a_client_that_leaves_is_noticed_and_one_that_does_not_read_is_cut() {
    let (tell, told) = bounded(4);
    let limits = Limits { write_timeout: ms(150), ..Limits::default() };
    let secure = Secure::new(limits, move |request, mut exchange| {
        if request.head.path() == "/large" {
            return exchange.respond(Response::new(200).body(vec![b'a'; 64 << 20], "text/plain"));
        }
        let token = CancelToken::new();
        exchange.watch(&token);
        let _ = token.channel().recv_timeout(FUSE);
        let _ = tell.try_send(token.reason());
        exchange.respond(Response::new(200))
    });
    let mut leaves = secure.client();
    leaves.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
    std::thread::park_timeout(ms(80));
    drop(leaves);
    assert_eq!(told.recv_timeout(FUSE).expect("it ends"), Some(CancelReason::ClientGone));
    let mut stalls = secure.client();
    stalls.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
    let (_, took) = timed(|| eventually("it is cut", || secure.house.stats().open == 0));
    assert!(took >= ms(100) && took < ms(2500), "{took:?}");
    assert!(stalls.end().is_err_and(|error| error.kind() != ErrorKind::WouldBlock), "a cut is no end");
    secure.house.close();
}
