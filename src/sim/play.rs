//! Playing one answer on one exchange: waits that end early, streams that break where the name says so.
//!
//! **Protocol.** A wait names three channels: the peer's leaving, the simulator's end, the time. Whichever comes first ends
//! it. **Invariants.** I1: every path answers, resets or aborts the exchange. I5: a wait without end has a day.

use std::mem::swap;
use std::time::Duration;

use crossbeam_channel::{at, select};

use super::figures::{End, Running};
use super::reply::{GARBAGE_BODY, Part, Reply, error_body, error_event, garbage_event};
use super::request::Shape;
use super::words::{Behaviour, Failure};
use crate::http::{Exchange, Finished, Response, SendError, StreamWriter};
use crate::sync::{CancelToken, QuitSignal, State, threads};
use crate::time::{Deadline, now};

/// How long `hang` and `stall` last at most.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The header on which a worker of the gateway panics, in test builds.
pub(super) const MARKER: (&str, &str) = ("x-sluicegate-sim", "panic");

const JSON: &str = "application/json";

/// Why an answer does not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    PeerLeft,
    Shutdown,
    /// Its name says so.
    Cut,
}

impl From<SendError> for Broken {
    fn from(_: SendError) -> Self {
        Self::PeerLeft
    }
}

impl Broken {
    fn end(self) -> End {
        if self == Self::PeerLeft { End::PeerLeft } else { End::Failed }
    }
}

/// What a wait listens to.
#[derive(Debug)]
struct Pause<'a> {
    peer: CancelToken,
    quit: &'a QuitSignal,
}

impl Pause<'_> {
    fn wait(&self, time: Duration) -> Result<(), Broken> {
        if time.is_zero() { Ok(()) } else { self.until(Deadline::after(time)) }
    }

    fn until(&self, deadline: Deadline) -> Result<(), Broken> {
        // As long as the model's name says, which may be a day.
        let (_waiting, _due) = (threads::enter(State::WaitingChannel), threads::due(Duration::MAX));
        select! {
            recv(self.peer.channel()) -> _ => Err(Broken::PeerLeft),
            recv(self.quit.channel()) -> _ => Err(Broken::Shutdown),
            recv(at(deadline.instant())) -> _ => Ok(()),
        }
    }
}

/// One answer about to be played.
#[derive(Debug)]
pub(super) struct Play<'a> {
    running: Running<'a>,
    behaviour: &'a Behaviour,
    pause: Pause<'a>,
    exchange: Exchange,
    shape: Shape,
    marked: bool,
}

impl<'a> Play<'a> {
    pub(super) fn new(
        running: Running<'a>,
        behaviour: &'a Behaviour,
        quit: &'a QuitSignal,
        mut exchange: Exchange,
        shape: Shape,
    ) -> Self {
        let peer = CancelToken::new();
        if behaviour.waits() {
            exchange.watch(&peer);
            // It will take long: a peer that leaves in its first 50 ms is to be noticed at once, too.
            exchange.watch_now();
        }
        Self { running, behaviour, pause: Pause { peer, quit }, exchange, shape, marked: false }
    }

    /// The wait before the first byte.
    pub(super) fn be_slow(&self) -> Result<(), Broken> {
        self.pause.wait(self.behaviour.slow)
    }

    /// Marks the answer for a worker to panic on.
    pub(super) fn mark(&mut self) {
        self.marked = true;
    }

    /// Says nothing until the peer leaves.
    pub(super) fn hang(self) -> Finished {
        let broken = self.pause.wait(DAY).err().unwrap_or(Broken::Cut);
        self.reset(broken)
    }

    /// Ends by a reset, with nothing answered.
    pub(super) fn reset(self, why: Broken) -> Finished {
        self.running.end(why.end());
        self.exchange.reset()
    }

    /// Answers that it cannot answer.
    pub(super) fn refuse(self, response: Response) -> Finished {
        self.running.end(End::Failed);
        self.exchange.respond(response)
    }

    /// Answers with an error.
    pub(super) fn fail(self, failure: Failure) -> Finished {
        let Failure { status, retry_after } = failure;
        let message = format!("the simulated provider was asked to fail with {status}");
        let mut response = Response::new(status).body(error_body(Some(self.shape), status, &message, None), JSON);
        if let Some(after) = retry_after {
            let seconds = after.as_millis().div_ceil(1000).to_string();
            response = response.header("retry-after", seconds).header("retry-after-ms", after.as_millis().to_string());
        }
        self.refuse(response)
    }

    /// Answers with a good status and an error object.
    pub(super) fn fail_inside_200(self, streamed: bool) -> Finished {
        let message = "the simulated provider was asked to fail inside a 200";
        self.running.end(End::Failed);
        if streamed {
            self.exchange.stream(stream_head()).finish_with(&error_event(self.shape, 500, message));
            return Finished::moved();
        }
        let body = error_body(Some(self.shape), 500, message, None);
        self.exchange.respond(Response::new(200).body(body, JSON))
    }

    /// Answers with a whole body, in the time that `tokens` of it take.
    pub(super) fn whole(self, body: Vec<u8>, tokens: u64) -> Finished {
        let Behaviour { ttft, gap, cut, stall, garbage, .. } = self.behaviour;
        if let Err(broken) = self.pause.wait(ttft.saturating_add(times(*gap, tokens.saturating_sub(1)))) {
            return self.reset(broken);
        }
        let body = if garbage.is_some() { GARBAGE_BODY.to_vec() } else { body };
        let head = self.marked_head(Response::new(200));
        if cut.is_none() && stall.is_none() {
            self.running.end(End::Answered);
            return self.exchange.respond(head.body(body, JSON));
        }
        let mut writer = self.exchange.stream(head.header("content-type", JSON));
        let sent = writer.send(&body[..body.len() / 2]).map_err(Broken::from);
        let broken = match (sent, cut) {
            (Ok(()), None) => self.pause.wait(DAY).err().unwrap_or(Broken::Cut),
            (Ok(()), Some(_)) => Broken::Cut,
            (Err(broken), _) => broken,
        };
        self.running.end(broken.end());
        writer.abort();
        Finished::moved()
    }

    /// Answers event by event.
    pub(super) fn stream(self, reply: &Reply<'_>) -> Finished {
        let head = self.marked_head(stream_head());
        let mut writer = self.exchange.stream(head);
        match relay(&mut writer, reply, self.behaviour, &self.pause) {
            Ok(last) => {
                self.running.end(End::Answered);
                writer.finish_with(&last);
            }
            Err(broken) => {
                self.running.end(broken.end());
                writer.abort();
            }
        }
        Finished::moved()
    }

    fn marked_head(&self, head: Response) -> Response {
        if self.marked { head.header(MARKER.0, MARKER.1) } else { head }
    }
}

fn stream_head() -> Response {
    Response::new(200).header("content-type", "text/event-stream; charset=utf-8").header("cache-control", "no-cache")
}

fn times(gap: Duration, count: u64) -> Duration {
    gap.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Sends the events, one a send. The last one is given back, so that the counts are settled before it goes out.
fn relay(
    writer: &mut StreamWriter,
    reply: &Reply<'_>,
    behaviour: &Behaviour,
    pause: &Pause<'_>,
) -> Result<Vec<u8>, Broken> {
    let mut events = reply.events();
    let (mut current, mut next) = (Vec::with_capacity(512), Vec::with_capacity(512));
    if !behaviour.ttft.is_zero() {
        writer.send(b"")?;
        pause.wait(behaviour.ttft)?;
    }
    let (mut tokens, mut sent) = (0, 0);
    let mut first_token = None;
    let mut part = events.next(&mut current);
    while let Some(what) = part {
        // Before the token that is one too many, and before the end in any case.
        let due = |after: Option<u64>| {
            after.is_some_and(|after| match what {
                Part::Opening => after == 0,
                Part::Token => tokens >= after,
                Part::Again => false,
                Part::Closing => true,
            })
        };
        if due(behaviour.cut) {
            writer.send(b"")?;
            return Err(Broken::Cut);
        }
        if due(behaviour.stall) {
            writer.send(b"")?;
            pause.wait(DAY)?;
            return Err(Broken::Cut);
        }
        if what == Part::Token {
            if !behaviour.gap.is_zero() {
                let first = *first_token.get_or_insert_with(now);
                if tokens > 0 {
                    pause.until(Deadline::from(first, times(behaviour.gap, tokens)))?;
                }
            }
            tokens += 1;
        }
        sent += 1;
        if behaviour.garbage == Some(sent) {
            writer.send(garbage_event(reply.shape))?;
            sent += 1;
        }
        next.clear();
        part = events.next(&mut next);
        if part.is_none() {
            break;
        }
        writer.send(&current)?;
        swap(&mut current, &mut next);
    }
    Ok(current)
}
