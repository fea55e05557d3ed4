//! Framing where it needs a service of its own, or more than bytes and a status: those are the table's, in `cases`.

use sluicegate::http::Limits;

use super::support::{Client, House, echo};

/// Sends `bytes` on a connection of its own; the status, and whether the connection was closed after the answer.
fn outcome(house: &House, bytes: &[u8]) -> (Option<u16>, bool) {
    let mut client = house.client();
    client.try_send(bytes);
    let Some(answer) = client.read_answer(bytes.starts_with(b"HEAD ")) else { return (None, true) };
    assert!(answer.complete, "{answer:?}");
    if answer.head.contains("connection: close") {
        return (Some(answer.status), client.is_closed());
    }
    assert_eq!(client.get("/still-open").text(), "GET /still-open");
    (Some(answer.status), false)
}

#[test]
fn what_the_service_refuses_with_a_body_on_its_way_closes_and_is_no_bad_request() {
    let house = House::new(Limits::default(), echo);
    for (status, closed, bytes) in [
        (403, true, &b"POST /forbidden HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"[..]),
        (403, false, b"GET /forbidden HTTP/1.1\r\nHost: x\r\n\r\n"),
        (500, true, b"GET /admit-panics HTTP/1.1\r\nHost: x\r\n\r\n"),
    ] {
        assert_eq!(outcome(&house, bytes), (Some(status), closed), "{:?}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(house.stats().bad_requests_total, 0);
    let small = b"POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello world";
    assert_eq!(outcome(&house, small), (Some(413), true));
    assert_eq!(house.stats().bad_requests_total, 1, "its length was the server's to refuse");
    house.close();
}

#[test]
fn a_head_may_be_as_long_as_its_limit_and_no_longer() {
    let house = House::new(Limits { max_header_bytes: 8192, ..Limits::default() }, echo);
    let of_length = |n: usize| {
        let (start, end) = ("GET / HTTP/1.1\r\nHost: x\r\nA: ", "\r\n\r\n");
        format!("{start}{}{end}", "a".repeat(n - start.len() - end.len()))
    };
    assert_eq!(outcome(&house, of_length(8192).as_bytes()), (Some(200), false));
    assert_eq!(outcome(&house, of_length(8193).as_bytes()), (Some(431), true));
    assert_eq!(outcome(&house, &[b'a'; 100_000]), (Some(431), true), "a request line without end");
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(100));
    assert_eq!(outcome(&house, many.as_bytes()), (Some(431), true));
    house.close();
}

#[test]
fn pipelined_requests_are_answered_one_after_the_other() {
    let house = House::new(Limits::default(), echo);
    let mut client = house.client();
    client.send(
        b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nPOST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\ntwo\
          POST /3 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nthree\r\n0\r\n\r\n\
          GET /4 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /5 HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    let bodies: Vec<_> = (0..4).map(|_| client.answer().text().to_owned()).collect();
    assert_eq!(bodies, ["GET /1", "two", "three", "GET /4"]);
    assert!(client.is_closed(), "what comes after a close is not served");
    house.close();
}

#[test]
fn a_request_may_come_in_any_two_pieces() {
    let house = House::new(Limits::default(), echo);
    let bytes = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;e\r\ndefg\r\n0\r\nT: u\r\n\r\n";
    let mut client = house.client();
    for split in 1..bytes.len() {
        client.send(&bytes[..split]);
        if split % 16 == 0 {
            // Long enough for its thread to let go of the connection in the middle of a head, or to wait for a body.
            std::thread::park_timeout(std::time::Duration::from_millis(12));
        }
        client.send(&bytes[split..]);
        assert_eq!(client.answer().text(), "abcdefg", "split at {split}");
    }
    house.close();
}

#[test]
fn bodies_of_every_size_come_through_whole() {
    let house = House::new(Limits::default(), echo);
    let mut client = house.client();
    for size in [1, 3000, 3073, 4000, 4096, 4097, 16_384, 100_000, 5_000_000] {
        let body: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let reader = client.socket.try_clone().expect("connected");
        let sent = body.clone();
        let answer = std::thread::scope(|scope| {
            let mut other = Client { socket: reader, ..Client::connect(house.addr) };
            scope.spawn(move || {
                let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", sent.len());
                other.send([head.as_bytes(), &sent].concat());
            });
            client.answer()
        });
        assert!(answer.body == body, "{size} bytes");
    }
    house.close();
}

#[test]
fn a_client_that_waits_for_leave_gets_it_only_once_it_is_admitted() {
    let house = House::new(Limits { max_body_bytes: 10_000, ..Limits::default() }, echo);
    let ask = |path: &str, length: usize| {
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
    };
    let mut client = house.client();
    let leave = client.send(ask("/", 5)).answer();
    assert_eq!(leave.head, "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.send("hello").answer().text(), "hello");
    let answer = client.send(ask("/forbidden", 5)).answer();
    assert_eq!((answer.status, client.is_closed()), (403, true));
    for (path, length) in [("/", 10_001), ("/small", 11)] {
        let mut client = house.client();
        let answer = client.send(ask(path, length)).answer();
        assert_eq!((answer.status, client.is_closed()), (413, true));
    }
    let mut client = house.client();
    let answer = client.send(format!("{}hello", ask("/", 5))).answer();
    assert_eq!((answer.status, answer.text()), (200, "hello"), "a body on its way needs no leave");
    house.close();
}

#[test]
fn an_answer_to_head_has_the_length_and_no_body() {
    let house = House::new(Limits::default(), echo);
    let mut client = house.client();
    let answer = client.send("HEAD /abc HTTP/1.1\r\nHost: x\r\n\r\n").read_answer(true).expect("an answer");
    assert!(answer.head.contains("content-length: 9\r\n"), "{}", answer.head);
    assert_eq!(client.get("/next").text(), "GET /next");
    house.close();
}
