//! `bench`: an open loop of requests at a constant rate, and how long they took, from when each was due.
//!
//! Beside the gateway the provider itself can be asked the same, by turns and on as many connections: what lies between the
//! two is the gateway's own. Read `load` for how requests are sent and timed, `target` for what is sent, `tally` for what is
//! counted, `report` for how it is told.

mod load;
mod report;
mod tally;
mod target;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, select, tick};

use super::args::Bench;
use super::output::{Failure, note, result};
use super::process::{self, Signals};
use super::terminal;
use crate::sync::threads::Thread;
use crate::sync::{CancelToken, Role, Threads, limits};
use crate::time::{Deadline, now};
use load::{Load, Schedule};
use report::Report;
use target::Target;

/// How long the threads are given to start before the first request is due.
const LEAD: Duration = Duration::from_millis(50);

/// How often progress is told on a terminal, and how often elsewhere.
const OFTEN: Duration = Duration::from_millis(250);
const SELDOM: Duration = Duration::from_secs(5);

/// How long a thread may take to end once its request is over.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// Stack of each thread, in bytes.
const STACK: usize = if cfg!(debug_assertions) { 2 << 20 } else { 256 << 10 };

pub(super) fn run(command: &Bench) -> Result<(), Failure> {
    process::raise_limits();
    let (limit, set_by) = limits::derive();
    let threads = Threads::limited(limit, set_by, STACK);
    let gateway = Target::gateway(command, &threads)?;
    let direct = Target::direct(command, &threads)?;
    let signals = Signals::listen(&threads)?;
    let stop = CancelToken::new();

    let time = Duration::from_secs(u64::from(command.secs));
    let schedule = Schedule { start: now() + LEAD, rate: command.rate, time };
    // By turns: in the middle between two requests to the gateway the provider is asked.
    let between = Duration::from_secs_f64(0.5 / f64::from(command.rate));
    let load = |target, schedule| Arc::new(Load::new(target, schedule, command.timeout, stop.clone()));
    let gateway = load(gateway, schedule);
    let direct = direct.map(|target| load(target, Schedule { start: schedule.start + between, ..schedule }));
    let loads: Vec<_> = [Some(&gateway), direct.as_ref()].into_iter().flatten().collect();

    let mut running = Vec::new();
    for load in &loads {
        match load.start(command.conns, &threads) {
            Ok(started) => running.extend(started),
            Err(error) => {
                stop.cancel();
                return Err(Failure::Job(format!("{error}; fewer --conns need fewer threads")));
            }
        }
    }
    let interrupted = watch(&loads, running, &signals, &stop, &threads, command)?;
    // Who was left behind, with a stream that goes on and on, is to load nobody beyond the report.
    stop.cancel();
    let report = Report::new(command, (&gateway, direct.as_deref()), (schedule.start, now()), interrupted);
    result(&if command.json { report.json()? } else { report.text() })?;
    report.verdict()
}

/// Tells of progress until every thread has ended; whether it was interrupted.
fn watch(
    loads: &[&Arc<Load>],
    running: Vec<Thread>,
    signals: &Signals,
    stop: &CancelToken,
    threads: &Threads,
    command: &Bench,
) -> Result<bool, Failure> {
    let over = over(running, threads, command)?;
    let live = terminal::shows_notes();
    let ticks = tick(if live { OFTEN } else { SELDOM });
    let begun = now();
    let mut interrupted = false;
    loop {
        select! {
            recv(over) -> _ => break,
            recv(ticks) -> _ => tell(&progress(loads, begun, command), live),
            recv(signals.channel()) -> _ => {
                if interrupted {
                    return Err(Failure::Job("ended at once by a second signal".to_owned()));
                }
                interrupted = true;
                stop.cancel();
            }
        }
    }
    if live {
        terminal::overwrite_note("");
    }
    Ok(interrupted)
}

/// A channel that closes when all of them have ended.
fn over(running: Vec<Thread>, threads: &Threads, command: &Bench) -> Result<Receiver<()>, Failure> {
    let (held, over) = bounded::<()>(0);
    let longest = Duration::from_secs(u64::from(command.secs)) + 2 * command.timeout + CLOSE_WAIT;
    threads.spawn(Role::Watchdog, "bench-end", move || {
        let _held = held;
        let deadline = Deadline::after(longest);
        // One that does not end in time is left behind: the report does not wait for it.
        running.into_iter().for_each(|thread| drop(thread.join(deadline)));
    })?;
    Ok(over)
}

fn tell(text: &str, live: bool) {
    if live { terminal::overwrite_note(text) } else { note(text) }
}

fn progress(loads: &[&Arc<Load>], begun: Instant, command: &Bench) -> String {
    let past = now().saturating_duration_since(begun).as_secs().min(u64::from(command.secs));
    let mut text = format!("{past} s of {} s", command.secs);
    for load in loads {
        let tally = load.tally.lock();
        let (sent, failed, latency) = (tally.sent, tally.failed, tally.dists().latency);
        drop(tally);
        let name = if loads.len() > 1 { format!("{}: ", load.target.name) } else { String::new() };
        text += &format!("; {name}{sent} sent, {failed} failed");
        if let Some(latency) = latency {
            text += &format!(", p50 {}, p99 {}", terminal::short(latency.p50), terminal::short(latency.p99));
        }
    }
    text
}
