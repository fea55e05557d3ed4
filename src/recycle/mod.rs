//! Object pools: things that cost something to make are used again, reset, bounded and counted.
//!
//! **Protocol.** [`Pool::acquire`] gives a [`Lease`]: an idle object if there is one (the last returned, whose memory is
//! warm), else a new one from the factory. [`Lease::give_back`] resets the object and makes it idle; a lease that is merely
//! dropped discards its object. So a thing goes back only where somebody knows that every other holder has let go (I3), and
//! forgetting costs an allocation, never a mix-up. Two kinds of lease know it by their type and go back by their drop: a
//! [`Buffer`], which has one owner, and a [`Joint`], whose last holder is found by its reference count. A drop in the middle
//! of a panic discards: what the panic left half done is nobody's to use again.
//!
//! **What it saves.** `cargo bench --bench pools` prints it: a whole request allocates 8.9 KB in 35 pieces instead of 26.8 KB
//! in 46, which shows in throughput by a few per cent at most. Acquiring takes 20 to 35 ns and giving back 30 to 50, on one
//! thread as on two. A reply channel takes 300 ns and more to make, so its pool pays; a body's memory grows once and then
//! serves whoever comes next, instead of standing with each of thousands of workers. A job's shell saves nothing: glibc
//! makes and frees one in 17 ns, a fourth of what its pool takes. It is pooled because its pool counts and shows what the
//! page's message pool does, at 50 ns a request. So the pools stay small: what is idle for `idle_max_age` goes, and bytes
//! are bounded.
//!
//! **Invariants.** I3; I4: at most `max_idle` objects stand idle and hold at most [`Recycle::MOST_HELD`] bytes, none of them
//! longer than `idle_max_age` past a sweep. Whenever nobody is inside: `acquired = hits + misses`,
//! `acquired = returned + discarded + out`, and `created = live + discarded + evicted` where `live = idle + out`. All are
//! counted under the pool's one lock, so a snapshot never tears.
//!
//! **Lock order.** The idle set is a leaf, and so are the samples; factory, reset and drops run outside both.
//!
//! Read `pool` for the idle set, `lease`, `buffer` and `joint` for who holds an object, `watch` for ratios and alerts.

mod buffer;
mod joint;
mod lease;
mod pool;
mod watch;

use std::time::Duration;

pub use buffer::{Buffer, Buffers, KEPT};
pub use joint::{Joint, JointPool, Member};
pub use lease::{Lease, Tag};
pub use pool::Pool;
pub use watch::{FEWEST, PoolStats};

/// What can be pooled.
pub trait Recycle: Send + 'static {
    /// The most bytes that idle objects of one pool hold; what comes back beyond is discarded.
    const MOST_HELD: u64 = u64::MAX;

    /// Makes a new one.
    fn make() -> Self;

    /// Clears all state. `false` if that cannot be done, or the object is not worth keeping: it is discarded then.
    fn reset(&mut self) -> bool;

    /// The bytes that using it again saves, once it is reset.
    fn bytes(&self) -> u64;
}

/// How a pool is sized and watched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// How many objects are made beforehand; no more than `max_idle` are.
    pub initial: usize,
    /// How many idle objects are kept; 0 turns pooling off.
    pub max_idle: usize,
    /// How long an object stands idle until a sweep throws it away.
    pub idle_max_age: Duration,
    /// The share of hits (0 to 1) below which an alert is raised.
    pub alert_below: f64,
}
