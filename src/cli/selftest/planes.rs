//! Claims about what is seen from outside: the probes, the statistics as JSON, and threads of connections.

use std::time::Duration;

use serde_json::{Value, json};

use super::rig::{FUSE, Miss, Shared, Verdict, configured, ensure, instant, pool, rooted, until};
use crate::cli::client::Client;
use crate::cli::planes::Planes;
use crate::gateway::Gateway;
use crate::sync::Threads;
use crate::sync::threads::Ended;
use crate::time::Deadline;
use crate::wire::openai::ChatRequest;

/// Every key of the statistics, by the objects that they stand in.
const KEYS: &str = include_str!("stats.keys");

/// How long a connection's thread waits for its next connection.
const IDLE: Duration = Duration::from_millis(50);

/// A gateway with both its planes, as it was seen over sockets.
struct Outside {
    stats: Value,
    /// A thread that served a connection, and ended while that was still open.
    idle: Ended,
    /// `/readyz` and `/livez`, before and while it drained.
    probes: [(u16, u16); 2],
}

static OUTSIDE: Shared<Outside> = Shared::new();

fn outside() -> Result<Outside, Miss> {
    let keyed = json!({
        "kind": "openai", "network_config": { "base_url": "http://127.0.0.1:1" },
        "keys": [{ "name": "k", "value": "none" }],
    });
    let mut settings = rooted(vec![("sim", pool(2, 4, "block")), ("p", keyed)]);
    settings["server"] = json!({ "listen": "127.0.0.1:0", "admin": "127.0.0.1:0" });
    settings["threads"] = json!({ "idle_timeout": format!("{}ms", IDLE.as_millis()) });
    let gateway = configured(&settings, vec![("p", instant())])?;
    let planes = Planes::start(&gateway).map_err(|failure| Miss::new(failure.to_string()))?;
    let seen = look(&gateway, &planes);
    let _ = gateway.shutdown(FUSE);
    let stragglers = planes.close(Deadline::after(FUSE));
    ensure(stragglers.is_empty(), || format!("did not end: {stragglers:?}"))?;
    seen
}

fn look(gateway: &Gateway, planes: &Planes) -> Result<Outside, Miss> {
    // The addresses are numbers, so that no thread is needed for looking names up.
    let threads = Threads::new(1, 256 << 10);
    let data = Client::new(&format!("http://{}", planes.front.addr()), &threads)?;
    let admin = Client::new(&format!("http://{}", planes.admin.addr()), &threads)?;
    let json_type = &[("content-type", "application/json")];
    for streamed in [false, true] {
        let body = ChatRequest::new("sim/lorem-3", "x").to_body(streamed);
        let answer = data.send("POST", "/v1/chat/completions", json_type, &body)?;
        ensure(answer.status == 200, || format!("a chat was answered with status {}", answer.status))?;
    }
    let stats = serde_json::from_slice(&admin.send("GET", "/stats?fresh=1", &[], &[])?.body)?;
    let serves = |name: &str| name.starts_with("http-conn");
    until("the connection's thread has ended", || !gateway.threads().list().iter().any(|row| serves(&row.name)))?;
    let ended = gateway.threads().stats().ended.into_iter().find(|ended| serves(&ended.name));
    let idle = ended.ok_or_else(|| Miss::new("a connection's thread that ended is not remembered"))?;
    let probes =
        || Ok::<_, Miss>((data.send("GET", "/readyz", &[], &[])?.status, data.send("GET", "/livez", &[], &[])?.status));
    let before = probes()?;
    let drained = admin.send("POST", "/drain", &[("x-sluicegate-admin", "1")], &[])?.status;
    ensure(drained == 202, || format!("the drain was answered with status {drained}"))?;
    Ok(Outside { stats, idle, probes: [before, probes()?] })
}

pub(super) fn probes() -> Verdict {
    let Outside { probes, .. } = OUTSIDE.of(outside)?;
    ensure(*probes == [(200, 200), (503, 200)], || format!("/readyz and /livez: {probes:?}"))?;
    Ok("/readyz 200 while it runs and 503 while it drains, /livez 200 all the while".to_owned())
}

pub(super) fn idle_thread_ends() -> Verdict {
    let Outside { idle, .. } = OUTSIDE.of(outside)?;
    let lived = Duration::from_micros(idle.lifetime_us);
    ensure(lived >= IDLE && !idle.panicked, || format!("{idle:?}"))?;
    Ok(format!("{} ended by its idle time-out of {IDLE:?}, after {lived:.0?}, its connection still open", idle.name))
}

pub(super) fn every_key() -> Verdict {
    let Outside { stats, .. } = OUTSIDE.of(outside)?;
    let mut count = 0;
    for line in KEYS.lines().filter(|line| !line.starts_with('#')) {
        let (places, keys) = line.split_once(':').ok_or_else(|| Miss::new(format!("no list of keys: {line}")))?;
        for place in places.split_whitespace() {
            let object = stats.pointer(place.trim_end_matches('/')).and_then(Value::as_object);
            let object = object.ok_or_else(|| Miss::new(format!("/stats has no {place}")))?;
            let missing: Vec<_> = keys.split_whitespace().filter(|key| !object.contains_key(*key)).collect();
            ensure(missing.is_empty(), || format!("{place} lacks {missing:?}"))?;
            count += keys.split_whitespace().count();
        }
    }
    let received = stats.pointer("/requests/received_total").and_then(Value::as_u64);
    ensure(received == Some(2), || format!("{received:?} requests received"))?;
    Ok(format!("{count} keys of GET /stats are there, {} bytes of JSON", stats.to_string().len()))
}
