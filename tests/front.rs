//! The data plane and the admin plane over std sockets: what a client sees, in every case, and what it leaves behind.

mod accounts;
mod admin;
mod anthropic;
mod bedrock;
mod client;
mod coding;
mod cors;
mod doors;
mod guard;
mod honest;
mod keys;
mod leaving;
mod ledger;
mod limits;
mod lists;
mod openai;
mod overload;
mod passing;
mod plugins;
mod reload;
mod rescue;
mod response_cache;
mod routes;
mod streaming;
mod surface;
mod trace;
mod translated;
mod whole;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::front::Front;
use sluicegate::time::Deadline;

use crate::house::{FUSE, Gate, House, eventually, provider, sim};
use client::{Answer, Client};

/// A gateway with its data plane. Field order is drop order: the listener holds the gateway.
pub(crate) struct Station {
    front: Option<Front>,
    pub(crate) addr: SocketAddr,
    pub(crate) house: House,
}

impl Station {
    pub(crate) fn on(house: House) -> Self {
        let front = Front::start(house.gateway(), "127.0.0.1:0".parse().expect("an address")).expect("it listens");
        Self { addr: front.addr(), front: Some(front), house }
    }

    /// On the simulated provider.
    fn sim() -> Self {
        Self::sim_with(json!({}))
    }

    fn sim_with(change: Value) -> Self {
        Self::on(House::new(json!({ "sim": sim(change) }), &[]))
    }

    /// On one provider, `p`, behind a gate; `server` is the section of that name.
    fn gated(settings: Value, server: Value) -> (Self, Gate) {
        let gate = Gate::new();
        let config = json!({ "server": server, "providers": { "p": provider(settings) } });
        let house = House::with(config, &[("p", &gate)]);
        (Self::on(house), gate)
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    /// How many answers the simulated provider had broken off by its reader.
    fn aborted(&self) -> u64 {
        self.house.gateway().sim_stats().map_or(0, |stats| stats["aborted_by_peer"].as_u64().expect("a number"))
    }

    pub(crate) fn front(&self) -> &Front {
        self.front.as_ref().expect("it runs")
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        let Some(front) = self.front.take() else { return };
        if std::thread::panicking() {
            return;
        }
        let stragglers = front.shutdown(Deadline::after(FUSE));
        assert!(stragglers.is_empty(), "{stragglers:?}");
    }
}

/// How long `work` takes.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = sluicegate::time::now();
    (work(), sluicegate::time::now() - start)
}

#[test]
fn a_data_plane_that_nobody_used_ends_without_a_trace() {
    let station = Station::sim();
    eventually("it is ready", || station.house.gateway().is_ready());
    assert_eq!(station.front().stats().open, 0);
}
