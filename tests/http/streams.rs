//! Answers written piece by piece (P5): from any thread, cut visibly, and never holding anybody for a slow reader.

use std::io::{ErrorKind, Read as _};
use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};
use sluicegate::http::{Exchange, Finished, Limits, Response, SendError, StreamWriter};
use sluicegate::sync::{Role, Threads};

use super::support::{FUSE, House, echo, eventually, ms};

fn sse() -> Response {
    Response::new(200).header("content-type", "text/event-stream")
}

/// A house whose every request to `/stream` becomes a stream that `work` runs on a thread of its own.
fn streaming(limits: Limits, work: impl Fn(StreamWriter) + Send + Sync + 'static) -> House {
    let work = Arc::new(work);
    let others = Threads::new(100, 256 << 10);
    House::new(limits, move |request, exchange| {
        if request.head.path() != "/stream" {
            return echo(request, exchange);
        }
        let (writer, work) = (exchange.stream(sse()), Arc::clone(&work));
        others.spawn(Role::Worker, "worker", move || work(writer)).expect("room");
        Finished::moved()
    })
}

const STREAM: &str = "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_stream_finished_on_another_thread_gives_its_connection_back() {
    let house = streaming(Limits::default(), |mut writer| {
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            writer.send(event.as_bytes()).expect("it is read");
        }
        writer.finish();
    });
    let mut client = house.client();
    for round in 0..20 {
        let answer = client.send(STREAM).answer();
        assert!(answer.complete && answer.head.contains("transfer-encoding: chunked"), "{answer:?}");
        assert_eq!(answer.text(), "data: 1\n\ndata: 2\n\n");
        assert_eq!(client.get("/between").text(), "GET /between", "round {round}");
    }
    assert_eq!(house.stats().accepted_total, 1);
    house.close();
}

#[test]
fn requests_pipelined_behind_a_stream_are_served_after_it() {
    let house = streaming(Limits::default(), |writer| writer.finish_with(b"data: [DONE]\n\n"));
    let mut client = house.client();
    client.send(format!("{STREAM}GET /next HTTP/1.1\r\nHost: x\r\n\r\n{STREAM}"));
    assert_eq!(client.answer().text(), "data: [DONE]\n\n");
    assert_eq!(client.answer().text(), "GET /next");
    assert_eq!(client.answer().text(), "data: [DONE]\n\n");
    house.close();
}

#[test]
fn a_stream_aborted_or_dropped_ends_without_its_last_chunk() {
    for abort in [true, false] {
        let house = streaming(Limits::default(), move |mut writer| {
            writer.send(b"data: 1\n\n").expect("it is read");
            if abort { writer.abort() } else { drop(writer) }
        });
        let mut client = house.client();
        let answer = client.send(STREAM).answer();
        assert_eq!((answer.complete, answer.text()), (false, "data: 1\n\n"));
        assert!(client.is_closed());
        house.close();
    }
}

#[test]
fn a_stream_that_panics_is_seen_to_be_cut() {
    let house = House::new(Limits::default(), |_, exchange| {
        let mut writer = exchange.stream(sse());
        writer.send(b"data: 1\n\n").expect("it is read");
        panic!("on purpose");
    });
    let answer = house.client().get("/");
    assert_eq!((answer.complete, answer.text()), (false, "data: 1\n\n"));
    house.close();
}

#[test]
fn to_http_1_0_a_stream_ends_with_the_connection_and_a_cut_one_with_a_reset() {
    let house = House::new(Limits::default(), |request, exchange| {
        let cut = request.head.path() == "/cut";
        let mut writer = exchange.stream(sse());
        writer.send(b"data: 1\n\n").expect("it is read");
        if cut {
            writer.abort()
        } else {
            writer.finish()
        }
        Finished::moved()
    });
    let mut client = house.client();
    let answer = client.send("GET / HTTP/1.0\r\n\r\n").answer();
    assert!(!answer.head.contains("chunked") && answer.head.contains("connection: close"), "{}", answer.head);
    assert_eq!(answer.text(), "data: 1\n\n");
    assert!(client.socket.take_error().expect("a socket").is_none());
    let mut client = house.client();
    client.send("GET /cut HTTP/1.0\r\n\r\n");
    let end = loop {
        match client.socket.read(&mut [0; 16]) {
            Ok(0) => panic!("a clean end"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    house.close();
}

#[test]
fn a_stream_to_head_or_without_a_body_sends_only_its_head() {
    let house = House::new(Limits::default(), |request, exchange| {
        let status = if request.head.path() == "/204" { 204 } else { 200 };
        let mut writer = exchange.stream(Response::new(status));
        writer.send(b"data: 1\n\n").expect("it is read");
        writer.finish();
        Finished::moved()
    });
    let mut client = house.client();
    assert_eq!(client.send("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").read_answer(true).expect("an answer").status, 200);
    assert_eq!(client.get("/204").status, 204);
    assert_eq!(client.get("/").text(), "data: 1\n\n", "nothing was left over");
    house.close();
}

/// Sends until it fails; tells how.
fn until_it_fails(mut writer: StreamWriter, tell: &Sender<SendError>) {
    let piece = [b'a'; 4096];
    for _ in 0..100_000 {
        if let Err(error) = writer.send(&piece) {
            assert_eq!(writer.send(&piece), Err(error), "it stays so");
            let _ = tell.try_send(error);
            return;
        }
    }
}

#[test]
fn a_reader_of_a_byte_in_a_while_is_too_slow_in_all() {
    let (tell, told) = bounded(1);
    let limits = Limits { write_timeout: ms(200), ..Limits::default() };
    let house = streaming(limits, move |writer| until_it_fails(writer, &tell));
    let mut client = house.client();
    client.send(STREAM);
    let fuse = sluicegate::time::Deadline::after(FUSE);
    let error = loop {
        // Each read lets the writer go on a little: a limit for each write alone would never be reached.
        assert!(!fuse.passed(), "the reader holds the writer for ever");
        match told.recv_timeout(ms(20)) {
            Ok(error) => break error,
            Err(_) => assert_ne!(client.socket.read(&mut [0; 65_536]).expect("there is plenty"), 0),
        }
    };
    assert_eq!(error, SendError::TooSlow);
    eventually("it is gone", || house.stats().open == 0);
    house.close();
}

#[test]
fn a_stream_to_a_client_that_left_fails() {
    let (tell, told) = bounded(1);
    let house = streaming(Limits::default(), move |writer| until_it_fails(writer, &tell));
    let mut client = house.client();
    client.send(STREAM).read_byte();
    drop(client);
    assert_eq!(told.recv_timeout(FUSE), Ok(SendError::Gone));
    eventually("it is gone", || house.stats().open == 0);
    house.close();
}

#[test]
fn an_exchange_may_be_answered_on_another_thread() {
    let others = Threads::new(10, 256 << 10);
    let house = House::new(Limits::default(), move |request, exchange: Exchange| {
        let answer = move || drop(echo(request, exchange));
        others.spawn(Role::Worker, "worker", answer).expect("room");
        Finished::moved()
    });
    let mut client = house.client();
    client.send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((client.answer().text(), client.answer().text()), ("GET /1", "GET /2"));
    assert_eq!(client.get("/3").text(), "GET /3");
    house.close();
}
