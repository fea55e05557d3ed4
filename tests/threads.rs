//! The gateway's own threads: what becomes of one that panics, hangs or is one too many.

mod blocked;
#[cfg(debug_assertions)]
mod restarts;
mod watchdog;

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use sluicegate::admin::Admin;
use sluicegate::front::Front;
use sluicegate::stats::Stats;
use sluicegate::time::Deadline;

use crate::client::Client;
use crate::house::{FUSE, Gate, House, provider, sim};

/// A gateway with both planes: provider `p` behind a gate, `sim`, and `named`, whose name somebody must look up.
/// Field order is drop order: the planes hold the gateway.
struct Building {
    planes: Option<(Front, Admin, Arc<Stats>)>,
    data: SocketAddr,
    admin: SocketAddr,
    house: House,
    gate: Gate,
}

impl Building {
    fn new(threads: Value, p: Value) -> Self {
        let gate = Gate::new();
        let config = json!({
            "threads": threads,
            "providers": {
                "p": provider(p),
                "sim": sim(json!({})),
                "named": provider(json!({ "network_config": { "base_url": "http://nowhere.invalid:9", "max_retries": 0 } })),
            },
        });
        let house = House::with(config, &[("p", &gate)]);
        let free = || "127.0.0.1:0".parse().expect("an address");
        let gateway = house.gateway();
        let front = Front::start(gateway, free()).expect("it listens");
        let stats = Arc::new(Stats::start(gateway, Box::new(|_| ())).expect("it starts"));
        let admin = Admin::start(gateway, free(), Arc::clone(&stats)).expect("it listens");
        let (data, office) = (front.addr(), admin.addr());
        Self { planes: Some((front, admin, stats)), data, admin: office, house, gate }
    }

    fn client(&self) -> Client {
        Client::connect(self.data)
    }

    /// The status of one whole chat request on a connection of its own; `None` if it was closed without an answer.
    fn chat(&self, model: &str) -> Option<u16> {
        let mut client = self.client();
        chat_on(&mut client, model);
        client.read_answer(false).map(|answer| answer.status)
    }

    /// A page of the admin plane as JSON.
    fn page(&self, path: &str) -> Option<Value> {
        let mut client = Client::connect(self.admin);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.admin));
        let answer = client.read_answer(false).filter(|answer| answer.status == 200)?;
        Some(serde_json::from_slice(&answer.body).expect("JSON"))
    }

    /// The subjects of the alerts of this kind.
    fn alerts(&self, kind: &str) -> Vec<String> {
        let alerts = self.house.gateway().events().alerts();
        alerts.into_iter().filter(|alert| alert.kind == kind).map(|alert| alert.subject).collect()
    }
}

/// Sends a chat request.
fn chat_on(client: &mut Client, model: &str) {
    let body = crate::house::chat(model, false);
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    client.send(head + &body);
}

impl Drop for Building {
    fn drop(&mut self) {
        let Some((front, admin, stats)) = self.planes.take() else { return };
        if std::thread::panicking() {
            return;
        }
        let mut stragglers = front.shutdown(Deadline::after(FUSE));
        stragglers.extend(admin.shutdown(Deadline::after(FUSE)));
        assert!(stragglers.is_empty(), "{stragglers:?}");
        Arc::into_inner(stats).expect("the pages have let go").stop(Deadline::after(FUSE));
    }
}
