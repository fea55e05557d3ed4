//! What is sent, and how each framing of an answer is read.

use sluicegate::transport::{Control, Outgoing, Resolver, Transport as _, TransportErrorKind as Kind, UreqTransport};

use super::peer::peer;
use super::{Call, FUSE, ask, build, fuse, ms, settings, threads, to, to_name, whole};

#[test]
fn a_request_leaves_in_one_piece_with_only_the_headers_it_was_given() {
    let peer = peer(|_, mut caller| {
        let request = caller.request().expect("a request");
        caller.answer(&format!("{}|{}|{}", request.reads, request.head, request.body.len()));
    });
    let call = Call { body: vec![b' '; 9000].into(), ..Call::new() };
    let seen = call.text(&build(settings(format!("http://{}/base/", peer.address)))).expect("it is answered");
    let (reads, head) = seen.split_once('|').expect("as scripted");
    assert_eq!(reads, "1", "head and body came together");
    let mut lines: Vec<_> = head.trim_end_matches("|9000").lines().collect();
    assert_eq!(lines.remove(0), "POST /base/v1/chat/completions HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: {}", peer.address);
    assert_eq!(
        lines,
        ["authorization: Bearer sk-canary", "content-length: 9000", "content-type: application/json", &host]
    );
}

#[test]
fn a_request_without_a_body_says_nothing_of_one() {
    let peer = peer(|_, mut caller| {
        let head = caller.request().expect("a request").head;
        caller.answer(&head);
    });
    let cancel = sluicegate::sync::CancelToken::new();
    let control = Control { request_id: None, cancel: &cancel, deadline: fuse(), connect_timeout: FUSE };
    let request = Outgoing { method: "GET", path: "/v1/models?limit=2", headers: &[], body: b"" };
    let head = whole(to(peer.address).send(&request, &control).expect("it is answered")).expect("whole");
    assert_eq!(head, format!("GET /v1/models?limit=2 HTTP/1.1\r\nhost: {}", peer.address));
}

#[test]
fn every_framing_is_read_to_its_end() {
    let answers = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: x\r\n\r\n",
            "hello",
        ),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", "hello"),
        ("HTTP/1.0 200 OK\r\n\r\nhello", "hello"),
        ("HTTP/1.1 204 No Content\r\n\r\n", ""),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
        ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello"),
    ];
    let peer = peer(move |number, mut caller| {
        caller.request().expect("a request");
        for byte in answers[number].0.chars() {
            caller.say(&byte.to_string());
        }
    });
    let transport = to(peer.address);
    for (sent, expected) in answers {
        assert_eq!(ask(&transport), expected, "{sent}");
        transport.retire();
    }
    assert_eq!(transport.connections().open, 0);
}

#[test]
fn errors_and_redirects_are_answers_and_nobody_is_followed() {
    let other = peer(|_, _| ());
    let elsewhere = other.address;
    let peer = peer(move |_, mut caller| {
        for status in [302, 307, 401, 429, 500] {
            caller.request().expect("a request");
            caller.say(&format!("HTTP/1.1 {status} X\r\nLocation: http://{elsewhere}/\r\nContent-Length: 2\r\n\r\nno"));
        }
    });
    let transport = to(peer.address);
    for status in [302, 307, 401, 429, 500] {
        let answer = Call::new().send(&transport).expect("it is answered");
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("location"), Some(&*format!("http://{elsewhere}/")));
        assert_eq!(whole(answer).expect("whole"), "no");
    }
    assert!(other.accepted.is_empty());
    assert_eq!(transport.connections().opened_total, 1, "an error's body read to its end leaves a good connection");
}

#[test]
fn an_answer_cut_short_is_an_error() {
    let answers = [
        "Content-Length: 6\r\n\r\nhello",
        "Content-Length: 6\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n6\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3\r",
        "Transfer-Encoding: chunked\r\n\r\n",
        "Content-Le",
    ];
    let peer = peer(move |number, mut caller| {
        caller.request().expect("a request");
        caller.say(&format!("HTTP/1.1 200 OK\r\n{}", answers[number]));
    });
    let transport = to(peer.address);
    for answer in answers {
        assert_eq!(Call::new().failure(&transport), Kind::Cut, "{answer}");
        assert_eq!(transport.connections().open, 0);
    }
}

#[test]
fn a_body_until_close_ends_cleanly_by_fin_and_not_by_reset() {
    let peer = peer(|number, mut caller| {
        caller.request().expect("a request");
        caller.say("HTTP/1.1 200 OK\r\n\r\nhello");
        if number == 1 {
            // Closing resets the connection then.
            socket2::SockRef::from(&caller.stream).set_linger(Some(ms(0))).expect("a live socket");
        }
    });
    let transport = to(peer.address);
    assert_eq!(ask(&transport), "hello");
    assert_eq!(Call::new().failure(&transport), Kind::Cut);
}

#[test]
fn an_answer_that_is_no_http_is_a_protocol_error() {
    let peer = peer(|number, mut caller| {
        caller.request().expect("a request");
        caller.say(if number == 0 {
            "SSH-2.0-x\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
        });
        caller.is_left();
    });
    for _ in 0..2 {
        assert_eq!(Call::new().failure(&to(peer.address)), Kind::Protocol);
    }
}

#[test]
fn a_head_is_bounded_and_a_large_one_within_is_read() {
    let peer = peer(|number, mut caller| {
        caller.request().expect("a request");
        let long = "x".repeat(if number == 0 { 60_000 } else { 70_000 });
        caller.say(&format!("HTTP/1.1 200 OK\r\nX: {long}\r\nContent-Length: 2\r\n\r\nok"));
        caller.is_left();
    });
    assert_eq!(ask(&to(peer.address)), "ok");
    assert_eq!(Call::new().failure(&to(peer.address)), Kind::TooLarge);
}

#[test]
fn a_large_body_goes_both_ways_whole() {
    let peer = peer(|_, mut caller| {
        let body = caller.request().expect("a request").body;
        caller.answer(std::str::from_utf8(&body).expect("text"));
    });
    let text: String = (0..400_000).map(|n| format!("{n} ")).collect();
    let call = Call { body: text.as_bytes().into(), ..Call::new() };
    assert!(call.text(&to(peer.address)).expect("it is answered") == text);
}

#[test]
fn a_refusal_given_before_the_body_is_read_is_the_answer() {
    const REFUSAL: &str = "HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\n\r\ntoo large";
    for closes in [false, true] {
        let peer = peer(move |_, mut caller| {
            caller.head_only();
            caller.say(REFUSAL);
            // Closing with a body unread resets the connection; keeping it blocks whoever sends.
            if !closes {
                assert!(caller.request().is_none());
            }
        });
        let call = Call { body: vec![b' '; 32 << 20].into(), ..Call::new() };
        let transport = to(peer.address);
        let answer = call.send(&transport).expect("the refusal is read");
        assert_eq!((answer.status, whole(answer).expect("whole").as_str()), (413, "too large"), "closes: {closes}");
        assert_eq!(transport.connections().open, 0, "a request not sent whole leaves no good connection");
    }
}

#[test]
fn a_peer_that_takes_nothing_and_says_nothing_is_a_send_error() {
    let peer = peer(|_, mut caller| caller.head_only());
    let call = Call { body: vec![b' '; 32 << 20].into(), ..Call::new() };
    assert_eq!(call.failure(&to(peer.address)), Kind::Send);
    assert_eq!(peer.accepted.len(), 1, "it is not tried again on a fresh connection");
}

#[test]
fn each_address_is_tried_in_turn() {
    let peer = peer(|_, mut caller| caller.answer_all(7));
    let url = format!("http://provider.example:{}", peer.address.port());
    let transport = to_name(super::Settings { allow_private: true, ..settings(url) }, &["127.0.0.2", "127.0.0.1"]);
    assert_eq!(ask(&transport), "7");
}

#[test]
fn a_public_name_that_leads_to_a_private_address_is_refused_unless_allowed() {
    let peer = peer(|_, mut caller| caller.answer_all(7));
    let url = format!("http://provider.example:{}", peer.address.port());
    let refusing = to_name(settings(url.clone()), &["127.0.0.1", "::1", "169.254.169.254"]);
    assert_eq!(Call::new().failure(&refusing), Kind::Refused);
    let allowing = to_name(super::Settings { allow_private: true, ..settings(url) }, &["127.0.0.1"]);
    assert_eq!(ask(&allowing), "7");
    let itself = build(settings(format!("http://localhost:{}", peer.address.port())));
    assert_eq!(ask(&itself), "7", "a base URL that names the machine is consent");
}

#[test]
fn a_name_without_address_and_a_closed_port_say_so() {
    let resolver = Resolver::with_lookup(&threads(), |_| Ok(Vec::new()));
    let nowhere = UreqTransport::new(settings("http://provider.example"), resolver).expect("good settings");
    assert_eq!(Call::new().failure(&nowhere), Kind::Resolve);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    let error = Call::new().send(&to(closed)).expect_err("nobody listens");
    assert_eq!(error.kind, Kind::Connect);
    assert!(error.to_string().contains(&closed.to_string()), "{error}");
}

#[test]
fn a_header_that_cannot_be_sent_is_named_without_its_value() {
    let transport = build(settings("http://127.0.0.1:9"));
    let cancel = sluicegate::sync::CancelToken::new();
    let control = Control { request_id: None, cancel: &cancel, deadline: fuse(), connect_timeout: ms(100) };
    for (name, value) in [
        ("authorization", "sk-canary\r\nx: y"),
        ("authorization", "sk-canary\0"),
        ("authorization", "sk-canary\u{e9}"),
        ("author ization", "sk-canary"),
        ("", "sk-canary"),
        ("Host", "sk-canary"),
        ("content-length", "0"),
        ("Transfer-Encoding", "chunked"),
    ] {
        let request = Outgoing { method: "GET", path: "/", headers: &[(name, value)], body: b"" };
        let error = transport.send(&request, &control).expect_err("it cannot be sent");
        assert_eq!(error.kind, Kind::Protocol);
        assert!(error.to_string().contains(name) && !format!("{error:?}").contains("canary"), "{error:?}");
    }
}

#[test]
fn a_base_url_that_cannot_be_meant_is_refused() {
    for url in [
        "",
        "provider.example",
        "ftp://x",
        "http://",
        "http://:80",
        "https://u:p@x",
        "http://x/?q=1",
        "http://x:",
        "unix:/x",
    ] {
        let built = UreqTransport::new(settings(url), Resolver::start(&threads()));
        assert!(built.is_err(), "{url:?}");
    }
    for pem in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let settings = super::Settings { ca_cert_pem: Some(pem.to_owned()), ..settings("https://provider.example") };
        assert!(UreqTransport::new(settings, Resolver::start(&threads())).is_err(), "{pem:?}");
    }
}
