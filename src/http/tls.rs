//! TLS on a client's connection: rustls between the socket and whoever reads and writes.
//!
//! Read `link` first, which says when a session is begun and what it owes those who wait.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConnection;

use super::link::{Until, send_now, stalled};
use super::stream::SendError;
use crate::config::LoadedTls;
use crate::net::DeadlineStream;

/// How much of an answer a session encrypts ahead of its socket: the rest waits where it lies.
const SEND_BUFFER: usize = 32 << 10;

/// A TLS session, from the client's first bytes on.
#[derive(Debug)]
pub(super) struct Session {
    tls: ServerConnection,
    /// How many bytes it has decrypted that nobody has read yet.
    decrypted: usize,
}

impl Session {
    /// A session with a client that has yet to be heard.
    pub(super) fn begin(loaded: &LoadedTls) -> io::Result<Box<Self>> {
        let mut tls = ServerConnection::new(Arc::clone(&loaded.config)).map_err(io::Error::other)?;
        tls.set_buffer_limit(Some(SEND_BUFFER));
        Ok(Box::new(Self { tls, decrypted: 0 }))
    }

    /// Whether hands are still to be shaken.
    pub(super) fn is_shaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether something was decrypted that nobody has read yet.
    pub(super) fn has_input(&self) -> bool {
        self.decrypted > 0
    }

    /// Takes in what was read already.
    pub(super) fn fill_all(&mut self, mut bytes: &[u8]) -> io::Result<usize> {
        let all = bytes.len();
        while !bytes.is_empty() {
            self.fill(&mut bytes)?;
        }
        Ok(all)
    }

    /// Reads from the socket once and takes in what came. How many bytes that were.
    ///
    /// # Errors
    /// `InvalidData` for what is no TLS or not to be trusted; whatever else the socket says.
    pub(super) fn fill(&mut self, from: &mut dyn Read) -> io::Result<usize> {
        let n = self.tls.read_tls(from)?;
        let state = self.tls.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        self.decrypted = state.plaintext_bytes_to_read();
        Ok(n)
    }

    /// Reads what was decrypted; reads from the socket once if that is nothing.
    ///
    /// # Errors
    /// `WouldBlock` if something came, but nothing whole; whatever else the socket or TLS says.
    pub(super) fn read(&mut self, socket: &TcpStream, into: &mut [u8], from: &mut dyn Read) -> io::Result<usize> {
        if self.decrypted == 0 {
            let filled = self.fill(from);
            // What the session itself has to say, a ticket or an alert, goes out now, or with the next answer.
            self.tell(socket);
            filled?;
        }
        match self.tls.reader().read(into) {
            // The end without TLS's word for it: whether something is missing, the framing of HTTP tells.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
            read => {
                self.decrypted = self.decrypted.saturating_sub(*read.as_ref().unwrap_or(&0));
                read
            }
        }
    }

    /// Encrypts `first` and then `second`, and writes them. What the client stalls it is taken off `patience`.
    pub(super) fn send(
        &mut self,
        (mut first, mut second): (&[u8], &[u8]),
        socket: &TcpStream,
        stream: &mut DeadlineStream,
        patience: &mut Duration,
    ) -> Result<(), SendError> {
        while !(first.is_empty() && second.is_empty()) {
            let parts = [IoSlice::new(first), IoSlice::new(second)];
            let taken = self.tls.writer().write_vectored(&parts).map_err(|_| SendError::Gone)?;
            if taken == 0 && !self.tls.wants_write() {
                return Err(SendError::Gone);
            }
            let rest = taken.saturating_sub(first.len());
            (first, second) = (first.get(taken..).unwrap_or_default(), &second[rest..]);
            self.flush(socket, stream, patience)?;
        }
        Ok(())
    }

    /// Writes everything that is encrypted. What the client stalls it is taken off `patience`.
    pub(super) fn flush(
        &mut self,
        socket: &TcpStream,
        stream: &mut DeadlineStream,
        patience: &mut Duration,
    ) -> Result<(), SendError> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Now(socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    stalled(patience, |until| self.tls.write_tls(&mut Until(stream, until)))?;
                }
                Err(_) => return Err(SendError::Gone),
            }
        }
        Ok(())
    }

    /// Writes what the socket takes at once.
    pub(super) fn tell(&mut self, socket: &TcpStream) {
        while self.tls.wants_write() && self.tls.write_tls(&mut Now(socket)).is_ok() {}
    }

    /// Says that nothing more is sent, as far as the socket takes it at once.
    pub(super) fn say_end(&mut self, socket: &TcpStream) {
        self.tls.send_close_notify();
        self.tell(socket);
    }
}

/// Writes that never wait.
struct Now<'a>(&'a TcpStream);

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        send_now(self.0, &[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        send_now(self.0, parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
