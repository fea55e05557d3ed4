//! The gateway through its library face: admission, waiting, cancelling, streams, panics, the end, and that it all adds up.

mod admission;
mod attempts;
mod breaker;
mod bytes;
mod calls;
mod custom;
mod ending;
mod figures;
mod keys;
mod limits;
mod map;
mod panics;
mod passing;
mod plugin_faults;
mod plugins;
mod pooling;
mod reload;
mod response_cache;
mod routes;
mod script;
mod shedding;
mod streams;
mod submit;
mod vitals;
mod waiting;
