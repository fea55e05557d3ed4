//! `stats --watch`: the table kept up to date in its place, and honest about how old it is.
//!
//! **Protocol.** A thread of its own asks, so that a signal is heard while a gateway is silent: the watcher tells it to ask
//! again once it has answered and the second is over. On a terminal the table lies on the alternate screen, is written over
//! from the top in one write, and cleared line by line behind it, which does not flicker; the guard of the screen gives the
//! terminal back however the watch ends. Elsewhere each table follows the other.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use serde_json::Value;
use signal_hook::consts::SIGTSTP;
use signal_hook::low_level::emulate_default_handler;

use super::table::{Look, PLAIN, draw};
use super::{Poll, Trouble, look};
use crate::cli::output::{Failure, note, print, result};
use crate::cli::process::Signals;
use crate::cli::terminal::{self, age};
use crate::sync::{Role, State, Threads, threads};
use crate::time::{Deadline, now};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);

/// How often it says so, where no terminal shows it all the time, that the gateway does not answer.
const REMIND: Duration = Duration::from_secs(10);

/// What came of asking.
type Answer = Result<Vec<u8>, Trouble>;

/// What is known.
struct Known {
    last: Option<(Value, Instant)>,
    trouble: Option<Trouble>,
    /// When it was last said that there is trouble.
    said: Option<Instant>,
}

pub(super) fn run(poll: Poll, json: bool, threads: &Threads) -> Result<(), Failure> {
    let signals = Signals::listen(threads)?;
    let mut screen = Screen::open(!json && terminal::shows_results(), threads)?;
    let (ask, answers) = asking(poll, threads)?;
    let mut known = Known { last: None, trouble: None, said: None };
    loop {
        let next = Deadline::after(EVERY);
        // It may still be at the last question: then it is not asked again before it has given up on that.
        let _ = ask.try_send(());
        select! {
            recv(signals.channel()) -> _ => break,
            recv(answers) -> answer => match answer {
                Ok(Ok(body)) => known.hears(&body, json)?,
                Ok(Err(trouble)) => known.misses(trouble)?,
                Err(_) => return Err(Failure::Job("the thread that asks the gateway has ended".to_owned())),
            },
            default(EVERY) => {}
        }
        known.show(&mut screen, json)?;
        if signals.channel().recv_deadline(next.instant()).is_ok() {
            break;
        }
    }
    drop(screen);
    known.end(json)
}

/// A thread that asks when it is told to, and sends what it got.
fn asking(poll: Poll, threads: &Threads) -> Result<(Sender<()>, Receiver<Answer>), Failure> {
    let (ask, asked) = bounded::<()>(1);
    let (answer, answers) = bounded(1);
    threads.spawn(Role::Stats, "poll", move || {
        while asked.recv().is_ok() {
            if answer.send(poll.ask()).is_err() {
                return;
            }
        }
    })?;
    Ok((ask, answers))
}

impl Known {
    fn hears(&mut self, body: &[u8], json: bool) -> Result<(), Failure> {
        if json {
            result(&format!("{}\n", String::from_utf8_lossy(body)))?;
        }
        let snapshot = super::read(body)?;
        if self.said.take().is_some() && !terminal::shows_results() {
            note("the gateway answers again");
        }
        (self.last, self.trouble) = (Some((snapshot, now())), None);
        Ok(())
    }

    fn misses(&mut self, trouble: Trouble) -> Result<(), Failure> {
        if trouble.lasting && self.last.is_none() {
            return Err(trouble.failure);
        }
        self.trouble = Some(trouble);
        Ok(())
    }

    /// What is to be said of the gateway's silence, if it is silent.
    fn trouble(&self) -> Option<String> {
        let late = |at: &Instant| now().saturating_duration_since(*at).as_secs();
        match (&self.trouble, &self.last) {
            (Some(trouble), Some((_, at))) => {
                Some(format!("no answer: {}; the numbers are {} old", trouble.failure, age(late(at))))
            }
            (Some(trouble), None) => Some(format!("no answer yet: {}", trouble.failure)),
            (None, Some((_, at))) if late(at) >= 3 => {
                Some(format!("no answer for {}; the numbers are as old", age(late(at))))
            }
            _ => None,
        }
    }

    fn show(&mut self, screen: &mut Screen, json: bool) -> Result<(), Failure> {
        let trouble = self.trouble();
        if screen.live {
            let (width, height) = terminal::size();
            let look = Look { width, height, colours: terminal::takes_colours() };
            return screen.show(&draw(trouble.as_deref(), self.last.as_ref().map(|(snapshot, _)| snapshot), look));
        }
        match trouble {
            Some(text) => {
                if self.said.is_none_or(|at| now().saturating_duration_since(at) >= REMIND) {
                    note(&text);
                    self.said = Some(now());
                }
                Ok(())
            }
            None => match &self.last {
                Some((snapshot, _)) if !json => result(&format!("{}\n", draw(None, Some(snapshot), PLAIN))),
                _ => Ok(()),
            },
        }
    }

    /// What is left to see behind the alternate screen, and whether it was worth it.
    fn end(self, json: bool) -> Result<(), Failure> {
        let trouble = self.trouble();
        match (&self.last, self.trouble) {
            (Some((snapshot, _)), _) if !json && terminal::shows_results() => {
                result(&draw(trouble.as_deref(), Some(snapshot), look()))
            }
            (Some(_), _) => Ok(()),
            (None, Some(trouble)) => Err(trouble.failure),
            (None, None) => Err(Failure::Job("the gateway did not answer".to_owned())),
        }
    }
}

/// The alternate screen, no cursor, nothing on it; and the way back.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J";
const LEAVE: &[u8] = b"\x1b[?25h\x1b[?1049l";

/// A terminal that is drawn on; given back when this drops.
struct Screen {
    live: bool,
}

impl Screen {
    /// Takes the terminal, if there is one.
    fn open(live: bool, threads: &Threads) -> Result<Self, Failure> {
        let screen = Self { live };
        if live {
            lend_while_stopped(threads)?;
            print(ENTER)?;
        }
        Ok(screen)
    }

    /// Writes over what is there.
    fn show(&mut self, text: &str) -> Result<(), Failure> {
        // Home; each line cleared behind its text; the rest below; and all of it shown at once by terminals that can.
        let lines = text.trim_end_matches('\n').replace('\n', "\x1b[K\r\n");
        print(format!("\x1b[?2026h\x1b[H{lines}\x1b[K\x1b[J\x1b[?2026l").as_bytes())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.live {
            // A terminal that is gone needs nothing back.
            let _ = print(LEAVE);
        }
    }
}

/// Gives the terminal to the shell at Ctrl-Z, and takes it again when the watch goes on.
fn lend_while_stopped(threads: &Threads) -> Result<(), Failure> {
    let mut stops = signal_hook::iterator::Signals::new([SIGTSTP])?;
    threads.service(Role::Watchdog, "stops", move || {
        let _resting = threads::rest(State::Io, Duration::MAX);
        for stop in stops.forever() {
            // Nothing is drawn between the two: whoever draws waits for stdout.
            let mut out = std::io::stdout().lock();
            // A terminal that is gone ends the watch when it is next drawn on; one that cannot stop goes on.
            let _ = out.write_all(LEAVE).and_then(|()| out.flush());
            let _ = emulate_default_handler(stop);
            let _ = out.write_all(ENTER).and_then(|()| out.flush());
        }
    })?;
    Ok(())
}
