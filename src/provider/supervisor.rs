//! Keeps a pool at its strength: takes workers that ended off the roster and hires new ones; lets old connections go.
//!
//! **Protocol.** It waits for {a worker's end, tick, quit}. Events only make it faster: at each tick it counts for itself,
//! so an event lost for lack of room, or a spawn refused for lack of threads, is made up for within the second.
//!
//! **Shutdown.** It holds the roster weakly and ends with its quit signal, or when the roster has gone.

use std::sync::Weak;
use std::time::Duration;

use crossbeam_channel::{Receiver, select_biased};

use super::pool::Roster;
use crate::sync::threads::ThreadEvent;
use crate::sync::{QuitSignal, State, threads};

/// How often it counts for itself.
const TICK: Duration = Duration::from_millis(500);

/// Runs until told to quit.
pub(crate) fn run(roster: &Weak<Roster>, exits: &Receiver<ThreadEvent>, quit: &QuitSignal) {
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
                default(TICK) => {}
            }
        }
        let _round = threads::round(threads::ROUND);
        threads::count_job();
        let Some(roster) = roster.upgrade() else { return };
        roster.shared.attempt.transport.close_idle();
        roster.reap();
        if !roster.is_manned() {
            continue;
        }
        for _ in 0..roster.missing() {
            if let Err(error) = roster.hire(None) {
                log::warn!("{}: a worker could not be replaced yet: {error}", roster.shared.settings.name);
                break;
            }
        }
    }
}
