//! Claims about locks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::scope;
use std::time::Duration;

use super::rig::{FUSE, Miss, Verdict, ensure, join, timed};
use crate::sync::locks::{self, Leaf, Ranked, classes};

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
