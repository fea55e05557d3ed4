//! The gateway itself: routes a request, runs its attempts, and ends in an orderly way.
//!
//! A [`Gateway`] is a handle: `Clone + Send + Sync`, cheap to copy, all copies are one gateway. Requests run on the thread
//! that waits for them anyway, or on a runner if they are handed over; the other threads of the gateway's own are the
//! providers' workers and those that look after it. It opens no listener:
//! the data plane is `front`, the admin plane `admin`, and both are put on top of a gateway by whoever wants them.

// Read `calls` for what may be asked of it, `submit` and `map` for what is handed over, `call` for a request's way, `way` and `tracked` for its ends, `attempts` for its
// tries, `house` for where they go, `load` for whether it comes in at all, `requests` for how it is counted, `plugins` for
// who sees it on the way, `models` for what there is to ask for, `reload` for another configuration and `retired` for what it replaces, `shutdown`
// for the end.

mod attempts;
mod build;
mod builder;
mod call;
mod calls;
mod house;
mod load;
mod map;
mod models;
mod options;
mod overload;
#[cfg(feature = "front")]
mod planes;
mod plugins;
mod reload;
mod requests;
mod retired;
mod samples;
mod shutdown;
mod sim;
mod snapshot;
mod strangers;
mod stream;
mod submit;
mod tracked;
mod vitals;
mod watchdog;
mod way;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use arc_swap::ArcSwap;
use serde::Serialize;

pub use build::{Builder, StartError};
#[doc(hidden)]
pub use call::Handled;
pub use calls::Calls;
#[doc(hidden)]
pub use load::{Connections, Place};
pub use map::{MapOrdered, MapUnordered};
pub use models::{ModelName, ModelsFailure, ModelsRefresh};
pub use options::CallOptions;
#[cfg(feature = "front")]
pub(crate) use planes::Times;
pub use reload::ReloadError;
#[doc(hidden)]
pub use requests::RequestGuard;
#[doc(hidden)]
pub use requests::RequestStats;
pub use shutdown::ShutdownReport;
#[doc(hidden)]
pub use snapshot::{Blocked, Process, Snapshot};
#[doc(hidden)]
pub use strangers::Strangers;
pub use stream::{ChatStream, RawEvent, RawStream};
pub use submit::Handle;

pub use crate::provider::BreakerMode;
pub use crate::sync::locks::{Deadlock, LockError, LockErrorKind};
pub use crate::sync::threads::SpawnError;

use crate::config::{Config, Scope};
use crate::events::Events;
use crate::http::{Certificates, Watcher};
use crate::provider::{PoolVitals, Stock};
use crate::queue::ByteBudget;
use crate::recycle::Buffer;
use crate::sync::locks::ChannelLock;
use crate::sync::{Quit, Slot, Threads};
use attempts::Pauses;
use build::{Ground, OnConfig};
use house::House;
use load::Load;
use models::Lists;
use plugins::Plugins;
use requests::Requests;
use retired::Retired;
use samples::Samples;
use sim::SimHost;
use submit::Runners;
use watchdog::Watchdog;

/// The life of a gateway.
///
/// ```
/// use std::time::Duration;
/// use sluicegate::Gateway;
/// use sluicegate::gateway::Phase;
///
/// let gateway = Gateway::from_env()?;
/// assert_eq!(gateway.phase(), Phase::Running);
/// gateway.drain();
/// assert_eq!(gateway.phase(), Phase::Draining);
/// gateway.shutdown(Duration::from_secs(5));
/// assert_eq!(gateway.phase(), Phase::Stopped);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
#[non_exhaustive]
pub enum Phase {
    /// Its pools are coming up.
    Starting,
    /// It takes requests.
    Running,
    /// It finishes what is under way and takes nothing new.
    Draining,
    /// It takes nothing.
    Stopped,
}

/// An LLM gateway in this process.
///
/// ```
/// let gateway = sluicegate::Gateway::from_env()?;
/// let answer = gateway.ask("sim/echo", "Hello")?;
/// assert_eq!(answer, "Hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

/// Field order is drop order: the providers end before what they stand on.
struct Inner {
    house: ArcSwap<House>,
    plugins: Plugins,
    retired: Retired,
    /// Whoever has it reloads, or ends the gateway.
    reloading: ChannelLock<()>,
    on_config: Option<OnConfig>,
    ground: Ground,
    sim: Arc<SimHost>,
    stock: Stock,
    bytes: ByteBudget,
    load: Arc<Load>,
    requests: Arc<Requests>,
    samples: Samples,
    events: Events,
    strangers: Strangers,
    lists: Lists,
    certificates: Option<Arc<Certificates>>,
    watchdog: Slot<Watchdog>,
    pauses: Pauses,
    /// The threads of requests that were handed over.
    runners: Runners,
    /// Ends the pauses.
    ending: Slot<Quit>,
    phase: AtomicU8,
    started: Instant,
    threads: Threads,
}

/// A handle that keeps no gateway alive: for threads that serve one.
///
/// ```
/// let gateway = sluicegate::Gateway::from_env()?;
/// let weak = gateway.downgrade();
/// let answer = weak.upgrade().map(|gateway| gateway.ask("sim/echo", "Hello")).transpose()?;
/// assert_eq!(answer.as_deref(), Some("Hello"));
///
/// drop(gateway);
/// assert!(weak.upgrade().is_none(), "it has ended, since nobody else kept it");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct WeakGateway(Weak<Inner>);

impl WeakGateway {
    /// The gateway, if it is still there.
    #[must_use]
    pub fn upgrade(&self) -> Option<Gateway> {
        self.0.upgrade().map(Gateway)
    }
}

impl Gateway {
    /// A gateway of what the environment offers: each provider whose key is set, and the simulated one.
    ///
    /// # Errors
    /// If a variable makes no sense, or the workers' threads cannot be started.
    pub fn from_env() -> Result<Self, StartError> {
        Self::builder().build()
    }

    /// A gateway of a configuration file.
    ///
    /// # Errors
    /// Everything that is wrong with the file, or that the workers' threads cannot be started.
    pub fn from_config(path: impl AsRef<Path>) -> Result<Self, StartError> {
        Self::builder().config(Config::load(path.as_ref())?).build()
    }

    /// A gateway to be put together.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The threads of this gateway; those who put a listener on it start theirs there.
    #[must_use]
    #[doc(hidden)]
    pub fn threads(&self) -> &Threads {
        &self.0.threads
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.0.house.load().config)
    }

    /// The last events.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.0.events
    }

    /// Counts failed keys by address, for every listener on this gateway.
    #[must_use]
    #[doc(hidden)]
    pub fn strangers(&self) -> &Strangers {
        &self.0.strangers
    }

    /// The watcher of client connections, shared by every listener on this gateway; started when first asked for.
    ///
    /// # Errors
    /// If its thread cannot be started.
    #[doc(hidden)]
    pub fn watcher(&self) -> Result<Arc<Watcher>, StartError> {
        self.0.sim.watcher()
    }

    /// The certificate of the data plane, if `server.tls` names one; kept up to date as long as the gateway lives.
    #[must_use]
    #[doc(hidden)]
    pub fn certificates(&self) -> Option<Arc<Certificates>> {
        self.0.certificates.clone()
    }

    /// Where the gateway stands in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.0.phase()
    }

    /// Whether a request sent now can succeed: every pool is up, one provider is usable and nothing drains.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        use crate::provider::PoolPhase;
        let house = self.house();
        self.phase() == Phase::Running
            && house.providers.iter().all(|p| p.phase() == PoolPhase::Ready)
            && house.providers.iter().any(|p| p.is_usable())
    }

    /// Opens or closes the circuit breaker of the provider `name` by hand, or leaves it to what is counted; `false` if there
    /// is no such provider.
    #[must_use]
    pub fn set_breaker(&self, name: &str, mode: BreakerMode) -> bool {
        self.house().provider(name).map(|provider| provider.set_breaker(mode)).is_some()
    }

    /// A short summary for a person or a script, as both planes give it at `/health`.
    #[must_use]
    pub fn health(&self) -> serde_json::Value {
        serde_json::json!({
            "status": if self.is_ready() { "ok" } else { "unavailable" },
            "phase": self.phase(),
            "providers": self.provider_names(),
            "version": env!("CARGO_PKG_VERSION"),
        })
    }

    /// The providers' names, in the order of the configuration.
    #[must_use]
    pub fn provider_names(&self) -> Vec<String> {
        self.house().names().into_iter().map(str::to_owned).collect()
    }

    /// A handle that keeps the gateway not alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakGateway {
        WeakGateway(Arc::downgrade(&self.0))
    }

    /// What the simulated provider counted, if it was used already.
    #[must_use]
    pub fn sim_stats(&self) -> Option<serde_json::Value> {
        self.0.sim.stats()
    }

    /// The aliases, in the order of the configuration: names of your own for models.
    #[must_use]
    pub fn aliases(&self) -> Vec<String> {
        self.house().routes.aliases(&Scope::default()).map(str::to_owned).collect()
    }

    /// Memory for a request's body, of so many bytes if that is known; it goes back to its pool when it is dropped.
    #[must_use]
    #[doc(hidden)]
    pub fn buffer(&self, announced: Option<u64>) -> Buffer {
        self.0.stock.buffers().buffer_for(announced)
    }

    /// Takes a sample of the counters; rates are made of a minute of them. The stats thread does this once a second.
    #[doc(hidden)]
    pub fn sample(&self) {
        self.0.samples.take(&self.stats());
    }

    /// Everything that `/stats` says, as it is now.
    #[must_use]
    pub fn stats(&self) -> Snapshot {
        snapshot::take(&self.0)
    }

    /// What its pools show, replaced ones among them.
    fn vitals(&self, now: Instant) -> Vec<PoolVitals> {
        let (house, going) = (self.house(), self.0.retired.providers());
        let all = house.providers.iter().map(|provider| &**provider).chain(going.iter().map(|kept| &***kept));
        all.map(|provider| provider.vitals(now)).collect()
    }

    /// Looks how far replaced pools are.
    fn tend_retired(&self) {
        self.0.retired.tend(&self.0.events);
    }

    fn house(&self) -> Arc<House> {
        self.0.house.load_full()
    }
}

impl Inner {
    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Starting,
            1 => Phase::Running,
            2 => Phase::Draining,
            _ => Phase::Stopped,
        }
    }

    /// Moves on to `phase`; `true` if it was not there yet.
    fn advance(&self, phase: Phase) -> bool {
        let moved = self.phase.fetch_max(phase as u8, Ordering::SeqCst) < phase as u8;
        if moved {
            self.events.push("phase", "gateway", format!("{phase:?}").to_lowercase());
        }
        moved
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("phase", &self.phase()).field("providers", &self.provider_names()).finish()
    }
}
