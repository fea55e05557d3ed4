//! The lanes that jobs wait in when no worker is idle: interactive and batch, each a bounded channel.
//!
//! **Protocol.** What stands in a lane is a shell whose content its waiter may have taken back: a tombstone. A worker
//! that takes one throws it away; when tombstones pass a quarter of a lane, the one who left last turns the lane over: takes
//! all out, drops the tombstones, puts the rest back in their order. A lane is twice as deep as there are permits, so a
//! live job always finds a slot, at the latest after that.
//!
//! **Age.** Beside each lane stands since when its jobs have waited (see `ages`), so that the lane whose head is older can
//! be told: for whoever sheds the oldest, and for whoever watches that the queue moves. Either shell may be a tombstone.
//!
//! **Share.** Interactive jobs go first, but `batch_share` of the takes look at batch first, evenly spread, so that batch
//! keeps its share of the workers while both wait, and either lane gets all that the other leaves.
//!
//! **Invariants.** I4. **Shutdown.** The lanes are never closed while a producer may hold them: workers end by their quit
//! signal, and what is left is swept out with [`Lanes::sweep`].

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select_biased};

use super::ages::Ages;
use super::bell::Bell;
use super::idle::{Handed, IdleSet, Seat};
use crate::model::Priority;
use crate::sync::QuitSignal;
use crate::time::now;

/// How often a push looks again while another thread turns the lane over.
const PUSH_TRIES: u32 = 10_000;

/// How long a message that is on its way is waited for until the wait is told of: its sender has only to send it.
const HAND_OVER: Duration = Duration::from_secs(1);

/// What can wait in a lane.
pub trait Queued: Send {
    /// Whether its content is gone.
    fn is_tombstone(&self) -> bool;

    /// Which lane it waits in.
    fn priority(&self) -> Priority;

    /// Since when it waits; `None` once its content is gone.
    fn since(&self) -> Option<Instant>;
}

/// A lane had no slot, not even after its tombstones were thrown out; the job comes back.
#[derive(Debug)]
pub struct LaneFull<T>(pub T);

/// What a worker's wait ended with.
#[derive(Debug)]
pub enum Taken<T> {
    /// A job, or a tombstone: the worker looks.
    Job(T),
    /// Nothing came within the tick.
    Tick,
    /// The worker is to end.
    Quit,
}

/// What a worker's takes have left batch of its share: at a whole one it is batch's turn.
#[derive(Debug, Default)]
pub struct Shift {
    owed: f64,
}

impl Shift {
    /// The shift of the worker at `seat`. Workers begin at different points of their turn, evenly spread over however many
    /// there are and come to be: did all begin at the same, batch would wait until each had made several takes, for minutes
    /// where answers take long, and workers that come and go with the load would never serve it first.
    #[must_use]
    pub fn at<T>(seat: &Seat<T>) -> Self {
        Self { owed: (seat.number() as f64 * GOLDEN).fract() }
    }
}

/// The golden ratio's fraction, whose multiples' fractions are spread the most evenly, however many there are.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// What makes a sum of shares whole that is whole but for rounding: ten tenths are a turn.
const ROUNDING: f64 = 1e-9;

/// Both lanes of a pool, and the workers that wait for jobs.
pub struct Lanes<T> {
    idle: IdleSet<T>,
    bell: Bell,
    interactive: Lane<T>,
    batch: Lane<T>,
    batch_share: f64,
}

impl<T: Queued> Lanes<T> {
    /// Lanes for at most `permits` live jobs, with `batch_share` of the takes (0 to 1) looking at batch first.
    #[must_use]
    pub fn new(permits: usize, batch_share: f64) -> Self {
        let epoch = now();
        let (interactive, batch) = (Lane::new(permits, epoch), Lane::new(permits, epoch));
        Self { idle: IdleSet::new(), bell: Bell::new(), interactive, batch, batch_share }
    }

    /// A place for one more worker to wait at.
    #[must_use]
    pub fn seat(&self) -> Seat<T> {
        self.idle.seat()
    }

    /// Hands a job to the worker that has waited longest, or puts it at the end of its lane if all are busy.
    ///
    /// # Errors
    /// If the lane has no slot, which a caller that holds a permit never sees; the job comes back.
    pub fn push(&self, job: T) -> Result<(), LaneFull<T>> {
        let Err(job) = self.idle.offer(job) else { return Ok(()) };
        let standing = self.lane(job.priority()).push(job)?;
        self.tell(standing);
        Ok(())
    }

    /// Has as many idle workers look: each may have looked just before one of so many jobs came to stand in a lane. Where
    /// nobody is idle, the bell rings for another worker.
    fn tell(&self, standing: usize) {
        for _ in 0..standing {
            if !self.idle.look() {
                self.bell.ring();
                return;
            }
        }
    }

    /// The bell that rings when a job stands and nobody is idle.
    #[must_use]
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// How many jobs stand in the lanes, tombstones left out as far as they are reported.
    #[must_use]
    pub fn standing(&self) -> usize {
        [&self.interactive, &self.batch].map(Lane::standing).iter().sum()
    }

    /// Rings the bell if anything stands: what was counted on for it has come to nothing.
    pub fn ring_if_standing(&self) {
        if self.standing() > 0 {
            self.bell.ring();
        }
    }

    /// How many workers wait for a job. While jobs stand, nobody comes to wait who has not found the lanes empty before.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// The fewest workers that were idle at a time since this was last asked.
    #[must_use]
    pub fn fewest_idle(&self) -> usize {
        self.idle.fewest()
    }

    /// Says that the content of a job standing in a lane was taken back.
    pub fn bury(&self, priority: Priority) {
        let put_back = self.lane(priority).bury();
        self.tell(put_back);
    }

    /// Says that a taken job was a tombstone.
    pub fn unbury(&self, priority: Priority) {
        self.lane(priority).tombstones.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes out what has waited longest over both lanes, tombstones included: the caller looks, and takes another.
    ///
    /// `None` if nothing stands in a lane, which can be for the moment that somebody turns one over.
    pub fn take_oldest(&self) -> Option<T> {
        let batch_first = match (self.interactive.head(), self.batch.head()) {
            (Some(interactive), Some(batch)) => batch < interactive,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        let (first, second) = self.in_order(batch_first);
        first.receiver.try_recv().or_else(|_| second.receiver.try_recv()).ok()
    }

    /// How long the queue's head has waited. It may be a tombstone, until [`compact`](Self::compact) or a worker throws it
    /// out.
    #[must_use]
    pub fn oldest_wait(&self, now: Instant) -> Option<Duration> {
        let heads = [self.interactive.head(), self.batch.head()];
        heads.into_iter().flatten().min().map(|head| now.saturating_duration_since(head))
    }

    /// Throws out the tombstones of both lanes.
    pub fn compact(&self) {
        for lane in [&self.interactive, &self.batch] {
            if lane.tombstones.load(Ordering::Relaxed) > 0 {
                self.tell(lane.turn_over());
            }
        }
    }

    /// The next job for the worker at `seat`: waits until one comes, `quit` is given or `tick` has passed.
    pub fn take(&self, seat: &Seat<T>, shift: &mut Shift, quit: &QuitSignal, tick: Duration) -> Taken<T> {
        let mut told = false;
        loop {
            if quit.given() {
                // The word that something stands in a lane was for whoever waits, and nobody has looked: it is passed on.
                if told {
                    self.tell(1);
                }
                return Taken::Quit;
            }
            if let Some(job) = self.look(shift) {
                return Taken::Job(job);
            }
            self.idle.enter(seat);
            if let Some(job) = self.look(shift) {
                self.leave_served(seat);
                return Taken::Job(job);
            }
            let handed = select_biased! {
                recv(quit.channel()) -> _ => match self.leave(seat) {
                    None => return Taken::Quit,
                    handed => handed,
                },
                recv(seat.receiver()) -> handed => handed.ok(),
                default(tick) => match self.leave(seat) {
                    None => return Taken::Tick,
                    handed => handed,
                },
            };
            match handed {
                Some(Handed::Job(job)) => return Taken::Job(job),
                word => told = word.is_some(),
            }
        }
    }

    /// Takes a job out of the lanes, batch first when it is its turn.
    fn look(&self, shift: &mut Shift) -> Option<T> {
        let owed = shift.owed + self.batch_share;
        let batch_first = owed >= 1.0 - ROUNDING;
        let (first, second) = self.in_order(batch_first);
        let job = first.receiver.try_recv().or_else(|_| second.receiver.try_recv()).ok()?;
        shift.owed = if batch_first { owed - 1.0 } else { owed };
        Some(job)
    }

    /// Ends the wait at `seat`; what somebody had decided to hand over by then is waited for, since it comes at once. Where
    /// it does not, because its sender gets no processor or the whole process stands still, it is waited for all the same:
    /// sent to a worker that has gone on, it would lie there behind that one's next job.
    fn leave(&self, seat: &Seat<T>) -> Option<Handed<T>> {
        if self.idle.leave(seat) {
            return None;
        }
        loop {
            match seat.receiver().recv_timeout(HAND_OVER) {
                Ok(handed) => return Some(handed),
                Err(RecvTimeoutError::Timeout) => {
                    log::error!("a worker was taken out of the idle set and has been handed nothing for {HAND_OVER:?}");
                }
                // The seat holds a sender of its own.
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Ends the wait of a worker that has found a job by itself: what it was handed in the same moment is another's.
    fn leave_served(&self, seat: &Seat<T>) {
        match self.leave(seat) {
            None => {}
            Some(Handed::Job(newer)) => self.push(newer).unwrap_or_else(|LaneFull(_)| {
                log::error!("a lane had no slot for a job that holds a permit");
            }),
            // It need not have been for the job that was found: a second one may stand in a lane, pushed by somebody who
            // saw nobody idle, and another worker may have looked before it did.
            Some(Handed::Look) => self.tell(1),
        }
    }

    /// Takes out whatever stands in the lanes. Nobody turns a lane over meanwhile: jobs that somebody has in hand would be
    /// put back behind the sweep.
    pub fn sweep(&self) -> impl Iterator<Item = T> + '_ {
        [&self.interactive, &self.batch].into_iter().flat_map(|lane| {
            let _turn = loop {
                match Turn::take(&lane.turning) {
                    Some(turn) => break turn,
                    None => std::thread::yield_now(),
                }
            };
            lane.receiver.try_iter().collect::<Vec<_>>()
        })
    }

    fn in_order(&self, batch_first: bool) -> (&Lane<T>, &Lane<T>) {
        if batch_first { (&self.batch, &self.interactive) } else { (&self.interactive, &self.batch) }
    }

    fn lane(&self, priority: Priority) -> &Lane<T> {
        match priority {
            Priority::Interactive => &self.interactive,
            Priority::Batch => &self.batch,
        }
    }
}

impl<T> fmt::Debug for Lanes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes")
            .field("interactive", &self.interactive.receiver.len())
            .field("batch", &self.batch.receiver.len())
            .finish()
    }
}

/// One lane.
struct Lane<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
    /// Signed, since a worker may throw a shell away before its waiter has reported it.
    tombstones: AtomicIsize,
    turning: AtomicBool,
    ages: Ages,
}

impl<T: Queued> Lane<T> {
    fn new(permits: usize, epoch: Instant) -> Self {
        let slots = permits.saturating_mul(2).max(2);
        let (sender, receiver) = bounded(slots);
        let (tombstones, turning) = (AtomicIsize::new(0), AtomicBool::new(false));
        Self { sender, receiver, tombstones, turning, ages: Ages::new(slots, epoch) }
    }

    /// Since when the first shell has waited.
    fn head(&self) -> Option<Instant> {
        self.ages.head(self.receiver.len())
    }

    /// Puts one at the end, if there is a slot.
    fn send(&self, job: T) -> Result<(), T> {
        self.ages.note(job.since());
        self.sender.try_send(job).map_err(|error| {
            self.ages.take_back();
            error.into_inner()
        })
    }

    /// Puts a job at the end; how many came to stand here by that, those put back included.
    fn push(&self, mut job: T) -> Result<usize, LaneFull<T>> {
        let mut standing = 1;
        for _ in 0..PUSH_TRIES {
            match self.send(job) {
                Ok(()) => return Ok(standing),
                Err(back) => job = back,
            }
            standing += self.turn_over();
            std::thread::yield_now();
        }
        Err(LaneFull(job))
    }

    fn standing(&self) -> usize {
        let dead = usize::try_from(self.tombstones.load(Ordering::Relaxed)).unwrap_or(0);
        self.receiver.len().saturating_sub(dead)
    }

    /// Counts one tombstone more; how many jobs were put back by what that led to.
    fn bury(&self) -> usize {
        let buried = self.tombstones.fetch_add(1, Ordering::Relaxed) + 1;
        if usize::try_from(buried).unwrap_or(0) > self.sender.capacity().unwrap_or(0) / 4 {
            return self.turn_over();
        }
        0
    }

    /// Throws the tombstones out; one thread at a time, the others go on. How many jobs were put back: a worker that has
    /// looked meanwhile has not seen them.
    fn turn_over(&self) -> usize {
        let Some(_turn) = Turn::take(&self.turning) else { return 0 };
        let (mut live, mut put_back) = (VecDeque::new(), 0);
        loop {
            for shell in self.receiver.try_iter().take(self.sender.capacity().unwrap_or(0)) {
                if shell.is_tombstone() {
                    self.tombstones.fetch_sub(1, Ordering::Relaxed);
                } else {
                    live.push_back(shell);
                }
            }
            while let Some(shell) = live.pop_front() {
                match self.send(shell) {
                    Ok(()) => put_back += 1,
                    Err(back) => {
                        live.push_front(back);
                        break;
                    }
                }
            }
            // The lane filled up with new tombstones while it was empty: take those out too.
            if live.is_empty() {
                return put_back;
            }
        }
    }
}

/// The right to take a lane's jobs out and put them back; had by one thread at a time, and given back by a panic, too.
struct Turn<'a>(&'a AtomicBool);

impl<'a> Turn<'a> {
    fn take(turning: &'a AtomicBool) -> Option<Self> {
        (!turning.swap(true, Ordering::Acquire)).then(|| Self(turning))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
