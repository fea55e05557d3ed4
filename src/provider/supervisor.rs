//! Keeps a pool at its strength: takes workers that ended off the roster, hires new ones, has the scaler look; lets old
//! connections go; measures how fast places come free.
//!
//! **Protocol.** It waits for {quit, a worker's end, the bell of a job that found nobody idle, tick}. Events only make it
//! faster: at each wake it counts for itself, so an event lost for lack of room, or a spawn refused for lack of threads, is
//! made up for within a tick. The tick comes by the clock, however often the others wake it.
//!
//! **Shutdown.** It holds the roster weakly and ends with its quit signal, or when the roster has gone.

use std::sync::Weak;
use std::time::Duration;

use crossbeam_channel::{Receiver, select_biased};

use super::health;
use super::roster::Roster;
use crate::metrics::Drain;
use crate::sync::threads::ThreadEvent;
use crate::sync::{QuitSignal, State, threads};
use crate::time::{Deadline, now};

/// How often it looks for itself: with the scaler's window, two seconds.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// Runs until told to quit. `bell` is the lanes' of the same pool.
pub(crate) fn run(roster: &Weak<Roster>, exits: &Receiver<ThreadEvent>, bell: &Receiver<()>, quit: &QuitSignal) {
    let mut drain = Drain::default();
    let mut next_look = Deadline::after(TICK);
    loop {
        {
            let _resting = threads::rest(State::WaitingChannel, TICK);
            select_biased! {
                recv(quit.channel()) -> _ => return,
                recv(exits) -> event => match event {
                    Ok(ThreadEvent::Ended { .. }) => {}
                    Ok(ThreadEvent::Spawned(_)) => continue,
                    Err(_) => return,
                },
                recv(bell) -> rung => if rung.is_err() { return },
                default(next_look.remaining()) => {}
            }
        }
        let _round = threads::round(threads::ROUND);
        threads::count_job();
        let Some(roster) = roster.upgrade() else { return };
        let now = now();
        let is_look = next_look.remaining_at(now).is_zero();
        if is_look {
            next_look = Deadline::from(now, TICK);
            roster.shared.measure(&mut drain);
            roster.shared.attempt.transport.close_idle();
            roster.shared.gate.breaker.tick(now);
            health::look(&roster.shared, now);
        }
        roster.tend(now, is_look);
    }
}
