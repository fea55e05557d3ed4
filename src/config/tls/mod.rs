//! The settings of `server.tls`: which files, and how old a client may be. What is made of the files is in `files`, with
//! the feature `tls`.

#[cfg(feature = "tls")]
mod files;
#[cfg(not(feature = "tls"))]
#[path = "without_files.rs"]
mod files;

use std::path::{Path, PathBuf};

pub use files::LoadedTls;

/// The oldest version of TLS that a client may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246), and 1.3.
    Tls12,
    /// TLS 1.3 (RFC 8446) alone.
    Tls13,
}

/// TLS on the data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// The server's certificate and those between it and its root, in PEM, its own first.
    pub cert_file: PathBuf,
    /// The certificate's private key in PEM, not encrypted.
    pub key_file: PathBuf,
    /// The authorities, in PEM, one of which a client's certificate must come from. Without it none is asked for.
    pub client_ca_file: Option<PathBuf>,
    /// The oldest version that a client may speak.
    pub min_version: TlsVersion,
}

impl Tls {
    /// The files that it names.
    #[doc(hidden)]
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.cert_file), Some(&self.key_file), self.client_ca_file.as_ref()].into_iter().flatten().map(|f| &**f)
    }
}
