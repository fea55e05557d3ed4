//! Admission and waiting: permits say how many may be in the house, lanes are where they wait.
//!
//! Capacity is a permit, not a slot of a channel: admission is exact whatever the channels hold, and a place comes free
//! the moment its waiter leaves, although the job's shell still stands in its lane. Read `permits` for admission,
//! `lanes` for the order in which workers take jobs, `idle` for how one that waits is found, `bell` for how it is noticed that
//! there are too few, `bytes` for how much memory what is held whole may take, `spool` for lines that nobody may wait for.
//! Nothing here knows what a job is.

mod ages;
mod bell;
mod bytes;
mod idle;
mod lanes;
mod permits;
#[cfg(feature = "plugins")]
pub(crate) mod spool;

pub use bell::Bell;
pub use bytes::{ByteBudget, Bytes};
pub use idle::Seat;
pub use lanes::{LaneFull, Lanes, Queued, Shift, Taken};
pub use permits::{Permit, Permits, TakeError};
