//! Permits: handed from one to the next without a gap, whoever gives up, is cancelled or closes them meanwhile.

use shuttle::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::Model;
use crate::queue::{Permits, TakeError};
use crate::sync::{CancelReason, CancelToken};
use crate::time::Deadline;

pub const MODELS: &[Model] = &[
    ("permits::none_is_lost_or_doubled_whoever_gives_up", 12_000, giving_up),
    ("permits::a_free_one_reaches_the_last_who_waits", 8_000, chain),
    ("permits::closing_ends_every_wait", 8_000, closing),
];

/// A wait that never ends by itself, and one that may at any moment.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(500);

#[derive(Default)]
struct House(AtomicUsize);

impl House {
    fn visit(&self, places: usize) {
        assert!(self.0.fetch_add(1, Ordering::SeqCst) < places, "more are in the house than it has places");
        thread::yield_now();
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn giving_up() {
    let (permits, house, token) = (Permits::new(1), Arc::new(House::default()), CancelToken::new());
    let held = permits.try_take().expect("free");
    let take = |patience, cancel: &CancelToken| {
        let (permits, house, cancel) = (permits.clone(), Arc::clone(&house), cancel.clone());
        thread::spawn(move || {
            let permit = permits.take(Deadline::after(patience), &cancel);
            permit.as_ref().inspect(|_| house.visit(1)).map(drop).map_err(|error| *error)
        })
    };
    let (hasty, cancelled, patient) =
        (take(SHORT, &CancelToken::new()), take(LONG, &token), take(LONG, &CancelToken::new()));
    token.cancel_for(CancelReason::ClientGone);
    drop(held);
    assert!(matches!(hasty.join().expect("no panic"), Ok(()) | Err(TakeError::TimedOut)));
    assert!(matches!(
        cancelled.join().expect("no panic"),
        Ok(()) | Err(TakeError::Cancelled(CancelReason::ClientGone))
    ));
    assert_eq!(patient.join().expect("no panic"), Ok(()), "whoever waits long enough gets the place");
    assert_eq!(permits.taken(), 0);
    assert!(permits.try_take().is_ok(), "the place is free again");
}

fn chain() {
    let (permits, house) = (Permits::new(2), Arc::new(House::default()));
    let visitors: Vec<_> = (0..4)
        .map(|_| {
            let (permits, house) = (permits.clone(), Arc::clone(&house));
            thread::spawn(move || {
                let permit = permits.take(Deadline::after(LONG), &CancelToken::new()).expect("it comes");
                house.visit(2);
                drop(permit);
            })
        })
        .collect();
    visitors.into_iter().for_each(|visitor| visitor.join().expect("no panic"));
    assert_eq!(permits.taken(), 0);
}

fn closing() {
    let permits = Permits::new(1);
    let held = permits.try_take().expect("free");
    let waiting = [LONG, SHORT].map(|patience| {
        let permits = permits.clone();
        thread::spawn(move || permits.take(Deadline::after(patience), &CancelToken::new()).map(drop))
    });
    let theirs = permits.clone();
    let closer = thread::spawn(move || theirs.close());
    for thread in waiting {
        assert!(matches!(thread.join().expect("no panic"), Err(TakeError::Closed | TakeError::TimedOut)));
    }
    closer.join().expect("no panic");
    drop(held);
    assert_eq!(permits.taken(), 0);
    assert_eq!(permits.try_take().err(), Some(TakeError::Closed));
}
