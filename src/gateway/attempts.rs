//! The attempt loop: per target its tries, then the next target, under one deadline, on the thread that waits anyway.
//!
//! **Protocol.** An attempt's error is judged (`provider::judge`): the same target again after a pause, the same at once
//! with another key, the next target, or nowhere. A pause holds no worker and no place, and ends when the request is
//! cancelled or the gateway ends. Once a stream's first event is on its way, the worker has the sink and nothing is tried again; of one that is
//! held until its end, none is on its way before.
//!
//! **Pauses.** Full jitter under an exponential ceiling; where the provider said when to come again, that and up to a tenth
//! more is waited for if it is within `retry_after_patience` and the deadline, and else the next target is tried at once.
//! Retries are bounded per target by `max_retries` and per provider by its retry budget, so that they never become a storm
//! (P12).
//!
//! **What a failed request is told.** The first target's last error that came from upstream, else its last own, with every
//! attempt listed; but a request that was cancelled, or that comes while the gateway shuts down, hears of that.
//!
//! **Invariants.** I1: a sink comes back with the error. I5: every wait has a deadline and hears of a cancel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::select;

use super::house::{Plan, Target};
use crate::error::{Attempt, Code, Error, Origin};
use crate::metrics::Gauge;
use crate::model::{Call, Sink};
use crate::provider::{KeyReady, MOST_ROTATIONS, Next, Outcome, Progress, Provider, Reached, Verdict, judge};
use crate::sync::{CancelReason, QuitSignal, State, threads};
use crate::time::{Stamp, now};

/// How a request's attempts came out.
pub(super) struct Outcomes {
    /// The answer, word that the stream has begun, or the error that the request fails with.
    pub(super) result: Result<Reached, Error>,
    /// What was tried before the attempt that succeeded, or in all.
    pub(super) progress: Progress,
    /// The sink, if nothing was relayed into it.
    pub(super) sink: Option<Box<dyn Sink>>,
}

/// What is done after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Onward {
    /// The same target, after this pause.
    Again(Duration),
    /// The same target at once, with another key.
    Rotate,
    /// The next target, of another model if the flag is set.
    Leave { other_model: bool },
    /// Nothing more.
    End,
}

/// Runs the attempts of `call` at the targets of `plan`.
pub(super) fn run(call: &Arc<Call>, plan: &Plan, sink: Option<Box<dyn Sink>>, pauses: &Pauses) -> Outcomes {
    let mut run = Run { call, pauses, progress: Progress::default(), told: None, has_sink: sink.is_some(), sink };
    let mut too_small: Vec<&str> = Vec::new();
    let mut left: Option<&Provider> = None;
    let mut targets = plan.targets().peekable();
    while let Some(target) = targets.next() {
        if too_small.contains(&&*target.model) {
            continue;
        }
        if let Some(left) = left {
            left.note_fallback();
            run.progress.fallbacks += 1;
        }
        match run.target(target, left.is_none(), targets.peek().is_none()) {
            Ok(reached) => return run.over(Ok(reached)),
            Err(Ended::Leave { other_model }) if !run.is_late() => {
                if other_model {
                    too_small.push(&target.model);
                }
            }
            Err(_) => break,
        }
        left = Some(&target.provider);
    }
    let error = run.told.take().unwrap_or_else(|| Error::new(Code::Internal, "no attempt was made"));
    run.over(Err(error))
}

/// Requests that pause between two attempts, which the gateway's end does not find at any provider.
#[derive(Debug)]
pub(super) struct Pauses {
    under_way: Arc<Gauge>,
    /// Given when nothing is waited for any more.
    end: QuitSignal,
}

impl Pauses {
    /// They end with `end`.
    pub(super) fn until(end: QuitSignal) -> Self {
        Self { under_way: Arc::default(), end }
    }

    pub(super) fn under_way(&self) -> u64 {
        self.under_way.get()
    }
}

/// How a target's tries ended, but for success.
enum Ended {
    Leave { other_model: bool },
    End,
}

struct Run<'a> {
    call: &'a Arc<Call>,
    pauses: &'a Pauses,
    progress: Progress,
    /// What the request would fail with now.
    told: Option<Error>,
    has_sink: bool,
    sink: Option<Box<dyn Sink>>,
}

impl Run<'_> {
    /// Tries one target until it succeeds or is to be left.
    fn target(&mut self, target: &Target, is_first: bool, is_last: bool) -> Result<Reached, Ended> {
        let Target { provider, model, .. } = target;
        let (mut retries, mut rotations) = (0, 0);
        loop {
            let begun = now();
            let Outcome { result, timing, sink } = provider.attempt(self.call, model, &self.progress, self.sink.take());
            self.sink = sink;
            let error = match result {
                Ok(reached) => {
                    if let Some(meter) = &target.meter {
                        meter.note(self.call.fields.stream, timing.queue + timing.upstream, Stamp::now());
                    }
                    if let Reached::Answer(..) = reached {
                        self.progress.spent += timing;
                    }
                    return Ok(reached);
                }
                Err(error) => error,
            };
            let ended = now();
            self.progress.spent += timing;
            self.progress.attempts += 1;
            let attempt = Attempt::of(provider.name(), model, Some(&error), ended.saturating_duration_since(begun));
            self.progress.tried.push(attempt);
            let verdict = judge(&error);
            if let Some(meter) = &target.meter
                && matches!(verdict.next, Next::Same | Next::Key | Next::Other)
            {
                meter.failed(self.call.fields.stream, Stamp::now());
            }
            let onward = self.onward(&error, verdict, target, is_last, (retries, rotations), ended);
            self.note(provider.told(self.call, error, model, ended), is_first);
            match onward {
                Onward::Again(pause) => {
                    if !self.pause(pause) {
                        return Err(Ended::End);
                    }
                    retries += 1;
                    provider.note_retry();
                }
                Onward::Rotate => {
                    rotations += 1;
                    provider.note_retry();
                }
                Onward::Leave { other_model } => return Err(Ended::Leave { other_model }),
                Onward::End => {
                    self.note_leaving();
                    return Err(Ended::End);
                }
            }
        }
    }

    /// What comes after `error`, which was judged so.
    fn onward(
        &self,
        error: &Error,
        verdict: Verdict,
        target: &Target,
        is_last: bool,
        (retries, rotations): (u32, u32),
        now: Instant,
    ) -> Onward {
        let Target { provider, model, .. } = target;
        let is_cancelled = self.call.cancel.is_cancelled();
        if is_cancelled || self.is_late() || (self.has_sink && self.sink.is_none()) {
            return Onward::End;
        }
        let key_ready = || provider.key_ready(self.call, verdict.blame, model, now);
        if self.call.operation.is_forward() {
            // What is forwarded may have had its effect already, unless its key was turned away: it is sent once.
            let may_rotate = verdict.next == Next::Key && rotations < MOST_ROTATIONS;
            let other = may_rotate && matches!(key_ready(), KeyReady::Now { rests } if rests || rotations == 0);
            return if other { Onward::Rotate } else { Onward::End };
        }
        let leave = Onward::Leave { other_model: verdict.next == Next::OtherModel };
        let policy = provider.retries();
        let wait = match verdict.next {
            Next::Nowhere => return Onward::End,
            Next::Other | Next::OtherModel => return leave,
            Next::Key => match key_ready() {
                KeyReady::Now { rests: true } if rotations < MOST_ROTATIONS => return Onward::Rotate,
                // Nobody learns anything by it: one other key is tried, and paid for as a retry.
                KeyReady::Now { rests: false } if rotations == 0 && provider.may_retry(now) => return Onward::Rotate,
                KeyReady::Now { .. } | KeyReady::Never => return leave,
                KeyReady::None => return Onward::End,
                // How long a key rests of which nothing was said is a guess: whoever has another target need not wait for it.
                KeyReady::In(_) if error.retry_after().is_none() && !is_last => return leave,
                KeyReady::In(wait) => Some(wait),
            },
            Next::Same => error.retry_after(),
        };
        if retries >= policy.most {
            return leave;
        }
        let pause = match wait {
            Some(wait) if wait > policy.patience => return leave,
            // All who were told the same would come back in the same moment.
            Some(wait) => wait + (wait / 10).mul_f64(fastrand::f64()),
            None => policy.backoff.delay(retries, fastrand::f64()),
        };
        let in_time = self.call.deadline.is_none_or(|deadline| pause < deadline.remaining_at(now));
        if in_time && provider.may_retry(now) { Onward::Again(pause) } else { leave }
    }

    /// Keeps what the request is told if nothing helps.
    fn note(&mut self, error: Error, is_first: bool) {
        let ends_all = matches!(error.code(), Code::ClientClosed | Code::ClientTooSlow | Code::ShuttingDown);
        let is_better = self
            .told
            .as_ref()
            .is_none_or(|told| is_first && (error.origin() == Origin::Provider || told.origin() != Origin::Provider));
        if ends_all || is_better {
            self.told = Some(error);
        }
    }

    /// Who left while an attempt failed of itself is counted as one who left, as if that had been in the pause after it.
    fn note_leaving(&mut self) {
        let reason =
            self.call.cancel.reason().filter(|why| matches!(why, CancelReason::ClientGone | CancelReason::Caller));
        if let Some(reason) = reason {
            self.told = Some(crate::provider::cancelled(reason));
        }
    }

    /// Waits; `false` if the request was cancelled meanwhile or the gateway has come to its end, which it is told then.
    fn pause(&mut self, pause: Duration) -> bool {
        let begun = now();
        let cancel = &self.call.cancel;
        let ended = {
            let _pausing = self.pauses.under_way.enter();
            let _due = threads::due(pause);
            let _waiting = threads::enter(State::WaitingChannel);
            select! {
                recv(cancel.channel()) -> _ => Some(cancel.reason().unwrap_or(CancelReason::Caller)),
                recv(self.pauses.end.channel()) -> _ => Some(CancelReason::Shutdown),
                default(pause) => None,
            }
        };
        self.progress.spent.backoff += now().saturating_duration_since(begun);
        if let Some(reason) = ended {
            self.told = Some(crate::provider::cancelled(reason));
        }
        ended.is_none()
    }

    fn is_late(&self) -> bool {
        self.call.deadline.is_some_and(|deadline| deadline.passed())
    }

    fn over(self, result: Result<Reached, Error>) -> Outcomes {
        Outcomes { result, progress: self.progress, sink: self.sink }
    }
}
