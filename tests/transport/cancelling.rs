//! A cancel ends a request in whatever stage it is, at once, and leaves the provider's next request unharmed.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use sluicegate::sync::CancelReason;
use sluicegate::time::now;
use sluicegate::transport::{Resolver, Transport as _, TransportErrorKind as Kind, UreqTransport};

use super::limits::full_listener;
use super::peer::{Caller, listening, peer};
use super::{Call, FUSE, ask, fuse, ms, settings, threads, to, whole};

/// What a cancel may take (I9); the tests allow five times as much.
const PROMPT: Duration = Duration::from_millis(500);

const GONE: Kind = Kind::Cancelled(CancelReason::ClientGone);

/// Cancels `call` once `ready` says that the stage is reached, and gives how long it took to end.
fn cancelled_once(ready: &Receiver<()>, call: &Call, run: impl FnOnce() -> Kind + Send) -> Duration {
    std::thread::scope(|scope| {
        let running = scope.spawn(run);
        ready.recv_timeout(FUSE).expect("the stage is reached");
        let start = now();
        call.cancel.cancel_for(CancelReason::ClientGone);
        assert_eq!(running.join().expect("no panic"), GONE);
        start.elapsed()
    })
}

/// A peer that stalls its first connection in `stall`, which says when it has; the others are answered.
fn stalling(stall: impl Fn(&mut Caller) + Send + Sync + 'static) -> (super::peer::Peer, Receiver<()>, Receiver<bool>) {
    let ((tell, ready), (end, left)): ((Sender<_>, _), (Sender<_>, _)) = (bounded(1), bounded(1));
    let peer = peer(move |number, mut caller| {
        if number == 0 {
            stall(&mut caller);
            tell.send(()).expect("the test listens");
            end.send(caller.is_left()).expect("the test listens");
        } else {
            caller.answer_all(number);
        }
    });
    (peer, ready, left)
}

fn ends_promptly(stall: impl Fn(&mut Caller) + Send + Sync + 'static) {
    let (peer, ready, left) = stalling(stall);
    let (transport, call) = (to(peer.address), Call::new());
    let took = cancelled_once(&ready, &call, || call.failure(&transport));
    assert!(took < PROMPT, "{took:?}");
    assert_eq!(left.recv_timeout(FUSE), Ok(true), "the provider sees the close");
    assert_eq!(transport.connections().open, 0);
    assert_eq!(ask(&transport), "1", "the next request is unharmed");
}

#[test]
fn while_waiting_for_the_head() {
    ends_promptly(|caller| drop(caller.request()));
}

#[test]
fn in_the_middle_of_the_head() {
    ends_promptly(|caller| {
        caller.request().expect("a request");
        caller.say("HTTP/1.1 200 OK\r\nX: ");
    });
}

#[test]
fn in_the_body_of_each_framing() {
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked", "Connection: close"] {
        ends_promptly(move |caller| {
            caller.request().expect("a request");
            caller.say(&format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n2\r\nhe\r\n"));
        });
    }
}

#[test]
fn while_the_request_is_not_taken() {
    let (peer, ready, _) = stalling(Caller::head_only);
    let transport = to(peer.address);
    let call = Call { body: vec![b' '; 32 << 20].into(), ..Call::new() };
    let took = cancelled_once(&ready, &call, || call.failure(&transport));
    assert!(took < PROMPT, "{took:?}");
    assert_eq!(ask(&transport), "1");
}

#[test]
fn on_a_connection_used_before() {
    let (peer, ready, left) = stalling(|caller| {
        caller.request().expect("a request");
        caller.answer("first");
        caller.request().expect("a second request");
    });
    let (transport, call) = (to(peer.address), Call::new());
    assert_eq!(ask(&transport), "first");
    let took = cancelled_once(&ready, &call, || call.failure(&transport));
    assert!(took < PROMPT, "{took:?}");
    assert_eq!(left.recv_timeout(FUSE), Ok(true));
    assert_eq!(ask(&transport), "1");
    let stats = transport.connections();
    assert_eq!((stats.opened_total, stats.reused_total, stats.stale_total), (2, 1, 0), "a cancel is not stale");
}

#[test]
fn while_shaking_hands() {
    let ((tell, ready), (end, left)) = (bounded(1), bounded(1));
    let peer = peer(move |_, mut caller| {
        use std::io::Read as _;
        caller.stream.read_exact(&mut [0; 5]).expect("a hello");
        tell.send(()).expect("the test listens");
        end.send(caller.is_left()).expect("the test listens");
    });
    let (transport, call) = (super::build(settings(format!("https://{}", peer.address))), Call::new());
    let took = cancelled_once(&ready, &call, || call.failure(&transport));
    assert!(took < PROMPT, "{took:?}");
    assert_eq!(left.recv_timeout(FUSE), Ok(true));
    assert_eq!(transport.connections().open, 0);
}

#[test]
fn while_connecting_at_whatever_moment() {
    let (listener, filling) = full_listener();
    let transport = to(listener.local_addr().expect("bound"));
    for delay_us in (0..40).map(|n| n * n * 10) {
        let call = Call::new();
        std::thread::scope(|scope| {
            let running = scope.spawn(|| call.failure(&transport));
            // Not to wait for anything: each moment must do.
            let (_never, delay) = bounded::<()>(0);
            let _ = delay.recv_timeout(Duration::from_micros(delay_us));
            let start = now();
            call.cancel.cancel_for(CancelReason::ClientGone);
            assert_eq!(running.join().expect("no panic"), GONE);
            assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
        });
    }
    assert_eq!(transport.connections().opened_total, 0);
    drop(filling);
    let _peer = listening(listener, |_, mut caller| caller.answer_all(9));
    assert_eq!(ask(&transport), "9");
}

#[test]
fn while_a_name_is_looked_up() {
    let (tell, ready) = bounded(1);
    let (hold, held) = bounded::<()>(0);
    let resolver = Resolver::with_lookup(&threads(), move |_| {
        tell.send(()).expect("the test listens");
        let _ = held.recv_timeout(FUSE);
        Ok(Vec::new())
    });
    let transport = UreqTransport::new(settings("http://provider.example"), resolver).expect("good settings");
    let call = Call::new();
    let took = cancelled_once(&ready, &call, || call.failure(&transport));
    assert!(took < PROMPT, "{took:?}");
    drop(hold);
}

#[test]
fn before_it_is_sent() {
    let peer = peer(|number, mut caller| caller.answer_all(number));
    let (transport, call) = (to(peer.address), Call::new());
    ask(&transport);
    call.cancel.cancel_for(CancelReason::ClientGone);
    assert_eq!(call.failure(&transport), GONE);
    assert_eq!(transport.connections().idle, 1, "no connection was taken for it");
}

#[test]
fn a_body_until_close_that_was_cancelled_is_no_clean_end() {
    let (go, gone) = bounded::<()>(0);
    let peer = peer(move |_, mut caller| {
        caller.request().expect("a request");
        caller.say("HTTP/1.1 200 OK\r\n\r\nhello");
        let _ = gone.recv_timeout(FUSE);
    });
    let (transport, call) = (to(peer.address), Call::new());
    let mut answer = call.send(&transport).expect("it is answered");
    assert_eq!(answer.body.read(&mut [0; 64], fuse()).expect("its beginning"), 5);
    call.cancel.cancel_for(CancelReason::ClientGone);
    assert_eq!(answer.body.read(&mut [0; 64], fuse()).expect_err("no clean end").kind, GONE);
    drop(go);
}

#[test]
fn a_whole_answer_cancelled_before_its_end_was_read_is_whole_but_its_connection_is_not_kept() {
    let peer = peer(|number, mut caller| caller.answer_all(number));
    let (transport, call) = (to(peer.address), Call::new());
    let answer = call.send(&transport).expect("it is answered");
    call.cancel.cancel_for(CancelReason::ClientGone);
    assert_eq!(whole(answer).expect("it had come"), "0");
    assert_eq!(transport.connections().open, 0);
    assert_eq!(ask(&transport), "1");
    assert!(peer.accepted.len() == 2 && ms(1) < PROMPT);
}
