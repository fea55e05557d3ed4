//! Telling a thread to end: a channel that is closed, never sent on.
//!
//! A closed channel stays readable, so the signal cannot be lost, is seen by every `select!` from then on, and needs no
//! capacity. Field order is drop order: an owner declares its senders first, then its [`Quit`], then its handles.

use std::convert::Infallible;

use crossbeam_channel::{Receiver, Sender, bounded};

/// The owner's end: dropping it, or calling [`Quit::signal`], tells every [`QuitSignal`].
#[derive(Debug)]
pub struct Quit {
    sender: Option<Sender<Infallible>>,
    receiver: Receiver<Infallible>,
}

impl Quit {
    /// A signal not given yet.
    #[must_use]
    pub fn new() -> Self {
        let (sender, receiver) = bounded(0);
        Self { sender: Some(sender), receiver }
    }

    /// An end for a thread to watch.
    #[must_use]
    pub fn watch(&self) -> QuitSignal {
        QuitSignal(self.receiver.clone())
    }

    /// Gives the signal; a second time does nothing.
    pub fn signal(&mut self) {
        self.sender = None;
    }
}

impl Default for Quit {
    fn default() -> Self {
        Self::new()
    }
}

/// The thread's end: its channel is closed once the owner says quit.
#[derive(Clone, Debug)]
pub struct QuitSignal(Receiver<Infallible>);

impl QuitSignal {
    /// The channel to name in a `select!`; any result of receiving from it means quit.
    #[must_use]
    pub fn channel(&self) -> &Receiver<Infallible> {
        &self.0
    }

    /// Whether the signal was given.
    #[must_use]
    pub fn given(&self) -> bool {
        matches!(self.0.try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected))
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
