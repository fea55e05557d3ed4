//! Several ranked locks at once: in the one order that everybody keeps to, under one deadline, all of them or none.
//!
//! **Protocol.** Whatever order the caller names them in, they are taken by rank and, within a class, by address, one after
//! the other. If one is not had, those taken so far are given back in reverse, and the error names the one that was not.
//! The guards stand in the caller's order; they are given back in the reverse of the order taken.
//!
//! **Invariants.** I5: one deadline for all. I6.

use std::panic::Location;

use super::order::Asked;
use super::ranked::{Ranked, RankedGuard};
use super::wait::{LockError, Patience, Wait};

/// Takes all of `locks`, waiting as `wait` says for all of them together.
///
/// # Errors
/// If one was not had; none is held then.
///
/// # Panics
/// Where assertions are on: if this thread holds a lock that is to be taken after one of these, or one of these is named
/// twice.
#[track_caller]
pub fn lock_all<'a, 'w, T>(
    locks: impl IntoIterator<Item = &'a Ranked<T>>,
    wait: impl Into<Wait<'w>>,
) -> Result<AllGuard<'a, T>, LockError> {
    let (site, mut patience) = (Location::caller(), Patience::new(wait.into()));
    let mut sorted: Vec<_> = locks.into_iter().enumerate().collect();
    sorted.sort_by_key(|(_, lock)| (lock.class().rank(), lock.class().number(), lock.id()));
    let mut all = AllGuard { guards: Vec::new(), order: Vec::with_capacity(sorted.len()) };
    all.guards.resize_with(sorted.len(), || None);
    for (place, lock) in sorted {
        // On an error `all` drops here, and gives back what it has.
        all.guards[place] = Some(lock.lock_as(Asked::Sorted, &mut patience, site)?);
        all.order.push(place);
    }
    Ok(all)
}

/// Several ranked locks that are held.
#[derive(Debug)]
pub struct AllGuard<'a, T> {
    /// In the caller's order; each is there from when it is taken until the drop.
    guards: Vec<Option<RankedGuard<'a, T>>>,
    /// The places of those that are held, in the order taken.
    order: Vec<usize>,
}

impl<T> AllGuard<'_, T> {
    /// The values, in the order in which the locks were named.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.guards.iter_mut().flatten().map(|guard| &mut **guard)
    }
}

impl<T> Drop for AllGuard<'_, T> {
    fn drop(&mut self) {
        while let Some(place) = self.order.pop() {
            self.guards[place] = None;
        }
    }
}
