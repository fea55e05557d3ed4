//! Each stage ends at its own time limit.

use std::net::{SocketAddr, TcpListener, TcpStream};

use sluicegate::time::{Deadline, now};
use sluicegate::transport::{Resolver, Transport as _, TransportErrorKind as Kind, UreqTransport};
use socket2::{Domain, Socket, Type};

use super::peer::peer;
use super::{Call, FUSE, ms, settings, threads, to};

/// A listener whose backlog is full, so that connecting to it takes until somebody accepts.
pub(crate) fn full_listener() -> (TcpListener, Vec<Socket>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    socket.listen(0).expect("it listens");
    let listener: TcpListener = socket.into();
    let address = listener.local_addr().expect("bound").into();
    let mut filling = Vec::new();
    loop {
        let next = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let full = next.connect_timeout(&address, ms(100)).is_err();
        filling.push(next);
        if full {
            return (listener, filling);
        }
        assert!(filling.len() < 16, "the backlog does not fill");
    }
}

fn within(limit: u64, call: &Call, transport: &UreqTransport, expected: Kind) {
    let start = now();
    assert_eq!(call.failure(transport), expected);
    let took = start.elapsed();
    assert!(took >= ms(limit) && took < ms(limit * 5 + 250), "{took:?} for {limit} ms");
    assert_eq!(transport.connections().open, 0);
}

#[test]
fn connecting_ends_at_its_limit_or_at_the_requests() {
    let (listener, _filling) = full_listener();
    let transport = to(listener.local_addr().expect("bound"));
    within(60, &Call { connect: ms(60), ..Call::new() }, &transport, Kind::ConnectTimeout);
    within(60, &Call { head: ms(60), ..Call::new() }, &transport, Kind::Timeout);
}

#[test]
fn looking_a_name_up_ends_at_the_connects_limit() {
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let resolver = Resolver::with_lookup(&threads(), move |_| {
        let _ = held.recv_timeout(FUSE);
        Ok(Vec::new())
    });
    let transport = UreqTransport::new(settings("http://provider.example"), resolver).expect("good settings");
    within(40, &Call { connect: ms(40), ..Call::new() }, &transport, Kind::ConnectTimeout);
    drop(hold);
}

#[test]
fn shaking_hands_ends_at_the_connects_limit() {
    let peer = peer(|_, mut caller| assert!(caller.is_left()));
    let transport = super::build(settings(format!("https://{}", peer.address)));
    within(60, &Call { connect: ms(60), ..Call::new() }, &transport, Kind::ConnectTimeout);
    within(60, &Call { head: ms(60), ..Call::new() }, &transport, Kind::Timeout);
}

#[test]
fn a_request_not_taken_ends_at_its_deadline() {
    let peer = peer(|_, mut caller| {
        caller.head_only();
        std::thread::park_timeout(FUSE);
    });
    let call = Call { head: ms(150), body: vec![b' '; 32 << 20].into(), ..Call::new() };
    within(150, &call, &to(peer.address), Kind::Timeout);
}

#[test]
fn a_head_that_does_not_come_or_not_end_ends_at_its_deadline() {
    let peer = peer(|number, mut caller| {
        caller.request().expect("a request");
        if number == 1 {
            caller.say("HTTP/1.1 200 OK\r\n");
        }
        assert!(caller.is_left());
    });
    let transport = to(peer.address);
    for _ in 0..2 {
        within(60, &Call { head: ms(60), ..Call::new() }, &transport, Kind::Timeout);
    }
}

#[test]
fn each_read_of_a_body_has_its_own_deadline_after_which_it_goes_on() {
    let (go, gone) = crossbeam_channel::bounded::<()>(0);
    let peer = peer(move |_, mut caller| {
        caller.request().expect("a request");
        caller.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r");
        let _ = gone.recv_timeout(FUSE);
        caller.say("\nllo\r\n0\r\n\r\n");
        assert!(caller.is_left());
    });
    let transport = to(peer.address);
    let mut body = Call { head: ms(2000), ..Call::new() }.send(&transport).expect("it is answered").body;
    let mut text = [0; 8];
    assert_eq!(body.read(&mut text, Deadline::after(ms(60))).expect("the first piece"), 2);
    for _ in 0..2 {
        let start = now();
        let error = body.read(&mut text[2..], Deadline::after(ms(60))).expect_err("nothing comes");
        assert_eq!(error.kind, Kind::Timeout);
        assert!(start.elapsed() >= ms(60) && start.elapsed() < ms(550), "{:?}", start.elapsed());
    }
    drop(go);
    assert_eq!(body.read(&mut text[2..], Deadline::after(FUSE)).expect("the second piece"), 3);
    assert_eq!(body.read(&mut [0; 8], Deadline::after(FUSE)).expect("the end"), 0);
    assert_eq!((&text[..5], transport.connections().idle), (&b"hello"[..], 1));
}

#[test]
fn a_body_dropped_after_a_time_out_closes_its_connection() {
    let peer = peer(|_, mut caller| {
        caller.request().expect("a request");
        caller.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
        assert!(caller.is_left());
    });
    let transport = to(peer.address);
    let mut body = Call::new().send(&transport).expect("it is answered").body;
    assert_eq!(body.read(&mut [0; 8], Deadline::after(ms(20))).expect_err("nothing comes").kind, Kind::Timeout);
    drop(body);
    assert_eq!(transport.connections().open, 0);
}

#[test]
fn a_request_whose_time_is_over_is_not_sent() {
    let peer = peer(|_, mut caller| caller.answer_all(0));
    let transport = to(peer.address);
    assert_eq!(Call { head: ms(0), ..Call::new() }.failure(&transport), Kind::Timeout);
    assert_eq!(transport.connections().opened_total, 0);
}

#[test]
fn an_address_that_does_not_answer_leaves_time_for_the_next() {
    let (listener, _filling) = full_listener();
    let port = listener.local_addr().expect("bound").port();
    // The second loopback address with the same port is free for a peer that answers.
    let second = TcpListener::bind(("127.0.0.2", port)).expect("a free port");
    let _peer = super::peer::listening(second, |_, mut caller| caller.answer_all(2));
    let private = super::Settings { allow_private: true, ..settings(format!("http://provider.example:{port}")) };
    let transport = super::to_name(private, &["127.0.0.1", "127.0.0.2"]);
    let call = Call { connect: ms(400), ..Call::new() };
    assert_eq!(call.text(&transport).expect("the second answers"), "2");
    drop(TcpStream::connect(("127.0.0.2", port)));
}
