//! What threads need from one another: ranked locks, named threads, quit signals, cancelling, one-taker slots.
//!
//! This layer knows nothing of requests, providers or sockets. Read `locks` first: everything above takes its locks from
//! there, and the rules about what may be held across what are enforced in it.

pub mod cancel;
pub mod crew;
pub mod limits;
pub mod locks;
pub mod quit;
pub mod slot;
pub mod threads;

pub use cancel::{Abort, Attached, CancelReason, CancelToken};
pub use crew::{Crew, Seat};
pub use locks::{ChannelLock, Leaf, LockError, LockTimes, Ranked};
pub use quit::{Quit, QuitSignal};
pub use slot::Slot;
pub use threads::{Role, State, Thread, Threads};
