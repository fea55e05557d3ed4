//! The ledger: whatever the provider does and whenever clients leave, each request is answered once and every sum balances.

use std::time::Duration;

use serde_json::json;
use sluicegate::time::{Deadline, now};

use super::Station;
use crate::house::{House, eventually, number, sim};
use crate::storm::{Seen, Target, over_sockets, through_the_library};

/// How long the storm lasts.
const STORM: Duration = Duration::from_secs(5);

/// How many come over sockets, and how many through the library.
const CALLERS: (u64, u64) = (10, 6);

/// One provider whose places are waited for.
const SIM: Target = Target { providers: &[("sim", &[])], hasty: false, rescue: None };

#[test]
fn in_a_storm_each_request_is_answered_once_and_everything_adds_up() {
    let settings = sim(json!({
        "concurrency_and_buffer_size": { "concurrency": 4, "buffer_size": 6 },
        "network_config": { "idle_connection_timeout": "100ms" },
        "queue": { "wait_timeout": "30s" },
        // The storm is to reach the provider, not a circuit that has opened.
        "breaker": { "enabled": false },
    }));
    let config = json!({
        "threads": { "idle_timeout": "100ms" },
        "providers": { "sim": settings },
    });
    let station = Station::on(House::with(config, &[]));
    let by_role = |role: &str| number(&station.house.stats(), &format!("/threads/by_role/{role}/active"));
    assert_eq!(station.house.gateway().ask("sim/echo", "up").expect("it is served"), "up");
    let descriptors = || number(&station.house.stats(), "/process/open_fds");
    let before = descriptors();
    let until = Deadline::from(now(), STORM);
    let seen = std::thread::scope(|scope| {
        let station = &station;
        let sockets = (0..CALLERS.0).map(|caller| scope.spawn(move || over_sockets(station.addr, SIM, caller, until)));
        let library = (CALLERS.0..CALLERS.0 + CALLERS.1)
            .map(|caller| scope.spawn(move || through_the_library(station.house.gateway(), SIM, caller, until)));
        let callers: Vec<_> = sockets.chain(library).collect();
        callers.into_iter().map(|caller| caller.join().expect("no panic")).fold(Seen::default(), Seen::add)
    });
    let stats = station.house.at_rest();
    // One more came before the storm.
    let seen = seen.add(Seen { sent: 1, ends: [("ok".to_owned(), 1)].into(), ..Seen::default() });
    seen.matches(&stats);
    let panics = number(&stats, "/providers/sim/workers/panics_total");
    assert!(panics > 0, "{stats:#}");
    assert_eq!(number(&stats, "/threads/panics_total"), panics, "nobody but the workers panicked");
    assert!(seen.whole() > 100 && seen.failed() > 100 && seen.left > 10, "{seen:?}");

    // What the storm brought up goes again: clients' connections and the provider's, their threads, their descriptors.
    eventually("every client's connection is closed", || station.front().stats().open == 0);
    eventually("every connection to the provider is closed", || {
        let sim = station.house.gateway().sim_stats().expect("it runs");
        number(&station.house.stats(), "/providers/sim/connections/open") == 0 && sim["connections_open"] == 0
    });
    eventually("the threads of clients' connections have ended", || {
        let threads = station.house.gateway().threads().list();
        threads.iter().all(|row| !row.name.starts_with("http-conn"))
    });
    assert_eq!((by_role("worker"), by_role("supervisor"), by_role("watcher")), (4, 1, 1));
    // Other tests of this process have descriptors of their own: to be read where this one runs alone.
    println!("{seen:?}; descriptors before and after: {before}, {}", descriptors());
}
