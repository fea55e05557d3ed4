//! Claims about locks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::scope;
use std::time::Duration;

use crossbeam_channel::{bounded, select};

use super::rig::{FUSE, Miss, Verdict, ensure, join, thrice, timed, until};
use crate::events::{Events, LockWatch};
use crate::sync::locks::{
    self, ChannelLock, Detector, LASTING, Leaf, LockErrorKind, LockTimes, Ranked, Wait, classes, lock_all,
};
use crate::sync::{CancelReason, CancelToken};
use crate::time::now;

pub(super) fn order() -> Verdict {
    let (outer, inner) = (Ranked::new(&classes::TEST_OUTER, ()), Ranked::new(&classes::TEST_INNER, ()));
    let leaf = Leaf::new(&classes::TEST_LEAF, ());
    let violations = || locks::stats().order_violations_total;
    let before = violations();
    {
        let (_outer, _inner, _leaf) = (outer.lock(FUSE)?, inner.lock(FUSE)?, leaf.lock());
    }
    ensure(violations() == before, || "locks taken in order count as a violation".to_owned())?;
    // Where assertions are on a violation panics besides being counted; elsewhere it is counted and logged.
    let reversed = catch_unwind(AssertUnwindSafe(|| {
        let _inner = inner.lock(FUSE);
        outer.lock(FUSE).is_ok()
    }));
    let under_a_leaf = catch_unwind(AssertUnwindSafe(|| {
        let _leaf = leaf.lock();
        outer.lock(FUSE).is_ok()
    }));
    let counted = violations() - before;
    ensure(counted == 2, || format!("{counted} of 2 violations were counted"))?;
    ensure(reversed.is_err() == cfg!(debug_assertions) && under_a_leaf.is_err() == cfg!(debug_assertions), || {
        "a violation must panic where assertions are on, and only there".to_owned()
    })?;
    ensure(outer.lock(FUSE).is_ok() && inner.lock(FUSE).is_ok(), || "a lock was not given back".to_owned())?;
    Ok(format!("outer, inner, leaf: fine; reversed and under a leaf: both caught; {} classes", classes::ALL.len()))
}

pub(super) fn timeout() -> Verdict {
    thrice(not_had)
}

fn not_had() -> Verdict {
    const LIMIT: Duration = Duration::from_millis(50);
    let lock = Ranked::new(&classes::TEST_OUTER, ());
    let holder = std::thread::current().name().map(str::to_owned);
    let looked = AtomicU32::new(0);
    let held = lock.lock(FUSE)?;
    let (took, error) = scope(|scope| {
        let waiter = scope.spawn(|| {
            looked.fetch_add(1, Ordering::Relaxed);
            timed(|| lock.lock(LIMIT).err())
        });
        join(waiter)
    })?;
    drop(held);
    let error = error.ok_or_else(|| Miss::new("a held lock was had"))?;
    ensure(error.holder.is_some() && error.holder == holder, || format!("the error names {:?}", error.holder))?;
    ensure(took >= LIMIT && took < LIMIT * 10, || format!("limit {LIMIT:?}, given up after {took:?}"))?;
    ensure(lock.lock(LIMIT).is_ok(), || "the lock was not given back".to_owned())?;
    Ok(format!("limit {LIMIT:?}: given up after {took:.0?}; {error}"))
}

pub(super) fn registry() -> Verdict {
    let (outer, inner) = (Ranked::new(&classes::TEST_OUTER, ()), Ranked::new(&classes::TEST_INNER, ()));
    for _ in 0..3 {
        let (_outer, _inner) = (outer.lock(FUSE)?, inner.lock(FUSE)?);
    }
    let edges = locks::edges();
    let seen: Vec<_> = edges.iter().filter(|edge| (edge.outer, edge.inner) == ("test.outer", "test.inner")).collect();
    let [edge] = seen.as_slice() else { return Err(Miss::new(format!("the order stands {} times", seen.len()))) };
    ensure(edge.outer_site.contains(file!()) && edge.inner_site.contains(file!()), || format!("{edge:?}"))?;
    Ok(format!("{} classes, {} orders seen, each once with both its sites", classes::ALL.len(), edges.len()))
}

pub(super) fn several() -> Verdict {
    let (outer, inner) = (Ranked::new(&classes::TEST_OUTER, 0), Ranked::new(&classes::TEST_INNER, 0));
    let violations = locks::stats().order_violations_total;
    drop(lock_all([&inner, &outer], FUSE)?);
    ensure(locks::stats().order_violations_total == violations, || "the locks were not sorted".to_owned())?;
    let held = inner.lock(FUSE)?;
    let limit = Duration::from_millis(20);
    let (error, other) =
        scope(|scope| join(scope.spawn(|| (lock_all([&inner, &outer], limit).err(), outer.lock(FUSE).is_ok()))))?;
    drop(held);
    let error = error.ok_or_else(|| Miss::new("a held lock was had"))?;
    ensure(other, || "what was had of them was not given back".to_owned())?;
    ensure(error.lock == "test.inner", || format!("the error names {}", error.lock))?;
    Ok(format!("named inner first, taken outer first; one held: none kept ({error})"))
}

pub(super) fn default_and_most() -> Verdict {
    let short = Duration::from_millis(20);
    let times = LockTimes { default_timeout: short, max_timeout: short * 2 };
    let lock = Ranked::timed(&classes::TEST_OUTER, times, ());
    let held = lock.lock(Wait::DEFAULT)?;
    let waited = |wait: Wait<'static>| {
        let error = scope(|scope| join(scope.spawn(|| lock.lock(wait).err())))?;
        Ok::<_, Miss>(error.ok_or_else(|| Miss::new("a held lock was had"))?.waited)
    };
    let (by_default, at_most) = (waited(Wait::DEFAULT)?, waited(FUSE.into())?);
    drop(held);
    let kept = by_default >= short && at_most >= short * 2 && at_most < FUSE;
    ensure(kept, || format!("by default {by_default:?}, and at most {at_most:?}"))?;
    Ok(format!(
        "default {short:?}, at most {:?}: given up after {by_default:.0?}, and after {at_most:.0?} of {FUSE:?}",
        short * 2
    ))
}

pub(super) fn in_a_select() -> Verdict {
    let lock = ChannelLock::new(&classes::TEST_OUTER, LockTimes::DEFAULT, 0);
    let take = || {
        select! {
            recv(lock.token()?) -> token => Ok::<_, Miss>(Some(lock.claim(token?))),
            default => Ok(None),
        }
    };
    let mut first = take()?.ok_or_else(|| Miss::new("a free lock was not had"))?;
    *first += 1;
    // From another thread, since a lock asked for twice by one is a violation.
    let other = scope(|scope| join(scope.spawn(|| lock.try_lock().is_none())))?;
    ensure(other, || "two had it at once".to_owned())?;
    drop(first);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _held = lock.lock(FUSE);
        panic!("asked for by the self-test");
    }));
    let again = take()?.map(|held| *held);
    ensure(panicked.is_err() && again == Some(1), || format!("after a panic under it: {again:?}"))?;
    Ok("taken in a select!, refused at once while held, and given back, by a panic too".to_owned())
}

pub(super) fn held_for_long() -> Verdict {
    let (events, leaf) = (Events::new(), Leaf::new(&classes::TEST_LEAF, ()));
    let mut watch = LockWatch::new(events.clone());
    let alert = || events.alerts().into_iter().find(|alert| alert.subject == classes::TEST_LEAF.name());
    let message = scope(|scope| {
        let (hold, held) = bounded::<()>(0);
        let (is_held, had) = bounded::<()>(0);
        let leaf = &leaf;
        scope.spawn(move || {
            let _held = leaf.lock();
            drop(is_held);
            let _ = held.recv_timeout(FUSE);
        });
        let _ = had.recv_timeout(FUSE);
        scope.spawn(move || drop(leaf.lock()));
        // As if whoever waits had waited for long.
        let raised = until("the alert", || {
            watch.look(now() + LASTING);
            alert().is_some()
        });
        let message = alert().map(|alert| alert.message).unwrap_or_default();
        drop(hold);
        raised.map(|()| message)
    })?;
    until("the alert is over", || {
        watch.look(now());
        alert().is_none()
    })?;
    ensure(message.contains("held by"), || format!("the alert says {message:?}"))?;
    Ok(format!("alerted past {LASTING:?}, and cleared once it was had"))
}

pub(super) fn cancelled() -> Verdict {
    let lock = ChannelLock::new(&classes::TEST_OUTER, LockTimes::DEFAULT, ());
    let (held, token) = (lock.lock(FUSE)?, CancelToken::new());
    let waiting = locks::stats().waiting;
    let (took, error) = scope(|scope| {
        let waiter = scope.spawn(|| lock.lock(Wait::from(FUSE).or_cancelled(&token)).err());
        until("the wait begins", || locks::stats().waiting > waiting)?;
        let (took, error) = timed(|| {
            token.cancel();
            join(waiter)
        });
        Ok::<_, Miss>((took, error?))
    })?;
    drop(held);
    let kind = error.map(|error| error.kind);
    ensure(kind == Some(LockErrorKind::Cancelled(CancelReason::Caller)), || format!("it ended with {kind:?}"))?;
    ensure(lock.try_lock().is_some(), || "the token was not given back".to_owned())?;
    Ok(format!("cancelled while it waited: ended {took:.0?} later; the token is back"))
}

pub(super) fn deadlock() -> Verdict {
    let (scaling, roster) = (Ranked::new(&classes::SCALING, ()), Ranked::new(&classes::ROSTER, ()));
    let before = locks::stats();
    let mut ends = Vec::new();
    for _ in 0..3 {
        ends.push(opposed(&scaling, &roster)?);
    }
    let after = locks::stats();
    let found = after.deadlocks_detected_total - before.deadlocks_detected_total;
    let over = after.deadlocks_resolved_total - before.deadlocks_resolved_total;
    ensure((found, over) == (2, 2), || format!("{found} deadlocks were found and {over} are over, of 2"))?;
    for (round, (right, wrong)) in ends.iter().enumerate() {
        ensure(right.is_none(), || format!("who kept to the order was not served: {right:?}"))?;
        let as_claimed = match wrong {
            Some(LockErrorKind::Deadlock(_)) => round < 2,
            Some(LockErrorKind::Refused(_)) => round == 2,
            _ => false,
        };
        ensure(as_claimed, || format!("time {}: who went against it ended with {wrong:?}", round + 1))?;
    }
    let pattern = after.patterns.iter().find(|pattern| pattern.edge == "provider.roster -> provider.scaling");
    ensure(pattern.is_some_and(|pattern| pattern.count == 2), || format!("learned: {:?}", after.patterns))?;
    Ok("two threads, two locks, opposite orders: twice one gave way and the other went on, then the order is refused"
        .to_owned())
}

/// One thread takes the first and then the second, another the reverse: how each's second wait ended.
fn opposed(first: &Ranked<()>, second: &Ranked<()>) -> Result<(Option<LockErrorKind>, Option<LockErrorKind>), Miss> {
    let both_hold = Barrier::new(2);
    let cross = |own: &Ranked<()>, other: &Ranked<()>| {
        // In a release a wrong order is counted and goes on; elsewhere it would panic before it comes to a deadlock.
        #[cfg(debug_assertions)]
        let _unordered = locks::unordered();
        let _held = own.lock(FUSE);
        both_hold.wait();
        other.lock(FUSE).err().map(|error| error.kind)
    };
    scope(|scope| {
        let (right, wrong) = (scope.spawn(|| cross(first, second)), scope.spawn(|| cross(second, first)));
        let mut detector = Detector::new();
        until("both come to an end", || {
            detector.look(now());
            right.is_finished() && wrong.is_finished()
        })?;
        Ok((join(right)?, join(wrong)?))
    })
}
