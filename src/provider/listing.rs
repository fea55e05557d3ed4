//! A provider's own list of its models, asked for by a worker like any job.
//!
//! **Protocol.** Whoever wants the list puts a [`Listing`] into a lane, as a health check is, without a place or a call, and waits
//! for its [`Answer`] as long as it likes; then it cancels it, which a worker that has not begun sees. So no thread is
//! started for it, and a worker is away for [`LIST_TIMEOUT`] at most. It is counted among no jobs, and says nothing of health,
//! circuits or keys.
//!
//! **Invariants.** I1: a listing that is dropped, by a panic or a pool's end, closes its answer. I4: at most one stands in the lanes
//! of a provider or runs there, and [`MOST_READ`] bytes are read. I5.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::health;
use super::pool::{PoolPhase, Shared, stopping};
use crate::error::{Code, Error};
use crate::sync::CancelToken;
use crate::time::Deadline;
use crate::transport::{TransportError, TransportErrorKind};
use crate::wire::openai::is_success;

/// The longest that a provider's list is waited for.
pub(crate) const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest list that is read, in bytes: the longest that is known, OpenRouter's, has less than one.
const MOST_READ: usize = 4 << 20;

/// Whether a list is being asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listed(Arc<AtomicBool>);

/// The right to ask for it; dropped, another may.
#[derive(Debug)]
struct Turn(Listed);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::SeqCst);
    }
}

/// A list that a worker is to ask for. Field order is drop order: who waits for it hears when another may ask.
#[derive(Debug)]
pub(crate) struct Listing {
    turn: Turn,
    token: CancelToken,
    until: Deadline,
    answer: Sender<Result<Vec<u8>, Error>>,
}

/// Where a list comes; dropped, it is not waited for any more.
#[derive(Debug)]
pub(crate) struct Coming {
    token: CancelToken,
    answer: Receiver<Result<Vec<u8>, Error>>,
}

impl Coming {
    /// The list's bytes, once they are there.
    ///
    /// # Errors
    /// Why they are not to be had, or not until `until`.
    pub(crate) fn wait(self, until: Deadline) -> Result<Vec<u8>, Error> {
        use crossbeam_channel::RecvTimeoutError::{Disconnected, Timeout};
        match self.answer.recv_timeout(until.remaining()) {
            Ok(answer) => answer,
            Err(Timeout) => Err(Error::new(Code::UpstreamTimeout, "the list of models did not come in time")),
            Err(Disconnected) => Err(Error::new(Code::Internal, "the list of models was lost")),
        }
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.token.cancel();
    }
}

/// Has a worker ask for the list, until `until` at most.
///
/// # Errors
/// If nothing new is let in.
pub(super) fn begin(shared: &Shared, until: Deadline) -> Result<Coming, Error> {
    if shared.phase() >= PoolPhase::Draining {
        return Err(stopping(&shared.settings.name));
    }
    if shared.gate.is_paused() {
        return Err(Error::new(Code::CircuitOpen, "the provider is paused"));
    }
    if shared.listed.0.swap(true, Ordering::SeqCst) {
        return Err(Error::new(Code::QueueFull, "the list that was asked for before still waits for a worker"));
    }
    let turn = Turn(shared.listed.clone());
    let (answer, comes) = bounded(1);
    let token = CancelToken::new();
    let coming = Coming { token: token.clone(), answer: comes };
    let listing = Listing { turn, token, until, answer };
    let job = shared.stock.jobs.acquire(|job| job.fill_listing(listing));
    let pushed = shared.lanes.push(job);
    pushed.map(|()| coming).map_err(|_| Error::new(Code::QueueFull, "the provider's lanes have no slot"))
}

/// Asks for the list, unless nobody waits for it any more.
pub(super) fn run(shared: &Shared, listing: Listing) {
    if listing.token.is_cancelled() {
        return;
    }
    let list = ask(shared, &listing);
    let Listing { turn, answer, .. } = listing;
    drop(turn);
    // There is room for it; whoever should take it may have gone.
    let _ = answer.try_send(list);
}

fn ask(shared: &Shared, listing: &Listing) -> Result<Vec<u8>, Error> {
    let settings = &shared.attempt.settings;
    let path = settings.paths.whole_list(settings.dialects);
    let sent = health::ask(shared, &path, &listing.token, listing.until);
    let failed = |error: TransportError| {
        let code = match error.kind {
            TransportErrorKind::Timeout | TransportErrorKind::ConnectTimeout => Code::UpstreamTimeout,
            _ => Code::UpstreamConnectError,
        };
        Error::new(code, settings.mask.apply(error.message.clone())).with_source(error)
    };
    let mut incoming = sent.map_err(failed)?;
    if !is_success(incoming.status) {
        let text = format!("it answers {} where its list of models is asked for", incoming.status);
        return Err(Error::new(Code::UpstreamBadResponse, text));
    }
    let (mut piece, mut body) = ([0; 4096], Vec::new());
    loop {
        match incoming.body.read(&mut piece, listing.until) {
            Ok(0) => return Ok(body),
            Ok(n) if body.len() + n > MOST_READ => {
                return Err(Error::new(Code::UpstreamBadResponse, "its list of models is longer than 4 MiB"));
            }
            Ok(n) => body.extend_from_slice(&piece[..n]),
            Err(error) => return Err(failed(error)),
        }
    }
}
