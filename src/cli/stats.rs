//! `stats`: the JSON endpoint of a running gateway, as a table of its providers.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::args::Stats;
use super::client::Client;
use super::output::{Failure, result};
use crate::sync::Threads;
use crate::transport::TransportErrorKind;

/// How often `--watch` looks.
const EVERY: Duration = Duration::from_secs(1);

pub(super) fn run(command: &Stats) -> Result<(), Failure> {
    let threads = Threads::new(8, 2 << 20);
    let wrong = || {
        let text = format!("--admin {:?}: write a URL such as http://127.0.0.1:8081, or 127.0.0.1:8081", command.admin);
        Failure::Usage(text)
    };
    let admin = if command.admin.contains("://") { command.admin.clone() } else { format!("http://{}", command.admin) };
    let client = Client::new(&admin, &threads).map_err(|_| wrong())?;
    let ticks = crossbeam_channel::tick(EVERY);
    loop {
        let body = fetch(&client, &admin)?;
        if command.json {
            result(&format!("{}\n", String::from_utf8_lossy(&body)))?;
        } else {
            let snapshot: Value = serde_json::from_slice(&body)
                .map_err(|error| Failure::Job(format!("{} gave no statistics: {error}", command.admin)))?;
            // A full clear keeps the table in place; without --watch the lines simply follow.
            let clear = if command.watch { "\x1b[H\x1b[2J" } else { "" };
            result(&format!("{clear}{}", table(&snapshot)))?;
        }
        if !command.watch {
            return Ok(());
        }
        let _ = ticks.recv();
    }
}

fn fetch(client: &Client, admin: &str) -> Result<Vec<u8>, Failure> {
    let key = std::env::var("SLUICEGATE_ADMIN_KEY").ok().map(|key| format!("Bearer {key}"));
    let headers: Vec<_> = key.iter().map(|key| ("authorization", key.as_str())).collect();
    let failed = |error: &dyn std::fmt::Display| Failure::Job(format!("{admin}: {error}"));
    let answer = client.send("GET", "/stats?fresh=1", &headers, &[]).map_err(|error| match error.kind {
        TransportErrorKind::Connect => failed(&format!("{error}; does a gateway run there? --admin says where")),
        _ => failed(&error),
    })?;
    match answer.status {
        200 => Ok(answer.body),
        401 => Err(failed(&"it asks for a key; set SLUICEGATE_ADMIN_KEY")),
        status => Err(failed(&format!("it answered with status {status}"))),
    }
}

/// The table of a snapshot's providers, under a line about its requests.
pub(super) fn table(snapshot: &Value) -> String {
    let at = |path: &str| snapshot.pointer(path).map_or_else(|| "-".to_owned(), cell);
    let mut text = format!(
        "sluicegate {}  {}  up {} s  in flight {}  received {}  succeeded {}  failed {}  cancelled {}\n\n",
        at("/version"),
        at("/phase"),
        at("/uptime_s"),
        at("/requests/in_flight"),
        at("/requests/received_total"),
        at("/requests/succeeded_total"),
        at("/requests/failed_total"),
        at("/requests/cancelled_total"),
    );
    let _ = writeln!(
        text,
        "{:<16} {:<9} {:>9} {:>13} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "provider", "phase", "busy/all", "queue", "jobs/s", "ok", "failed", "refused", "wait p99", "serv p99"
    );
    let none = serde_json::Map::new();
    for (name, provider) in snapshot.get("providers").and_then(Value::as_object).unwrap_or(&none) {
        let at = |path: &str| provider.pointer(path).map_or_else(|| "-".to_owned(), cell);
        let number = |path: &str| provider.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        let _ = writeln!(
            text,
            "{:<16} {:<9} {:>9} {:>13} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9}",
            name,
            at("/phase"),
            format!("{}/{}", at("/workers/busy"), at("/workers/active")),
            format!("{}/{}", at("/queue/depth"), at("/queue/capacity")),
            at("/queue/throughput_per_s"),
            at("/jobs/succeeded_total"),
            number("/jobs/failed_total") + number("/jobs/timed_out_total"),
            number("/queue/rejected_total") + number("/queue/dropped_total") + number("/queue/timed_out_total"),
            millis(number("/queue/wait_us/p99")),
            millis(number("/jobs/service_us/p99")),
        );
    }
    text
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => format!("{:.1}", number.as_f64().unwrap_or(0.0)),
        other => other.to_string(),
    }
}

fn millis(us: u64) -> String {
    if us < 10_000 { format!("{:.1} ms", us as f64 / 1000.0) } else { format!("{} ms", us / 1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_each_provider_and_a_dash_for_what_is_unknown() {
        let snapshot = serde_json::json!({
            "version": "1", "phase": "running",
            "providers": { "sim": {
                "phase": "ready",
                "workers": { "busy": 2, "active": 64 },
                "queue": { "depth": 1, "capacity": 500, "throughput_per_s": null, "wait_us": { "p99": 1500 } },
            } },
        });
        let text = table(&snapshot);
        let line = text.lines().find(|line| line.starts_with("sim")).expect("a line for sim");
        assert!(
            line.contains("2/64") && line.contains("1/500") && line.contains(" - ") && line.contains("1.5 ms"),
            "{line}"
        );
    }
}
