//! The HTTP/1.1 server machinery: listener, connections, framing and the watcher. It knows no route, no key and no
//! provider: what is served lies behind [`Service`].
//!
//! A request's way: `accept` takes the socket in and `crew` finds it a thread; `serve` goes through its requests, one after
//! the other: `head` and `framing` judge the head, strictly, [`Service::admit`] whether its body is wanted, `connection`
//! reads the body, [`Service::serve`] answers through an [`Exchange`], which may move to another thread as a
//! [`StreamWriter`]. A connection that falls quiet is parked with the `watcher` and holds neither thread nor buffer; the
//! watcher also notices the clients that leave while their requests run. Read `connection` first, then `watcher`; `link` for
//! where TLS stands.

mod accept;
mod caller;
mod certificates;
mod chunked;
mod connection;
mod crew;
mod exchange;
mod framing;
mod head;
mod input;
mod limits;
mod link;
mod parking;
mod refusal;
mod response;
mod running;
mod serve;
mod server;
mod service;
mod stream;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "without_tls.rs"]
mod tls;
mod watcher;

pub use caller::{client_address, is_from_another_site, sent_key};
pub use certificates::{Certificates, Look};
pub use exchange::{Exchange, Finished};
pub use head::{Head, Version};
pub use limits::Limits;
pub use response::Response;
pub use server::{ConnectionStats, Server, StartError};
pub use service::{Admission, Hold, Request, Service};
pub use stream::{SendError, StreamWriter};
pub use watcher::Watcher;
