//! What stands for TLS on a client's connection in a build without the feature `tls`: there is nothing to begin a
//! [`Session`] with, so that there is none.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::Duration;

use super::stream::SendError;
use crate::config::LoadedTls;
use crate::net::DeadlineStream;

/// A TLS session, if there could be one.
#[derive(Debug)]
pub(super) enum Session {}

impl Session {
    pub(super) fn begin(loaded: &LoadedTls) -> io::Result<Box<Self>> {
        match *loaded {}
    }

    pub(super) fn is_shaking(&self) -> bool {
        match *self {}
    }

    pub(super) fn has_input(&self) -> bool {
        match *self {}
    }

    pub(super) fn fill_all(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn fill(&mut self, _from: &mut dyn Read) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn read(&mut self, _socket: &TcpStream, _into: &mut [u8], _from: &mut dyn Read) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn send(
        &mut self,
        _parts: (&[u8], &[u8]),
        _socket: &TcpStream,
        _stream: &mut DeadlineStream,
        _patience: &mut Duration,
    ) -> Result<(), SendError> {
        match *self {}
    }

    pub(super) fn flush(
        &mut self,
        _socket: &TcpStream,
        _stream: &mut DeadlineStream,
        _patience: &mut Duration,
    ) -> Result<(), SendError> {
        match *self {}
    }

    pub(super) fn tell(&mut self, _socket: &TcpStream) {
        match *self {}
    }

    pub(super) fn say_end(&mut self, _socket: &TcpStream) {
        match *self {}
    }
}
