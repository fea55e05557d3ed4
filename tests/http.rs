//! The server machinery of `http`, over real sockets.

mod cases;
mod floods;
mod framing;
mod ledger;
mod lifecycle;
mod limits;
mod raw;
mod streams;
mod support;
mod tls;
mod watching;
