//! A value that exactly one of several threads gets.

use std::fmt;

use super::locks::{Leaf, LockClass};

/// Holds one value for whoever takes it first; everybody else finds it gone.
///
/// This is the compare-and-swap by which a worker and a waiter settle who owns a job, or a client's connection (I1): to
/// have the value is to have won.
pub struct Slot<T>(Leaf<Option<T>>);

impl<T> Slot<T> {
    /// Puts `value` in, or nothing, for the only one who can see the slot; what was in it comes back.
    pub fn set(&mut self, value: Option<T>) -> Option<T> {
        std::mem::replace(self.0.get_mut(), value)
    }

    /// A slot that holds `value`.
    #[must_use]
    pub const fn new(class: &'static LockClass, value: T) -> Self {
        Self(Leaf::new(class, Some(value)))
    }

    /// A slot that holds nothing: whoever comes finds the value gone.
    #[must_use]
    pub const fn empty(class: &'static LockClass) -> Self {
        Self(Leaf::new(class, None))
    }

    /// The value, if nobody took it yet.
    #[must_use]
    #[track_caller]
    pub fn take(&self) -> Option<T> {
        self.0.lock().take()
    }

    /// Whether the value is still there; it may be gone by the time the caller looks at the answer.
    #[must_use]
    #[track_caller]
    pub fn is_held(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Looks at the value under the lock, if it is still there. `look` must be short and take no lock.
    #[track_caller]
    pub fn peek<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.0.lock().as_ref().map(look)
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_held() { "Slot(held)" } else { "Slot(taken)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::locks::classes::TEST_LEAF;

    #[test]
    fn of_many_takers_one_wins() {
        for _ in 0..if cfg!(miri) { 5 } else { 200 } {
            let slot = Slot::new(&TEST_LEAF, 7);
            let wins: usize = std::thread::scope(|scope| {
                let takers: Vec<_> = (0..4).map(|_| scope.spawn(|| usize::from(slot.take().is_some()))).collect();
                takers.into_iter().map(|taker| taker.join().expect("no panic")).sum()
            });
            assert_eq!(wins, 1);
        }
    }
}
