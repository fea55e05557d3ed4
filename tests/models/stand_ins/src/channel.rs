//! crossbeam's bounded channels and `select!`, a scheduling point before each operation and none within.
//!
//! **Protocol.** A channel's state is changed under a plain mutex that is never held across a scheduling point. Whoever
//! waits leaves its thread with every channel it waits for, looks once more, and parks; whoever changes a channel unparks
//! all who stand there. Parking keeps a token, so an unpark between the look and the parking is not lost.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use shuttle::thread::Thread;

use crate::{point, times_out};

struct State<T> {
    queue: VecDeque<T>,
    capacity: usize,
    senders: usize,
    receivers: usize,
    waiting: Vec<Thread>,
}

/// Those to be told of a change; told when this drops, which is after the state's lock is let go: an unpark is a
/// scheduling point.
#[must_use]
struct Wake(Vec<Thread>);

impl Drop for Wake {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|thread| thread.unpark());
    }
}

impl<T> State<T> {
    fn wake(&mut self) -> Wake {
        Wake(std::mem::take(&mut self.waiting))
    }
}

struct Channel<T>(Mutex<State<T>>);

impl<T> Channel<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

/// A channel that holds `capacity` messages.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = State { queue: VecDeque::new(), capacity, senders: 1, receivers: 1, waiting: Vec::new() };
    let channel = Arc::new(Channel(Mutex::new(state)));
    (Sender(Arc::clone(&channel)), Receiver(channel))
}

/// A channel on which nothing ever comes.
pub fn never<T>() -> Receiver<T> {
    let (sender, receiver) = bounded(0);
    std::mem::forget(sender);
    receiver
}

pub struct Sender<T>(Arc<Channel<T>>);
pub struct Receiver<T>(Arc<Channel<T>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendError<T>(pub T);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    Full(T),
    Disconnected(T),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendTimeoutError<T> {
    Timeout(T),
    Disconnected(T),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    Empty,
    Disconnected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecvTimeoutError {
    Timeout,
    Disconnected,
}

impl<T> TrySendError<T> {
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::Disconnected(value) => value,
        }
    }
}

impl<T> SendTimeoutError<T> {
    pub fn into_inner(self) -> T {
        match self {
            Self::Timeout(value) | Self::Disconnected(value) => value,
        }
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Full(_)) { "Full" } else { "Disconnected" })
    }
}

impl<T> fmt::Debug for SendTimeoutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Timeout(_)) { "Timeout" } else { "Disconnected" })
    }
}

macro_rules! error {
    ($([$($generic:tt)*] $type:ty;)*) => {$(
        impl<$($generic)*> fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a channel's error")
            }
        }
    )*};
}
error! { [T] TrySendError<T>; [T] SendTimeoutError<T>; [T] SendError<T>; [] RecvError; [] TryRecvError; [] RecvTimeoutError; }
impl std::error::Error for RecvError {}
impl std::error::Error for TryRecvError {}
impl std::error::Error for RecvTimeoutError {}

impl<T> Sender<T> {
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        point();
        self.push(value)
    }

    fn push(&self, value: T) -> Result<(), TrySendError<T>> {
        let mut state = self.0.state();
        if state.receivers == 0 {
            return Err(TrySendError::Disconnected(value));
        }
        if state.queue.len() >= state.capacity {
            return Err(TrySendError::Full(value));
        }
        state.queue.push_back(value);
        let wake = state.wake();
        drop(state);
        drop(wake);
        Ok(())
    }

    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.send_until(value, None).map_err(|error| SendError(error.into_inner()))
    }

    pub fn send_timeout(&self, value: T, limit: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_until(value, Some(limit))
    }

    pub fn send_deadline(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_until(value, Some(deadline.saturating_duration_since(Instant::now())))
    }

    fn send_until(&self, mut value: T, limit: Option<Duration>) -> Result<(), SendTimeoutError<T>> {
        assert!(self.0.state().capacity > 0, "sending on a channel of capacity 0 is not modelled");
        loop {
            point();
            match self.push(value) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(back)) => return Err(SendTimeoutError::Disconnected(back)),
                Err(TrySendError::Full(back)) if times_out(limit) => return Err(SendTimeoutError::Timeout(back)),
                Err(TrySendError::Full(back)) => value = back,
            }
            let full = |state: &State<T>| state.receivers > 0 && state.queue.len() >= state.capacity;
            wait(&[&|thread| register(&self.0, thread, full)], limit);
        }
    }

    pub fn len(&self) -> usize {
        self.0.state().queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn is_full(&self) -> bool {
        let state = self.0.state();
        state.queue.len() >= state.capacity
    }

    pub fn capacity(&self) -> Option<usize> {
        Some(self.0.state().capacity)
    }
}

impl<T> Receiver<T> {
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        point();
        self.pop()
    }

    fn pop(&self) -> Result<T, TryRecvError> {
        let mut state = self.0.state();
        match state.queue.pop_front() {
            Some(value) => {
                let wake = state.wake();
                drop(state);
                drop(wake);
                Ok(value)
            }
            None if state.senders == 0 => Err(TryRecvError::Disconnected),
            None => Err(TryRecvError::Empty),
        }
    }

    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(None).map_err(|_| RecvError)
    }

    pub fn recv_timeout(&self, limit: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_until(Some(limit))
    }

    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_until(Some(deadline.saturating_duration_since(Instant::now())))
    }

    fn recv_until(&self, limit: Option<Duration>) -> Result<T, RecvTimeoutError> {
        match choose(&[&self.case()], limit, true) {
            None => Err(RecvTimeoutError::Timeout),
            Some(_) => self.pop().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    pub fn len(&self) -> usize {
        self.0.state().queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn capacity(&self) -> Option<usize> {
        Some(self.0.state().capacity)
    }

    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter(self)
    }

    /// What `select!` needs of a receiver, whatever its type.
    pub fn case(&self) -> Case<'_> {
        Case {
            ready: Box::new(|| self.is_ready()),
            register: Box::new(|thread| register(&self.0, thread, |state| !ready(state))),
        }
    }

    fn is_ready(&self) -> bool {
        ready(&self.0.state())
    }

    /// The end of a `select!` that has chosen this receiver.
    #[doc(hidden)]
    pub fn chosen(&self) -> Result<T, RecvError> {
        self.pop().map_err(|_| RecvError)
    }
}

fn ready<T>(state: &State<T>) -> bool {
    !state.queue.is_empty() || state.senders == 0
}

/// Leaves the thread with a channel; `false` if there is nothing to wait for.
fn register<T>(channel: &Channel<T>, thread: &Thread, blocked: impl Fn(&State<T>) -> bool) -> bool {
    let mut state = channel.state();
    let blocked = blocked(&state);
    if blocked {
        state.waiting.push(thread.clone());
    }
    blocked
}

/// Waits for any of the channels, or for a while if the wait may end by itself.
fn wait(channels: &[&dyn Fn(&Thread) -> bool], limit: Option<Duration>) {
    if limit.is_some_and(|limit| limit < crate::FUSE) {
        shuttle::thread::yield_now();
        return;
    }
    let thread = shuttle::thread::current();
    if channels.iter().all(|register| register(&thread)) {
        shuttle::thread::park();
    }
}

pub struct TryIter<'a, T>(&'a Receiver<T>);

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;
    fn next(&mut self) -> Option<T> {
        self.0.try_recv().ok()
    }
}

/// One arm of a `select!`.
pub struct Case<'a> {
    ready: Box<dyn Fn() -> bool + 'a>,
    register: Box<dyn Fn(&Thread) -> bool + 'a>,
}

/// Which of the cases is ready; the first if `biased`, else any; `None` once the wait has ended.
pub fn choose(cases: &[&Case<'_>], limit: Option<Duration>, biased: bool) -> Option<usize> {
    use shuttle::rand::Rng as _;
    loop {
        point();
        let ready: Vec<_> = (0..cases.len()).filter(|&at| (cases[at].ready)()).collect();
        match ready.len() {
            0 => {}
            1 => return Some(ready[0]),
            _ if biased => return Some(ready[0]),
            n => return Some(ready[shuttle::rand::thread_rng().gen_range(0..n)]),
        }
        if times_out(limit) {
            return None;
        }
        let channels: Vec<&dyn Fn(&Thread) -> bool> = cases.iter().map(|case| &*case.register as _).collect();
        wait(&channels, limit);
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state().senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.0.state().receivers += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.senders -= 1;
        let wake = (state.senders == 0).then(|| state.wake());
        drop(state);
        drop(wake);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.receivers -= 1;
        if state.receivers == 0 {
            let wake = state.wake();
            // As crossbeam does: what nobody can receive any more is dropped now, outside the lock.
            let unread = std::mem::take(&mut state.queue);
            drop(state);
            drop((wake, unread));
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}

/// `crossbeam_channel::select!`, for arms that receive.
#[macro_export]
macro_rules! select {
    ($($arms:tt)*) => { $crate::__select!(@false [] $($arms)*) };
}

/// `crossbeam_channel::select_biased!`, for arms that receive.
#[macro_export]
macro_rules! select_biased {
    ($($arms:tt)*) => { $crate::__select!(@true [] $($arms)*) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    // An arm that receives, its body a block or an expression.
    (@$biased:tt [$($done:tt)*] recv($from:expr) -> $got:pat => $body:block , $($rest:tt)*) => {
        $crate::__select!(@$biased [$($done)* ($from, $got, $body)] $($rest)*)
    };
    (@$biased:tt [$($done:tt)*] recv($from:expr) -> $got:pat => $body:block $($rest:tt)*) => {
        $crate::__select!(@$biased [$($done)* ($from, $got, $body)] $($rest)*)
    };
    (@$biased:tt [$($done:tt)*] recv($from:expr) -> $got:pat => $body:expr , $($rest:tt)*) => {
        $crate::__select!(@$biased [$($done)* ($from, $got, $body)] $($rest)*)
    };
    (@$biased:tt [$($done:tt)*] recv($from:expr) -> $got:pat => $body:expr) => {
        $crate::__select!(@$biased [$($done)* ($from, $got, $body)])
    };
    (@$biased:tt [$($done:tt)*] default($limit:expr) => $body:expr $(,)?) => {
        $crate::__select!(@@ $biased (::core::option::Option::Some($limit)) $body; $($done)*)
    };
    (@$biased:tt [$($done:tt)*] default => $body:expr $(,)?) => {
        $crate::__select!(@@ $biased (::core::option::Option::Some(::core::time::Duration::ZERO)) $body; $($done)*)
    };
    (@$biased:tt [$($done:tt)*]) => {
        $crate::__select!(@@ $biased (::core::option::Option::None) ::core::unreachable!(); $($done)*)
    };
    (@@ $biased:tt $limit:tt $default:expr; ($r1:expr, $g1:pat, $b1:expr)) => {{
        let limit: ::core::option::Option<::core::time::Duration> = $limit;
        let chosen = $crate::choose(&[&$r1.case()], limit, $biased);
        match chosen {
            Some(_) => { let $g1 = $r1.chosen(); $b1 }
            None => $default,
        }
    }};
    (@@ $biased:tt $limit:tt $default:expr; ($r1:expr, $g1:pat, $b1:expr) ($r2:expr, $g2:pat, $b2:expr)) => {{
        let limit: ::core::option::Option<::core::time::Duration> = $limit;
        let chosen = $crate::choose(&[&$r1.case(), &$r2.case()], limit, $biased);
        match chosen {
            Some(0) => { let $g1 = $r1.chosen(); $b1 }
            Some(_) => { let $g2 = $r2.chosen(); $b2 }
            None => $default,
        }
    }};
    (@@ $biased:tt $limit:tt $default:expr;
        ($r1:expr, $g1:pat, $b1:expr) ($r2:expr, $g2:pat, $b2:expr) ($r3:expr, $g3:pat, $b3:expr)) => {{
        let limit: ::core::option::Option<::core::time::Duration> = $limit;
        let chosen = $crate::choose(&[&$r1.case(), &$r2.case(), &$r3.case()], limit, $biased);
        match chosen {
            Some(0) => { let $g1 = $r1.chosen(); $b1 }
            Some(1) => { let $g2 = $r2.chosen(); $b2 }
            Some(_) => { let $g3 = $r3.chosen(); $b3 }
            None => $default,
        }
    }};
}
