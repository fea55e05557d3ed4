//! Telling a thread to end: a channel that is closed, never sent on.
//!
//! A closed channel stays readable, so the signal cannot be lost, is seen by every `select!` from then on, and needs no
//! capacity. Field order is drop order: an owner declares its senders first, then its [`Quit`], then its handles. Beside it
//! stands a flag for whoever looks between two pieces of work: looking at a channel takes its lock.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

/// The owner's end: dropping it, or calling [`Quit::signal`], tells every [`QuitSignal`].
#[derive(Debug)]
pub struct Quit {
    sender: Option<Sender<Infallible>>,
    signal: QuitSignal,
}

impl Quit {
    /// A signal not given yet.
    #[must_use]
    pub fn new() -> Self {
        let (sender, channel) = bounded(0);
        Self { sender: Some(sender), signal: QuitSignal { channel, given: Arc::default() } }
    }

    /// An end for a thread to watch.
    #[must_use]
    pub fn watch(&self) -> QuitSignal {
        self.signal.clone()
    }

    /// Gives the signal; a second time does nothing.
    pub fn signal(&mut self) {
        self.signal.given.store(true, Ordering::SeqCst);
        self.sender = None;
    }
}

impl Drop for Quit {
    fn drop(&mut self) {
        self.signal();
    }
}

impl Default for Quit {
    fn default() -> Self {
        Self::new()
    }
}

/// The thread's end: its channel is closed once the owner says quit.
#[derive(Clone, Debug)]
pub struct QuitSignal {
    channel: Receiver<Infallible>,
    given: Arc<AtomicBool>,
}

impl QuitSignal {
    /// The channel to name in a `select!`; any result of receiving from it means quit.
    #[must_use]
    pub fn channel(&self) -> &Receiver<Infallible> {
        &self.channel
    }

    /// Whether the signal was given.
    #[must_use]
    pub fn given(&self) -> bool {
        self.given.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_the_owner_says_quit_to_everyone() {
        let quit = Quit::new();
        let (first, second) = (quit.watch(), quit.watch());
        assert!(!first.given());
        drop(quit);
        assert!(first.given() && second.given());
    }
}
