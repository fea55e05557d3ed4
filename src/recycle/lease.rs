//! The use of one object by one holder, and what stays with an object for as long as it lives.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::Recycle;
use super::pool::Home;
use crate::time::Stamp;

/// What is known of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Unique in its pool, never used again for another.
    pub id: u64,
    /// When it was made.
    pub created: Stamp,
    /// When it was last acquired; when it was made if it never was.
    pub acquired: Stamp,
    /// When it was last returned; when it was made if it never was.
    pub returned: Stamp,
    /// Whether it may be used again after this use.
    pub reusable: bool,
}

impl Tag {
    pub(super) fn new(id: u64, now: Stamp) -> Self {
        Self { id, created: now, acquired: now, returned: now, reusable: true }
    }
}

/// A lease without its object: its place in the pool's counts. Dropping it counts the object as discarded.
pub(super) struct Stub<T> {
    pub(super) home: Option<Arc<Home<T>>>,
    pub(super) tag: Tag,
    /// Whether this use is one of those that are timed.
    pub(super) sampled: bool,
}

impl<T> Drop for Stub<T> {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.discarded();
        }
    }
}

/// The use of one object. Dropping it discards the object; [`Lease::give_back`] returns it.
///
/// Field order is drop order: an object is gone before it is counted as such.
pub struct Lease<T: Recycle> {
    object: Option<T>,
    stub: Option<Stub<T>>,
}

impl<T: Recycle> Lease<T> {
    pub(super) fn new(object: T, stub: Stub<T>) -> Self {
        Self { object: Some(object), stub: Some(stub) }
    }

    /// What is known of the object.
    #[must_use]
    pub fn tag(&self) -> &Tag {
        match &self.stub {
            Some(stub) => &stub.tag,
            None => unreachable!("a lease holds its object until it ends"),
        }
    }

    /// Marks the object as used for the last time: however this lease ends, it is discarded.
    pub fn use_once(&mut self) {
        if let Some(stub) = &mut self.stub {
            stub.tag.reusable = false;
        }
    }

    /// Resets the object and makes it idle, unless it is marked, cannot be reset, or enough are idle already.
    pub fn give_back(self) {
        let (object, stub) = self.split();
        Home::put(object, stub);
    }

    /// The object for good; it is counted as discarded.
    pub(super) fn detach(self) -> T {
        self.split().0
    }

    pub(super) fn split(mut self) -> (T, Stub<T>) {
        match (self.object.take(), self.stub.take()) {
            (Some(object), Some(stub)) => (object, stub),
            _ => unreachable!("a lease holds its object until it ends"),
        }
    }
}

impl<T: Recycle> Deref for Lease<T> {
    type Target = T;
    fn deref(&self) -> &T {
        match &self.object {
            Some(object) => object,
            None => unreachable!("a lease holds its object until it ends"),
        }
    }
}

impl<T: Recycle> DerefMut for Lease<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.object {
            Some(object) => object,
            None => unreachable!("a lease holds its object until it ends"),
        }
    }
}

impl<T: Recycle> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(self.tag()).finish()
    }
}
