//! Threads that do one piece of work after the other: cached, and retired when idle for long.
//!
//! **Protocol.** A thread that has nothing to do puts its seat, the sending end of its own channel of one, on a stack, and
//! waits. Whoever has work takes the top seat, or a new one, and gives the work to it; the seat travels with the work and so
//! back to its thread. The last to rest is the first to work, so the threads that are too many stay at the bottom and retire.
//!
//! **Invariants.** A seat on the stack, or taken from it, belongs to a thread that waits, and its channel is empty: giving
//! never blocks. A thread retires only after it has taken its own seat off; if somebody was faster, work is on its way to
//! it. A seat that is dropped ends its thread.
//!
//! **Lock order.** The stack is a leaf.
//!
//! **Shutdown.** Closing drops the seats, which ends the threads that rest; the others, and whoever is started later, end
//! when they would rest. Joining waits for all but the thread that asks.
//!
//! **Panics.** Work is run under a catch: its thread goes on.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::locks::{Leaf, LockClass};
use super::threads::{self, Role, SpawnError, State, Thread, Threads, note_panic, panic_text};
use crate::time::Deadline;

/// How long a thread that finds its seat taken waits for the work that is on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// Threads that each do pieces of work `W`, and keep something `K` of their own from one to the next.
pub struct Crew<W, K = ()>(Arc<Inner<W, K>>);

struct Inner<W, K> {
    name: String,
    role: Role,
    threads: Threads,
    patience: Duration,
    run: fn(W, &mut K),
    next: AtomicU64,
    roll: Leaf<Roll<W>>,
}

struct Roll<W> {
    resting: Vec<Seat<W>>,
    /// Each thread's handle, from when it has been started until it ends; without one where it ended first.
    alive: BTreeMap<u64, Option<Thread>>,
    closed: bool,
}

/// A thread that waits for a piece of work.
pub struct Seat<W> {
    number: u64,
    sender: Sender<Piece<W>>,
}

/// A piece of work, and the seat to come back to.
struct Piece<W> {
    work: W,
    seat: Seat<W>,
}

impl<W> Seat<W> {
    /// Has its thread do `work`. Hands it back if the thread has died, which none does that waits.
    ///
    /// # Errors
    /// With the work, which was not begun.
    pub fn give(self, work: W) -> Result<(), W> {
        let sender = self.sender.clone();
        sender.send(Piece { work, seat: self }).map_err(|unsent| unsent.0.work)
    }
}

impl<W: Send + 'static, K: Default + 'static> Crew<W, K> {
    /// No threads yet. They will be called `name` and a number, do their work by `run`, and retire after `patience`.
    #[must_use]
    pub fn new(
        class: &'static LockClass,
        name: &str,
        role: Role,
        threads: Threads,
        patience: Duration,
        run: fn(W, &mut K),
    ) -> Self {
        let roll = Roll { resting: Vec::new(), alive: BTreeMap::new(), closed: false };
        let (name, next) = (name.to_owned(), AtomicU64::new(1));
        Self(Arc::new(Inner { name, role, threads, patience, run, next, roll: Leaf::new(class, roll) }))
    }

    /// A thread that waits for work: the one that rested last, else a new one.
    ///
    /// # Errors
    /// If none rests and none can be started.
    pub fn seat(&self) -> Result<Seat<W>, SpawnError> {
        let inner = &self.0;
        let resting = inner.roll.lock().resting.pop();
        if let Some(seat) = resting {
            return Ok(seat);
        }
        let number = inner.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = bounded(1);
        let own = Arc::clone(inner);
        let name = format!("{}-{number}", inner.name);
        let thread = inner.threads.spawn(inner.role, &name, move || attend(&own, number, &receiver))?;
        let mut roll = inner.roll.lock();
        let over = roll.alive.remove(&number).is_some();
        if !over {
            roll.alive.insert(number, Some(thread));
        }
        drop(roll);
        Ok(Seat { number, sender })
    }

    /// Ends the threads that rest, and the others when they would.
    pub fn close(&self) {
        let mut roll = self.0.roll.lock();
        roll.closed = true;
        let seats = std::mem::take(&mut roll.resting);
        drop(roll);
        drop(seats);
    }

    /// Waits until every thread has ended after a [`close`](Self::close), but for the one that asks. Gives the names of those
    /// that have not by the deadline.
    #[must_use]
    pub fn join(&self, deadline: Deadline) -> Vec<String> {
        let threads: Vec<_> = std::mem::take(&mut self.0.roll.lock().alive).into_values().flatten().collect();
        let stuck = threads.into_iter().filter_map(|thread| thread.join(deadline).err());
        stuck.map(|thread| thread.name().to_owned()).collect()
    }
}

impl<W, K> Inner<W, K> {
    fn rest(&self, seat: Seat<W>) -> bool {
        let mut roll = self.roll.lock();
        if roll.closed {
            return false;
        }
        roll.resting.push(seat);
        true
    }

    /// Takes a seat off the stack; `None` if somebody else has.
    fn leave(&self, number: u64) -> Option<Seat<W>> {
        let mut roll = self.roll.lock();
        let at = roll.resting.iter().position(|seat| seat.number == number)?;
        Some(roll.resting.remove(at))
    }
}

/// A thread's life.
fn attend<W, K: Default>(crew: &Inner<W, K>, number: u64, receiver: &Receiver<Piece<W>>) {
    work(crew, number, receiver);
    let mut roll = crew.roll.lock();
    let handle = roll.alive.remove(&number);
    if handle.is_none() && !roll.closed {
        // Whoever started it has not come so far as to put its handle there.
        roll.alive.insert(number, None);
    }
    drop(roll);
    drop(handle);
}

fn work<W, K: Default>(crew: &Inner<W, K>, number: u64, receiver: &Receiver<Piece<W>>) {
    let mut kept = K::default();
    let mut patience = crew.patience;
    loop {
        let piece = {
            let _resting = threads::rest(State::WaitingChannel, patience);
            receiver.recv_timeout(patience)
        };
        let piece = match piece {
            Ok(piece) => piece,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                if crew.leave(number).is_some() {
                    return;
                }
                patience = ON_ITS_WAY;
                continue;
            }
        };
        patience = crew.patience;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (crew.run)(piece.work, &mut kept))) {
            note_panic(panic_text(&*panic));
        }
        if !crew.rest(piece.seat) {
            return;
        }
    }
}

impl<W, K> fmt::Debug for Crew<W, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl<W> fmt::Debug for Seat<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seat").field(&self.number).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::locks::classes::TEST_LEAF;
    use crate::time::now;

    const FUSE: Duration = Duration::from_secs(5);

    type Job = Box<dyn FnOnce() + Send>;

    fn crew(threads: &Threads, patience: Duration) -> Crew<Job> {
        Crew::new(&TEST_LEAF, "hand", Role::Conn, threads.clone(), patience, |job: Job, (): &mut ()| job())
    }

    fn give(crew: &Crew<Job>, job: impl FnOnce() + Send + 'static) {
        assert!(crew.seat().expect("a thread").give(Box::new(job)).is_ok());
    }

    fn until(what: &str, holds: impl Fn() -> bool) {
        let start = now();
        while !holds() {
            assert!(now() - start < FUSE, "{what}");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    #[test]
    fn one_thread_does_what_comes_one_after_the_other() {
        let threads = Threads::new(16, 1 << 20);
        let crew = crew(&threads, FUSE);
        let (sender, receiver) = bounded(1);
        for number in 0..20 {
            let sender = sender.clone();
            give(&crew, move || sender.send(number).expect("it waits"));
            assert_eq!(receiver.recv_timeout(FUSE), Ok(number));
            until("it rests", || crew.0.roll.lock().resting.len() == 1);
        }
        assert_eq!(threads.stats().spawned_total, 1);
        crew.close();
        assert!(crew.join(Deadline::after(FUSE)).is_empty());
        assert_eq!(threads.active(), 0);
    }

    #[test]
    fn a_panic_costs_its_piece_of_work_alone() {
        let threads = Threads::new(16, 1 << 20);
        let crew = crew(&threads, FUSE);
        give(&crew, || panic!("as the test says"));
        until("it rests", || crew.0.roll.lock().resting.len() == 1);
        let (sender, receiver) = bounded(1);
        give(&crew, move || sender.send(()).expect("it waits"));
        assert_eq!(receiver.recv_timeout(FUSE), Ok(()));
        assert_eq!((threads.stats().spawned_total, threads.stats().panics_total), (1, 1));
        crew.close();
        assert!(crew.join(Deadline::after(FUSE)).is_empty());
    }

    #[test]
    fn past_the_limit_there_is_no_seat() {
        let threads = Threads::new(1, 1 << 20);
        let crew = crew(&threads, FUSE);
        let seat = crew.seat().expect("one thread");
        assert!(matches!(crew.seat(), Err(SpawnError::Limit { .. })));
        drop(seat);
        until("a seat that is dropped ends its thread", || threads.active() == 0);
        assert!(crew.seat().is_ok());
    }

    /// Threads that retire at once while work comes all the time: none is lost, and no handle is left.
    #[test]
    fn no_work_is_lost_to_a_thread_that_retires() {
        let threads = Threads::new(64, 1 << 20);
        let crew = crew(&threads, Duration::from_micros(50));
        let (sender, receiver) = bounded(8);
        for number in 0..if cfg!(miri) { 5 } else { 2000 } {
            let sender = sender.clone();
            give(&crew, move || sender.send(number).expect("it waits"));
            assert_eq!(receiver.recv_timeout(FUSE), Ok(number));
        }
        until("all have retired", || threads.active() == 0);
        assert!(crew.0.roll.lock().alive.is_empty(), "{:?}", crew.0.roll.lock().alive);
    }

    #[test]
    fn a_thread_that_joins_its_own_crew_does_not_wait_for_itself() {
        let threads = Threads::new(16, 1 << 20);
        let crew = Arc::new(crew(&threads, FUSE));
        let (sender, receiver) = bounded(1);
        let own = Arc::clone(&crew);
        give(&crew, move || {
            own.close();
            let stuck = own.join(Deadline::after(FUSE));
            sender.send(stuck).expect("it waits");
        });
        assert_eq!(receiver.recv_timeout(FUSE), Ok(Vec::new()));
        until("it ends", || threads.active() == 0);
    }
}
