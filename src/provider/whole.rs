//! A whole answer, or a stream that is held until its end, read into memory that the gateway's byte budget has room for.
//!
//! The first 64 KiB are every worker's own: most answers fit, and cost the budget nothing. What goes past them is taken from
//! the budget before it is read, all at once if the length was announced and else in steps that double, so that what a
//! `Vec` has allocated is what was taken. The reference page's "acquire resources with time-out": who gets no room in time
//! ends with `resource_timeout`, and the connection with it.
//!
//! **Invariants.** I2: the bytes are a guard, which goes with the answer until it is written. I4. I5.

use std::time::Duration;

use super::attempt::{Active, transport_error};
use super::pool::{Shared, cancelled};
use crate::error::{Code, Error};
use crate::model::Call;
use crate::queue::{Bytes, TakeError};
use crate::time::Deadline;
use crate::transport::{Body, TransportError};

/// What a worker may hold of an answer without asking, in bytes.
pub(super) const OWN: usize = 64 << 10;

/// How long room is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why an answer was not read to its end.
enum Fault {
    Transport(TransportError),
    Room(Error),
}

impl From<TransportError> for Fault {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

/// Reads `body` into `into`, at most `limit` bytes and until `until`; what it holds of the budget, if anything.
pub(super) fn read(
    shared: &Shared,
    active: &Active,
    body: &mut Body,
    limit: usize,
    until: Deadline,
    into: &mut Vec<u8>,
) -> Result<Option<Bytes>, Error> {
    let announced = body.content_length().and_then(|length| usize::try_from(length).ok());
    let mut room = Room::new(shared, &active.call, announced);
    let read =
        body.read_in_pieces(limit, until, into, |into, wanted| room.make(into, wanted, until).map_err(Fault::Room));
    match read {
        Ok(()) => Ok(room.held),
        Err(Fault::Transport(error)) => Err(transport_error(shared, active, error)),
        Err(Fault::Room(error)) => Err(error),
    }
}

/// The room that one answer takes.
pub(super) struct Room<'a> {
    shared: &'a Shared,
    call: &'a Call,
    /// How long the answer will be, if that is known.
    announced: Option<usize>,
    /// What is held of the budget, if anything.
    pub(super) held: Option<Bytes>,
}

impl<'a> Room<'a> {
    pub(super) fn new(shared: &'a Shared, call: &'a Call, announced: Option<usize>) -> Self {
        Self { shared, call, announced, held: None }
    }

    /// Has room for `into` to become `wanted` bytes long, waited for until `until` at the most.
    ///
    /// # Errors
    /// [`Code::ResourceTimeout`] if there is none in time.
    pub(super) fn make(&mut self, into: &mut Vec<u8>, wanted: usize, until: Deadline) -> Result<(), Error> {
        let allowed = OWN + self.held.as_ref().map_or(0, |held| held.count() as usize);
        if wanted <= allowed {
            return Ok(());
        }
        let next = self.announced.unwrap_or(2 * allowed).max(wanted);
        let more = self.take(next - allowed, until)?;
        match &mut self.held {
            Some(held) => held.absorb(more),
            None => self.held = Some(more),
        }
        into.reserve_exact(next - into.len());
        Ok(())
    }

    fn take(&self, bytes: usize, until: Deadline) -> Result<Bytes, Error> {
        let until = until.earlier(Deadline::after(PATIENCE));
        self.shared.attempt.bytes.take(bytes as u64, until, &self.call.cancel).map_err(|error| match error {
            TakeError::Cancelled(reason) => cancelled(reason),
            TakeError::TimedOut | TakeError::Closed => {
                let text = format!(
                    "no room for {bytes} bytes more of the answer came free in time (server.max_buffered_bytes)"
                );
                Error::new(Code::ResourceTimeout, text)
            }
        })
    }
}
