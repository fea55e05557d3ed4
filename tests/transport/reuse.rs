//! Which connection takes a request, and which never takes another.

use std::sync::Barrier;

use crossbeam_channel::bounded;
use sluicegate::sync::CancelReason;
use sluicegate::transport::{Transport as _, TransportErrorKind as Kind};

use super::peer::peer;
use super::{Call, FUSE, Settings, ask, build, fuse, ms, settings, to, whole};

#[test]
fn the_connection_that_came_back_last_is_used_first() {
    let peer = peer(|number, mut caller| caller.answer_all(number));
    let transport = to(peer.address);
    let [first, second, third] = [(); 3].map(|()| Call::new().send(&transport).expect("it is answered"));
    assert_eq!(transport.connections().open, 3);
    for (answer, number) in [(first, "0"), (third, "2"), (second, "1")] {
        assert_eq!(whole(answer).expect("whole"), number);
    }
    assert_eq!(ask(&transport), "1");
    assert_eq!(ask(&transport), "1");
    let [last, before, oldest] = [(); 3].map(|()| Call::new().send(&transport).expect("it is answered"));
    assert_eq!([last, before, oldest].map(|answer| whole(answer).expect("whole")), ["1", "2", "0"]);
    let counts = transport.connections();
    assert_eq!((counts.open, counts.idle, counts.opened_total), (3, 3, 3));
    assert_eq!((counts.reused_total, counts.stale_total), (5, 0));
}

#[test]
fn no_more_than_the_limit_stay_idle() {
    let peer = peer(|number, mut caller| caller.answer_all(number));
    let transport = build(Settings { max_idle: 2, ..settings(format!("http://{}", peer.address)) });
    let answers = [(); 4].map(|()| Call::new().send(&transport).expect("it is answered"));
    for answer in answers {
        whole(answer).expect("whole");
    }
    assert_eq!((transport.connections().idle, transport.connections().open), (2, 2));
}

#[test]
fn a_body_not_read_to_its_end_closes_its_connection() {
    let (tell, left) = bounded(1);
    let peer = peer(move |number, mut caller| {
        caller.request().expect("a request");
        if number == 0 {
            caller.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
            tell.send(caller.is_left()).expect("the test listens");
        } else {
            caller.answer("ok");
        }
    });
    let transport = to(peer.address);
    let mut answer = Call::new().send(&transport).expect("it is answered");
    assert_eq!(answer.body.read(&mut [0; 10], fuse()).expect("half of it"), 5);
    drop(answer);
    assert_eq!(left.recv_timeout(FUSE), Ok(true));
    assert_eq!(ask(&transport), "ok");
    assert_eq!(transport.connections().reused_total, 0);
}

#[test]
fn a_connection_whose_peer_wants_to_close_is_not_kept() {
    let peer = peer(|_, mut caller| {
        caller.request().expect("a request");
        caller.say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        assert!(caller.is_left());
    });
    let transport = to(peer.address);
    assert_eq!(ask(&transport), "ok");
    assert_eq!((transport.connections().idle, transport.connections().open), (0, 0));
}

#[test]
fn bytes_that_nobody_asked_for_are_nobodys_answer() {
    // Together with the answer, and after it.
    for apart in [false, true] {
        let (tell, said) = bounded(1);
        let peer = peer(move |number, mut caller| {
            caller.request().expect("a request");
            let unasked = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
            match (number, apart) {
                (0, false) => caller.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{unasked}")),
                (0, true) => {
                    caller.answer("ok");
                    caller.say(unasked);
                    tell.send(()).expect("the test listens");
                }
                _ => caller.answer("second"),
            }
            caller.is_left();
        });
        let transport = to(peer.address);
        assert_eq!(ask(&transport), "ok");
        if apart {
            said.recv_timeout(FUSE).expect("it was said");
        }
        assert_eq!(ask(&transport), "second");
    }
}

#[test]
fn a_connection_closed_while_idle_is_replaced_unnoticed() {
    let (tell, closed) = bounded(1);
    let peer = peer(move |number, mut caller| {
        caller.request().expect("a request");
        caller.answer(&number.to_string());
        drop(caller);
        tell.send(()).expect("the test listens");
    });
    let transport = to(peer.address);
    for number in 0..3 {
        assert_eq!(ask(&transport), number.to_string());
        closed.recv_timeout(FUSE).expect("it closed");
    }
    assert_eq!(transport.connections().stale_total, 2);
}

#[test]
fn a_request_lost_on_a_connection_used_before_is_sent_once_more() {
    // The peer takes the second request off the connection and closes: it may have closed before it saw it.
    let peer = peer(|number, mut caller| {
        caller.request().expect("a request");
        caller.answer(&number.to_string());
        caller.request();
    });
    let transport = to(peer.address);
    assert_eq!([ask(&transport), ask(&transport)], ["0", "1"]);
    assert_eq!(transport.connections().stale_total, 1);
    assert_eq!(transport.connections().opened_total, 2);
}

#[test]
fn a_request_lost_twice_or_in_mid_answer_is_lost() {
    let peer = peer(|number, mut caller| {
        caller.request();
        if number == 0 {
            caller.answer("ok");
            caller.request();
        }
    });
    let transport = to(peer.address);
    assert_eq!(ask(&transport), "ok");
    assert_eq!(Call::new().failure(&transport), Kind::NoAnswer);
    assert_eq!(peer.accepted.len(), 2, "the retry is the only one");

    let peer = super::peer::peer(|_, mut caller| {
        caller.request().expect("a request");
        caller.answer("ok");
        caller.request();
        caller.say("HTTP/1.1 2");
    });
    let transport = to(peer.address);
    assert_eq!(ask(&transport), "ok");
    assert_eq!(Call::new().failure(&transport), Kind::Cut);
    assert_eq!(peer.accepted.len(), 1, "a byte of answer forbids a retry");
}

#[test]
fn a_request_lost_on_a_fresh_connection_is_not_sent_again() {
    let peer = peer(|_, caller| drop(caller));
    let transport = to(peer.address);
    let kind = Call::new().failure(&transport);
    assert!(matches!(kind, Kind::NoAnswer | Kind::Send), "{kind:?}");
    assert_eq!((peer.accepted.len(), transport.connections().stale_total), (1, 0));
}

#[test]
fn idle_connections_close_when_their_time_is_over_or_the_transport_retires() {
    let peer = peer(|number, mut caller| caller.answer_all(number));
    let short = Settings { idle_connection_timeout: ms(1), ..settings(format!("http://{}", peer.address)) };
    let transport = build(short);
    ask(&transport);
    let end = fuse();
    while transport.connections().open > 0 {
        assert!(!end.passed());
        transport.close_idle();
    }

    let transport = to(peer.address);
    ask(&transport);
    transport.close_idle();
    assert_eq!(transport.connections().idle, 1, "its time is not over");
    transport.retire();
    assert_eq!(transport.connections().open, 0);
    ask(&transport);
    assert_eq!(transport.connections().open, 0, "what comes back is closed");
}

#[test]
fn a_cancel_that_comes_late_never_hits_the_next_request() {
    let rounds = 2000;
    let peer = peer(|number, mut caller| caller.answer_all(number));
    let transport = to(peer.address);
    for _ in 0..rounds {
        let (first, together) = (Call::new(), Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                together.wait();
                first.cancel.cancel_for(CancelReason::ClientGone);
            });
            together.wait();
            match first.text(&transport) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind, Kind::Cancelled(CancelReason::ClientGone), "{error}"),
            }
            Call::new().text(&transport).expect("it was not cancelled");
        });
    }
    let stats = transport.connections();
    assert_eq!((stats.open, stats.stale_total), (1, 0), "a cancelled connection never came back");
}

#[test]
fn many_threads_share_the_connections_and_leave_none_behind() {
    let peer = peer(|number, mut caller| caller.answer_all(number));
    let transport = to(peer.address);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..100).for_each(|_| drop(ask(&transport))));
        }
    });
    let stats = transport.connections();
    assert!(stats.opened_total <= 8 && stats.open == stats.idle, "{stats:?}");
    assert_eq!(stats.opened_total + stats.reused_total, 800);
    transport.retire();
    assert_eq!((transport.connections().open, transport.connections().idle), (0, 0));
}
