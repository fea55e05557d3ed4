//! The threads that serve connections: cached, and retired when idle for long.
//!
//! **Protocol.** A thread that has nothing to do puts its seat, the sending end of its own channel of one, on a stack, and
//! waits. Whoever has a connection takes the top seat and sends; the seat travels with the connection and so back to its
//! thread. The last to rest is the first to work, so the threads that are too many stay at the bottom and retire.
//!
//! **Invariants.** A seat on the stack belongs to a thread that waits, and its channel is empty: sending never blocks. A
//! thread retires only after it has taken its own seat off; if somebody was faster, work is on its way to it.
//!
//! **Lock order.** The stack is a leaf.
//!
//! **Shutdown.** Closing drops the seats, which ends the threads that rest; the others end when they would rest.
//!
//! **Panics.** Serving is caught: its connection closes, its thread goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::connection::Connection;
use super::serve::serve;
use super::server::Shared;
use crate::sync::locks::classes;
use crate::sync::threads::{note_panic, panic_text};
use crate::sync::{Leaf, Role, State, Threads, threads};

/// How long a thread that finds its seat taken waits for the work that is on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

/// A connection to serve, and the seat to come back to.
struct Work {
    connection: Box<Connection>,
    seat: Seat,
}

struct Seat {
    number: u64,
    sender: Sender<Work>,
}

#[derive(Default)]
struct Resting {
    seats: Vec<Seat>,
    closed: bool,
}

/// The connection threads of one server.
pub(super) struct Crew {
    name: String,
    role: Role,
    threads: Threads,
    patience: Duration,
    next: AtomicU64,
    resting: Leaf<Resting>,
}

impl std::fmt::Debug for Crew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crew").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Crew {
    /// No threads yet. They will be called `name` and a number, and retire after `patience`.
    pub(super) fn new(name: &str, role: Role, threads: Threads, patience: Duration) -> Self {
        let resting = Leaf::new(&classes::LISTENER, Resting::default());
        Self { name: name.to_owned(), role, threads, patience, next: AtomicU64::new(1), resting }
    }

    /// Has a connection served by a thread of its own. Hands it back if there is none to be had.
    pub(super) fn serve(&self, mut connection: Box<Connection>) -> Result<(), Box<Connection>> {
        let seat = self.resting.lock().seats.pop();
        if let Some(seat) = seat {
            let sender = seat.sender.clone();
            match sender.send(Work { connection, seat }) {
                Ok(()) => return Ok(()),
                // Its thread has died, which no thread does with its seat on the stack; a new one is as good.
                Err(unsent) => connection = unsent.0.connection,
            }
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = bounded(1);
        let server = Arc::clone(connection.server());
        // The work lies in the channel already, so that it is not lost with a thread that does not start.
        let seat = Seat { number, sender: sender.clone() };
        if let Err(unsent) = sender.send(Work { connection, seat }) {
            return Err(unsent.0.connection);
        }
        let waiting = receiver.clone();
        match self
            .threads
            .spawn(self.role, &format!("{}-{number}", self.name), move || attend(&server, number, &waiting))
        {
            Ok(_detached) => Ok(()),
            Err(error) => {
                log::debug!("no thread for a connection: {error}");
                receiver.try_recv().map_or(Ok(()), |work| Err(work.connection))
            }
        }
    }

    /// Ends the threads that rest, and the others when they would.
    pub(super) fn close(&self) {
        let mut resting = self.resting.lock();
        resting.closed = true;
        let seats = std::mem::take(&mut resting.seats);
        drop(resting);
        drop(seats);
    }

    fn rest(&self, seat: Seat) -> bool {
        let mut resting = self.resting.lock();
        if resting.closed {
            return false;
        }
        resting.seats.push(seat);
        true
    }

    /// Takes a seat off the stack; `None` if somebody else has.
    fn leave(&self, number: u64) -> Option<Seat> {
        let mut resting = self.resting.lock();
        let at = resting.seats.iter().position(|seat| seat.number == number)?;
        Some(resting.seats.remove(at))
    }
}

/// A thread's life.
fn attend(server: &Arc<Shared>, number: u64, receiver: &Receiver<Work>) {
    let crew = server.crew();
    let mut spare = Vec::new();
    let mut patience = crew.patience;
    loop {
        let work = {
            let _resting = threads::rest(State::WaitingChannel, patience);
            receiver.recv_timeout(patience)
        };
        let work = match work {
            Ok(work) => work,
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
        let connection = work.connection;
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| serve(server, connection, &mut spare))) {
            note_panic(format!("serving a connection: {}", panic_text(&*panic)));
        }
        if !crew.rest(work.seat) {
            return;
        }
    }
}
