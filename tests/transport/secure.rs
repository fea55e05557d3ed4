//! TLS against a chain of root, intermediate and leaf made here.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};
use sluicegate::sync::CancelReason;
use sluicegate::transport::{Transport as _, TransportErrorKind as Kind, UreqTransport};

use super::peer::{Caller, Peer, peer};
use super::{Call, FUSE, Settings, ask, fuse, settings, to_name};

struct Authority {
    root_pem: String,
    server: Arc<ServerConfig>,
}

fn authority(leaf_name: &str) -> Authority {
    let ca = |name: &str| {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params
    };
    let key = || KeyPair::generate().expect("a key");
    let root = CertifiedIssuer::self_signed(ca("root"), key()).expect("a root");
    let middle = CertifiedIssuer::signed_by(ca("intermediate"), key(), &root).expect("an intermediate");
    let leaf_key = key();
    let leaf = CertificateParams::new([leaf_name.to_owned()]).expect("a name").signed_by(&leaf_key, &middle);
    let chain = vec![leaf.expect("a leaf").der().clone(), middle.der().clone()];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    let mut server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a chain and its key");
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Authority { root_pem: root.pem(), server: Arc::new(server) }
}

type TlsStream = StreamOwned<ServerConnection, std::net::TcpStream>;

/// A TLS peer whose connections run `script`, which gets the connection's number.
fn tls_peer(server: Arc<ServerConfig>, script: impl Fn(usize, &mut TlsStream) + Send + Sync + 'static) -> Peer {
    peer(move |number, Caller { stream }| {
        let session = ServerConnection::new(Arc::clone(&server)).expect("a session");
        script(number, &mut StreamOwned::new(session, stream));
    })
}

fn request(stream: &mut TlsStream) -> Option<usize> {
    let (mut seen, mut piece) = (Vec::new(), [0; 16 * 1024]);
    loop {
        if let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&seen[..end]).into_owned();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            let length: usize = length.parse().expect("a number");
            if seen.len() >= end + 4 + length {
                return Some(length);
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(n) => seen.extend_from_slice(&piece[..n]),
        }
    }
}

fn answer_all(stream: &mut TlsStream) {
    while let Some(length) = request(stream) {
        let kind = stream.conn.handshake_kind().expect("hands are shaken");
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        let body = format!("{} {length}", if kind == HandshakeKind::Resumed { "resumed" } else { "full" });
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let _ = stream.write_all(head.as_bytes());
    }
}

fn trusting(pem: Option<&str>, port: u16) -> UreqTransport {
    let url = format!("https://provider.example:{port}/v1");
    let settings = Settings { ca_cert_pem: pem.map(str::to_owned), allow_private: true, ..settings(url) };
    to_name(settings, &["127.0.0.1"])
}

#[test]
fn a_chain_to_the_given_root_is_trusted_and_its_connection_reused_and_session_resumed() {
    let authority = authority("provider.example");
    let peer = tls_peer(authority.server, |_, stream| answer_all(stream));
    let transport = trusting(Some(&authority.root_pem), peer.address.port());
    assert_eq!([ask(&transport), ask(&transport)], ["full 2", "full 2"]);
    assert_eq!((transport.connections().opened_total, transport.connections().reused_total), (1, 1));
    transport.retire();
    assert_eq!(ask(&transport), "resumed 2", "the session, not the connection, goes on");
    let large = Call { body: vec![b' '; 3 << 20].into(), ..Call::new() };
    assert_eq!(large.text(&transport).expect("it is answered"), format!("resumed {}", 3 << 20));
}

#[test]
fn another_name_and_an_unknown_root_are_not_trusted() {
    let (good, other) = (authority("provider.example"), authority("other.example"));
    let impostor = tls_peer(other.server, |_, stream| answer_all(stream));
    let named_wrong = trusting(Some(&other.root_pem), impostor.address.port());
    assert_eq!(Call::new().failure(&named_wrong), Kind::Tls);
    let peer = tls_peer(good.server, |_, stream| answer_all(stream));
    for pem in [None, Some(&*other.root_pem)] {
        let transport = trusting(pem, peer.address.port());
        let error = Call::new().send(&transport).expect_err("not trusted");
        assert_eq!(error.kind, Kind::Tls, "{error}");
        assert!(error.to_string().contains("provider.example"), "{error}");
        assert_eq!(transport.connections().open, 0);
    }
}

#[test]
fn a_peer_that_speaks_no_tls_is_a_tls_error() {
    let peer = peer(|_, mut caller| {
        caller.say("HTTP/1.1 400 Bad Request\r\n\r\n");
        caller.is_left();
    });
    assert_eq!(Call::new().failure(&trusting(None, peer.address.port())), Kind::Tls);
}

#[test]
fn an_end_without_close_notify_is_a_cut_and_with_it_an_end() {
    let authority = authority("provider.example");
    let peer = tls_peer(authority.server, |number, stream| {
        request(stream).expect("a request");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhello");
        if number == 1 {
            stream.conn.send_close_notify();
        }
        let _ = stream.flush();
    });
    let transport = trusting(Some(&authority.root_pem), peer.address.port());
    assert_eq!(Call::new().failure(&transport), Kind::Cut);
    assert_eq!(ask(&transport), "hello");
}

#[test]
fn a_refusal_given_before_the_body_is_read_is_the_answer_over_tls_too() {
    let authority = authority("provider.example");
    let peer = tls_peer(authority.server, |_, stream| {
        let _ = stream.read(&mut [0; 512]);
        let _ = stream.write_all(b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\nno");
        let _ = stream.flush();
        std::thread::park_timeout(FUSE);
    });
    let call = Call { body: vec![b' '; 32 << 20].into(), ..Call::new() };
    let transport = trusting(Some(&authority.root_pem), peer.address.port());
    let mut answer = call.send(&transport).expect("the refusal is read");
    let mut body = Vec::new();
    answer.body.read_to_end(100, fuse(), &mut body).expect("whole");
    assert_eq!((answer.status, body.as_slice()), (401, &b"no"[..]));
}

#[test]
fn a_cancel_ends_a_stream_over_tls_and_not_the_next() {
    let authority = authority("provider.example");
    let (tell, ready) = crossbeam_channel::bounded(1);
    let peer = tls_peer(authority.server, move |number, stream| {
        if number > 0 {
            return answer_all(stream);
        }
        request(stream).expect("a request");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n");
        tell.send(()).expect("the test listens");
        while stream.read(&mut [0; 64]).is_ok_and(|n| n > 0) {}
    });
    let (transport, call) = (trusting(Some(&authority.root_pem), peer.address.port()), Call::new());
    std::thread::scope(|scope| {
        let running = scope.spawn(|| call.failure(&transport));
        ready.recv_timeout(FUSE).expect("the stage is reached");
        call.cancel.cancel();
        assert_eq!(running.join().expect("no panic"), Kind::Cancelled(CancelReason::Caller));
    });
    // Resumed or not: the session's tickets may have been on their way when the cancel came.
    assert!(ask(&transport).ends_with(" 2"));
}
