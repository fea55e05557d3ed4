//! The server machinery of `http`, over real sockets.

mod framing;
mod ledger;
mod lifecycle;
mod limits;
mod streams;
mod support;
mod tls;
mod watching;
