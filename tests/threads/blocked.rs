//! What `/stats` says of threads that wait: those that are held up, not those that have nothing to do.

use std::thread::scope;

use serde_json::json;

use super::Building;
use crate::house::{eventually, ms, number};

#[test]
fn idle_threads_are_not_blocked_and_waiting_requests_are() {
    let building = Building::new(json!({ "idle_timeout": "30s" }), json!({}));
    assert_eq!(building.chat("sim/echo"), Some(200));
    let blocked = |what: &str| number(&building.house.stats(), &format!("/blocked/{what}"));
    let all = || blocked("channel") + blocked("lock") + blocked("io");
    eventually("nobody is held up", || all() == 0 && blocked("oldest_ms") == 0);
    let waiting_channel = building.page("/threads").expect("it answers")["threads"]
        .as_array()
        .expect("rows")
        .iter()
        .filter(|row| row["state"] == "waiting_channel")
        .count();
    assert!(waiting_channel >= 6, "the idle workers wait all the same, and /threads says so: {waiting_channel}");
    scope(|scope| {
        let request = scope.spawn(|| building.chat("p/m"));
        let held = building.gate.next();
        // The connection's thread waits for its worker; the worker's wait is in the test's own transport.
        eventually("the request's thread is held up", || blocked("channel") == 1);
        eventually("for a while", || blocked("oldest_ms") >= 20);
        held.answer();
        assert_eq!(request.join().expect("no panic"), Some(200));
    });
    eventually("nobody is held up any more", || all() == 0);
}

#[test]
fn a_connections_thread_without_a_connection_ends_after_its_idle_time() {
    let building = Building::new(json!({ "idle_timeout": "50ms" }), json!({}));
    assert_eq!(building.chat("sim/echo"), Some(200));
    // The simulated provider's threads have an idle time of their own.
    let ours = |row: &sluicegate::sync::threads::ThreadRow| row.name.starts_with("http-conn");
    let threads = building.house.gateway().threads();
    eventually("it has ended", || !threads.list().iter().any(ours));
    let stats = building.house.stats();
    let ended = stats["threads"]["ended"].as_array().expect("a list");
    let ended = ended.iter().find(|row| row["name"] == "http-conn-1").expect("it is remembered");
    assert!(number(ended, "/lifetime_us") >= ms(50).as_micros() as u64, "{ended}");
}
