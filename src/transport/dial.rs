//! Making a connection: name, gate, TCP, TLS, within one time limit and open to a cancel at every moment.
//!
//! The socket is attached to the request's token before it connects. On Linux, shutting a connecting socket down ends the
//! attempt and wakes who waits for it; a cancel that comes between attaching and connecting is found by looking at the
//! token once the attempt has begun.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use rustix::event::PollFlags;
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, Type};

use super::attempt::Attempt;
use super::endpoint::Endpoint;
use super::gate::is_public;
use super::link::{Link, Stream};
use super::resolver::{Resolver, literal};
use super::socket::{self, Socket, ignore_slice};
use super::stack::ConnectionCounts;
use super::tls;
use super::{TransportError, TransportErrorKind as Kind};
use crate::sync::{Abort, Attached};
use crate::time::{Deadline, now};

/// How connections to one provider are made.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) tls: Option<tls::Client>,
    pub(super) resolver: Arc<Resolver>,
    /// Whether a name may lead to an address that is not public. A base URL that itself is such an address says so.
    pub(super) allow_private: bool,
}

impl Dialer {
    /// A fresh connection for `attempt`.
    pub(super) fn dial(&self, attempt: &Attempt, figures: &ConnectionCounts) -> Result<Link, TransportError> {
        let by = attempt.connect_by.earlier(attempt.deadline);
        let addresses = self.resolver.resolve(&self.endpoint.host, &attempt.cancel, by);
        let addresses = addresses.map_err(|error| whose_limit(error, attempt))?;
        let addresses = self.admit(&addresses)?;
        let (tcp, attached) = self.connect(&addresses, attempt, by)?;
        figures.opened.inc();
        let open = figures.open.enter();
        let socket = Socket::new(tcp);
        let stream = match &self.tls {
            None => Stream::Plain(socket),
            Some(client) => {
                let shaken = client.connect(socket, by);
                Stream::Tls(Box::new(shaken.map_err(|error| self.tls_failed(error, attempt))?))
            }
        };
        Ok(Link::new(attached, attempt.cancel.clone(), stream, Arc::clone(&self.endpoint), open))
    }

    /// The addresses that may be gone to.
    fn admit(&self, addresses: &[IpAddr]) -> Result<Vec<IpAddr>, TransportError> {
        let consented = self.allow_private || literal(&self.endpoint.host).is_some();
        let admitted: Vec<_> = addresses.iter().copied().filter(|address| consented || is_public(*address)).collect();
        if admitted.is_empty() {
            let message = format!("{} leads to a private address, which its provider does not allow", self.endpoint);
            return Err(TransportError::new(Kind::Refused, message));
        }
        Ok(admitted)
    }

    /// Tries one address after the other, each with its share of the time that is left.
    fn connect(
        &self,
        addresses: &[IpAddr],
        attempt: &Attempt,
        by: Deadline,
    ) -> Result<(Arc<TcpStream>, Attached), TransportError> {
        let mut first_error = None;
        for (tried, address) in addresses.iter().enumerate() {
            let start = now();
            let shares = u32::try_from(addresses.len() - tried).unwrap_or(1);
            let share = Deadline::from(start, by.remaining_at(start) / shares);
            match self.connect_one(SocketAddr::new(*address, self.endpoint.port), attempt, share) {
                Ok(connected) => return Ok(connected),
                Err(error) if matches!(error.kind, Kind::Cancelled(_)) => return Err(error),
                // The first address is the one that the name server prefers, so its error says most.
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| TransportError::new(Kind::Resolve, "no address to connect to")))
    }

    fn connect_one(
        &self,
        address: SocketAddr,
        attempt: &Attempt,
        by: Deadline,
    ) -> Result<(Arc<TcpStream>, Attached), TransportError> {
        let doing = format!("connecting to {} at {}", self.endpoint, address.ip());
        let failed = |error: io::Error| match error.kind() {
            ErrorKind::TimedOut if by.passed() => {
                whose_limit(TransportError::new(Kind::ConnectTimeout, format!("{doing} took too long")), attempt)
            }
            _ => TransportError::because(Kind::Connect, &doing, error),
        };
        let tcp = Arc::new(unconnected(address).map_err(failed)?);
        let attached = attempt.cancel.attach(Arc::clone(&tcp) as Arc<dyn Abort>).map_err(TransportError::cancelled)?;
        let connected = connect_by(&tcp, address, by, &|| attempt.cancel.is_cancelled());
        match attempt.cancel.reason() {
            Some(reason) => Err(TransportError::cancelled(reason)),
            None => connected.map_err(failed).map(|()| (tcp, attached)),
        }
    }

    fn tls_failed(&self, error: io::Error, attempt: &Attempt) -> TransportError {
        if let Some(reason) = attempt.cancel.reason() {
            return TransportError::cancelled(reason);
        }
        let doing = format!("TLS with {}", self.endpoint);
        match error.kind() {
            ErrorKind::TimedOut => {
                whose_limit(TransportError::new(Kind::ConnectTimeout, format!("{doing} took too long")), attempt)
            }
            // What rustls says of certificates and messages; everything else is the connection's end.
            ErrorKind::InvalidData => TransportError::because(Kind::Tls, doing, error),
            _ => TransportError::because(Kind::Connect, doing, error),
        }
    }
}

/// A connecting time-out is the request's own when its deadline was the nearer of the two.
fn whose_limit(mut error: TransportError, attempt: &Attempt) -> TransportError {
    if error.kind == Kind::ConnectTimeout && attempt.deadline < attempt.connect_by {
        error.kind = Kind::Timeout;
    }
    error
}

fn unconnected(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// Connects a non-blocking socket and makes it a blocking one.
fn connect_by(tcp: &TcpStream, to: SocketAddr, by: Deadline, is_cancelled: &dyn Fn() -> bool) -> io::Result<()> {
    match SockRef::from(tcp).connect(&to.into()) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            while !is_cancelled() && ignore_slice(socket::wait(tcp, PollFlags::OUT, by))?.is_none() {}
            if let Some(error) = tcp.take_error()? {
                return Err(error);
            }
        }
        other => other?,
    }
    tcp.set_nonblocking(false)
}
