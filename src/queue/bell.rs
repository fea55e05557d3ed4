//! A bell that is rung when a job stands in a lane and nobody is idle: whoever hires workers hears of it.
//!
//! **Protocol.** The channel is `bounded(1)`: one message waiting says all that there is to say, since who hears it counts
//! what stands for himself. A ring that finds it full is as good as sent, because the job stood before it was rung for.
//! A bell that is not armed costs its ringers one load; whoever arms it looks at the lanes afterwards, so that a job that
//! came just before is not missed.

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Tells whoever hires that a job stands and nobody is idle.
#[derive(Debug)]
pub struct Bell {
    armed: AtomicBool,
    rung: Sender<()>,
    heard: Receiver<()>,
}

impl Bell {
    pub(super) fn new() -> Self {
        let (rung, heard) = bounded(1);
        Self { armed: AtomicBool::new(false), rung, heard }
    }

    /// Whether it is to be heard from now on: no more while there is no room for another worker. `true` if it was not heard
    /// before and is now.
    pub fn arm(&self, armed: bool) -> bool {
        !self.armed.swap(armed, Ordering::SeqCst) && armed
    }

    /// Where it is heard.
    #[must_use]
    pub fn channel(&self) -> &Receiver<()> {
        &self.heard
    }

    pub(super) fn ring(&self) {
        if self.armed.load(Ordering::SeqCst) {
            let _ = self.rung.try_send(());
        }
    }
}
