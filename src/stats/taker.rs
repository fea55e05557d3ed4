//! The thread that takes a snapshot once a second, as JSON ready to be sent.
//!
//! **Protocol.** The stats thread waits for {quit, fresh, tick}. At each tick it samples the counters, keeps what the second
//! brought in `history`, and publishes a snapshot; whoever reads gets the last one without touching a lock that a request
//! takes. Asking for a fresh one goes through a bounded channel, and those who ask at the same time get the same one.
//!
//! **Shutdown.** It holds the gateway weakly and ends with its quit signal, or when the gateway has gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, Sender, bounded, select_biased, tick};

use super::history::{History, Recorder};
use super::prometheus::{self, Format};
use crate::gateway::{Gateway, Snapshot, WeakGateway};
use crate::sync::threads::SpawnError;
use crate::sync::{Quit, QuitSignal, Role, State, Thread, threads};
use crate::time::{Deadline, now};

/// How often a snapshot is taken.
const EVERY: Duration = Duration::from_secs(1);

/// How many may ask for a fresh snapshot at once; the rest get the last one.
const ASKERS: usize = 64;

/// A snapshot as JSON.
pub type Json = Arc<Vec<u8>>;

/// What is put into each snapshot by those above the gateway: the data plane's connections.
pub type Enrich = Box<dyn Fn(&mut Snapshot) + Send>;

/// The stats thread, and the last snapshot. Field order is drop order: the quit signal before the handle.
///
/// With it the rates over the last minute are known, too.
///
/// ```
/// use std::time::Duration;
/// use sluicegate::stats::Stats;
/// use sluicegate::Gateway;
///
/// let gateway = Gateway::from_env()?;
/// let stats = Stats::start(&gateway, Box::new(|_| {}))?;
/// gateway.ask("sim/echo", "Hello")?;
/// let json: serde_json::Value = serde_json::from_slice(&stats.fresh(Duration::from_secs(5)))?;
/// assert_eq!(json["requests"]["received_total"], 1);
/// stats.stop(Duration::from_secs(5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Stats {
    published: Arc<ArcSwap<Taken>>,
    history: Arc<History>,
    ask: Sender<Sender<Json>>,
    quit: Quit,
    thread: Option<Thread>,
}

/// A snapshot, and the same as JSON.
#[derive(Debug)]
struct Taken {
    at: Instant,
    snapshot: Snapshot,
    json: Json,
}

impl Taken {
    fn now(gateway: &Gateway, enrich: &Enrich) -> Self {
        let mut snapshot = gateway.stats();
        enrich(&mut snapshot);
        let json = serde_json::to_vec(&snapshot).unwrap_or_else(|error| {
            log::error!("the snapshot could not be written as JSON: {error}");
            b"{}".to_vec()
        });
        Self { at: now(), snapshot, json: Arc::new(json) }
    }
}

impl Stats {
    /// Starts the stats thread of `gateway`.
    ///
    /// # Errors
    /// If its thread cannot be started.
    pub fn start(gateway: &Gateway, enrich: Enrich) -> Result<Self, SpawnError> {
        let taken = Taken::now(gateway, &enrich);
        gateway.sample_of(&taken.snapshot);
        let history = Arc::new(History::new());
        let mut recorder = Recorder::new(Arc::clone(&history), gateway, &taken.snapshot);
        let published = Arc::new(ArcSwap::from_pointee(taken));
        let (ask, asked) = bounded(ASKERS);
        let quit = Quit::new();
        let (watch, weak, own) = (quit.watch(), gateway.downgrade(), Arc::clone(&published));
        let thread = gateway.threads().service(Role::Stats, "stats", move || {
            run(&weak, &enrich, &own, &mut recorder, &asked, &watch);
        })?;
        Ok(Self { published, history, ask, quit, thread: Some(thread) })
    }

    /// The last snapshot: at most a second old.
    #[must_use]
    pub fn latest(&self) -> Json {
        Arc::clone(&self.published.load().json)
    }

    /// The last snapshot as Prometheus reads it, written by whoever asks: it takes nobody's time but his.
    pub(crate) fn metrics(&self, format: Format) -> Vec<u8> {
        let taken = self.published.load_full();
        prometheus::encode(&taken.snapshot, now().saturating_duration_since(taken.at), format)
    }

    /// A snapshot taken now; the last one if the stats thread does not answer until `deadline`.
    #[must_use]
    pub fn fresh(&self, deadline: impl Into<Deadline>) -> Json {
        let deadline = deadline.into();
        let (answer, answered) = bounded(1);
        let _waiting = threads::enter(State::WaitingChannel);
        if self.ask.try_send(answer).is_ok()
            && let Ok(json) = answered.recv_deadline(deadline.instant())
        {
            return json;
        }
        self.latest()
    }

    /// The seconds after `since`, in milliseconds since the Unix epoch, of the last quarter of an hour, as JSON in columns.
    pub(crate) fn history(&self, since: u64) -> Vec<u8> {
        self.history.json(since)
    }

    /// Ends the thread.
    pub fn stop(mut self, deadline: impl Into<Deadline>) {
        let deadline = deadline.into();
        self.quit.signal();
        if let Some(Err(thread)) = self.thread.take().map(|thread| thread.join(deadline)) {
            log::warn!("{} did not end in time", thread.name());
        }
    }
}

fn run(
    gateway: &WeakGateway,
    enrich: &Enrich,
    published: &ArcSwap<Taken>,
    recorder: &mut Recorder,
    asked: &Receiver<Sender<Json>>,
    quit: &QuitSignal,
) {
    let ticks = tick(EVERY);
    loop {
        let (mut askers, mut is_tick) = (Vec::new(), false);
        {
            let _resting = threads::rest(State::WaitingChannel, EVERY);
            select_biased! {
                recv(quit.channel()) -> _ => return,
                recv(asked) -> asker => match asker {
                    Ok(asker) => askers.push(asker),
                    Err(_) => return,
                },
                recv(ticks) -> _ => is_tick = true,
            }
        }
        let _round = threads::round(threads::ROUND);
        threads::count_job();
        // Whoever asked until now is served by the snapshot that is taken after.
        askers.extend(asked.try_iter().take(ASKERS));
        // However many ask, no second is left out.
        is_tick |= ticks.try_recv().is_ok();
        let Some(gateway) = gateway.upgrade() else { return };
        let taken = Taken::now(&gateway, enrich);
        if is_tick {
            gateway.sample_of(&taken.snapshot);
            recorder.record(&gateway, &taken.snapshot);
        }
        let json = Arc::clone(&taken.json);
        published.store(Arc::new(taken));
        for asker in askers {
            // One that has gone needs no answer.
            let _ = asker.try_send(Arc::clone(&json));
        }
    }
}
