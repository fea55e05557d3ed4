//! Rates over the last minute, made of samples of counters that only grow.
//!
//! No request pays for a rate: the stats thread keeps a sample of its snapshot each second, and a rate is the difference between
//! now and the oldest sample of the last 60 s.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::{RequestStats, Snapshot};
use crate::provider::ProviderStats;
use crate::sync::locks::{Leaf, classes};
use crate::time::now;

/// What rates are over.
const WINDOW: Duration = Duration::from_secs(60);

/// The samples of the last minute.
pub(super) struct Samples(Leaf<VecDeque<Sample>>);

#[derive(Clone)]
struct Sample {
    at: Instant,
    requests: u64,
    providers: HashMap<String, ProviderSample>,
}

/// One provider's counters at one moment. One that came since the oldest sample began with nothing.
#[derive(Clone, Copy, Default)]
pub(super) struct ProviderSample {
    completed: u64,
    failed: u64,
    ended: u64,
}

impl ProviderSample {
    pub(super) fn of(stats: &ProviderStats) -> Self {
        let jobs = &stats.jobs;
        let failed = jobs.failed_total + jobs.timed_out_total;
        let ended = failed + jobs.succeeded_total + jobs.cancelled_total;
        Self { completed: stats.queue.completed_total, failed, ended }
    }
}

/// Rates since the oldest sample.
pub(super) struct Rates {
    pub(super) requests_per_s: f64,
    /// Jobs a second, and the share of them that failed, by provider as it was asked for.
    pub(super) providers: Vec<(f64, Option<f64>)>,
}

impl Samples {
    pub(super) fn new() -> Self {
        Self(Leaf::new(&classes::STATS, VecDeque::new()))
    }

    pub(super) fn take(&self, snapshot: &Snapshot) {
        let of = |(name, stats): (&String, &ProviderStats)| (name.clone(), ProviderSample::of(stats));
        let providers = snapshot.providers.iter().map(of).collect();
        let RequestStats { succeeded_total, failed_total, cancelled_total, .. } = snapshot.requests;
        let sample = Sample { at: now(), requests: succeeded_total + failed_total + cancelled_total, providers };
        let mut samples = self.0.lock();
        let old = samples.partition_point(|each| sample.at.saturating_duration_since(each.at) > WINDOW);
        let gone: Vec<_> = samples.drain(..old).collect();
        samples.push_back(sample);
        drop(samples);
        drop(gone);
    }

    /// `None` until a first sample lies far enough back to say anything.
    pub(super) fn rates(&self, at: Instant, requests: u64, providers: &[(&str, ProviderSample)]) -> Option<Rates> {
        let age = |sample: &Sample| at.saturating_duration_since(sample.at);
        let oldest = self.0.lock().iter().find(|sample| age(sample) <= WINDOW).cloned()?;
        let elapsed = age(&oldest).as_secs_f64();
        if elapsed < 0.1 {
            return None;
        }
        let per_s = |now: u64, then: u64| now.saturating_sub(then) as f64 / elapsed;
        let providers = providers
            .iter()
            .map(|(name, now)| {
                let then = oldest.providers.get(*name).copied().unwrap_or_default();
                let ended = now.ended.saturating_sub(then.ended);
                let failed = now.failed.saturating_sub(then.failed);
                (per_s(now.completed, then.completed), (ended > 0).then(|| failed as f64 / ended as f64))
            })
            .collect();
        Some(Rates { requests_per_s: per_s(requests, oldest.requests), providers })
    }
}
