//! Lines on their way to somebody who may be slow: a disk, a pipe that nobody reads. Whoever writes a line never waits.
//!
//! **Protocol.** [`Spool::put`] hands a line over, or refuses it where there is no room, in lines or in bytes; the thread in
//! [`Drain::run`] gives them to an [`Outlet`], in their order. After each batch it lets some time go by before it looks for
//! the next one: while lines come, they come in batches, and whoever puts one wakes nobody. A flush ends that pause.
//!
//! **Invariants.** I4: so many lines and bytes wait; a line that is longer than all bytes is taken where no other waits. I6: no
//! lock of ours, since a line may be logged from under any. What was put before a flush is with the outlet after it.
//!
//! **Shutdown.** The drain ends when the spool is dropped, behind what was put before. An outlet that panics has taken its
//! line with it; the drain can be run again.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::sync::{State, threads};
use crate::time::Deadline;

/// How long lines are let come together after a batch.
const GATHER: Duration = Duration::from_millis(10);

/// How often the outlet hears that nothing came.
const TICK: Duration = Duration::from_secs(1);

/// Where lines go.
pub(crate) trait Outlet {
    /// A line, whole, with its end.
    fn line(&mut self, line: &[u8]);

    /// No further line waits now; called after each batch, and once a second where none comes.
    fn rest(&mut self);
}

enum Item {
    Line(Vec<u8>),
    /// Closes once everything before it is with the outlet.
    Flush(Sender<Infallible>),
}

/// The end that lines are put into.
pub(crate) struct Spool {
    items: Sender<Item>,
    hurry: Sender<()>,
    bytes: Arc<AtomicUsize>,
    most_bytes: usize,
}

/// The end that they come out of.
pub(crate) struct Drain {
    items: Receiver<Item>,
    hurry: Receiver<()>,
    bytes: Arc<AtomicUsize>,
}

/// A spool for so many lines and bytes, and its drain.
pub(crate) fn spool(most_lines: usize, most_bytes: usize) -> (Spool, Drain) {
    let ((items, lines), (hurry, hurried)) = (bounded(most_lines), bounded(1));
    let bytes = Arc::<AtomicUsize>::default();
    let drain = Drain { items: lines, hurry: hurried, bytes: Arc::clone(&bytes) };
    (Spool { items, hurry, bytes, most_bytes }, drain)
}

impl Spool {
    /// Hands a line over; `false` if there is no room for it.
    pub(crate) fn put(&self, line: Vec<u8>) -> bool {
        let length = line.len();
        let before = self.bytes.fetch_add(length, Ordering::Relaxed);
        let has_room = before == 0 || before.saturating_add(length) <= self.most_bytes;
        if has_room && self.items.try_send(Item::Line(line)).is_ok() {
            return true;
        }
        self.bytes.fetch_sub(length, Ordering::Relaxed);
        false
    }

    /// Waits until everything that was put before is with the outlet; `false` if it is not by the deadline.
    pub(crate) fn flush(&self, until: Deadline) -> bool {
        let (done, is_done) = bounded::<Infallible>(0);
        // One that is in a hurry already is in one now.
        let _ = self.hurry.try_send(());
        if self.items.send_deadline(Item::Flush(done), until.instant()).is_err() {
            return false;
        }
        !matches!(is_done.recv_deadline(until.instant()), Err(RecvTimeoutError::Timeout))
    }
}

impl Drain {
    /// Gives lines to the outlet, until the spool is dropped.
    pub(crate) fn run(&self, outlet: &mut impl Outlet) {
        loop {
            let first = {
                let _resting = threads::rest(State::WaitingChannel, TICK);
                self.items.recv_timeout(TICK)
            };
            let mut flushes: Vec<Sender<Infallible>> = Vec::new();
            // Whoever reads may take for ever, and nobody waits for that.
            let resting = threads::rest(State::Io, Duration::MAX);
            let is_over = match first {
                Ok(first) => {
                    self.hand_on(first, outlet, &mut flushes);
                    // No more than wait now: under a flood a flush would else wait for its end.
                    for item in self.items.try_iter().take(self.items.len()) {
                        self.hand_on(item, outlet, &mut flushes);
                    }
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            outlet.rest();
            drop((flushes, resting));
            if is_over {
                return;
            }
            let _resting = threads::rest(State::WaitingChannel, GATHER);
            let _ = self.hurry.recv_timeout(GATHER);
        }
    }

    fn hand_on(&self, item: Item, outlet: &mut impl Outlet, flushes: &mut Vec<Sender<Infallible>>) {
        match item {
            Item::Line(line) => {
                self.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                outlet.line(&line);
            }
            Item::Flush(done) => flushes.push(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::scope;

    use super::*;

    const FUSE: Duration = Duration::from_secs(5);

    /// Keeps what it hears, behind a gate.
    struct Reader {
        gate: Receiver<()>,
        heard: Vec<String>,
        rests: usize,
    }

    impl Outlet for Reader {
        fn line(&mut self, line: &[u8]) {
            self.gate.recv_timeout(FUSE).expect("the gate opens");
            self.heard.push(String::from_utf8_lossy(line).into_owned());
        }

        fn rest(&mut self) {
            self.rests += 1;
        }
    }

    fn reader() -> (Sender<()>, Reader) {
        let (open, gate) = bounded(1000);
        (open, Reader { gate, heard: Vec::new(), rests: 0 })
    }

    fn line(n: usize) -> Vec<u8> {
        format!("{n:04}\n").into_bytes()
    }

    #[test]
    fn what_has_no_room_is_refused_and_what_was_taken_comes_out_in_order() {
        let (spool, drain) = spool(8, 1 << 20);
        let (open, mut reader) = reader();
        let taken: Vec<_> = (0..20).filter(|n| spool.put(line(*n))).collect();
        assert_eq!(taken, (0..8).collect::<Vec<_>>(), "so many lines wait");
        assert!(!spool.flush(Deadline::after(Duration::from_millis(5))), "nobody reads");
        (0..8).for_each(|_| open.try_send(()).expect("there is room"));
        drop(spool);
        drain.run(&mut reader);
        assert_eq!(reader.heard, taken.iter().map(|n| format!("{n:04}\n")).collect::<Vec<_>>());
        assert!(reader.rests > 0);
    }

    #[test]
    fn bytes_are_bounded_but_for_a_line_that_waits_alone() {
        let (spool, drain) = spool(1000, 12);
        let (open, mut reader) = reader();
        assert!(spool.put(line(1)) && spool.put(line(2)) && !spool.put(line(3)), "two lines of five bytes fit");
        (0..4).for_each(|_| open.try_send(()).expect("there is room"));
        scope(|scope| {
            scope.spawn(|| drain.run(&mut reader));
            assert!(spool.flush(Deadline::after(FUSE)));
            assert!(spool.put(vec![b'x'; 50]), "it would else never be written");
            assert!(spool.flush(Deadline::after(FUSE)) && spool.put(line(4)), "what came out has made room");
            drop(spool);
        });
        assert_eq!(reader.heard.len(), 4);
    }

    #[test]
    fn a_flood_without_an_end_has_batches() {
        /// Is sent another line for each that it hears.
        struct Flooded {
            spool: Option<Spool>,
            lines: usize,
            rests: usize,
        }

        impl Outlet for Flooded {
            fn line(&mut self, _: &[u8]) {
                self.lines += 1;
                assert!(self.lines < 1000, "there is no end of it");
                if let Some(spool) = &self.spool {
                    assert!(spool.put(line(self.lines)));
                }
            }

            fn rest(&mut self) {
                self.rests += 1;
                if self.rests == 3 {
                    self.spool = None;
                }
            }
        }

        let (spool, drain) = spool(8, 1 << 20);
        assert!((0..5).all(|n| spool.put(line(n))));
        let mut flooded = Flooded { spool: Some(spool), lines: 0, rests: 0 };
        drain.run(&mut flooded);
        assert!(flooded.lines > 5 && flooded.rests > 3);
    }

    #[test]
    fn after_a_flush_everything_that_was_put_before_is_with_its_reader() {
        let (spool, drain) = spool(1000, 1 << 20);
        let (open, mut reader) = reader();
        let read = AtomicUsize::new(0);
        struct Counting<'a>(&'a mut Reader, &'a AtomicUsize);
        impl Outlet for Counting<'_> {
            fn line(&mut self, line: &[u8]) {
                self.0.line(line);
                self.1.fetch_add(1, Ordering::SeqCst);
            }

            fn rest(&mut self) {}
        }
        (0..100).for_each(|_| open.try_send(()).expect("there is room"));
        scope(|scope| {
            scope.spawn(|| drain.run(&mut Counting(&mut reader, &read)));
            for n in 0..100 {
                assert!(spool.put(line(n)) && spool.flush(Deadline::after(FUSE)));
                assert_eq!(read.load(Ordering::SeqCst), n + 1);
            }
            drop(spool);
        });
    }
}
