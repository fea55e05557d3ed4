//! A stream that is held until its end was seen, and delivered in one go: `stream_recovery: buffer`.
//!
//! **Protocol.** The worker reads the stream as any other, but into memory, and answers its waiter as with a whole answer:
//! what is cut, stalls or fails in whatever way is an error of the attempt, before a byte of it has reached the client, and
//! may be tried again. The sink never stands in the job: it stays with the waiter, who alone owns it (I1). He delivers the
//! stream, so that a client that reads slowly holds no worker; and with `early_keepalive` he sends comments meanwhile,
//! which commit the status 200 but say nothing of the answer, so that trying again stays possible.
//!
//! **Limits.** In time those of any stream, silence and `stream_max_duration`, and the request's deadline. In bytes what a
//! whole answer may have: more than that is no answer, and there must be room for it in the gateway's budget.
//!
//! **Invariants.** I1. I2: the bytes are a guard, given back before the stream's last byte is written. I4. I5.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempt::{Active, MAX_ANSWER, Scratch};
use super::face::{Face, WorkerState};
use super::headers;
use super::job::{Progress, Reached};
use super::pool::Shared;
use super::relay::refused;
use super::source::{KEEP_ALIVE_EVERY, Outlet, Source, bad};
use super::whole::Room;
use crate::error::{Attempt, Error};
use crate::model::{Answer, Call, Served, Sink, StreamEnd, StreamHead, StreamKind};
use crate::queue::Bytes;
use crate::recycle::Buffer;
use crate::sync::threads;
use crate::time::{Deadline, now};
use crate::transport::Incoming;
use crate::wire::sse;

/// Reads the stream whose head has come to its end.
pub(super) fn run(
    shared: &Shared,
    face: &Face,
    mut active: Active,
    incoming: Incoming,
    first_until: Deadline,
    scratch: &mut Scratch,
) {
    let settings = &shared.attempt.settings;
    let _due = threads::due(shared.attempt.longest(&active.call));
    let mut source = Source::new(shared, &active, incoming.body, scratch);
    let mut kept =
        Kept { room: Room::new(shared, &active.call, None), body: shared.stock.responses.buffer(), until: first_until };
    let opened = source.open(&active, scratch, first_until, false);
    if opened.is_ok() {
        let took = active.timing().upstream;
        source.heard(active.taken + took);
        active.pass.begun(took);
    }
    let read = opened.and_then(|opened| {
        let began = now();
        kept.until = source.longest(&active.call, began);
        source.follow(&active.call, began, opened, scratch, &mut kept)?;
        source.finish(scratch, &mut kept)
    });
    let usage = source.note(&active.running, active.taken, now());
    face.enter(WorkerState::Responding);
    let Kept { room: Room { held, .. }, body, .. } = kept;
    match read {
        Ok(()) => {
            let headers = active.headers(shared, incoming.headers);
            let served = active.served(shared, active.timing());
            let answer = Answer { status: incoming.status, headers, body, usage, served };
            active.end(shared, Ok(Reached::Answer(answer, held)));
            source.wind_up(scratch);
        }
        Err(error) => {
            // Before the waiter hears: it may try again at once, and finds what this attempt held.
            drop((source, body, held));
            active.end(shared, Err(headers::with_upstream(error, incoming.headers, &settings.mask)));
        }
    }
}

/// What has come of a stream.
struct Kept<'a> {
    room: Room<'a>,
    body: Buffer,
    /// How long room may be waited for.
    until: Deadline,
}

impl Outlet for Kept<'_> {
    fn take(&mut self, events: &mut Vec<u8>) -> Result<(), Error> {
        let wanted = self.body.len() + events.len();
        if wanted > MAX_ANSWER {
            return Err(bad(format!("the stream is larger than {MAX_ANSWER} bytes")));
        }
        self.room.make(&mut self.body, wanted, self.until)?;
        self.body.append(events);
        Ok(())
    }

    fn is_live(&self) -> bool {
        false
    }
}

/// Delivers a stream that was held, on the thread that waited for it.
pub(super) fn deliver(mut sink: Box<dyn Sink>, call: &Call, progress: &Progress, answer: Answer, held: Option<Bytes>) {
    let Answer { headers, body, usage, mut served, .. } = answer;
    served.overhead = served.timing.overhead(call.arrived, now());
    let (provider, model) = (Arc::clone(&served.provider), served.model.clone());
    let sent = sink.begin(StreamHead { kind: StreamKind::Events, headers, served });
    let sent = sent.and_then(|()| if body.is_empty() { Ok(()) } else { sink.event(&body) });
    drop((body, held));
    sink.finish(match sent {
        Ok(()) => StreamEnd::Complete(usage),
        Err(error) => {
            let mut attempts = progress.tried.clone();
            attempts.push(Attempt::of(&provider, &model, None, now().saturating_duration_since(call.arrived)));
            StreamEnd::Failed(refused(error, &call.cancel).with_provider(&provider).with_attempts(attempts))
        }
    });
}

/// Comments for a client whose stream is held. The first of them brings the head, which says who was asked then.
pub(super) struct Heartbeat<'a> {
    pub(super) sink: &'a mut dyn Sink,
    pub(super) call: &'a Call,
    pub(super) provider: &'a Arc<str>,
    pub(super) model: &'a str,
    pub(super) progress: &'a Progress,
}

impl Heartbeat<'_> {
    /// When the next comment is due: every so long from the request's arrival, whichever attempt is under way.
    pub(super) fn next(&self, now: Instant) -> Deadline {
        next_beat(self.call.arrived, now)
    }

    /// Sends one.
    ///
    /// # Errors
    /// If the client is not there any more; its request is cancelled then.
    pub(super) fn beat(&mut self) -> Result<(), Error> {
        // How an attempt that is under way spends its time only its worker knows; it is not ours.
        let mut timing = self.progress.spent;
        timing.upstream += timing.overhead(self.call.arrived, now());
        let served = Served {
            provider: Arc::clone(self.provider),
            model: self.model.to_owned(),
            attempts: self.progress.attempts + 1,
            fallbacks: self.progress.fallbacks,
            timing,
            overhead: Duration::ZERO,
        };
        let head = StreamHead { kind: StreamKind::Events, headers: Vec::new(), served };
        let sent = self.sink.begin(head).and_then(|()| self.sink.event(sse::KEEP_ALIVE));
        sent.map_err(|error| refused(error, &self.call.cancel))
    }
}

fn next_beat(arrived: Instant, now: Instant) -> Deadline {
    let gone = now.saturating_duration_since(arrived).as_nanos() / KEEP_ALIVE_EVERY.as_nanos();
    let beats = u32::try_from(gone).unwrap_or(u32::MAX).saturating_add(1);
    Deadline::from(arrived, KEEP_ALIVE_EVERY.saturating_mul(beats))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_due_at_even_times_from_the_arrival() {
        let (arrived, second) = (now(), Duration::from_secs(1));
        for (gone, due) in [(0, 15), (14, 15), (15, 30), (16, 30), (44, 45), (3600, 3615)] {
            assert_eq!(next_beat(arrived, arrived + gone * second), Deadline::from(arrived, due * second), "{gone} s");
        }
    }
}
