//! The server machinery of `http`, over real sockets.

mod framing;
mod lifecycle;
mod limits;
mod streams;
mod support;
mod watching;
