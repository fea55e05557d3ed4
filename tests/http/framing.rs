//! P9: framing is strict. Each case is raw bytes, the exact status, and whether the connection is closed after it.

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

const REFUSED: &[(u16, &[u8])] = &[
    // The request line.
    (400, b"GET /\r\n\r\n"),
    (400, b"GET\r\n\r\n"),
    (400, b"GET  / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET /  HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTP/1.1 \r\nHost: x\r\n\r\n"),
    (400, b"GET\t/\tHTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b" GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTP/1.1 extra\r\nHost: x\r\n\r\n"),
    (400, b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET / http/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTP/1\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTP/1.10\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTP/+1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTPS/1.1\r\nHost: x\r\n\r\n"),
    (505, b"GET / HTTP/1.2\r\nHost: x\r\n\r\n"),
    (505, b"GET / HTTP/0.9\r\nHost: x\r\n\r\n"),
    (505, b"GET / HTTP/2.0\r\nHost: x\r\n\r\n"),
    (505, b"GET / HTTP/9.9\r\nHost: x\r\n\r\n"),
    (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    (400, b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"G\0T / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET: / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (501, b"get / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (501, b"GETS / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (501, b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n"),
    (501, b"PROPFIND / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (501, b"!#$%&'*+-.^_`|~ / HTTP/1.1\r\nHost: x\r\n\r\n"),
    // The target.
    (400, b"GET * HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET x:80 HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET x/y HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET http:///y HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET http://u@x/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET http://y/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET /\x7f HTTP/1.1\r\nHost: x\r\n\r\n"),
    (400, b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n"),
    // Lines and characters.
    (400, b"GET / HTTP/1.1\nHost: x\n\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\n\n"),
    (400, b"GET / HTTP/1.1\rHost: x\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA: b\x1bc\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\tfolded\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n Host: x\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost : x\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA\t: b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\nhello"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA(b): c\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nA\x80: c\r\n\r\n"),
    (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    (400, b"\x80\x2e\x01\x00\x02\r\n\r\n"),
    // Host.
    (400, b"GET / HTTP/1.1\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\r\nhost: y\r\n\r\n"),
    (400, b"GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x/y\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: u@x\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x:80:80\r\n\r\n"),
    // Content-Length and Transfer-Encoding.
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5,6\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5 5\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 05\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: five\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\nhello"),
    (413, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551615\r\n\r\nhello"),
    (413, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10001\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    (501, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    // Chunks.
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    (413, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nbad trailer\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n"),
    // Expectations, and what the service refuses with a body on its way.
    (417, b"GET / HTTP/1.1\r\nHost: x\r\nExpect: a-miracle\r\n\r\n"),
    (417, b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue, more\r\nContent-Length: 5\r\n\r\n"),
    (403, b"POST /forbidden HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"),
    (413, b"POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello world"),
    (500, b"GET /admit-panics HTTP/1.1\r\nHost: x\r\n\r\n"),
];

const SERVED: &[(u16, bool, &[u8])] = &[
    (200, false, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (200, false, b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (200, false, b"GET / HTTP/1.1\r\nhOsT:x\r\nA:\r\nB: \xff\t \r\n\r\n"),
    (200, false, b"GET http://x/y HTTP/1.1\r\nHost: x\r\n\r\n"),
    (200, false, b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"),
    (200, false, b"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"),
    (200, false, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"),
    (200, false, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
    (
        200,
        false,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n",
    ),
    (200, false, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"),
    (403, false, b"GET /forbidden HTTP/1.1\r\nHost: x\r\n\r\n"),
    (200, true, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    (200, true, b"GET / HTTP/1.0\r\n\r\n"),
    (200, true, b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
    (200, true, b"POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello"),
    (200, true, b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello"),
];

#[test]
fn what_is_not_plain_http_is_refused_with_its_status_and_the_connection_closes() {
    let house = House::new(Limits { max_body_bytes: 10_000, ..Limits::default() }, echo);
    for (status, bytes) in REFUSED {
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(outcome(&house, bytes), (Some(*status), true), "{shown:?}");
    }
    let by_the_service = REFUSED.iter().filter(|(status, _)| matches!(status, 403 | 500)).count();
    assert_eq!(house.stats().bad_requests_total, (REFUSED.len() - by_the_service) as u64);
    house.close();
}

#[test]
fn what_is_plain_http_is_served_and_the_connection_goes_on_if_it_may() {
    let house = House::new(Limits::default(), echo);
    for (status, closed, bytes) in SERVED {
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(outcome(&house, bytes), (Some(*status), *closed), "{shown:?}");
    }
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
