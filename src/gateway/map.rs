//! Many requests, a few at a time: iterators over the answers to whatever an iterator gives.
//!
//! **Protocol.** Everything but the requests themselves happens on the thread that asks for the next answer: it takes what
//! has come, begins more until so many run or are ahead, and waits if there is nothing to give. Each request that runs
//! answers on one channel, whose room is as many as may run, so that no answer ever waits for its reader.
//!
//! **Invariants.** I1: each request that is taken from the source gives one item. I4: of `n` at a time, at most `2 n` have
//! been taken from the source and not been given yet, those that run among them; `n` is at most what the gateway lets run.
//!
//! **Shutdown.** Dropping an iterator cancels what runs. It keeps its gateway; what runs keeps it, too, until it ends.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::iter::FusedIterator;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::Gateway;
use super::options::CallOptions;
use super::submit::{self, NotBegun};
use crate::error::{Code, Error, Result};
use crate::sync::threads;
use crate::sync::{CancelToken, Role, State};
use crate::wire::openai::{ChatReply, ChatRequest};

/// The answer to a request, and which one it was of those that the source gave, from 0.
type Done = (usize, Result<ChatReply>);

/// The requests of a source, so many at a time.
struct Flow<I> {
    gateway: Gateway,
    options: CallOptions,
    /// Ends all of it.
    stop: Option<CancelToken>,
    source: Option<I>,
    most: usize,
    /// How many were begun, or failed before.
    begun: usize,
    /// One that the gateway had no room for.
    waiting: Option<ChatRequest>,
    running: BTreeMap<usize, CancelToken>,
    answer: Sender<Done>,
    answers: Receiver<Done>,
}

impl<I> Flow<I>
where
    I: Iterator,
    I::Item: Into<ChatRequest>,
{
    fn new(gateway: &Gateway, options: &CallOptions, source: I, most: usize) -> Self {
        // Room is made for as many answers at once: more than the gateway lets run need none.
        let room = gateway.0.load.most().min(gateway.0.threads.share_of(Role::Runner));
        let most = most.min(usize::try_from(room).unwrap_or(usize::MAX)).max(1);
        let (answer, answers) = bounded(most);
        let mut options = options.clone();
        let stop = options.cancel.take();
        let (running, gateway) = (BTreeMap::new(), gateway.clone());
        Self { gateway, options, stop, source: Some(source), most, begun: 0, waiting: None, running, answer, answers }
    }

    /// Begins what there is room for, up to number `until`; gives one that could not be begun.
    fn fill(&mut self, until: usize) -> Option<Done> {
        loop {
            if self.stop.as_ref().is_some_and(CancelToken::is_cancelled) {
                // Here as well as in the wait, which is not come to as long as answers lie there.
                self.cancel();
                self.source = None;
                self.waiting.take()?;
                return Some(self.failed(Error::new(Code::ClientClosed, "the caller cancelled the request")));
            }
            if self.running.len() >= self.most || self.begun >= until {
                return None;
            }
            let request = self.pull()?;
            let (number, answer) = (self.begun, self.answer.clone());
            // There is room for it; whoever should take it may have gone.
            let answered = Box::new(move |result| drop(answer.try_send((number, result))));
            let patient = !self.running.is_empty();
            match submit::begin(&self.gateway, &self.options, &request, patient, answered) {
                Ok(begun) => {
                    self.running.insert(number, begun.cancel);
                    self.begun += 1;
                }
                Err(NotBegun::Full) => {
                    // Those of ours that run make room when they end.
                    self.waiting = Some(request);
                    return None;
                }
                Err(NotBegun::Failed(error)) => return Some(self.failed(error)),
            }
        }
    }

    /// The next request; none if the source has no more.
    fn pull(&mut self) -> Option<ChatRequest> {
        if let Some(request) = self.waiting.take() {
            return Some(request);
        }
        let next = self.source.as_mut()?.next();
        if next.is_none() {
            self.source = None;
        }
        next.map(Into::into)
    }

    fn failed(&mut self, error: Error) -> Done {
        let number = self.begun;
        self.begun += 1;
        (number, Err(error))
    }
}

impl<I> Flow<I> {
    /// An answer that is there.
    fn came(&mut self) -> Option<Done> {
        let done = self.answers.try_recv().ok()?;
        self.running.remove(&done.0);
        Some(done)
    }

    /// Waits for an answer, as long as the limits of the requests allow; none if nothing runs.
    fn wait(&mut self) -> Option<Done> {
        if self.running.is_empty() {
            return None;
        }
        let _waiting = threads::enter(State::WaitingChannel);
        let done = match &self.stop {
            None => self.answers.recv(),
            // Chosen again and again once it is cancelled: what was just begun then ends, too.
            Some(stop) => select! {
                recv(self.answers) -> done => done,
                recv(stop.channel()) -> _ => {
                    self.cancel();
                    self.answers.recv()
                }
            },
        };
        // There is a sender here, so that it cannot have closed.
        let done = done.ok()?;
        self.running.remove(&done.0);
        Some(done)
    }

    fn cancel(&self) {
        self.running.values().for_each(|token| {
            token.cancel();
        });
    }
}

impl<I> Drop for Flow<I> {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The answers to many requests, in the requests' order. [`Calls::map_ordered`](super::Calls::map_ordered) gives it.
///
/// ```
/// use sluicegate::Gateway;
///
/// let gateway = Gateway::from_env()?;
/// let prompts = ["one", "two", "three"].map(|prompt| ("sim/echo", prompt));
/// let mut answers = gateway.map_ordered(prompts, 2);
/// assert_eq!(answers.next().transpose()?.map(|reply| reply.text().to_owned()).as_deref(), Some("one"));
/// assert_eq!(answers.filter(Result::is_ok).count(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is sent before an answer is asked for"]
pub struct MapOrdered<I> {
    flow: Flow<I>,
    next: usize,
    ahead: BTreeMap<usize, Result<ChatReply>>,
}

impl<I> MapOrdered<I>
where
    I: Iterator,
    I::Item: Into<ChatRequest>,
{
    pub(super) fn new(gateway: &Gateway, options: &CallOptions, source: I, most: usize) -> Self {
        Self { flow: Flow::new(gateway, options, source, most), next: 0, ahead: BTreeMap::new() }
    }
}

impl<I> Iterator for MapOrdered<I>
where
    I: Iterator,
    I::Item: Into<ChatRequest>,
{
    type Item = Result<ChatReply>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some((number, result)) = self.flow.came() {
                self.ahead.insert(number, result);
            }
            let until = self.next.saturating_add(self.flow.most.saturating_mul(2));
            while let Some((number, result)) = self.flow.fill(until) {
                self.ahead.insert(number, result);
            }
            if let Some(result) = self.ahead.remove(&self.next) {
                self.next += 1;
                return Some(result);
            }
            let (number, result) = self.flow.wait()?;
            self.ahead.insert(number, result);
        }
    }
}

/// The answers to many requests as they come, each with which request it is of, from 0.
/// [`Calls::map_unordered`](super::Calls::map_unordered) gives it.
///
/// ```
/// use sluicegate::Gateway;
///
/// let gateway = Gateway::from_env()?;
/// let requests = [("sim/echo", "one"), ("sim/fail-400", "two"), ("sim/echo", "three")];
/// let mut failed = Vec::new();
/// for (number, reply) in gateway.map_unordered(requests, 2) {
///     match reply {
///         Ok(reply) => println!("{}", reply.text()),
///         Err(error) => failed.push((number, error.status())),
///     }
/// }
/// assert_eq!(failed, [(1, 400)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is sent before an answer is asked for"]
pub struct MapUnordered<I> {
    flow: Flow<I>,
    ready: VecDeque<Done>,
}

impl<I> MapUnordered<I>
where
    I: Iterator,
    I::Item: Into<ChatRequest>,
{
    pub(super) fn new(gateway: &Gateway, options: &CallOptions, source: I, most: usize) -> Self {
        Self { flow: Flow::new(gateway, options, source, most), ready: VecDeque::new() }
    }
}

impl<I> Iterator for MapUnordered<I>
where
    I: Iterator,
    I::Item: Into<ChatRequest>,
{
    type Item = (usize, Result<ChatReply>);

    fn next(&mut self) -> Option<Self::Item> {
        // As many as may run, at most, and those that could not be begun: one each time, as one is given each time.
        if self.ready.is_empty() {
            self.ready.extend(std::iter::from_fn(|| self.flow.came()));
        }
        self.ready.extend(self.flow.fill(usize::MAX));
        self.ready.pop_front().or_else(|| self.flow.wait())
    }
}

impl<I> FusedIterator for MapOrdered<I>
where
    I: Iterator,
    I::Item: Into<ChatRequest>,
{
}

impl<I> FusedIterator for MapUnordered<I>
where
    I: Iterator,
    I::Item: Into<ChatRequest>,
{
}

impl<I> fmt::Debug for MapOrdered<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapOrdered").field("next", &self.next).finish_non_exhaustive()
    }
}

impl<I> fmt::Debug for MapUnordered<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapUnordered").field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}
