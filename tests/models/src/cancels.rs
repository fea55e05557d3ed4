//! Cancel tokens and quit signals: whoever has to hear of them does, and nobody who has left.

use crossbeam_channel::{bounded, select};
use shuttle::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Model;
use crate::sync::{Abort, CancelReason, CancelToken, Quit};

pub const MODELS: &[Model] = &[
    ("cancels::a_cancel_reaches_what_is_attached_and_nothing_that_left", 12_000, attached),
    ("cancels::of_two_cancels_the_first_ones_reason_stays", 8_000, first),
    ("cancels::a_cancel_ends_every_wait_for_it", 8_000, waits),
    ("cancels::quit_ends_every_wait_for_it", 8_000, quit),
];

#[derive(Default)]
struct Socket {
    shut: AtomicBool,
    /// Whether it serves another request by now.
    serves_another: AtomicBool,
}

impl Abort for Socket {
    fn abort(&self) {
        assert!(!self.serves_another.load(Ordering::SeqCst), "a late cancel hit another request");
        self.shut.store(true, Ordering::SeqCst);
    }
}

fn attached() {
    let (token, socket) = (CancelToken::new(), Arc::new(Socket::default()));
    let theirs = token.clone();
    let canceller = thread::spawn(move || theirs.cancel());
    match token.attach(socket.clone()) {
        Ok(attached) => {
            let heard = token.is_cancelled();
            drop(attached);
            assert!(!heard || socket.shut.load(Ordering::SeqCst), "cancelled while attached, and not shut");
            socket.serves_another.store(true, Ordering::SeqCst);
        }
        Err(reason) => {
            assert_eq!(reason, CancelReason::Caller);
            assert!(socket.shut.load(Ordering::SeqCst), "too late to attach, and not shut");
        }
    }
    assert!(canceller.join().expect("no panic"));
}

fn first() {
    let token = CancelToken::new();
    let reasons = [CancelReason::ClientGone, CancelReason::Deadline];
    let threads = reasons.map(|reason| {
        let token = token.clone();
        thread::spawn(move || {
            let first = token.cancel_for(reason);
            assert!(token.is_cancelled(), "whoever cancelled, it is");
            first.then_some(reason)
        })
    });
    let winners: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect();
    assert_eq!(winners.len(), 1, "{winners:?}");
    assert_eq!(token.reason(), Some(winners[0]));
}

fn waits() {
    let token = CancelToken::new();
    let waiting = [(), ()].map(|()| {
        let token = token.clone();
        thread::spawn(move || {
            let (_never, silent) = bounded::<u8>(1);
            select! {
                recv(silent) -> _ => panic!("nothing was sent"),
                recv(token.channel()) -> _ => assert!(token.is_cancelled(), "the signal came before its reason"),
            }
        })
    });
    token.cancel_for(CancelReason::Shutdown);
    waiting.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

fn quit() {
    let mut quit = Quit::new();
    let waiting = [(), ()].map(|()| {
        let watch = quit.watch();
        thread::spawn(move || {
            let _ = watch.channel().recv();
            assert!(watch.given(), "a signal that was given stays");
        })
    });
    quit.signal();
    waiting.into_iter().for_each(|thread| thread.join().expect("no panic"));
}
