//! I9: a client that leaves is noticed, and nobody else is.

use std::time::Instant;

use crossbeam_channel::{Receiver, bounded};
use sluicegate::http::{Finished, Limits, Response};
use sluicegate::sync::{CancelReason, CancelToken, Role, Threads};
use sluicegate::time::now;

use super::support::{FUSE, House, echo, ms};

/// Why a request was cancelled, if it was, and when it ended.
type Ended = (Option<CancelReason>, Instant);

/// A house in which `/wait` waits for its cancel and tells of it, or for the number in its path, in milliseconds.
fn waiting() -> (House, Receiver<Ended>, Receiver<()>) {
    let (tell, told) = bounded(100);
    let (began, begun) = bounded(100);
    let house = House::new(Limits::default(), move |request, mut exchange| {
        let token = CancelToken::new();
        exchange.watch(&token);
        let Some(wait) = request.head.path().strip_prefix("/wait/") else { return echo(request, exchange) };
        let _ = began.try_send(());
        let _ = token.channel().recv_timeout(ms(wait.parse().expect("milliseconds")));
        let _ = tell.try_send((token.reason(), now()));
        exchange.respond(Response::new(200).body("waited", "text/plain"))
    });
    (house, told, begun)
}

const LONG: &str = "GET /wait/5000 HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_client_that_leaves_cancels_its_request_in_time() {
    let (house, told, begun) = waiting();
    for stay in [0, 30, 60, 120] {
        let mut client = house.client();
        let arrived = now();
        client.send(LONG);
        begun.recv_timeout(FUSE).expect("it runs");
        assert!(told.recv_timeout(ms(stay)).is_err(), "it is not cancelled while its client waits");
        let left = now();
        drop(client);
        let (reason, at) = told.recv_timeout(FUSE).expect("it ends");
        assert_eq!(reason, Some(CancelReason::ClientGone));
        let limit = (left + ms(100)).max(arrived + ms(150));
        assert!(at <= limit + ms(400), "{:?} late", at - limit);
    }
    house.close();
}

#[test]
fn closing_one_side_counts_as_leaving_and_sending_more_does_not() {
    let (house, told, begun) = waiting();
    let mut client = house.client();
    client.send(LONG).send("GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    begun.recv_timeout(FUSE).expect("it runs");
    assert!(told.recv_timeout(ms(150)).is_err(), "pipelined bytes are no leaving");
    client.finish_sending();
    assert_eq!(told.recv_timeout(FUSE).expect("it ends").0, Some(CancelReason::ClientGone));
    assert_eq!((client.answer().text(), client.answer().text()), ("waited", "GET /next"));
    house.close();
}

#[test]
fn a_late_leaving_never_hits_another_request() {
    let (house, told, _begun) = waiting();
    // Each round has one client whose request is registered and answered, and which then leaves, beside one that stays:
    // its descriptor is the next to be used again.
    for _ in 0..10 {
        let mut leaves = house.client();
        assert_eq!(leaves.send("GET /wait/90 HTTP/1.1\r\nHost: x\r\n\r\n").answer().text(), "waited");
        drop(leaves);
        let mut stays = house.client();
        assert_eq!(stays.send("GET /wait/90 HTTP/1.1\r\nHost: x\r\n\r\n").answer().text(), "waited");
        for _ in 0..2 {
            assert_eq!(told.recv_timeout(FUSE).expect("it ends").0, None);
        }
    }
    house.close();
}

#[test]
fn a_connection_that_was_watched_is_served_and_watched_again() {
    let (house, told, begun) = waiting();
    let mut client = house.client();
    for pause in [0, 20, 0, 20] {
        assert_eq!(client.send("GET /wait/80 HTTP/1.1\r\nHost: x\r\n\r\n").answer().text(), "waited");
        assert_eq!(told.recv_timeout(FUSE).expect("it ends").0, None);
        begun.recv_timeout(FUSE).expect("it ran");
        // With a pause it is parked in between.
        std::thread::park_timeout(ms(pause));
        assert_eq!(client.get("/short").text(), "GET /short");
    }
    client.send(LONG);
    begun.recv_timeout(FUSE).expect("it runs");
    drop(client);
    assert_eq!(told.recv_timeout(FUSE).expect("it ends").0, Some(CancelReason::ClientGone));
    house.close();
}

#[test]
fn a_client_that_leaves_in_mid_stream_cancels_it() {
    let (tell, told) = bounded(1);
    let others = Threads::new(10, 256 << 10);
    let house = House::new(Limits::default(), move |_, mut exchange| {
        let token = CancelToken::new();
        exchange.watch(&token);
        exchange.watch_now();
        let (mut writer, tell) = (exchange.stream(Response::new(200)), tell.clone());
        let stream = move || {
            writer.send(b"data: 1\n\n").expect("it is read");
            let _ = token.channel().recv_timeout(FUSE);
            let _ = tell.try_send((token.reason(), now()));
        };
        others.spawn(Role::Worker, "worker", stream).expect("room");
        Finished::moved()
    });
    let mut client = house.client();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").read_byte();
    let left = now();
    drop(client);
    let (reason, at) = told.recv_timeout(FUSE).expect("it ends");
    assert_eq!(reason, Some(CancelReason::ClientGone));
    assert!(at - left < ms(500), "{:?}", at - left);
    house.close();
}

#[test]
fn many_clients_that_leave_at_once_are_all_noticed() {
    let (house, told, begun) = waiting();
    let clients: Vec<_> = (0..60)
        .map(|_| {
            let mut client = house.client();
            client.send(LONG);
            client
        })
        .collect();
    for _ in &clients {
        begun.recv_timeout(FUSE).expect("it runs");
    }
    let count = clients.len();
    let left = now();
    drop(clients);
    let mut last = left;
    for _ in 0..count {
        let (reason, at) = told.recv_timeout(FUSE).expect("it ends");
        assert_eq!(reason, Some(CancelReason::ClientGone));
        last = last.max(at);
    }
    assert!(last - left < ms(750), "{:?}", last - left);
    house.close();
}
