//! The gateway through its library face: admission, waiting, cancelling, streams, panics, the end, and that it all adds up.

mod admission;
mod ending;
mod panics;
mod passing;
mod pooling;
mod streams;
mod waiting;
