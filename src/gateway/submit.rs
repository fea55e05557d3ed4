//! Requests handed over to threads of the gateway's own, so that whoever sends them need not wait: runners.
//!
//! **Protocol.** Whoever submits parses the body, takes a place and a runner, and only then counts the request: what cannot
//! be begun is refused at once. The runner makes the attempts as a caller's thread would, frees the place, and answers.
//! Nothing of this blocks, since a seat's channel is empty and an answer's has room.
//!
//! **Invariants.** I1: a [`Job`] that is dropped answers by its [`Responder`]'s drop. I2: its place and its guard are gone
//! before it is answered. I3: a handle's channel is its own and never used again. I4: `max_in_flight` bounds how many there
//! are, and the limit of threads.
//!
//! **Shutdown.** A job keeps the gateway, which is let go after the answer: the last one of all may be dropped here, and then
//! the gateway ends on a runner of its own. The end answers what is under way through the pools, and joins the runners.
//!
//! **Panics.** The crew catches them; the job's own drop has answered by then.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use super::call::whole;
use super::load::Place;
use super::options::CallOptions;
use super::requests::RequestGuard;
use super::{Gateway, Phase};
use crate::error::{Code, Error, Result};
use crate::ids::RequestId;
use crate::model::{Call, Operation, Timing};
use crate::sync::locks::classes;
use crate::sync::threads;
use crate::sync::{CancelToken, Crew, Role, Seat, State, Threads};
use crate::time::now;
use crate::wire::openai::{ChatReply, ChatRequest};

/// The threads that wait for requests which were handed over.
pub(super) type Runners = Crew<Job>;

/// Runners of a gateway, none of which has started; they retire after `patience`.
pub(super) fn runners(threads: &Threads, patience: Duration) -> Runners {
    Crew::new(&classes::RUNNERS, "runner", Role::Runner, threads.clone(), patience, |job: Job, (): &mut ()| job.run())
}

/// What is done with an answer; it must not block.
pub(super) type Answered = Box<dyn FnOnce(Result<ChatReply>) + Send>;

/// Answers once: with an error if it is dropped before.
struct Responder(Option<Answered>);

impl Responder {
    fn answer(mut self, result: Result<ChatReply>) {
        if let Some(answered) = self.0.take() {
            answered(result);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(answered) = self.0.take() {
            answered(Err(Error::new(Code::Internal, "the request was lost")));
        }
    }
}

/// A request on its way to a runner. Field order is drop order: it is answered when it is counted and its place is free.
pub(super) struct Job {
    call: Arc<Call>,
    guard: RequestGuard,
    place: Place,
    responder: Responder,
    gateway: Gateway,
}

impl Job {
    fn run(self) {
        let _piece = threads::round(threads::ROUND);
        threads::count_job();
        // In a panic they are dropped from the last to the first, as the fields are from the first to the last.
        let Self { gateway, responder, place, guard, call } = self;
        let answer = whole(gateway.handle(&call, guard, None));
        let result = answer.and_then(|answer| ChatReply::from_answer(&answer));
        drop((place, call));
        responder.answer(result);
        drop(gateway);
    }
}

/// Why a request was not begun.
pub(super) enum NotBegun {
    /// One of the gateway's own limits is reached, and whoever sends it comes again: it was not counted.
    Full,
    /// It failed.
    Failed(Error),
}

impl From<Error> for NotBegun {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// A request that was begun.
pub(super) struct Begun {
    pub(super) request_id: RequestId,
    pub(super) cancel: CancelToken,
}

/// Hands a request over. A `patient` caller comes again if the gateway is full; for any other it has failed then.
pub(super) fn begin(
    gateway: &Gateway,
    options: &CallOptions,
    request: &ChatRequest,
    patient: bool,
    answered: Answered,
) -> std::result::Result<Begun, NotBegun> {
    let arrived = now();
    let prepared = prepare(gateway, options, request, patient, arrived);
    if let Err(NotBegun::Failed(error)) = &prepared {
        gateway.begin(arrived).fail(error);
    }
    let (call, place, seat) = prepared?;
    let begun = Begun { request_id: call.request_id.clone(), cancel: call.cancel.clone() };
    let (guard, responder) = (gateway.begin(arrived), Responder(Some(answered)));
    let job = Job { call: Arc::new(call), guard, place, responder, gateway: gateway.clone() };
    // One that comes back has met a thread that died, and is answered so.
    let _lost = seat.give(job);
    Ok(begun)
}

/// What it takes to begin a request, none of it counted.
fn prepare(
    gateway: &Gateway,
    options: &CallOptions,
    request: &ChatRequest,
    patient: bool,
    arrived: Instant,
) -> std::result::Result<(Call, Place, Seat<Job>), NotBegun> {
    let body = request.to_body(false);
    let call = gateway.call_of(Operation::ChatCompletions, body, false, options, arrived)?;
    let told = |error: Error| {
        let spent = Timing::default().spent(arrived, now());
        error.with_request_id(&call.request_id).with_spent(spent)
    };
    if gateway.phase() >= Phase::Draining {
        return Err(told(Error::new(Code::ShuttingDown, "the gateway is shutting down")).into());
    }
    let (load, priority, bytes) = (&gateway.0.load, options.priority, call.body.len() as u64);
    let place = match load.try_admit(priority, bytes) {
        Ok(place) => place,
        Err(_) if patient => return Err(NotBegun::Full),
        Err(limit) => return Err(told(load.refuse(limit, priority)).into()),
    };
    match gateway.0.runners.seat() {
        Ok(seat) => Ok((call, place, seat)),
        Err(_) if patient => Err(NotBegun::Full),
        Err(error) => {
            let text = format!("no thread can wait for the request: {error}");
            Err(told(Error::new(Code::Overloaded, text).with_source(error)).into())
        }
    }
}

/// A request under way on a thread of the gateway's own: its answer, once it is there.
///
/// Dropping the handle cancels the request, up to the provider, unless it was answered; [`detach`](Self::detach) lets it go
/// on. The request keeps the gateway until it is answered, whether or not there is a handle: the last clone may be dropped
/// meanwhile.
///
/// ```
/// use sluicegate::{ChatRequest, Gateway};
///
/// let gateway = Gateway::from_env()?;
/// let (one, two) = (ChatRequest::new("sim/echo", "one"), ChatRequest::new("sim/echo", "two"));
/// let handles = [gateway.submit(&one)?, gateway.submit(&two)?];
/// for (handle, text) in handles.into_iter().zip(["one", "two"]) {
///     assert_eq!(handle.wait()?.text(), text);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping a handle cancels its request"]
pub struct Handle<T> {
    receiver: Receiver<Result<T>>,
    cancel: CancelToken,
    request_id: RequestId,
    /// There is nothing that its drop would have to cancel.
    over: AtomicBool,
}

/// Submits a chat request.
pub(super) fn submit(gateway: &Gateway, options: &CallOptions, request: &ChatRequest) -> Result<Handle<ChatReply>> {
    let (sender, receiver) = bounded(1);
    // There is room for the only answer; whoever should take it may have gone.
    let answered = Box::new(move |result| drop(sender.try_send(result)));
    match begin(gateway, options, request, false, answered) {
        Ok(Begun { request_id, cancel }) => Ok(Handle { receiver, cancel, request_id, over: AtomicBool::new(false) }),
        Err(NotBegun::Failed(error)) => Err(error),
        Err(NotBegun::Full) => Err(Error::new(Code::Internal, "a full gateway was not told of")),
    }
}

impl<T> Handle<T> {
    /// Waits for the answer. The request's own limits bound the wait.
    ///
    /// # Errors
    /// What the request failed with.
    pub fn wait(self) -> Result<T> {
        let _waiting = threads::enter(State::WaitingChannel);
        let received = self.receiver.recv();
        self.received(received.map_err(|_| false)).unwrap_or_else(|| Err(taken()))
    }

    /// Waits for the answer at most so long; `None` if there is none by then, and the request goes on.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sluicegate::{ChatRequest, Gateway};
    ///
    /// let gateway = Gateway::from_env()?;
    /// let handle = gateway.submit(&ChatRequest::new("sim/hang", "Hello"))?;
    /// assert!(handle.wait_timeout(Duration::from_millis(10)).is_none());
    /// handle.cancel();
    /// assert_eq!(handle.wait().unwrap_err().code(), sluicegate::Code::ClientClosed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<T>> {
        let _waiting = threads::enter(State::WaitingChannel);
        self.received(self.receiver.recv_timeout(timeout).map_err(|error| error.is_timeout()))
    }

    /// Waits for the answer at most until `deadline`; `None` if there is none by then, and the request goes on.
    #[must_use]
    pub fn wait_deadline(&self, deadline: Instant) -> Option<Result<T>> {
        let _waiting = threads::enter(State::WaitingChannel);
        self.received(self.receiver.recv_deadline(deadline).map_err(|error| error.is_timeout()))
    }

    /// The answer if it is there, without waiting.
    #[must_use]
    pub fn try_get(&self) -> Option<Result<T>> {
        self.received(self.receiver.try_recv().map_err(|error| error.is_empty()))
    }

    /// Ends the request, up to the provider. It is answered with [`Code::ClientClosed`], unless it was faster.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// The channel on which the answer comes, once: to be named in a `select!` beside others. It is this request's alone.
    ///
    /// ```
    /// use sluicegate::crossbeam_channel::select;
    /// use sluicegate::{ChatRequest, Gateway};
    ///
    /// let gateway = Gateway::from_env()?;
    /// let slow = gateway.submit(&ChatRequest::new("sim/hang", "Hello"))?;
    /// let fast = gateway.submit(&ChatRequest::new("sim/echo", "Hello"))?;
    /// select! {
    ///     recv(slow.receiver()) -> _ => unreachable!("it hangs"),
    ///     recv(fast.receiver()) -> answer => assert_eq!(answer??.text(), "Hello"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn receiver(&self) -> &Receiver<Result<T>> {
        &self.receiver
    }

    /// Names the request in logs, errors and events.
    #[must_use]
    pub fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// Lets the request go on without anybody who waits for it.
    pub fn detach(self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// What came of looking for the answer; `true` stands for one that may still come.
    fn received(&self, received: std::result::Result<Result<T>, bool>) -> Option<Result<T>> {
        // Whoever has had it need not wait until the runner has let go of the channel to hear so.
        if received.as_ref().is_err_and(|pending| *pending) && !self.over.load(Ordering::Relaxed) {
            return None;
        }
        self.over.store(true, Ordering::Relaxed);
        Some(received.unwrap_or_else(|_| Err(taken())))
    }
}

fn taken() -> Error {
    Error::new(Code::Internal, "the answer was taken from its handle before")
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        // Once it is answered there is nothing to cancel, and the caller's own token, if it is one, stays as it is.
        if !*self.over.get_mut() && self.receiver.try_recv().is_err_and(|error| error.is_empty()) {
            self.cancel();
        }
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("request_id", &self.request_id).finish_non_exhaustive()
    }
}
