//! What a run came to: as tables for people and as JSON for machines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::load::Load;
use super::tally::Dists;
use crate::cli::args::Bench;
use crate::cli::output::Failure;
use crate::cli::terminal::short;
use crate::metrics::Dist;

/// Everything that is told.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    rate: u32,
    conns: u32,
    /// From when the first request was due to the last answer.
    secs: f64,
    interrupted: bool,
    gateway: Side,
    direct: Option<Side>,
    /// The gateway's own: its times less the direct ones.
    cost: Option<Cost>,
    /// The errors' examples, which are for people.
    #[serde(skip)]
    examples: BTreeMap<String, String>,
}

/// What came of one target.
#[derive(Debug, Serialize)]
struct Side {
    url: String,
    model: String,
    stream: bool,
    due_total: u64,
    sent_total: u64,
    /// Sent a millisecond or more after they were due.
    late_total: u64,
    /// Due, and not sent before the time was over.
    unsent_total: u64,
    succeeded_total: u64,
    failed_total: u64,
    /// Neither: under way when the run was interrupted, or ended for them.
    cancelled_total: u64,
    throughput_per_s: f64,
    connections_opened_total: u64,
    errors: BTreeMap<String, u64>,
    latency_us: Option<Dist>,
    lateness_us: Option<Dist>,
    first_event_us: Option<Dist>,
    event_gap_us: Option<Dist>,
    #[serde(skip)]
    hopeless: bool,
}

/// The difference between two distributions, and their ratio.
#[derive(Debug, Serialize)]
struct Cost {
    latency_us: Difference,
    first_event_us: Option<Difference>,
}

#[derive(Debug, Serialize)]
struct Difference {
    mean: i64,
    p50: i64,
    p90: i64,
    p99: i64,
    p999: i64,
    p50_ratio: f64,
    p99_ratio: f64,
}

impl Report {
    pub(super) fn new(
        command: &Bench,
        (gateway, direct): (&Load, Option<&Load>),
        (start, end): (Instant, Instant),
        interrupted: bool,
    ) -> Self {
        let mut examples = BTreeMap::new();
        for load in direct.into_iter().chain([gateway]) {
            let errors = &load.tally.lock().errors;
            examples.extend(errors.iter().map(|(kind, (_, words))| (kind.clone(), words.clone())));
        }
        let gateway = Side::new(gateway, start, end);
        let direct = direct.map(|load| Side::new(load, start, end));
        let between = |of: fn(&Side) -> Option<Dist>| Some(Difference::between(&of(&gateway)?, &of(direct.as_ref()?)?));
        let cost = between(|side| side.latency_us)
            .map(|latency_us| Cost { latency_us, first_event_us: between(|side| side.first_event_us) });
        let secs = end.saturating_duration_since(start).as_secs_f64();
        Self { rate: command.rate, conns: command.conns, secs, interrupted, gateway, direct, cost, examples }
    }

    /// For machines.
    pub(super) fn json(&self) -> Result<String, Failure> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Failure::Job(error.to_string()))?;
        Ok(text + "\n")
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let sides: Vec<_> =
            [("gateway", Some(&self.gateway)), ("direct", self.direct.as_ref())].into_iter().filter_map(both).collect();
        let each = if sides.len() > 1 { ", each" } else { "" };
        let _ = writeln!(
            text,
            "{} a second on {} connections{each}, {:.1} s{}",
            self.rate,
            self.conns,
            self.secs,
            if self.interrupted { ", interrupted" } else { "" }
        );
        for (name, side) in &sides {
            side.head(name, &mut text);
        }
        let cost = self.cost.as_ref();
        let rows = |of: fn(&Side) -> Option<&Dist>| -> Vec<_> {
            sides.iter().filter_map(|(name, side)| Some((*name, of(side)?))).collect()
        };
        let gateway = &self.gateway;
        table("whole answers, from when each was due", &rows(|side| side.latency_us.as_ref()), &mut text);
        difference(cost.map(|cost| &cost.latency_us), &mut text);
        if gateway.stream {
            table("first events, from when each was due", &rows(|side| side.first_event_us.as_ref()), &mut text);
            difference(cost.and_then(|cost| cost.first_event_us.as_ref()), &mut text);
            table("between two events", &rows(|side| side.event_gap_us.as_ref()), &mut text);
        }
        for (name, side) in &sides {
            side.faults(name, &self.examples, &mut text);
        }
        text
    }

    /// Whether it was a run at all.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        for (flag, key, side) in [
            ("--url", "SLUICEGATE_KEY", Some(&self.gateway)),
            ("--direct", "SLUICEGATE_DIRECT_KEY", self.direct.as_ref()),
        ] {
            let Some(side) = side.filter(|side| side.succeeded_total == 0) else { continue };
            let has = |start: &str| side.errors.keys().any(|kind| kind.starts_with(start));
            let advice = match () {
                () if !side.hopeless && self.interrupted => continue,
                () if has("connect") || has("name not found") => {
                    format!("does anything listen there? {flag} says where")
                }
                () if has("tls") => format!("{flag} is not https, or its certificate is not to be trusted"),
                () if has("401") || has("403") => format!("{key} is to hold its key"),
                () if has("404 model_not_found") => format!("there is no model {:?}; -m names another", side.model),
                () if has("404") || has("405") => format!("{flag} has no such route; name another"),
                () if side.errors.is_empty() => "none had come to its end when the run had".to_owned(),
                () => "the errors above say why".to_owned(),
            };
            return Err(Failure::Job(format!("{} answered no request well: {advice}", side.url)));
        }
        Ok(())
    }
}

fn both<'a>((name, side): (&'static str, Option<&'a Side>)) -> Option<(&'static str, &'a Side)> {
    Some((name, side?))
}

impl Side {
    fn new(load: &Load, start: Instant, end: Instant) -> Self {
        let schedule = &load.schedule;
        let tally = load.tally.lock();
        let Dists { latency, lateness, first, gap } = tally.dists();
        let errors = tally.errors.iter().map(|(kind, (count, _))| (kind.clone(), *count)).collect();
        let (sent, late, hopeless) = (tally.sent, tally.late, tally.is_hopeless());
        let (succeeded, failed) = (tally.succeeded, tally.failed);
        drop(tally);
        // Answers that came after the last request was due are not a rate that was kept up.
        let time = end.saturating_duration_since(start).max(Duration::from_millis(1));
        let due = schedule.due_by(end).max(sent);
        Self {
            url: load.target.url.clone(),
            model: load.target.model.clone(),
            stream: load.target.stream,
            due_total: due,
            sent_total: sent,
            late_total: late,
            unsent_total: due - sent,
            succeeded_total: succeeded,
            failed_total: failed,
            // Of those that are still under way now nobody will hear: whatever becomes of them, the sum holds.
            cancelled_total: sent - succeeded - failed,
            throughput_per_s: succeeded as f64 / time.as_secs_f64(),
            connections_opened_total: load.target.client.connections().opened_total,
            errors,
            latency_us: latency,
            lateness_us: lateness,
            first_event_us: first,
            event_gap_us: gap,
            hopeless,
        }
    }

    /// Who, and how many.
    fn head(&self, name: &str, text: &mut String) {
        let streamed = if self.stream { ", streamed" } else { "" };
        let _ = writeln!(text, "\n{name}: {}, model {}{streamed}", self.url, self.model);
        let _ = writeln!(
            text,
            "  {} of {} due were sent: {} answered ({:.1} a second), {} failed{}",
            self.sent_total,
            self.due_total,
            self.succeeded_total,
            self.throughput_per_s,
            self.failed_total,
            match self.cancelled_total {
                0 => String::new(),
                cut => format!(", {cut} under way at the end and cut"),
            }
        );
        if let Some(Dist { p99, max, .. }) = self.lateness_us.filter(|_| self.late_total > 0) {
            let _ = writeln!(
                text,
                "  {} were sent 1 ms or more after they were due (99 % within {}, at most {}), and pay for it below",
                self.late_total,
                short(p99),
                short(max)
            );
        }
        if self.unsent_total > 0 {
            let _ = writeln!(
                text,
                "  {} could not be sent in time, and are missing below: more --conns, or a lower --rate",
                self.unsent_total
            );
        }
    }

    fn faults(&self, name: &str, examples: &BTreeMap<String, String>, text: &mut String) {
        if self.errors.is_empty() {
            return;
        }
        let _ = writeln!(text, "\nerrors, {name}");
        let mut errors: Vec<_> = self.errors.iter().collect();
        errors.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let width = errors.iter().map(|(kind, _)| kind.chars().count()).max().unwrap_or(0);
        for (kind, count) in errors {
            let words = examples.get(kind).map_or("", String::as_str);
            let line = format!("  {count:>8}  {kind:<width$}  {words}");
            let _ = writeln!(text, "{}", line.trim_end());
        }
    }
}

impl Difference {
    fn between(gateway: &Dist, direct: &Dist) -> Self {
        let less = |a: u64, b: u64| a as i64 - b as i64;
        let ratio = |a: u64, b: u64| a as f64 / b.max(1) as f64;
        Self {
            mean: less(gateway.mean, direct.mean),
            p50: less(gateway.p50, direct.p50),
            p90: less(gateway.p90, direct.p90),
            p99: less(gateway.p99, direct.p99),
            p999: less(gateway.p999, direct.p999),
            p50_ratio: ratio(gateway.p50, direct.p50),
            p99_ratio: ratio(gateway.p99, direct.p99),
        }
    }
}

/// Distributions under each other.
fn table(title: &str, rows: &[(&str, &Dist)], text: &mut String) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}");
    let _ =
        writeln!(text, "  {:<10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}", "", "p50", "p90", "p99", "p99.9", "max", "mean");
    for (name, dist) in rows {
        let Dist { p50, p90, p99, p999, max, mean, .. } = **dist;
        let _ = write!(text, "  {name:<10}");
        [p50, p90, p99, p999, max, mean].into_iter().for_each(|us| {
            let _ = write!(text, "{:>10}", short(us));
        });
        text.push('\n');
    }
}

/// The line under two distributions.
fn difference(cost: Option<&Difference>, text: &mut String) {
    let Some(cost) = cost else { return };
    let signed = |us: i64| format!("{}{}", if us < 0 { "-" } else { "+" }, short(us.unsigned_abs()));
    let _ = write!(text, "  {:<10}", "cost");
    for us in [cost.p50, cost.p90, cost.p99, cost.p999] {
        let _ = write!(text, "{:>10}", signed(us));
    }
    let _ = writeln!(text, "{:>10}{:>10}", "", signed(cost.mean));
    let _ = writeln!(text, "  {:<10}{:>9.2}x{:>10}{:>9.2}x", "ratio", cost.p50_ratio, "", cost.p99_ratio);
}
