//! Certificates made for a test: an authority, what it signs, and clients that trust it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use sluicegate::config::{Tls, TlsVersion};
use tempfile::TempDir;

use crate::house::FUSE;

/// A client's side of a session.
pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Who signs.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A pair for `localhost` and 127.0.0.1.
    pub(crate) fn issue(&self) -> Pair {
        self.issue_until(2999)
    }

    /// One whose time was over long ago.
    pub(crate) fn issue_expired(&self) -> Pair {
        self.issue_until(2001)
    }

    fn issue_until(&self, year: i32) -> Pair {
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("a certificate");
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// What a client that trusts this authority begins with.
    pub(crate) fn client(&self) -> ClientConfig {
        self.client_of(rustls::ALL_VERSIONS, None)
    }

    /// The same, of these versions and with this certificate of its own.
    pub(crate) fn client_of(&self, versions: &[&'static SupportedProtocolVersion], own: Option<&Pair>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("a certificate");
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(vec![cert], key).expect("they fit")
            }
        };
        config.resumption = Resumption::in_memory_sessions(8);
        config
    }
}

/// A folder with a certificate and its key in it, as an operator has one.
pub(crate) struct Files {
    folder: TempDir,
}

impl Files {
    pub(crate) fn of(pair: &Pair) -> Self {
        let files = Self { folder: tempfile::tempdir().expect("a folder") };
        files.put(pair);
        files
    }

    /// Replaces both files.
    pub(crate) fn put(&self, pair: &Pair) {
        self.write("cert.pem", &pair.cert);
        self.write("key.pem", &pair.key);
    }

    /// Writes a file as a whole: beside it first, then over it.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let (path, beside) = (self.path(name), self.path("beside"));
        std::fs::write(&beside, text).expect("it is written");
        std::fs::rename(&beside, &path).expect("it is moved");
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn settings(&self) -> Tls {
        Tls {
            cert_file: self.path("cert.pem"),
            key_file: self.path("key.pem"),
            client_ca_file: None,
            min_version: TlsVersion::Tls12,
        }
    }
}

/// A client's side of a session with whoever listens there; hands are shaken when it is first used.
pub(crate) fn connect(to: SocketAddr, config: &Arc<ClientConfig>) -> Stream {
    let socket = TcpStream::connect(to).expect("it listens");
    socket.set_nodelay(true).expect("connected");
    socket.set_read_timeout(Some(FUSE)).expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).expect("a session"), socket)
}
