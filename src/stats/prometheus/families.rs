//! What there is beside OpenTelemetry's names: one entry a family, in the order in which a scrape and the README have them.

use super::text::{Family, Kind, Samples};
use super::{Entry, Scene};
use crate::error::Code;
use crate::metrics::{OVERHEADS_US, TIMES_US};
use crate::provider::{BreakerState, HealthState, ProviderStats, WorkerState};

type Fill = fn(&Scene<'_>, &mut Samples<'_>);

const fn entry(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    fill: Fill,
) -> Entry {
    Entry { family: Family { name, kind, unit, labels, help }, fill }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str, fill: Fill) -> Entry {
    entry(name, Kind::Gauge, "", labels, help, fill)
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str, fill: Fill) -> Entry {
    entry(name, Kind::Counter, "", labels, help, fill)
}

/// One whose unit its name ends in.
const fn measured(kind: Kind, name: &'static str, unit: &'static str, help: &'static str, fill: Fill) -> Entry {
    entry(name, kind, unit, &[], help, fill)
}

const fn spread(name: &'static str, labels: &'static [&'static str], help: &'static str, fill: Fill) -> Entry {
    entry(name, Kind::Histogram(&TIMES_US, MICROS), "seconds", labels, help, fill)
}

const MICROS: u64 = 1_000_000;

const PROVIDER: &[&str] = &["provider"];
const POOL: &[&str] = &["pool"];
const PLUGIN: &[&str] = &["plugin"];

const BREAKER: [BreakerState; 3] = [BreakerState::Closed, BreakerState::Open, BreakerState::HalfOpen];

/// How a stream fails once it has begun.
const CUTS: [Code; 3] = [Code::StreamCut, Code::StreamIdleTimeout, Code::StreamTooLong];

/// A count of each provider.
fn provider(scene: &Scene<'_>, samples: &mut Samples<'_>, of: fn(&ProviderStats) -> u64) {
    scene.providers().for_each(|(name, stats)| samples.count(&[name], of(stats)));
}

/// Several counts of each provider, each by a word.
fn providers<const N: usize>(
    scene: &Scene<'_>,
    samples: &mut Samples<'_>,
    of: fn(&ProviderStats) -> [(&'static str, u64); N],
) {
    for (name, stats) in scene.providers() {
        of(stats).iter().for_each(|(word, count)| samples.count(&[name, word], *count));
    }
}

/// Which of several states each provider is in: 1 for that, 0 for the others.
fn state<T: PartialEq + ToString>(
    scene: &Scene<'_>,
    samples: &mut Samples<'_>,
    states: &[T],
    of: fn(&ProviderStats) -> &T,
) {
    for (name, stats) in scene.providers() {
        let now = of(stats);
        states.iter().for_each(|state| samples.count(&[name, &state.to_string()], u64::from(state == now)));
    }
}

/// A count of each of the object pools.
fn pool(scene: &Scene<'_>, samples: &mut Samples<'_>, of: fn(&crate::recycle::PoolStats) -> u64) {
    let pools = &scene.snapshot.pools;
    let all = [
        ("reply_channel", &pools.reply_channel),
        ("job", &pools.job),
        ("response", &pools.response),
        ("buffer", &pools.buffer),
    ];
    all.into_iter().for_each(|(name, stats)| samples.count(&[name], of(stats)));
}

fn plugin(scene: &Scene<'_>, samples: &mut Samples<'_>, of: fn(&crate::plugin::PluginStats) -> u64) {
    scene.snapshot.plugins.iter().for_each(|(name, stats)| samples.count(&[name], of(stats)));
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / MICROS as f64
}

/// Attempts that ended with `code`, of whatever model; of none: those that ended well.
fn attempts(stats: &ProviderStats, code: Option<Code>) -> u64 {
    let all = stats.measured.rows.iter().flat_map(|row| &row.attempts);
    all.filter(|(failed, _)| *failed == code).map(|(_, spread)| spread.count()).sum()
}

pub(super) const FAMILIES: &[Entry] = &[
    // The gateway.
    entry("sluicegate_build", Kind::Info, "", &["version"], "The version that runs.", |s, out| {
        out.count(&[s.snapshot.version], 1)
    }),
    measured(Kind::Gauge, "sluicegate_uptime_seconds", "seconds", "How long the gateway has been there.", |s, out| {
        out.count(&[], s.snapshot.uptime_s)
    }),
    measured(
        Kind::Gauge,
        "sluicegate_snapshot_age_seconds",
        "seconds",
        "How long ago these figures were taken.",
        |s, out| out.number(&[], s.age.as_secs_f64()),
    ),
    gauge("sluicegate_phase", &["phase"], "Where the gateway stands in its life: 1 there.", |s, out| {
        use crate::gateway::Phase;
        let words = [
            (Phase::Starting, "starting"),
            (Phase::Running, "running"),
            (Phase::Draining, "draining"),
            (Phase::Stopped, "stopped"),
        ];
        words.iter().for_each(|(phase, word)| out.count(&[word], u64::from(*phase == s.snapshot.phase)));
    }),
    // Requests.
    counter("sluicegate_requests_received", &[], "Requests that came.", |s, out| {
        out.count(&[], s.snapshot.requests.received_total);
    }),
    counter("sluicegate_requests", &["outcome"], "Requests that ended, by how.", |s, out| {
        let requests = &s.snapshot.requests;
        out.count(&["succeeded"], requests.succeeded_total);
        out.count(&["failed"], requests.failed_total);
        out.count(&["cancelled"], requests.cancelled_total);
    }),
    counter("sluicegate_errors", &["code"], "Requests that ended with an error, by its code.", |s, out| {
        let of = |code: &Code| s.snapshot.errors.get(code.as_str()).copied().unwrap_or(0);
        Code::ALL.iter().for_each(|code| out.count(&[code.as_str()], of(code)));
    }),
    gauge("sluicegate_requests_in_flight", &[], "Requests under way.", |s, out| {
        out.count(&[], s.snapshot.requests.in_flight);
    }),
    gauge("sluicegate_requests_in_flight_limit", &[], "The most of them that are let in.", |s, out| {
        out.count(&[], s.snapshot.requests.max_in_flight);
    }),
    spread("sluicegate_request_duration_seconds", &[], "How long each request took.", |s, out| {
        out.histogram(&[], &s.snapshot.requests.total);
    }),
    entry(
        "sluicegate_overhead_seconds",
        Kind::Histogram(&OVERHEADS_US, MICROS),
        "seconds",
        &[],
        "What the gateway itself took of each: its time less queue, provider and pauses.",
        |s, out| out.histogram(&[], &s.snapshot.requests.overhead),
    ),
    measured(
        Kind::Gauge,
        "sluicegate_buffered_bytes",
        "bytes",
        "Bytes of requests and answers that are held whole.",
        |s, out| out.count(&[], s.snapshot.requests.buffered_bytes),
    ),
    // A provider's queue.
    gauge("sluicegate_queue_depth", PROVIDER, "Attempts that wait for a worker.", |s, out| {
        provider(s, out, |p| p.queue.depth);
    }),
    gauge("sluicegate_queue_capacity", PROVIDER, "Places to wait.", |s, out| {
        provider(s, out, |p| p.queue.capacity);
    }),
    gauge("sluicegate_queue_high_water", PROVIDER, "The most that ever waited.", |s, out| {
        provider(s, out, |p| p.queue.high_water);
    }),
    gauge("sluicegate_queue_places_taken", PROVIDER, "Places taken by attempts that run or wait.", |s, out| {
        provider(s, out, |p| p.queue.places_taken);
    }),
    counter("sluicegate_queue_submitted", PROVIDER, "Attempts that asked for a place.", |s, out| {
        provider(s, out, |p| p.queue.submitted_total);
    }),
    counter("sluicegate_queue_accepted", PROVIDER, "Attempts that got one.", |s, out| {
        provider(s, out, |p| p.queue.accepted_total);
    }),
    counter("sluicegate_queue_blocked", PROVIDER, "Attempts that had to wait for one.", |s, out| {
        provider(s, out, |p| p.queue.blocked_total);
    }),
    counter(
        "sluicegate_queue_ended",
        &["provider", "outcome"],
        "Attempts whose wait ended, by how: `completed` were taken by a worker.",
        |s, out| {
            providers(s, out, |p| {
                let queue = &p.queue;
                [
                    ("completed", queue.completed_total),
                    ("dropped", queue.dropped_total),
                    ("rejected", queue.rejected_total),
                    ("timed_out_space", queue.timed_out_space_total),
                    ("timed_out_worker", queue.timed_out_worker_total),
                    ("abandoned", queue.abandoned_total),
                ]
            });
        },
    ),
    spread("sluicegate_queue_wait_seconds", PROVIDER, "How long those waited that a worker took.", |s, out| {
        s.providers().for_each(|(name, stats)| out.histogram(&[name], &stats.measured.wait));
    }),
    // Its jobs.
    counter(
        "sluicegate_jobs",
        &["provider", "outcome"],
        "Attempts that a worker took, by how they ended.",
        |s, out| {
            providers(s, out, |p| {
                let jobs = &p.jobs;
                [
                    ("succeeded", jobs.succeeded_total),
                    ("failed", jobs.failed_total),
                    ("timed_out", jobs.timed_out_total),
                    ("cancelled", jobs.cancelled_total),
                ]
            });
        },
    ),
    counter("sluicegate_attempts", &["provider", "code"], "The same by the code of their error, or `ok`.", |s, out| {
        for (name, stats) in s.providers() {
            out.count(&[name, "ok"], attempts(stats, None));
            let failed = Code::ALL.iter().map(|code| (code, attempts(stats, Some(*code))));
            failed.filter(|(_, count)| *count > 0).for_each(|(code, count)| out.count(&[name, code.as_str()], count));
        }
    }),
    counter("sluicegate_streams_cut", &["provider", "code"], "Streams that failed once they had begun.", |s, out| {
        for (name, stats) in s.providers() {
            CUTS.iter().for_each(|code| out.count(&[name, code.as_str()], attempts(stats, Some(*code))));
        }
    }),
    spread("sluicegate_service_seconds", PROVIDER, "How long the provider took for each attempt.", |s, out| {
        s.providers().for_each(|(name, stats)| out.histogram(&[name], &stats.measured.service));
    }),
    spread("sluicegate_first_token_seconds", PROVIDER, "How long the first content of each stream took.", |s, out| {
        s.providers().for_each(|(name, stats)| out.histogram(&[name], &stats.measured.first_token));
    }),
    counter("sluicegate_tokens", &["provider", "type"], "Tokens, as far as the provider counts them.", |s, out| {
        providers(s, out, |p| [("input", p.jobs.tokens_in_total), ("output", p.jobs.tokens_out_total)]);
    }),
    counter("sluicegate_retries", PROVIDER, "Further tries here.", |s, out| {
        provider(s, out, |p| p.jobs.retries_total);
    }),
    counter("sluicegate_fallbacks", PROVIDER, "Requests that went on to another target from here.", |s, out| {
        provider(s, out, |p| p.jobs.fallbacks_total);
    }),
    counter("sluicegate_results_discarded", PROVIDER, "Answers that nobody waited for any more.", |s, out| {
        provider(s, out, |p| p.jobs.results_discarded_total);
    }),
    counter("sluicegate_garbage_events", PROVIDER, "Events of streams that were no JSON.", |s, out| {
        provider(s, out, |p| p.jobs.garbage_events_total);
    }),
    // Its workers.
    gauge("sluicegate_workers", &["provider", "state"], "Workers, by what they are at.", |s, out| {
        for (name, stats) in s.providers() {
            for state in WorkerState::ALL {
                let count = stats.per_worker.iter().filter(|row| row.state == state).count();
                out.count(&[name, &state.to_string()], count as u64);
            }
        }
    }),
    gauge("sluicegate_workers_wanted", PROVIDER, "Workers that it should have now.", |s, out| {
        provider(s, out, |p| p.workers.configured);
    }),
    gauge("sluicegate_workers_min", PROVIDER, "The fewest that it may have.", |s, out| {
        provider(s, out, |p| p.workers.min);
    }),
    gauge("sluicegate_workers_max", PROVIDER, "The most.", |s, out| provider(s, out, |p| p.workers.max)),
    counter("sluicegate_workers_spawned", PROVIDER, "Workers ever started.", |s, out| {
        provider(s, out, |p| p.workers.spawned_total);
    }),
    counter("sluicegate_workers_retired", PROVIDER, "Workers let go.", |s, out| {
        provider(s, out, |p| p.workers.retired_total);
    }),
    counter("sluicegate_workers_panics", PROVIDER, "Workers that ended by a panic.", |s, out| {
        provider(s, out, |p| p.workers.panics_total);
    }),
    counter("sluicegate_scale_events", &["provider", "direction"], "Changes of the number of workers.", |s, out| {
        providers(s, out, |p| [("up", p.scaling.up_total), ("down", p.scaling.down_total)]);
    }),
    counter("sluicegate_scale_workers", &["provider", "direction"], "Workers added and let go by them.", |s, out| {
        let of = |p: &ProviderStats| [("up", p.scaling.workers_added_total), ("down", p.scaling.workers_removed_total)];
        providers(s, out, of);
    }),
    counter("sluicegate_scale_held", &["provider", "reason"], "Looks that changed nothing, by why.", |s, out| {
        for (name, stats) in s.providers() {
            stats.scaling.held_total.iter().for_each(|(reason, count)| out.count(&[name, reason], *count));
        }
    }),
    // Its breaker, health and keys.
    gauge(
        "sluicegate_breaker_state",
        &["provider", "state"],
        "The circuit breaker of the provider: 1 for its state.",
        |s, out| {
            state(s, out, &BREAKER, |p| &p.breaker.state);
        },
    ),
    gauge("sluicegate_breaker_models", &["provider", "state"], "Circuits of single models, by state.", |s, out| {
        for (name, stats) in s.providers() {
            for state in BREAKER {
                let count = stats.breaker.models.values().filter(|circuit| circuit.state == state).count();
                out.count(&[name, &state.to_string()], count as u64);
            }
        }
    }),
    counter(
        "sluicegate_breaker_transitions",
        &["provider", "to"],
        "Changes of the provider's circuit and of those of its models.",
        |s, out| {
            providers(s, out, |p| {
                let breaker = &p.breaker;
                [
                    ("closed", breaker.closed_total),
                    ("open", breaker.opened_total),
                    ("half_open", breaker.half_opened_total),
                ]
            });
        },
    ),
    counter("sluicegate_breaker_short_circuits", PROVIDER, "Attempts that it did not let in.", |s, out| {
        provider(s, out, |p| p.breaker.short_circuited_total);
    }),
    gauge(
        "sluicegate_health_state",
        &["provider", "state"],
        "Whether the provider is there: 1 for what is known.",
        |s, out| {
            state(s, out, &[HealthState::Unknown, HealthState::Healthy, HealthState::Unhealthy], |p| &p.health.state);
        },
    ),
    counter("sluicegate_health_failures", PROVIDER, "Checks that it did not pass.", |s, out| {
        provider(s, out, |p| p.health.failures_total);
    }),
    gauge("sluicegate_keys", &["provider", "state"], "Keys, by state.", |s, out| {
        for (name, stats) in s.providers() {
            for state in ["ready", "cooling", "dead"] {
                out.count(&[name, state], stats.keys.iter().filter(|key| key.state == state).count() as u64);
            }
        }
    }),
    counter("sluicegate_key_used", &["provider", "key"], "How often each key was sent.", |s, out| {
        for (name, stats) in s.providers() {
            stats.keys.iter().for_each(|key| out.count(&[name, &key.name], key.used_total));
        }
    }),
    counter(
        "sluicegate_key_failed",
        &["provider", "key"],
        "How often it was answered with 401, 403 or 429.",
        |s, out| {
            for (name, stats) in s.providers() {
                stats.keys.iter().for_each(|key| out.count(&[name, &key.name], key.failed_total));
            }
        },
    ),
    // Connections.
    gauge("sluicegate_upstream_connections", &["provider", "state"], "Connections to providers.", |s, out| {
        providers(s, out, |p| {
            let connections = &p.connections;
            [("idle", connections.idle), ("busy", connections.open.saturating_sub(connections.idle))]
        });
    }),
    counter("sluicegate_upstream_connections_opened", PROVIDER, "Those ever opened.", |s, out| {
        provider(s, out, |p| p.connections.opened_total);
    }),
    counter("sluicegate_upstream_connections_reused", PROVIDER, "How often one served again.", |s, out| {
        provider(s, out, |p| p.connections.reused_total);
    }),
    counter("sluicegate_upstream_connections_stale", PROVIDER, "How often one turned out closed.", |s, out| {
        provider(s, out, |p| p.connections.stale_total);
    }),
    gauge("sluicegate_client_connections", &["state"], "Connections of clients.", |s, out| {
        if let Some(connections) = &s.snapshot.connections {
            out.count(&["idle"], connections.idle);
            out.count(&["busy"], connections.open.saturating_sub(connections.idle));
        }
    }),
    counter("sluicegate_client_connections_accepted", &[], "Those that came.", |s, out| {
        out.maybe(&[], s.snapshot.connections.as_ref().map(|all| all.accepted_total));
    }),
    counter("sluicegate_client_connections_refused", &[], "Those for which there was no room.", |s, out| {
        out.maybe(&[], s.snapshot.connections.as_ref().map(|all| all.refused_total));
    }),
    counter("sluicegate_client_header_timeouts", &[], "Heads that did not come in time.", |s, out| {
        out.maybe(&[], s.snapshot.connections.as_ref().map(|all| all.header_timeouts_total));
    }),
    counter("sluicegate_client_bad_requests", &[], "Heads that were none.", |s, out| {
        out.maybe(&[], s.snapshot.connections.as_ref().map(|all| all.bad_requests_total));
    }),
    // Object pools.
    counter("sluicegate_pool_hits", POOL, "Objects that were had used.", |s, out| pool(s, out, |p| p.hits_total)),
    counter("sluicegate_pool_misses", POOL, "Objects that had to be made.", |s, out| pool(s, out, |p| p.misses_total)),
    counter("sluicegate_pool_returned", POOL, "Objects given back.", |s, out| pool(s, out, |p| p.returned_total)),
    counter("sluicegate_pool_discarded", POOL, "Objects that were not fit to be used again.", |s, out| {
        pool(s, out, |p| p.discarded_total);
    }),
    gauge("sluicegate_pool_idle", POOL, "Objects that lie ready.", |s, out| pool(s, out, |p| p.idle)),
    gauge("sluicegate_pool_live", POOL, "Objects there are.", |s, out| pool(s, out, |p| p.live)),
    entry("sluicegate_pool_held_bytes", Kind::Gauge, "bytes", POOL, "What those take that lie ready.", |s, out| {
        pool(s, out, |p| p.bytes_held);
    }),
    // Threads and locks.
    gauge("sluicegate_threads", &["role", "state"], "Threads, by what they are for and what they do.", |s, out| {
        for ((role, state), count) in &s.snapshot.thread_states {
            out.count(&[role.as_str(), &state.to_string()], *count);
        }
    }),
    gauge("sluicegate_threads_limit", &[], "The most threads there may be.", |s, out| {
        out.count(&[], s.snapshot.threads.limit);
    }),
    gauge("sluicegate_threads_peak", &[], "The most there ever were.", |s, out| {
        out.count(&[], s.snapshot.threads.peak);
    }),
    gauge(
        "sluicegate_threads_stuck",
        &[],
        "Threads past the time within which they said they would be done.",
        |s, out| {
            out.count(&[], s.snapshot.threads.stuck);
        },
    ),
    counter("sluicegate_threads_spawned", &[], "Threads ever started.", |s, out| {
        out.count(&[], s.snapshot.threads.spawned_total);
    }),
    counter("sluicegate_threads_panics", &[], "Threads that panicked.", |s, out| {
        out.count(&[], s.snapshot.threads.panics_total);
    }),
    counter("sluicegate_threads_refused", &[], "Threads that were not to be had.", |s, out| {
        out.count(&[], s.snapshot.threads.refused_total);
    }),
    gauge("sluicegate_blocked_threads", &["on"], "Threads held up in the middle of a piece of work.", |s, out| {
        let blocked = &s.snapshot.blocked;
        out.count(&["channel"], blocked.channel);
        out.count(&["lock"], blocked.lock);
        out.count(&["io"], blocked.io);
    }),
    counter("sluicegate_locks_contended", &[], "Locks that had to be waited for.", |s, out| {
        out.count(&[], s.snapshot.locks.contended_total);
    }),
    counter("sluicegate_locks_timed_out", &[], "Locks that were not had in time.", |s, out| {
        out.count(&[], s.snapshot.locks.timed_out_total);
    }),
    counter("sluicegate_locks_order_violations", &[], "Locks asked for in a wrong order.", |s, out| {
        out.count(&[], s.snapshot.locks.order_violations_total);
    }),
    counter(
        "sluicegate_locks_deadlocks",
        &["what"],
        "Deadlocks found, and those of them that were ended.",
        |s, out| {
            out.count(&["detected"], s.snapshot.locks.deadlocks_detected_total);
            out.count(&["resolved"], s.snapshot.locks.deadlocks_resolved_total);
        },
    ),
    // Plugins, events, alerts.
    counter("sluicegate_plugin_calls", PLUGIN, "Calls of each plugin.", |s, out| plugin(s, out, |p| p.calls_total)),
    counter("sluicegate_plugin_errors", PLUGIN, "Errors of its.", |s, out| plugin(s, out, |p| p.errors_total)),
    counter("sluicegate_plugin_panics", PLUGIN, "Panics of its.", |s, out| plugin(s, out, |p| p.panics_total)),
    counter("sluicegate_plugin_short_circuits", PLUGIN, "Requests that it answered itself.", |s, out| {
        plugin(s, out, |p| p.short_circuits_total);
    }),
    counter(
        "sluicegate_events",
        &["kind"],
        "Things that happened, by kind: GET /events has the last ones.",
        |s, out| {
            s.snapshot.events_total.iter().for_each(|(kind, count)| out.count(&[kind], *count));
        },
    ),
    gauge("sluicegate_alerts", &["kind"], "What is wrong now, by kind: GET /stats says what.", |s, out| {
        let mut kinds: Vec<_> = s.snapshot.alerts.iter().map(|alert| alert.kind).collect();
        kinds.sort_unstable();
        kinds.chunk_by(|a, b| a == b).for_each(|same| out.count(&[same[0]], same.len() as u64));
    }),
    // The process, under the names that every process has them.
    measured(Kind::Counter, "process_cpu_seconds", "seconds", "Processor time ever used.", |s, out| {
        s.snapshot.process.cpu_us.iter().for_each(|micros| out.number(&[], seconds(*micros)));
    }),
    measured(Kind::Gauge, "process_resident_memory_bytes", "bytes", "Memory that is resident.", |s, out| {
        out.maybe(&[], s.snapshot.process.rss_bytes);
    }),
    gauge("process_open_fds", &[], "Descriptors that are open.", |s, out| out.maybe(&[], s.snapshot.process.open_fds)),
    gauge("process_max_fds", &[], "The most that may be.", |s, out| out.maybe(&[], s.snapshot.process.max_fds)),
    gauge("process_threads", &[], "Threads of any kind.", |s, out| out.maybe(&[], s.snapshot.process.threads)),
    measured(
        Kind::Gauge,
        "process_start_time_seconds",
        "seconds",
        "When the process started, since the Unix epoch.",
        |s, out| s.snapshot.process.started_at_ms.iter().for_each(|ms| out.number(&[], *ms as f64 / 1000.0)),
    ),
];
