//! TLS to a provider: rustls over a socket that waits with deadlines.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::sync::Arc;

use rustix::event::PollFlags;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::endpoint::BuildError;
use super::socket::{Socket, ignore_slice};
use crate::time::Deadline;

/// How TLS to one provider is begun. Its sessions are resumable, since all of them share it.
#[derive(Debug)]
pub(super) struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Client {
    /// TLS to `host`, whose certificate must bear that name.
    ///
    /// The built-in roots are trusted, or, where `ca_cert_pem` is given, its certificates instead: who names an authority
    /// means that one and no other.
    ///
    /// # Errors
    /// If `ca_cert_pem` holds no certificate, or one that cannot be read; if `host` is neither a name nor an address.
    pub(super) fn new(host: &str, ca_cert_pem: Option<&str>) -> Result<Self, BuildError> {
        let config = config(ca_cert_pem)?;
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| BuildError::new(format!("{host:?} is no name of a server")))?;
        Ok(Self { config, name })
    }

    /// Shakes hands on a connected socket.
    ///
    /// # Errors
    /// `TimedOut` at the deadline; `InvalidData` with rustls's reason; whatever else the socket says.
    pub(super) fn connect(&self, socket: Socket, deadline: Deadline) -> io::Result<Tls> {
        let session = ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(invalid)?;
        let mut tls = Tls { session, socket };
        while tls.session.is_handshaking() {
            tls.flush(deadline)?;
            if tls.session.wants_read() && tls.fill(deadline)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        tls.flush(deadline)?;
        Ok(tls)
    }
}

fn config(ca_cert_pem: Option<&str>) -> Result<Arc<ClientConfig>, BuildError> {
    let mut roots = RootCertStore::empty();
    match ca_cert_pem {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate =
                    certificate.map_err(|error| BuildError::new(format!("ca_cert_pem cannot be read: {error}")))?;
                roots
                    .add(certificate)
                    .map_err(|error| BuildError::new(format!("ca_cert_pem holds a bad certificate: {error}")))?;
            }
            if roots.is_empty() {
                return Err(BuildError::new("ca_cert_pem holds no certificate"));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| BuildError::new(format!("TLS is not available: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A TLS session over a socket.
#[derive(Debug)]
pub(super) struct Tls {
    session: ClientConnection,
    socket: Socket,
}

impl Tls {
    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Sends what there is room for and cuts it off `bytes`; `WouldBlock` as long as something is left, also in the session.
    pub(super) fn push(&mut self, bytes: &mut &[u8]) -> io::Result<()> {
        loop {
            while self.session.wants_write() {
                self.session.write_tls(&mut NoWait(&self.socket))?;
            }
            if bytes.is_empty() {
                return Ok(());
            }
            let taken = self.session.writer().write(bytes)?;
            *bytes = &bytes[taken..];
        }
    }

    /// Reads what is there, waiting for it until `deadline`. 0 is the peer's word that it has ended.
    ///
    /// # Errors
    /// `UnexpectedEof` if the connection ended without that word; `TimedOut`; `InvalidData` for what is no TLS.
    pub(super) fn read(&mut self, buf: &mut [u8], deadline: Deadline) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            self.fill(deadline)?;
            self.answer_quietly();
        }
    }

    /// Reads what is there; `WouldBlock` if nothing is.
    pub(super) fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                other => return other,
            }
            self.session.read_tls(&mut NoWait(&self.socket))?;
            self.session.process_new_packets().map_err(invalid)?;
            self.answer_quietly();
        }
    }

    fn fill(&mut self, deadline: Deadline) -> io::Result<usize> {
        let n = self.session.read_tls(&mut Waiting(&mut self.socket, deadline))?;
        if let Err(error) = self.session.process_new_packets() {
            // The alert that says why: the peer's log is where its operator looks.
            self.answer_quietly();
            return Err(invalid(error));
        }
        Ok(n)
    }

    fn flush(&mut self, deadline: Deadline) -> io::Result<()> {
        loop {
            match self.push(&mut &[][..]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ignore_slice(self.socket.wait(PollFlags::OUT, deadline))?;
                }
                other => return other,
            }
        }
    }

    /// Sends what the session itself has to say, a key update or an alert, if there is room; it is sent with the next bytes
    /// otherwise.
    fn answer_quietly(&mut self) {
        while self.session.wants_write() {
            if self.session.write_tls(&mut NoWait(&self.socket)).is_err() {
                break;
            }
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

struct Waiting<'a>(&'a mut Socket, Deadline);

impl io::Read for Waiting<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf, self.1)
    }
}

struct NoWait<'a>(&'a Socket);

impl io::Read for NoWait<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

impl io::Write for NoWait<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
