//! The use of one object by several holders: whoever lets go last gives it back.
//!
//! **Protocol.** Holders are clones of one reference-counted handle. A drop that finds itself the only one takes the object's
//! stub out, which `Arc::get_mut` allows to nobody else, and returns object and allocation together. Two holders that let go
//! in the same instant may each still see the other; then nobody is the last, the object is dropped with its stub, and so
//! discarded and counted. That is I3 to the letter, and takes no counter of our own.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::lease::{Lease, Stub};
use super::{Limits, Pool, Recycle};

/// A pool whose objects are used by several holders at a time. Cheap to clone.
pub struct JointPool<T: Recycle + Sync>(Pool<Arc<Member<T>>>);

impl<T: Recycle + Sync> JointPool<T> {
    /// A pool within `limits`, the first objects made.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(Pool::new(limits))
    }

    /// An object, idle or new, filled by its only holder so far.
    #[must_use]
    pub fn acquire(&self, fill: impl FnOnce(&mut T)) -> Joint<T> {
        let (mut shell, stub) = self.0.acquire().split();
        match Arc::get_mut(&mut shell) {
            Some(member) => {
                member.stub = Some(stub);
                fill(&mut member.object);
            }
            None => unreachable!("an idle object has one holder, the pool"),
        }
        Joint(Some(shell))
    }

    /// The pool itself, to be tended and asked for its figures.
    #[must_use]
    pub fn pool(&self) -> &Pool<Arc<Member<T>>> {
        &self.0
    }
}

impl<T: Recycle + Sync> Clone for JointPool<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Recycle + Sync> fmt::Debug for JointPool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An object of a [`JointPool`], with its place in the pool's counts while it is in use. Field order is drop order: it is
/// gone before it is counted as such.
pub struct Member<T: Recycle + Sync> {
    object: T,
    stub: Option<Stub<Arc<Self>>>,
}

impl<T: Recycle + Sync> Recycle for Arc<Member<T>> {
    const MOST_HELD: u64 = T::MOST_HELD;

    fn make() -> Self {
        Self::new(Member { object: T::make(), stub: None })
    }

    fn reset(&mut self) -> bool {
        Self::get_mut(self).is_some_and(|member| member.object.reset())
    }

    fn bytes(&self) -> u64 {
        self.object.bytes()
    }
}

/// One holder's part in the use of an object; its clones are the others'. The last one's drop gives the object back, but
/// for a drop in the middle of a panic, which discards it.
pub struct Joint<T: Recycle + Sync>(Option<Arc<Member<T>>>);

impl<T: Recycle + Sync> Clone for Joint<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Recycle + Sync> Drop for Joint<T> {
    fn drop(&mut self) {
        let Some(mut shell) = self.0.take() else { return };
        // The count alone would not order what others did before; `get_mut` does. It is looked at first because it is cheap.
        if Arc::strong_count(&shell) > 1 || std::thread::panicking() {
            return;
        }
        if let Some(stub) = Arc::get_mut(&mut shell).and_then(|member| member.stub.take()) {
            Lease::new(shell, stub).give_back();
        }
    }
}

impl<T: Recycle + Sync> Deref for Joint<T> {
    type Target = T;
    fn deref(&self) -> &T {
        match &self.0 {
            Some(shell) => &shell.object,
            None => unreachable!("a holder holds its object until it lets go"),
        }
    }
}

impl<T: Recycle + Sync + fmt::Debug> fmt::Debug for Joint<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: Recycle + Sync> fmt::Debug for Member<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("in_use", &self.stub.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::time::Duration;

    use super::*;

    struct Shell(Option<u64>);

    impl Recycle for Shell {
        fn make() -> Self {
            Self(None)
        }
        fn reset(&mut self) -> bool {
            self.0 = None;
            true
        }
        fn bytes(&self) -> u64 {
            size_of::<Self>() as u64
        }
    }

    fn pool() -> JointPool<Shell> {
        JointPool::new(Limits { initial: 0, max_idle: 8, idle_max_age: Duration::from_secs(60), alert_below: 0.8 })
    }

    #[test]
    fn an_object_goes_back_when_its_last_holder_lets_go_whoever_that_is() {
        let pool = pool();
        for first_leaves in [true, false] {
            let one = pool.acquire(|shell| assert_eq!(shell.0.replace(7), None, "it is clean"));
            let other = one.clone();
            let (sooner, later) = if first_leaves { (one, other) } else { (other, one) };
            drop(sooner);
            assert_eq!(pool.pool().stats().idle, 0, "the other may still look at it");
            assert_eq!((*later).0, Some(7));
            drop(later);
            assert_eq!(pool.pool().stats().idle, 1);
        }
        let stats = pool.pool().stats();
        assert_eq!((stats.created_total, stats.returned_total, stats.discarded_total), (1, 2, 0));
    }

    #[test]
    fn what_a_panic_lets_go_of_is_discarded_and_counted() {
        let pool = pool();
        let held = pool.acquire(|_| ());
        assert!(
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _held = held;
                panic!("on purpose");
            }))
            .is_err()
        );
        let stats = pool.pool().stats();
        assert_eq!((stats.live, stats.discarded_total, stats.returned_total), (0, 1, 0));
    }

    #[test]
    fn holders_that_let_go_at_once_return_or_discard_an_object_once() {
        let (pool, rounds) = (pool(), 500);
        let barrier = Barrier::new(2);
        std::thread::scope(|scope| {
            let (one, other) = crossbeam_channel::bounded::<Joint<Shell>>(1);
            let barrier = &barrier;
            scope.spawn(move || {
                for held in other {
                    barrier.wait();
                    drop(held);
                }
            });
            for _ in 0..rounds {
                let held = pool.acquire(|_| ());
                one.send(held.clone()).expect("the other holder is there");
                barrier.wait();
                drop(held);
            }
        });
        let stats = pool.pool().stats();
        assert_eq!(stats.acquired_total, rounds);
        assert_eq!(stats.returned_total + stats.discarded_total, rounds);
        assert_eq!(stats.live, stats.idle);
    }
}
