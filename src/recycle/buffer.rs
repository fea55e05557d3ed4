//! Bytes whose memory goes back to its pool by their drop: they have one owner, so nobody else can hold on to them.

use std::fmt;
use std::mem::take;
use std::ops::{Deref, DerefMut};

use super::{Lease, Pool, Recycle};

/// A pool of memory for bytes.
pub type Buffers = Pool<Vec<u8>>;

/// The most memory of one buffer that is kept, in bytes. What is announced as longer never comes from a pool, and what
/// grows longer does not go back.
pub const KEPT: usize = 64 << 10;

/// What a buffer is made with, in bytes: a short chat fits.
const FRESH: usize = 1 << 10;

/// What a buffer keeps at least, in bytes, however little of it was used.
const FLOOR: usize = 4 << 10;

impl Recycle for Vec<u8> {
    const MOST_HELD: u64 = 32 << 20;

    fn make() -> Self {
        Self::with_capacity(FRESH)
    }

    fn reset(&mut self) -> bool {
        // One long body in a hundred would else make every buffer a long one in time, and thousands of short requests in
        // flight would each hold it. So what was hardly used is cut back.
        let wanted = FLOOR.max(self.len() * 2);
        self.clear();
        if self.capacity() > wanted * 2 {
            self.shrink_to(wanted);
        }
        (1..=KEPT).contains(&self.capacity())
    }

    fn bytes(&self) -> u64 {
        self.capacity() as u64
    }
}

impl Buffers {
    /// An empty buffer of this pool.
    #[must_use]
    pub fn buffer(&self) -> Buffer {
        Buffer(Held::Pooled(self.acquire()))
    }

    /// An empty buffer for so many bytes, if that is known: of this pool, unless there is nothing to hold or more than is
    /// ever kept.
    #[must_use]
    pub fn buffer_for(&self, announced: Option<u64>) -> Buffer {
        match announced {
            Some(length) if length == 0 || length > KEPT as u64 => Buffer::default(),
            _ => self.buffer(),
        }
    }
}

/// Bytes with one owner. If their memory is a pool's, it goes back there when they are dropped, but for a drop in the
/// middle of a panic, which discards it.
///
/// ```
/// use sluicegate::Gateway;
/// use sluicegate::model::Operation;
///
/// let gateway = Gateway::from_env()?;
/// let body = gateway.raw(Operation::Embeddings, r#"{"model":"sim/echo","input":"Hello"}"#)?.body;
/// assert!(body.starts_with(b"{"), "it is read like any slice");
/// let kept: Vec<u8> = body.into_vec();
/// assert!(kept.ends_with(b"}"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Buffer(Held);

enum Held {
    Own(Vec<u8>),
    Pooled(Lease<Vec<u8>>),
}

impl Default for Held {
    fn default() -> Self {
        Self::Own(Vec::new())
    }
}

impl Buffer {
    /// The bytes for good. Memory of a pool is lost to it, and counted as discarded.
    #[must_use]
    pub fn into_vec(mut self) -> Vec<u8> {
        match take(&mut self.0) {
            Held::Own(bytes) => bytes,
            Held::Pooled(lease) => lease.detach(),
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Held::Pooled(lease) = take(&mut self.0)
            && !std::thread::panicking()
        {
            lease.give_back();
        }
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;
    fn deref(&self) -> &Vec<u8> {
        match &self.0 {
            Held::Own(bytes) => bytes,
            Held::Pooled(lease) => lease,
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        match &mut self.0 {
            Held::Own(bytes) => bytes,
            Held::Pooled(lease) => lease,
        }
    }
}

impl<T: Into<Vec<u8>>> From<T> for Buffer {
    fn from(bytes: T) -> Self {
        Self(Held::Own(bytes.into()))
    }
}

/// A copy has memory of its own.
impl Clone for Buffer {
    fn clone(&self) -> Self {
        Self(Held::Own(self.to_vec()))
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Buffer {
    fn eq(&self, other: &T) -> bool {
        self.as_slice() == other.as_ref()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Shows the length only: a user's words stand in it (I10).
impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::recycle::Limits;

    fn pool(max_idle: usize) -> Buffers {
        Pool::new(Limits { initial: 0, max_idle, idle_max_age: Duration::from_secs(60), alert_below: 0.7 })
    }

    #[test]
    fn memory_comes_back_by_a_drop_and_is_empty_for_the_next() {
        let pool = pool(4);
        let mut first = pool.buffer();
        first.extend_from_slice(&[b'x'; 3000]);
        let memory = first.as_ptr();
        drop(first);
        let second = pool.buffer();
        assert!(second.is_empty());
        assert_eq!(second.as_ptr(), memory, "it is the same");
        let stats = pool.stats();
        assert_eq!(
            (stats.hits_total, stats.returned_total, stats.bytes_reused_total),
            (1, 1, second.capacity() as u64)
        );
    }

    #[test]
    fn what_its_owner_keeps_is_lost_to_the_pool_and_counted() {
        let pool = pool(4);
        let mut buffer = pool.buffer();
        buffer.extend_from_slice(b"mine");
        assert_eq!(buffer.into_vec(), b"mine");
        let stats = pool.stats();
        assert_eq!((stats.live, stats.discarded_total), (0, 1));
    }

    #[test]
    fn what_is_announced_as_too_long_or_empty_never_comes_from_the_pool() {
        let pool = pool(4);
        for announced in [0, KEPT as u64 + 1, u64::MAX] {
            drop(pool.buffer_for(Some(announced)));
        }
        assert_eq!(pool.stats().acquired_total, 0);
        drop(pool.buffer_for(Some(KEPT as u64)));
        drop(pool.buffer_for(None));
        assert_eq!((pool.stats().acquired_total, pool.stats().returned_total), (2, 2));
    }

    #[test]
    fn a_buffer_that_grew_too_long_is_discarded_and_one_hardly_used_is_cut_back() {
        let pool = pool(4);
        pool.buffer().resize(KEPT + 1, 0);
        assert_eq!(pool.stats().discarded_total, 1);
        pool.buffer().resize(KEPT, 0);
        assert_eq!(pool.stats().bytes_held, KEPT as u64, "it was used and is kept");
        pool.buffer().push(b'x');
        assert!(pool.stats().bytes_held <= 2 * FLOOR as u64, "{:?}", pool.stats());
    }

    #[test]
    fn idle_bytes_are_bounded_whatever_their_number() {
        let pool = pool(100_000);
        let most = Vec::MOST_HELD / KEPT as u64;
        let all: Vec<_> = (0..most + 5)
            .map(|_| {
                let mut buffer = pool.buffer();
                buffer.reserve_exact(KEPT);
                buffer.resize(KEPT, 0);
                buffer
            })
            .collect();
        drop(all);
        let stats = pool.stats();
        assert_eq!((stats.idle, stats.discarded_total), (most, 5));
        assert!(stats.bytes_held <= Vec::MOST_HELD);
    }

    #[test]
    fn its_words_are_not_shown() {
        assert_eq!(format!("{:?}", Buffer::from(*b"secret")), "Buffer(6 bytes)");
    }
}
