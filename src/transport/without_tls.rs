//! What stands for TLS to a provider in a build without the feature `tls`: nobody has a [`Client`] or a [`Tls`].

use std::io;

use super::endpoint::BuildError;
use super::socket::Socket;
use crate::time::Deadline;

/// How TLS to one provider is begun, if it could be.
#[derive(Debug)]
pub(super) enum Client {}

impl Client {
    /// Says what is missing:
    ///
    /// ```
    /// let config = r#"{ "providers": { "openai": { "keys": [ { "value": "sk-1" } ] } } }"#;
    /// let config = sluicegate::Config::from_json(config, &|_: &str| None)?;
    /// let error = sluicegate::Gateway::builder().config(config).build().expect_err("there is no TLS").to_string();
    /// assert!(error.contains("openai: base_url asks for https") && error.contains("cargo feature `tls`"), "{error}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Always.
    pub(super) fn new(host: &str, _ca_cert_pem: Option<&str>) -> Result<Self, BuildError> {
        let text =
            format!("base_url asks for https to {host:?}, and sluicegate was built without its cargo feature `tls`");
        Err(BuildError::new(text))
    }

    pub(super) fn connect(&self, _socket: Socket, _deadline: Deadline) -> io::Result<Tls> {
        match *self {}
    }
}

/// A TLS session over a socket, if there could be one.
#[derive(Debug)]
pub(super) enum Tls {}

impl Tls {
    pub(super) fn socket(&self) -> &Socket {
        match *self {}
    }

    pub(super) fn push(&mut self, _bytes: &mut &[u8]) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn read(&mut self, _buf: &mut [u8], _deadline: Deadline) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn try_read(&mut self, _buf: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }
}
