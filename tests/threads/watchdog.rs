//! What the watchdog sees: a thread past its deadline, and when it is over.

use std::thread::scope;

use serde_json::json;
use sluicegate::Code;

use super::Building;
use crate::house::{chat, code, eventually, number};

#[test]
fn a_worker_whose_provider_does_not_let_go_is_stuck_until_it_does() {
    let building = Building::new(
        json!({ "health_interval": "20ms" }),
        json!({
            "network_config": { "default_request_timeout_in_seconds": "20ms", "max_retries": 0 },
            "queue": { "wait_timeout": "50ms" },
        }),
    );
    let (house, deaf) = (&building.house, crossbeam_channel::bounded::<()>(0));
    building.gate.be_deaf(&deaf.1);
    scope(|scope| {
        let call = scope.spawn(|| house.ask());
        // The waiter is told in time, whatever the worker does.
        assert_eq!(code(&call.join().expect("no panic")), Code::UpstreamTimeout);
    });
    eventually("it is seen", || number(&house.stats(), "/threads/stuck") == 1);
    eventually("it is alerted", || building.alerts("stuck_thread") == ["p-worker-1"]);
    let alert = house.gateway().events().alerts().into_iter().find(|alert| alert.kind == "stuck_thread");
    assert!(alert.is_some_and(|alert| alert.message.contains("req_")), "the request is named");
    let rows = building.page("/threads").expect("it answers");
    let row = rows["threads"].as_array().expect("rows").iter().find(|row| row["name"] == "p-worker-1");
    assert_eq!(row.expect("a row")["stuck"], true);
    drop(deaf.0);
    eventually("it is over", || number(&house.stats(), "/threads/stuck") == 0);
    eventually("the alert is over", || building.alerts("stuck_thread").is_empty());
}

#[test]
fn the_watchdog_and_every_service_come_round_and_show_it() {
    let building = Building::new(json!({ "health_interval": "20ms" }), json!({}));
    assert_eq!(building.chat("sim/echo"), Some(200));
    let jobs = |role: &str| number(&building.house.stats(), &format!("/threads/by_role/{role}/jobs_total"));
    for role in ["watchdog", "supervisor", "stats", "watcher", "accept", "conn", "worker"] {
        eventually(&format!("{role} counts its rounds"), || jobs(role) > 0);
    }
    let before = jobs("watchdog");
    eventually("the watchdog goes on", || jobs("watchdog") > before);
    let requests = jobs("admin");
    assert!(building.page("/stats").is_some());
    assert_eq!(jobs("admin"), requests + 1, "one request is one job");
    let worked = jobs("worker");
    assert_eq!(building.chat("sim/echo"), Some(200));
    assert_eq!(jobs("worker"), worked + 1);
    let rows = building.page("/threads").expect("it answers");
    let watchdog = rows["threads"].as_array().expect("rows").iter().find(|row| row["role"] == "watchdog");
    assert!(watchdog.expect("a row")["state_ms"].as_u64().expect("a number") < 1000, "its heartbeat shows");
}

#[test]
fn threads_near_their_limit_are_alerted_until_there_is_room_again() {
    let building = Building::new(json!({ "max": 48, "idle_timeout": "100ms" }), json!({}));
    let threads = building.house.gateway().threads();
    assert_eq!(number(&building.house.stats(), "/threads/limit"), 48);
    let (hold, held) = crossbeam_channel::bounded::<()>(0);
    let mut running = Vec::new();
    while threads.active() < threads.limit() - 2 {
        let held = held.clone();
        let wait = move || assert!(held.recv_timeout(crate::house::FUSE).is_err());
        running.push(threads.spawn(sluicegate::sync::Role::Resolver, "held", wait).expect("room"));
    }
    eventually("it is alerted", || building.alerts("threads_near_limit") == ["threads"]);
    drop(hold);
    eventually("it is over", || building.alerts("threads_near_limit").is_empty());
    assert_eq!(building.chat("sim/echo"), Some(200));
    assert!(chat("sim/echo", false).contains("one two"));
}
