//! P2, P3, P11, P15: bounds in time, number and bytes, and what happens at each.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use sluicegate::http::{Limits, Response};

use super::support::{Answer, FUSE, House, echo, eventually, ms, timed};
use crate::house::SLACK;

#[test]
fn a_slow_head_is_answered_408_at_its_deadline_however_it_drips() {
    let house = House::new(Limits { header_timeout: ms(150), ..Limits::default() }, echo);
    let mut silent = house.client();
    silent.send("GET / HT");
    let (answer, took) = timed(|| silent.answer());
    assert_eq!((answer.status, silent.is_closed()), (408, true));
    assert!((ms(140)..ms(750)).contains(&took), "{took:?}");
    for pause in [1, 20] {
        let (answer, took) = timed(|| drip(&house, b"GET / HTTP/1.1\r\nHost: x\r\n", ms(pause)));
        assert_eq!(answer.status, 408);
        assert!((ms(140)..ms(750)).contains(&took), "{took:?}");
    }
    assert_eq!(house.stats().header_timeouts_total, 3);
    house.close();
}

/// Sends `start`, and then a header line that never ends, byte by byte, until there is an answer.
fn drip(house: &House, start: &[u8], pause: Duration) -> Answer {
    let mut client = house.client();
    client.send(start);
    while !has_bytes(&client.socket) {
        client.try_send(b"a");
        std::thread::park_timeout(pause);
    }
    client.answer()
}

fn has_bytes(socket: &std::net::TcpStream) -> bool {
    socket.set_nonblocking(true).expect("connected");
    let there = socket.peek(&mut [0]).is_ok();
    socket.set_nonblocking(false).expect("connected");
    there
}

#[test]
fn a_slow_head_holds_no_thread() {
    let house = House::new(Limits::default(), echo);
    let before = house.threads.active();
    let mut slow: Vec<_> = (0..50).map(|_| house.client()).collect();
    for client in &mut slow {
        client.send("GET / HTTP/1.1\r\n");
    }
    eventually("all are parked", || house.stats().idle == 50);
    let resting = house.threads.active();
    for client in &mut slow {
        client.send("Host: x\r\n\r\n");
        assert_eq!(client.answer().status, 200);
    }
    assert!(resting - before <= 50, "{before} to {resting} threads");
    house.close();
}

#[test]
fn a_slow_body_is_answered_408_at_its_deadline() {
    let house = House::new(Limits { body_timeout: ms(150), ..Limits::default() }, echo);
    for head in ["Content-Length: 5\r\n\r\nhel", "Transfer-Encoding: chunked\r\n\r\n5\r\nhel"] {
        let mut client = house.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: x\r\n{head}"));
        let (answer, took) = timed(|| client.answer());
        assert_eq!((answer.status, client.is_closed()), (408, true));
        assert!((ms(140)..ms(750)).contains(&took), "{took:?}");
    }
    let start = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
    let (answer, took) = timed(|| drip(&house, start, ms(1)));
    assert_eq!(answer.status, 408);
    assert!((ms(140)..ms(750)).contains(&took), "{took:?}");
    house.close();
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let house = House::new(Limits { idle_timeout: ms(100), ..Limits::default() }, echo);
    let mut silent = house.client();
    assert!(silent.is_closed());
    let mut client = house.client();
    assert_eq!(client.get("/").status, 200);
    let (closed, took) = timed(|| client.is_closed());
    assert!(closed && (ms(90)..ms(500)).contains(&took), "{took:?}");
    eventually("both are gone", || house.stats().open == 0);
    house.close();
}

#[test]
fn an_answer_to_an_unread_body_arrives() {
    let house = House::new(Limits { max_body_bytes: 1000, ..Limits::default() }, echo);
    for _ in 0..20 {
        let mut client = house.client();
        client.try_send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n");
        client.try_send(vec![b'a'; 4_000_000]);
        let answer = client.answer();
        assert_eq!((answer.status, answer.complete, client.is_closed()), (413, true, true));
    }
    eventually("they are gone", || house.stats().open == 0);
    house.close();
}

#[test]
fn when_slots_run_short_the_longest_idle_give_way_and_then_newcomers_are_refused() {
    let (release, released) = bounded::<()>(0);
    let house = House::new(Limits { max_connections: 3, ..Limits::default() }, move |request, exchange| {
        if request.head.path() == "/wait" {
            let _ = released.recv_timeout(FUSE);
        }
        echo(request, exchange)
    });
    let mut idle: Vec<_> = (0..3)
        .map(|i| {
            let mut client = house.client();
            assert_eq!(client.get("/").status, 200);
            eventually("it is parked", || house.stats().idle == i + 1);
            client
        })
        .collect();
    let mut fourth = house.client();
    assert_eq!(fourth.get("/").status, 200);
    assert!(idle.remove(0).is_closed(), "the longest idle gave way");
    assert_eq!(idle[0].get("/").status, 200, "the others did not");
    // Now all three are busy.
    idle.push(fourth);
    for client in &mut idle {
        client.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    eventually("all are busy", || house.stats().idle == 0);
    let mut refused = house.client();
    let answer = refused.get("/");
    assert_eq!((answer.status, answer.text(), refused.is_closed()), (503, "overloaded", true));
    assert_eq!(house.stats().refused_total, 1);
    drop(release);
    for client in &mut idle {
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(house.stats().open, 3);
    house.close();
}

#[test]
fn without_a_thread_a_connection_is_answered_503_and_the_server_recovers() {
    let (release, released) = bounded::<()>(0);
    // The watcher, the acceptor, and two for connections.
    let house = House::with_threads(Limits::default(), 4, move |request, exchange| {
        if request.head.path() == "/wait" {
            let _ = released.recv_timeout(FUSE);
        }
        echo(request, exchange)
    });
    let mut parked = house.client();
    assert_eq!(parked.get("/").status, 200);
    eventually("it is parked", || house.stats().idle == 1);
    let mut busy: Vec<_> = (0..2).map(|_| house.client()).collect();
    for client in &mut busy {
        client.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    eventually("both threads are busy", || house.threads.active() == 4 && house.stats().idle == 1);
    let mut fresh = house.client();
    let answer = fresh.get("/");
    assert_eq!((answer.status, answer.text(), fresh.is_closed()), (503, "overloaded", true));
    let answer = parked.get("/");
    assert_eq!((answer.status, answer.text(), parked.is_closed()), (503, "overloaded", true), "on resuming as well");
    assert_eq!(house.stats().refused_total, 2);
    drop(release);
    for client in &mut busy {
        assert_eq!(client.answer().status, 200);
    }
    drop(busy);
    eventually("a thread is free", || house.client().get("/").status == 200);
    house.close();
}

#[test]
fn three_hundred_connections_at_once_are_all_answered() {
    let house = House::new(Limits::default(), echo);
    let mut clients: Vec<_> = (0..300).map(|_| house.client()).collect();
    for round in 0..3 {
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        for client in &mut clients {
            assert_eq!(client.answer().status, 200, "round {round}");
        }
    }
    assert_eq!(house.stats().accepted_total, 300);
    eventually("all are parked", || house.stats().idle == 300);
    drop(clients);
    eventually("all are gone", || house.stats().open == 0 && house.stats().idle == 0);
    house.close();
}

#[test]
fn threads_retire_and_parked_connections_hold_none() {
    let limits = Limits { thread_idle_timeout: ms(50), ..Limits::default() };
    let house = House::new(limits, echo);
    let mut clients: Vec<_> = (0..40).map(|_| house.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    eventually("only watcher and acceptor run", || house.threads.active() == 2);
    assert_eq!(house.stats().idle, 40);
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    house.close();
}

#[test]
fn a_client_that_does_not_read_its_answer_is_cut() {
    let (tell, told) = bounded(1);
    let limits = Limits { write_timeout: ms(400), ..Limits::default() };
    let big: Arc<[u8]> = vec![b'a'; 32 << 20].into();
    let house = House::new(limits, move |_, exchange| {
        let (finished, took) = timed(|| exchange.respond(Response::new(200).body(big.to_vec(), "text/plain")));
        let _ = tell.try_send(took);
        finished
    });
    let mut client = house.client();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let took: Duration = told.recv_timeout(FUSE).expect("the write ends");
    assert!((ms(390)..ms(400) * SLACK).contains(&took), "{took:?}");
    eventually("it is gone", || house.stats().open == 0);
    assert!(!client.answer().complete);
    house.close();
}
