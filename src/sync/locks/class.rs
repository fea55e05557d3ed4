//! Classes of locks, and the registry of all there are: their names, their ranks by layer, their figures.
//!
//! **Lock order.** Ranks are grouped by the architecture's layers: a class of layer `n` has a rank of the hundred
//! `100 · (8 - n)`, so that an outer layer's lock is taken before an inner one's, and within a layer the smaller rank first.
//! Classes of one rank have no order of their own: the first order that is seen goes from then on. Leaves rank below all.

use crate::metrics::Counter;

/// What all locks of one kind share: their name, their rank and their figures.
#[derive(Debug)]
pub struct LockClass {
    name: &'static str,
    rank: u16,
    number: u8,
    pub(super) contended: Counter,
    pub(super) timed_out: Counter,
}

/// The rank of leaves.
const LEAF: u16 = u16::MAX;

impl LockClass {
    /// A class of locks under which nothing is locked.
    const fn leaf(number: Number, name: &'static str) -> Self {
        Self::ranked(number, name, LEAF)
    }

    /// A class of locks taken in rank order, smaller first.
    const fn ranked(number: Number, name: &'static str, rank: u16) -> Self {
        Self { name, rank, number: number as u8, contended: Counter::new(), timed_out: Counter::new() }
    }

    /// The name of these locks.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn rank(&self) -> u16 {
        self.rank
    }

    /// Its place in the registry, which is its row and column in a [`Matrix`](super::order::Matrix).
    pub(super) fn number(&self) -> usize {
        usize::from(self.number)
    }
}

/// The most classes there may be: a row of a matrix of edges is one word.
pub(super) const MOST_CLASSES: usize = u64::BITS as usize;

use classes::Number;

/// The registry: each class of locks, outer layers first.
pub mod classes {
    use super::{LockClass, MOST_CLASSES};

    macro_rules! classes {
        ($($(#[$doc:meta])* $name:ident = $kind:ident($($arg:expr),*);)*) => {
            #[expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "each stands for the static of its name")]
            #[derive(Clone, Copy)]
            pub(super) enum Number { $($name),* }
            $($(#[$doc])* pub static $name: LockClass = LockClass::$kind(Number::$name, $($arg),*);)*
            /// Every class there is.
            pub static ALL: &[&LockClass] = &[$(&$name),*];
            const _: () = assert!([$(Number::$name),*].len() <= MOST_CLASSES, "a row of edges is one word");
        };
    }

    classes! {
        // Layer 6, the gateway: 200 to 299.
        /// A reload, or the end that no reload may follow.
        RELOAD = ranked("gateway.reload", 200);
        /// The pools that were replaced and have not ended.
        RETIRED = ranked("gateway.retired", 210);
        /// The simulated provider and the watcher, being started.
        SIM_HOST = ranked("gateway.sim_host", 220);
        // Layer 4, providers: 400 to 499.
        /// A pool's scaler: evaluating and carrying out one decision at a time.
        SCALING = ranked("provider.scaling", 410);
        /// The workers of a pool: who runs, who is being started, who is quitting.
        ROSTER = ranked("provider.roster", 420);
        // Leaves.
        /// A pool's supervisor, a gateway's watchdog: taken by whoever ends it.
        LIFECYCLE = leaf("provider.lifecycle");
        /// A pool's last scaling decision and what is known of its provider.
        STAFFING = leaf("provider.staffing");
        /// One job's payload: taken by its worker or by its waiter.
        JOB = leaf("provider.job");
        /// A client's connection, standing in a job: taken by its worker or by its waiter.
        SINK = leaf("provider.sink");
        /// The circuits of a provider's breaker.
        BREAKER = leaf("provider.breaker");
        /// What is known of a provider's health.
        HEALTH = leaf("provider.health");
        /// The lists of models that providers gave, and who asks for new ones.
        MODELS = leaf("gateway.models");
        /// What a worker is at.
        FACE = leaf("provider.face");
        /// A provider's keys: which rest.
        KEYS = leaf("provider.keys");
        /// A provider's retries that are left.
        RETRY_BUDGET = leaf("provider.retry_budget");
        /// A provider's rate limits, and who has a share of them.
        LIMITS = leaf("provider.limits");
        /// Admission: places taken, and who waits for one.
        PERMITS = leaf("queue.permits");
        /// The workers that wait for a job.
        IDLE = leaf("queue.idle");
        /// Who waits for bytes of the budget.
        BYTES = leaf("queue.bytes");
        /// The idle objects of a pool.
        RECYCLE = leaf("recycle.idle");
        /// A provider's idle connections.
        CONNECTIONS = leaf("transport.connections");
        /// The resolver's cache and its look-ups under way.
        RESOLVER = leaf("transport.resolver");
        /// Sockets that the watcher looks at.
        WATCHER = leaf("http.watcher");
        /// The listener's table of connections.
        LISTENER = leaf("http.listener");
        /// The aborts attached to a request.
        CANCEL = leaf("sync.cancel");
        /// The table of threads.
        THREADS = leaf("sync.threads");
        /// The last events.
        EVENTS = leaf("stats.events");
        /// What is wrong now.
        ALERTS = leaf("events.alerts");
        /// Answers that are kept, and equal requests under way.
        RESPONSE_CACHE = leaf("plugin.response_cache");
        /// A recorded stream, on its way from its hook to the plugin.
        RESPONSE_TAPE = leaf("plugin.response_tape");
        /// Failed keys, by address.
        STRANGERS = leaf("gateway.strangers");
        /// The runners of a gateway: those that rest, and all of them.
        RUNNERS = leaf("gateway.runners");
        /// The last snapshots.
        STATS = leaf("stats.samples");
        /// What clients have taken of their limits.
        RATE_LIMIT = leaf("plugin.rate_limit");
        /// What clients have spent.
        ACCOUNTING = leaf("plugin.accounting");
        /// The files that this is kept in.
        ACCOUNTING_FILES = leaf("plugin.accounting_files");
        /// The simulated provider's figures.
        SIM = leaf("sim.figures");
        /// What came of a load so far.
        BENCH = leaf("cli.bench");
        /// What a scripted provider is to answer, and what it was asked.
        SCRIPT = leaf("testing.script");
        /// What a request's log hears of a stream.
        REQUEST_LOG = leaf("plugin.request_log");
        /// Which requests have a line in it.
        REQUEST_LOG_SAMPLER = leaf("plugin.request_log_sampler");
        /// For tests.
        TEST_LEAF = leaf("test.leaf");
        /// For tests.
        TEST_OUTER = ranked("test.outer", 60_000);
        /// For tests.
        TEST_INNER = ranked("test.inner", 60_001);
        /// For tests: of one rank with [`TEST_TWIN`].
        TEST_PEER = ranked("test.peer", 60_002);
        /// For tests: of one rank with [`TEST_PEER`].
        TEST_TWIN = ranked("test.twin", 60_002);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The architecture's layers, as far as they have ranked locks.
    const LAYERS: [(&str, u16); 6] =
        [("front", 7), ("admin", 7), ("gateway", 6), ("sim", 5), ("provider", 4), ("test", u16::MAX)];

    #[test]
    fn ranks_are_grouped_by_layer_and_grow_downwards() {
        let ranked: Vec<_> = classes::ALL.iter().filter(|class| class.rank != LEAF).collect();
        assert!(ranked.is_sorted_by_key(|class| class.rank), "the registry lists outer locks first");
        for class in ranked {
            let (module, _) = class.name.split_once('.').expect("module.name");
            let (_, layer) = LAYERS.iter().find(|(name, _)| *name == module).expect("a module with a layer");
            if *layer != u16::MAX {
                assert_eq!(class.rank / 100, 8 - layer, "{} stands in its layer's hundred", class.name);
            }
        }
    }

    #[test]
    fn names_and_numbers_are_each_classs_own() {
        let names: std::collections::BTreeSet<_> = classes::ALL.iter().map(|class| class.name).collect();
        assert_eq!(names.len(), classes::ALL.len());
        assert!(classes::ALL.iter().enumerate().all(|(at, class)| class.number() == at));
    }
}
