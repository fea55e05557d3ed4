//! Every lock of the gateway: leaves, under which nothing is locked, and ranked locks, taken in order and timed (I6).
//!
//! **Which one.** A [`Leaf`] for a few instructions; a [`Ranked`] where inner locks are taken under it; [`lock_all`] for
//! several ranked ones at once; a [`ChannelLock`] where I/O is done or threads are started under it.
//!
//! **Lock order.** A lock belongs to a [`LockClass`] with a name and a rank; ranks grow downwards through the layers
//! (`class`). Every acquisition is checked against what its thread holds, and each order of two classes is entered with its
//! sites when it is first seen (`order`). A violation names both sites; it panics where assertions are on and is counted
//! and logged elsewhere.
//!
//! **Deadlocks.** Where an order was wrong all the same, in a release or because ranks are, the [`Detector`] finds the cycle
//! among those who wait, ends the wait of one (`detector`, `graph`), and learns which order came to it (`patterns`).
//!
//! **Cost.** The uncontended path reads and writes one thread-local and one word beside the lock: no clock, no shared
//! counter. Everything else is paid by those who wait. `benches/locks.rs` shows it beside a plain mutex.

mod channel;
mod class;
mod detector;
mod graph;
mod held;
mod leaf;
mod multi;
mod order;
mod patterns;
mod ranked;
mod stats;
#[cfg(test)]
mod tests;
mod wait;

pub use channel::{ChannelGuard, ChannelLock, Token};
pub use class::{LockClass, classes};
pub use detector::{Deadlock, Detector, LASTING, Lasting, Look};
#[cfg(any(test, debug_assertions))]
pub use held::{Unordered, unordered};
pub use leaf::{Leaf, LeafGuard};
pub use multi::{AllGuard, lock_all};
pub use order::{Edge, edges};
pub use patterns::{MOST_PATTERNS, Pattern};
pub use ranked::{Ranked, RankedGuard};
pub use stats::{LockStats, stats};
pub use wait::{LockError, LockErrorKind, LockTimes, Wait};
