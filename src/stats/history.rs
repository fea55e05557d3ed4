//! The last quarter of an hour, a sample a second: for whoever comes when it is over, or draws a line.
//!
//! **Protocol.** At each tick the stats thread compares a snapshot with the one before and keeps the difference as a [`Moment`].
//! Readers take a share of the moments under a leaf that is held for a walk along pointers, and write their answer outside.
//!
//! **Bounds (I4).** A provider takes 64 bytes a second, for [`KEPT`] seconds 58 kB, and 54 kB for the two distributions that the
//! next second is compared with. Of more than a hundred providers fewer seconds are kept, so that all moments together
//! stay below 6 MB, and an answer with all of them below 12.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::gateway::{Gateway, Snapshot, Times};
use crate::metrics::{Percentiles, Tally};
use crate::provider::{self, BreakerState, ProviderStats};
use crate::sync::locks::{Leaf, classes};
use crate::time::unix_ms;

/// The most moments that are kept, a second each.
pub(super) const KEPT: usize = 900;

/// The most rows, one of each provider in each moment.
const MOST_ROWS: usize = 90_000;

/// The moments that are kept, oldest first.
#[derive(Debug)]
pub(super) struct History(Leaf<VecDeque<Arc<Moment>>>);

/// What the second up to `at_ms` brought.
#[derive(Debug)]
struct Moment {
    at_ms: u64,
    in_flight: u32,
    rss_bytes: Option<u64>,
    requests: [u32; 3],
    took: Took,
    /// In the order of their names.
    providers: Vec<(Arc<str>, Row)>,
}

/// One provider's part of a moment. What is counted is what came in that second.
#[derive(Debug)]
struct Row {
    depth: u32,
    configured: u32,
    active: u32,
    busy: u32,
    counts: [u32; 3],
    waited: Took,
    served: Took,
    breaker: u8,
}

/// A median and a 99th percentile in microseconds; `None` where nothing was counted. No time counts as less than one.
#[derive(Clone, Copy, Debug)]
struct Took {
    p50: Option<NonZeroU32>,
    p99: Option<NonZeroU32>,
}

impl Took {
    fn between(before: Option<&Tally>, now: &Tally) -> Self {
        let percentiles = now.since(before.unwrap_or(&Tally::default()));
        let short = |of: fn(Percentiles) -> u64| NonZeroU32::new(clamped(of(percentiles?)));
        Self { p50: short(|both| both.p50), p99: short(|both| both.p99) }
    }
}

fn clamped(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What came between two looks at counters that only grow; all of it where they have begun anew.
fn between(before: Option<[u64; 3]>, now: [u64; 3]) -> [u32; 3] {
    let before = before.unwrap_or_default();
    std::array::from_fn(|n| clamped(now[n].checked_sub(before[n]).unwrap_or(now[n])))
}

/// What the next second is compared with: the stats thread's own.
pub(super) struct Recorder {
    history: Arc<History>,
    requests: ([u64; 3], Tally),
    providers: HashMap<Arc<str>, ([u64; 3], provider::Times)>,
}

impl Recorder {
    /// Begins with what was counted until now.
    pub(super) fn new(history: Arc<History>, gateway: &Gateway, snapshot: &Snapshot) -> Self {
        let Times { requests, providers } = gateway.times();
        let counted = |(name, times): (Arc<str>, provider::Times)| {
            let counts = snapshot.providers.get(&*name).map(counts_of).unwrap_or_default();
            (name, (counts, times))
        };
        let providers = providers.into_iter().map(counted).collect();
        Self { history, requests: (requests_of(snapshot), requests), providers }
    }

    /// Keeps what came since the last time.
    pub(super) fn record(&mut self, gateway: &Gateway, snapshot: &Snapshot) {
        let Times { requests, providers } = gateway.times();
        let mut rows = Vec::with_capacity(providers.len());
        let mut seen = HashMap::with_capacity(providers.len());
        for (name, times) in providers {
            // One that has come since the snapshot is told of next time.
            let Some(stats) = snapshot.providers.get(&*name) else { continue };
            let (counts, before) = (counts_of(stats), self.providers.get(&name));
            let row = Row {
                depth: clamped(stats.queue.depth),
                configured: clamped(stats.workers.configured),
                active: clamped(stats.workers.active),
                busy: clamped(stats.workers.busy),
                counts: between(before.map(|(counts, _)| *counts), counts),
                waited: Took::between(before.map(|(_, times)| &times.waits), &times.waits),
                served: Took::between(before.map(|(_, times)| &times.services), &times.services),
                breaker: match stats.breaker.state {
                    BreakerState::Closed => 0,
                    BreakerState::HalfOpen => 1,
                    BreakerState::Open => 2,
                },
            };
            rows.push((Arc::clone(&name), row));
            seen.insert(name, (counts, times));
        }
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        // One that was removed and has work still may come again, and counts on then.
        for (name, before) in std::mem::take(&mut self.providers) {
            if snapshot.providers.contains_key(&*name) {
                seen.entry(name).or_insert(before);
            }
        }
        let ended = requests_of(snapshot);
        self.history.push(Moment {
            at_ms: unix_ms(),
            in_flight: clamped(snapshot.requests.in_flight),
            rss_bytes: snapshot.process.rss_bytes,
            requests: between(Some(self.requests.0), ended),
            took: Took::between(Some(&self.requests.1), &requests),
            providers: rows,
        });
        (self.requests, self.providers) = ((ended, requests), seen);
    }
}

/// Requests that succeeded, failed and were cancelled.
fn requests_of(snapshot: &Snapshot) -> [u64; 3] {
    let requests = &snapshot.requests;
    [requests.succeeded_total, requests.failed_total, requests.cancelled_total]
}

/// Attempts that a worker took, those of them that failed, and those that found no worker or no place in time.
fn counts_of(stats: &ProviderStats) -> [u64; 3] {
    let (queue, jobs) = (&stats.queue, &stats.jobs);
    let refused = queue.dropped_total + queue.rejected_total + queue.timed_out_total;
    [queue.completed_total, jobs.failed_total + jobs.timed_out_total, refused]
}

impl History {
    pub(super) fn new() -> Self {
        Self(Leaf::new(&classes::STATS, VecDeque::new()))
    }

    fn push(&self, moment: Moment) {
        let most = KEPT.min(MOST_ROWS / moment.providers.len().max(1)).max(1);
        let mut kept = self.0.lock();
        // A clock that was set back begins the history anew: its times would not rise.
        let keep = if kept.back().is_some_and(|last| last.at_ms >= moment.at_ms) { 0 } else { most - 1 };
        let over = kept.len().saturating_sub(keep);
        let gone: Vec<_> = kept.drain(..over).collect();
        kept.push_back(Arc::new(moment));
        drop(kept);
        drop(gone);
    }

    /// The moments after `since`, in milliseconds since the Unix epoch, as JSON in columns.
    pub(super) fn json(&self, since: u64) -> Vec<u8> {
        let moments: Vec<_> = {
            let kept = self.0.lock();
            let from = kept.partition_point(|moment| moment.at_ms <= since);
            kept.range(from..).cloned().collect()
        };
        serde_json::to_vec(&Answer { now_ms: unix_ms(), moments: &moments }).unwrap_or_else(|error| {
            log::error!("the history could not be written as JSON: {error}");
            b"{}".to_vec()
        })
    }
}

/// `GET /history`.
struct Answer<'a> {
    now_ms: u64,
    moments: &'a [Arc<Moment>],
}

impl Serialize for Answer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { now_ms, moments } = self;
        let column = |of: fn(&Moment) -> Option<u64>| Column(moments, move |moment: &Arc<Moment>| of(moment));
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("now_ms", now_ms)?;
        map.serialize_entry("kept", &KEPT)?;
        map.serialize_entry("at_ms", &column(|moment| Some(moment.at_ms)))?;
        map.serialize_entry("in_flight", &column(|moment| Some(moment.in_flight.into())))?;
        map.serialize_entry("rss_bytes", &column(|moment| moment.rss_bytes))?;
        map.serialize_entry("succeeded", &column(|moment| Some(moment.requests[0].into())))?;
        map.serialize_entry("failed", &column(|moment| Some(moment.requests[1].into())))?;
        map.serialize_entry("cancelled", &column(|moment| Some(moment.requests[2].into())))?;
        map.serialize_entry("total_p50_us", &column(|moment| wide(moment.took.p50)))?;
        map.serialize_entry("total_p99_us", &column(|moment| wide(moment.took.p99)))?;
        // Those that have gone by a reload are told of no more.
        let there = moments.last().map_or(&[][..], |last| &last.providers);
        let lanes: BTreeMap<_, _> = there.iter().map(|(name, _)| (&**name, Lane { name, moments })).collect();
        map.serialize_entry("providers", &lanes)?;
        map.end()
    }
}

/// One provider's columns.
struct Lane<'a> {
    name: &'a str,
    moments: &'a [Arc<Moment>],
}

impl Serialize for Lane<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let of = |moment: &'_ Arc<Moment>| {
            let at = moment.providers.binary_search_by(|(name, _)| (**name).cmp(self.name)).ok()?;
            Some((Arc::clone(moment), at))
        };
        let rows: Vec<_> = self.moments.iter().map(of).collect();
        let column = |of: fn(&Row) -> Option<u32>| {
            Column(&rows, move |row: &Option<(Arc<Moment>, usize)>| {
                let (moment, at) = row.as_ref()?;
                of(&moment.providers[*at].1)
            })
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("depth", &column(|row| Some(row.depth)))?;
        map.serialize_entry("configured", &column(|row| Some(row.configured)))?;
        map.serialize_entry("active", &column(|row| Some(row.active)))?;
        map.serialize_entry("busy", &column(|row| Some(row.busy)))?;
        map.serialize_entry("completed", &column(|row| Some(row.counts[0])))?;
        map.serialize_entry("failed", &column(|row| Some(row.counts[1])))?;
        map.serialize_entry("refused", &column(|row| Some(row.counts[2])))?;
        map.serialize_entry("wait_p50_us", &column(|row| row.waited.p50.map(NonZeroU32::get)))?;
        map.serialize_entry("wait_p99_us", &column(|row| row.waited.p99.map(NonZeroU32::get)))?;
        map.serialize_entry("service_p50_us", &column(|row| row.served.p50.map(NonZeroU32::get)))?;
        map.serialize_entry("service_p99_us", &column(|row| row.served.p99.map(NonZeroU32::get)))?;
        map.serialize_entry("breaker", &column(|row| Some(row.breaker.into())))?;
        map.end()
    }
}

fn wide(micros: Option<NonZeroU32>) -> Option<u64> {
    micros.map(|micros| micros.get().into())
}

/// One number of each moment.
struct Column<'a, T, F>(&'a [T], F);

impl<T, V: Serialize, F: Fn(&T) -> V> Serialize for Column<'_, T, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(&self.1))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn moment(at_ms: u64, names: &[&str]) -> Moment {
        let took = Took { p50: NonZeroU32::new(7), p99: None };
        let row = || Row {
            depth: 1,
            configured: 4,
            active: 3,
            busy: 2,
            counts: [at_ms as u32, 0, 0],
            waited: took,
            served: took,
            breaker: 2,
        };
        let providers = names.iter().map(|name| (Arc::from(*name), row())).collect();
        Moment { at_ms, in_flight: 5, rss_bytes: None, requests: [1, 2, 3], took, providers }
    }

    fn json(history: &History, since: u64) -> Value {
        serde_json::from_slice(&history.json(since)).expect("JSON")
    }

    #[test]
    fn each_column_has_a_value_of_each_moment_and_null_where_there_was_none() {
        let history = History::new();
        for (at, names) in [(1, &["gone", "stays"][..]), (2, &["stays"]), (3, &["came", "stays"])] {
            history.push(moment(at, names));
        }
        let all = json(&history, 0);
        assert_eq!(all["at_ms"], serde_json::json!([1, 2, 3]));
        assert_eq!((&all["rss_bytes"][0], &all["total_p50_us"][2]), (&Value::Null, &Value::from(7)));
        let lanes = all["providers"].as_object().expect("lanes");
        assert_eq!(lanes.keys().collect::<Vec<_>>(), ["came", "stays"], "the one that went is told of no more");
        assert_eq!(lanes["came"]["completed"], serde_json::json!([null, null, 3]));
        assert_eq!(lanes["stays"]["completed"], serde_json::json!([1, 2, 3]));
        assert_eq!(lanes["stays"]["wait_p99_us"], serde_json::json!([null, null, null]));
        let latest = json(&history, 2);
        assert_eq!(
            (latest["at_ms"].clone(), latest["in_flight"].clone()),
            (serde_json::json!([3]), serde_json::json!([5]))
        );
        assert_eq!(json(&history, 3)["providers"], serde_json::json!({}));
    }

    #[test]
    fn the_oldest_go_when_there_are_enough_and_sooner_with_many_providers() {
        let history = History::new();
        (1..=KEPT as u64 + 5).for_each(|at| history.push(moment(at, &["p"])));
        let kept = json(&history, 0);
        assert_eq!((kept["at_ms"].as_array().map(Vec::len), &kept["at_ms"][0]), (Some(KEPT), &Value::from(6)));
        let names: Vec<_> = (0..1000).map(|n| format!("p{n:04}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        history.push(moment(KEPT as u64 + 6, &names));
        assert_eq!(json(&history, 0)["at_ms"].as_array().map(Vec::len), Some(MOST_ROWS / 1000));
    }

    #[test]
    fn a_clock_that_is_set_back_begins_anew() {
        let history = History::new();
        [5000, 6000, 3000].into_iter().for_each(|at| history.push(moment(at, &["p"])));
        assert_eq!(json(&history, 0)["at_ms"], serde_json::json!([3000]));
    }

    #[test]
    fn counters_that_began_anew_count_whole() {
        assert_eq!(between(None, [1, 2, 3]), [1, 2, 3]);
        assert_eq!(between(Some([1, 2, 9]), [3, 2, 4]), [2, 0, 4]);
        assert_eq!(between(Some([0, 0, 0]), [u64::MAX, 0, 0]), [u32::MAX, 0, 0]);
    }

    #[test]
    fn a_row_takes_no_more_than_is_said() {
        assert!(size_of::<(Arc<str>, Row)>() <= 64, "{}", size_of::<(Arc<str>, Row)>());
    }
}
