//! The files of `server.tls`: read, checked against each other, and made into what a TLS session is begun with.
//!
//! What a message says of a key file is where it lies and what is wrong with it, never a line of it (I10).

use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use zeroize::Zeroizing;

use super::super::error::Problem;
use super::{Tls, TlsVersion};
use crate::time::unix_ms;

/// The longest file that is read: a few hundred certificates.
const FILE_LIMIT: u64 = 1 << 20;

/// The only protocol that is offered: a client that speaks HTTP/2 alone is refused in the handshake.
const ALPN: &[u8] = b"http/1.1";

static TLS13_ALONE: [&SupportedProtocolVersion; 1] = [&version::TLS13];

/// What sessions are begun with, until the files change.
#[derive(Clone)]
pub struct LoadedTls {
    /// Its tickets are its own: a session of an older one is not resumed, so that no client passes by what has changed.
    pub(crate) config: Arc<ServerConfig>,
    certificate: CertificateDer<'static>,
}

impl fmt::Debug for LoadedTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedTls").finish_non_exhaustive()
    }
}

impl LoadedTls {
    /// What is to be warned of in a certificate that is used all the same: it has expired, or is not valid yet.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        let now = UnixTime::since_unix_epoch(Duration::from_millis(unix_ms()));
        let parsed = ParsedCertificate::try_from(&self.certificate).ok()?;
        // Without a root it is trusted by nobody; before that is found its times are looked at.
        let algorithms = ring::default_provider().signature_verification_algorithms.all;
        let judged =
            verify_server_cert_signed_by_trust_anchor(&parsed, &RootCertStore::empty(), &[], now, algorithms).err()?;
        let days = |a: UnixTime, b: UnixTime| a.as_secs().saturating_sub(b.as_secs()) / 86_400;
        match judged {
            rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => {
                Some(format!("the certificate expired {} days ago; clients will refuse it", days(time, not_after)))
            }
            rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => {
                let days = days(not_before, time);
                Some(format!("the certificate is valid only in {days} days; until then clients will refuse it"))
            }
            _ => None,
        }
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Everything that is wrong with them: missing, not what they should hold, or not fitting each other.
    #[doc(hidden)]
    pub fn load(&self) -> Result<LoadedTls, Vec<Problem>> {
        let chain = certificates("cert_file", &self.cert_file);
        let key = private_key(&self.key_file);
        let authorities = self.client_ca_file.as_ref().map(|path| authorities(path)).transpose();
        match (chain, key, authorities) {
            (Ok(chain), Ok(key), Ok(authorities)) => self.fit(chain, key, authorities).map_err(|problem| vec![problem]),
            (chain, key, authorities) => {
                Err([chain.err(), key.err(), authorities.err()].into_iter().flatten().collect())
            }
        }
    }

    fn fit(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        authorities: Option<RootCertStore>,
    ) -> Result<LoadedTls, Problem> {
        let provider = Arc::new(ring::default_provider());
        let unavailable = |error: rustls::Error| problem("min_version", format!("TLS is not available: {error}"));
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(self.min_version.and_later())
            .map_err(unavailable)?;
        let builder = match authorities {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                let bad = |error| problem("client_ca_file", format!("its certificates cannot be used: {error}"));
                builder.with_client_cert_verifier(verifier.map_err(bad)?)
            }
        };
        let certificate = chain[0].clone();
        let mut config = builder.with_single_cert(chain, key).map_err(|error| self.misfit(&error))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.ticketer = ring::Ticketer::new().map_err(unavailable)?;
        Ok(LoadedTls { config: Arc::new(config), certificate })
    }

    fn misfit(&self, error: &rustls::Error) -> Problem {
        let (cert, key) = (self.cert_file.display(), self.key_file.display());
        match error {
            rustls::Error::InconsistentKeys(_) => problem(
                "key_file",
                format!("the key in {key} does not fit the first certificate in {cert}; name its own"),
            ),
            rustls::Error::InvalidCertificate(error) => {
                problem("cert_file", format!("the first certificate in {cert} cannot be used: {error:?}"))
            }
            // Whatever else is wrong is wrong with the key, and its words are no secret's: they name algorithms.
            other => problem(
                "key_file",
                format!(
                    "the key in {key} cannot be used: {other}; write an RSA key of 2048 bits or more, ECDSA or Ed25519"
                ),
            ),
        }
    }
}

impl TlsVersion {
    fn and_later(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Tls12 => rustls::ALL_VERSIONS,
            Self::Tls13 => &TLS13_ALONE,
        }
    }
}

fn problem(key: &str, message: String) -> Problem {
    Problem { path: format!("server.tls.{key}"), message }
}

/// A file's bytes, which are gone from memory once they are parsed: one of them is a key.
fn read(key: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let shown = path.display();
    let unreadable = |error: &dyn fmt::Display| problem(key, format!("cannot read the file {shown}: {error}"));
    let file = std::fs::File::open(path).map_err(|error| unreadable(&error))?;
    // Room for all of it at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_LIMIT as usize + 1));
    file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(unreadable(&"it is longer than 1 MiB"));
    }
    Ok(bytes)
}

fn holds(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let (bytes, shown) = (read(key, path)?, path.display());
    let damaged = |_| problem(key, format!("a certificate in {shown} is damaged; write certificates in PEM"));
    let chain = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>().map_err(damaged)?;
    if chain.is_empty() {
        let hint = match holds(&bytes, "PRIVATE KEY-----") {
            true => "it holds a private key; is that key_file?",
            false => "write a file that has -----BEGIN CERTIFICATE----- in it",
        };
        return Err(problem(key, format!("there is no certificate in {shown}: {hint}")));
    }
    Ok(chain)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Problem> {
    let (bytes, shown) = (read("key_file", path)?, path.display());
    if holds(&bytes, "BEGIN ENCRYPTED PRIVATE KEY") || holds(&bytes, "Proc-Type: 4,ENCRYPTED") {
        let text = format!(
            "the key in {shown} is encrypted, and nobody is there to type its password: decrypt it (openssl pkey) and guard the file"
        );
        return Err(problem("key_file", text));
    }
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(_) if holds(&bytes, "BEGIN CERTIFICATE") && !holds(&bytes, "PRIVATE KEY-----") => Err(problem(
            "key_file",
            format!("there is no private key in {shown}: it holds a certificate; is that cert_file?"),
        )),
        Err(_) => {
            let text = format!(
                "there is no private key in {shown}, or it is damaged: write one in PEM (-----BEGIN PRIVATE KEY-----)"
            );
            Err(problem("key_file", text))
        }
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, Problem> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("client_ca_file", path)? {
        let shown = path.display();
        let bad = |error| problem("client_ca_file", format!("a certificate in {shown} is no authority's: {error}"));
        roots.add(certificate).map_err(bad)?;
    }
    Ok(roots)
}
