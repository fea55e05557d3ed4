//! From the figures of each round to medians and ratios, as JSON and as a table.
//!
//! Differences to the direct path and ratios to nginx are made within a round, from figures taken seconds apart, and
//! only then is the median taken: the machine's mood of that moment cancels out.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::meter;
use crate::stages::OPEN_LOOP;
use crate::targets::Kind;

/// A stage and one of its figures.
type Metric = (&'static str, &'static str);

/// The metric that tells how much others disturbed, and from where on it is too much.
pub(crate) const FOREIGN: &str = "foreign_cpu_share";
const TOO_MUCH_FOREIGN: f64 = 0.1;

/// All figures of the run.
#[derive(Debug)]
pub(crate) struct Report {
    /// One value a round, in the order in which the metrics first came up.
    rows: Vec<(Kind, Metric, Vec<f64>)>,
    /// To nginx, one value a round in which nginx's own was above zero.
    ratios: Vec<(Kind, Metric, Vec<f64>)>,
    /// Also the place of the present round's values: every metric gets one in each round.
    closed_rounds: usize,
    machine: Value,
}

impl Report {
    pub(crate) fn new(nginx: Option<&Path>, rounds: usize, measured: Duration) -> Self {
        // It prints its version on standard error.
        let version = nginx.and_then(|program| Command::new(program).arg("-v").output().ok());
        let version = version.map(|output| String::from_utf8_lossy(&output.stderr).trim().to_owned());
        let machine = json!({
            "processors": meter::processors(),
            "processor": meter::first_line("/proc/cpuinfo", "model name"),
            "kernel": meter::first_line("/proc/sys/kernel/osrelease", ""),
            "nginx": version,
            "rounds": rounds,
            "seconds_per_stage": measured.as_secs_f64(),
        });
        Self { rows: Vec::new(), ratios: Vec::new(), closed_rounds: 0, machine }
    }

    /// Takes one figure of the present round.
    pub(crate) fn add(&mut self, kind: Kind, stage: &'static str, metric: &'static str, value: f64) {
        push(&mut self.rows, kind, (stage, metric), value);
    }

    /// Makes what is compared within a round.
    pub(crate) fn close_round(&mut self) {
        for kind in [Kind::Nginx, Kind::Gateway] {
            for (metric, added) in [("p50_us", "added_p50_us"), ("p99_us", "added_p99_us")] {
                let (mine, direct) =
                    (self.current(kind, (OPEN_LOOP, metric)), self.current(Kind::Direct, (OPEN_LOOP, metric)));
                if let Some((mine, direct)) = mine.zip(direct) {
                    self.add(kind, OPEN_LOOP, added, mine - direct);
                }
            }
        }
        let mine: Vec<_> =
            self.rows.iter().filter(|(kind, ..)| *kind == Kind::Gateway).map(|(_, metric, _)| *metric).collect();
        for metric in mine.into_iter().filter(|(_, name)| is_compared(name)) {
            let (gateway, nginx) = (self.current(Kind::Gateway, metric), self.current(Kind::Nginx, metric));
            if let Some((gateway, nginx)) = gateway.zip(nginx)
                && nginx > 0.0
            {
                push(&mut self.ratios, Kind::Gateway, metric, gateway / nginx);
            }
        }
        self.closed_rounds += 1;
    }

    /// The present round's figure.
    fn current(&self, kind: Kind, metric: Metric) -> Option<f64> {
        self.values(kind, metric)?.get(self.closed_rounds).copied()
    }

    fn values(&self, kind: Kind, metric: Metric) -> Option<&[f64]> {
        self.rows.iter().find(|row| row.0 == kind && row.1 == metric).map(|row| row.2.as_slice())
    }

    /// Everything: `targets.<target>.<stage>.<metric>` with the median and each round's, and the ratios likewise.
    pub(crate) fn json(&self) -> Value {
        let mut targets = Map::new();
        for (kind, metric, values) in &self.rows {
            insert(&mut targets, &[kind.name(), metric.0], metric.1, values);
        }
        let mut ratios = Map::new();
        for (_, metric, values) in &self.ratios {
            insert(&mut ratios, &[metric.0], metric.1, values);
        }
        let most = self.most_foreign();
        json!({ "machine": self.machine, "foreign_cpu_share_max": most, "targets": targets, "gateway_to_nginx": ratios })
    }

    /// The largest part of the machine that others used, in any stage of any round.
    fn most_foreign(&self) -> f64 {
        let shares = self.rows.iter().filter(|(_, metric, _)| metric.1 == FOREIGN);
        shares.flat_map(|(_, _, values)| values).copied().fold(0.0, f64::max)
    }

    /// The medians, for people.
    pub(crate) fn table(&self) -> String {
        // The gateway has every metric, the direct path the fewest; without the gateway, nginx leads.
        let mut metrics: Vec<Metric> = Vec::new();
        for leader in [Kind::Gateway, Kind::Nginx, Kind::Direct] {
            for (_, metric, _) in self.rows.iter().filter(|row| row.0 == leader) {
                if !metrics.contains(metric) {
                    metrics.push(*metric);
                }
            }
        }
        // What is made at the end of a round, or is had by some targets alone, came up late: keep each stage together.
        let mut stages: Vec<_> = metrics.iter().map(|metric| metric.0).collect();
        stages.dedup();
        metrics.sort_by_key(|metric| stages.iter().position(|stage| *stage == metric.0));

        let mut text = format!(
            "{:<16} {:<30} {:>11} {:>11} {:>11} {:>14}\n",
            "stage", "median of the rounds", "direct", "nginx", "gateway", "gateway/nginx"
        );
        for metric in metrics {
            let cell = |values: Option<&[f64]>, digits| {
                values.map_or_else(|| "-".to_owned(), |values| format!("{:.digits$}", median(values)))
            };
            let value = |kind| {
                let values = self.values(kind, metric);
                cell(values, if values.is_some_and(|values| median(values).abs() < 1000.0) { 2 } else { 0 })
            };
            let ratio = self.ratios.iter().find(|row| row.1 == metric).map(|row| row.2.as_slice());
            // Writing into a string cannot fail.
            let _ = writeln!(
                text,
                "{:<16} {:<30} {:>11} {:>11} {:>11} {:>14}",
                metric.0,
                metric.1,
                value(Kind::Direct),
                value(Kind::Nginx),
                value(Kind::Gateway),
                cell(ratio, 2)
            );
        }
        let most = self.most_foreign();
        if most > TOO_MUCH_FOREIGN {
            let percent = most * 100.0;
            let _ = writeln!(
                text,
                "Others used up to {percent:.0} % of the machine meanwhile: trust no latency of this run."
            );
        }
        text
    }
}

/// What others cost says nothing of the gateway.
fn is_compared(metric: &str) -> bool {
    !["upstream_", "generator_", "foreign_"].iter().any(|prefix| metric.starts_with(prefix))
}

fn push(rows: &mut Vec<(Kind, Metric, Vec<f64>)>, kind: Kind, metric: Metric, value: f64) {
    match rows.iter_mut().find(|row| row.0 == kind && row.1 == metric) {
        Some(row) => row.2.push(value),
        None => rows.push((kind, metric, vec![value])),
    }
}

fn insert(root: &mut Map<String, Value>, path: &[&str], name: &str, values: &[f64]) {
    let round = |value: f64| (value * 1000.0).round() / 1000.0;
    let mut at = root;
    for step in path {
        let entry = at.entry(*step).or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(map) = entry else { return };
        at = map;
    }
    let rounds: Vec<_> = values.iter().copied().map(round).collect();
    at.insert(name.to_owned(), json!({ "median": round(median(values)), "rounds": rounds }));
}

/// The middle one; of an even number the mean of the two in the middle.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}
