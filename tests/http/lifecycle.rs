//! P1, P10, and how a server ends: one answer for each request, whatever becomes of the one who should give it.

use crossbeam_channel::bounded;
use sluicegate::http::{Finished, Limits, Response};
use sluicegate::time::Deadline;

use super::support::{Client, FUSE, House, echo, eventually, ms, timed};

#[test]
fn an_exchange_let_go_or_lost_in_a_panic_answers_500() {
    let house = House::new(Limits::default(), |request, exchange| match request.head.path() {
        "/panic" => panic!("on purpose"),
        "/drop" => {
            drop(exchange);
            Finished::moved()
        }
        _ => echo(request, exchange),
    });
    for path in ["/panic", "/drop"] {
        let mut client = house.client();
        let answer = client.get(path);
        assert_eq!((answer.status, answer.text(), client.is_closed()), (500, "internal", true), "{path}");
    }
    assert_eq!(house.client().get("/").status, 200, "the next one is served");
    house.close();
}

#[test]
fn a_panic_after_the_answer_costs_nothing() {
    let house = House::new(Limits::default(), |request, exchange| {
        let _finished = echo(request, exchange);
        panic!("on purpose");
    });
    let mut client = house.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
    house.close();
}

#[test]
fn stopping_closes_idle_connections_and_lets_running_requests_end() {
    let (release, released) = bounded::<()>(0);
    let (began, begun) = bounded(1);
    let house = House::new(Limits::default(), move |request, exchange| {
        if request.head.path() == "/wait" {
            let _ = began.try_send(());
            let _ = released.recv_timeout(FUSE);
        }
        echo(request, exchange)
    });
    let (mut idle, mut busy) = (house.client(), house.client());
    assert_eq!(idle.get("/").status, 200);
    busy.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
    begun.recv_timeout(FUSE).expect("it runs");
    house.server.as_ref().expect("it runs").stop_accepting();
    assert!(idle.is_closed());
    assert!(std::net::TcpStream::connect(house.addr).is_err(), "nobody listens any more");
    eventually("only the busy one is left", || house.stats().open == 1);
    drop(release);
    let answer = busy.answer();
    assert_eq!((answer.status, busy.is_closed()), (200, true));
    assert!(answer.head.contains("connection: close"));
    house.close();
}

#[test]
fn shutdown_cuts_what_does_not_end_and_names_what_is_held() {
    let (release, released) = bounded::<()>(0);
    let (began, begun) = bounded(1);
    let mut house = House::new(Limits::default(), move |request, exchange| {
        let _ = began.try_send(());
        let _ = released.recv_timeout(FUSE);
        echo(request, exchange)
    });
    let mut client = house.client();
    client.send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
    begun.recv_timeout(FUSE).expect("it runs");
    let server = house.server.take().expect("it runs");
    let (left, took) = timed(|| server.shutdown(Deadline::after(ms(50))));
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].contains("test connection") && left[0].contains("127.0.0.1"), "{left:?}");
    assert!(took < ms(1500), "{took:?}");
    assert!(client.is_closed());
    drop(release);
    eventually("every thread has ended", || house.threads.active() == 0);
}

#[test]
fn clients_that_connected_before_the_stop_are_answered_or_closed() {
    for _ in 0..10 {
        let house = House::new(Limits::default(), echo);
        let mut clients: Vec<_> = (0..20).map(|_| house.client()).collect();
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        house.server.as_ref().expect("it runs").stop_accepting();
        for client in &mut clients {
            let answer = client.read_answer(false).expect("an answer");
            assert_eq!((answer.status, client.is_closed()), (200, true));
        }
        house.close();
    }
}

#[test]
fn a_server_that_is_dropped_ends_by_itself() {
    let mut house = House::new(Limits::default(), echo);
    let mut client = house.client();
    assert_eq!(client.get("/").status, 200);
    house.server = None;
    assert!(client.is_closed());
    eventually("every thread has ended", || house.threads.active() == 0);
}

#[test]
fn two_servers_share_one_watcher() {
    let threads = sluicegate::sync::Threads::new(100, 256 << 10);
    let watcher = sluicegate::http::Watcher::start(&threads).expect("a watcher");
    let start = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let service = std::sync::Arc::new(super::support::closure(|_, exchange| exchange.respond(Response::new(204))));
        let watcher = std::sync::Arc::clone(&watcher);
        sluicegate::http::Server::start(listener, Limits::default(), threads.clone(), watcher, service, "twin")
            .expect("a server")
    };
    let (first, second) = (start(), start());
    let (mut one, mut other) = (Client::connect(first.local_addr()), Client::connect(second.local_addr()));
    assert_eq!((one.get("/").status, other.get("/").status), (204, 204));
    assert!(first.shutdown(Deadline::after(FUSE)).is_empty());
    assert!(one.is_closed());
    assert_eq!(other.get("/").status, 204, "the other's connections stay");
    assert!(second.shutdown(Deadline::after(FUSE)).is_empty());
}
