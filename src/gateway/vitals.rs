//! What is wrong with threads, jobs and limits, judged from what they show: no clock, no thread, no lock.
//!
//! Each finding says whom it concerns, names the thread, worker or request, and says what to do about it. Findings of many
//! of a kind are put together by whom they concern, so that a bad day does not fill the list of alerts.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::provider::PoolVitals;
use crate::sync::Role;
use crate::sync::threads::{PanicNote, STEADY, ThreadRow};
use crate::time::format_duration;

/// A thread that is past what it said.
pub(super) const STUCK_THREAD: &str = "stuck_thread";
/// Threads that panicked a short while ago.
pub(super) const THREAD_PANIC: &str = "thread_panic";
/// A stream that has run for long.
pub(super) const LONG_STREAM: &str = "long_stream";
/// A job at the head of a queue that should have been taken.
pub(super) const QUEUE_STALLED: &str = "queue_stalled";
/// A provider's rate limits hold requests back.
pub(super) const RATE_LIMITED: &str = "rate_limited";
/// Few threads are left.
pub(super) const THREADS_NEAR_LIMIT: &str = "threads_near_limit";
/// Few descriptors are left.
pub(super) const DESCRIPTORS_NEAR_LIMIT: &str = "descriptors_near_limit";

/// From when on a stream is worth a word: the page's longest processing time.
const LONG: Duration = Duration::from_secs(300);

/// How long a job may stand at the head of a queue although a worker is idle; it is handed over at once.
const HEAD_BESIDE_IDLE: Duration = Duration::from_secs(1);

/// How long beyond its wait limit a job may stand at the head of a queue; its waiter takes it back at the limit.
const HEAD_OVERDUE: Duration = Duration::from_secs(1);

/// From when on a rate limit that holds requests back without a pause is worth a word: it is not a short burst any more.
const HELD_LONG: Duration = Duration::from_secs(10);

/// The most stuck threads named one by one; the rest are counted together.
const NAMED: usize = 32;

/// From which share of a limit on it is near, in percent, and below which it no longer is.
const NEAR: (u64, u64) = (90, 85);

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) kind: &'static str,
    pub(super) subject: String,
    pub(super) message: String,
}

impl Finding {
    pub(super) fn new(kind: &'static str, subject: impl Into<String>, message: String) -> Self {
        Self { kind, subject: subject.into(), message }
    }
}

/// What threads and pools show at one moment.
pub(super) struct View {
    pub(super) threads: Vec<ThreadRow>,
    /// Those of the last [`STEADY`].
    pub(super) panics: Vec<PanicNote>,
    pub(super) pools: Vec<PoolVitals>,
}

/// What is used of something limited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) used: u64,
    pub(super) limit: u64,
    /// Whether it was found near already: it takes more to be over than to come.
    pub(super) stands: bool,
}

impl Share {
    fn is_near(self) -> bool {
        let percent = if self.stands { NEAR.1 } else { NEAR.0 };
        u128::from(self.used) * 100 >= u128::from(self.limit) * u128::from(percent)
    }
}

/// Judges threads and pools.
pub(super) fn judge(view: &View) -> Vec<Finding> {
    let mut found = stuck(view);
    found.extend(panicking(&view.panics));
    found.extend(view.pools.iter().filter_map(long_streams));
    found.extend(view.pools.iter().filter_map(stalled));
    found.extend(view.pools.iter().filter_map(held_back));
    found
}

/// Judges what is limited by the system. `set_by` sets the limit of threads.
pub(super) fn near_limits(threads: Share, set_by: &str, descriptors: Option<Share>) -> Vec<Finding> {
    let mut found = Vec::new();
    if threads.is_near() {
        let Share { used, limit, .. } = threads;
        let text = format!(
            "{used} of {limit} threads run; past the limit requests are refused as overloaded. It is set by {set_by}: \
             raise it, or lower concurrency or server.max_in_flight"
        );
        found.push(Finding::new(THREADS_NEAR_LIMIT, "threads", text));
    }
    if let Some(Share { used, limit, .. }) = descriptors.filter(|share| share.is_near()) {
        let text = format!(
            "{used} of {limit} descriptors are open; past the limit connections are closed. Raise the hard limit \
             (ulimit -n, LimitNOFILE=), or lower server.max_connections"
        );
        found.push(Finding::new(DESCRIPTORS_NEAR_LIMIT, "descriptors", text));
    }
    found
}

fn stuck(view: &View) -> Vec<Finding> {
    let mut stuck: Vec<_> = view.threads.iter().filter_map(|row| row.overdue.map(|overdue| (overdue, row))).collect();
    stuck.sort_by_key(|(overdue, _)| std::cmp::Reverse(*overdue));
    let mut found = Vec::new();
    for (overdue, row) in stuck.iter().take(NAMED) {
        let at = if row.role == Role::Worker { request_of(view, &row.name) } else { String::new() };
        let text = format!(
            "{} (thread {}) is {} past its deadline{at}, for {} in one state; {}",
            row.name,
            row.id.0,
            words(*overdue),
            words(Duration::from_millis(row.state_ms)),
            advice(row.role),
        );
        found.push(Finding::new(STUCK_THREAD, &*row.name, text));
    }
    if let Some(more) = stuck.len().checked_sub(NAMED).filter(|more| *more > 0) {
        let text = format!("{more} more threads are past their deadline; GET /threads lists them");
        found.push(Finding::new(STUCK_THREAD, "more", text));
    }
    found
}

/// The request that a worker is at.
fn request_of(view: &View, thread: &str) -> String {
    let mut running = view.pools.iter().flat_map(|pool| &pool.running);
    running.find(|job| job.thread == thread).map_or_else(String::new, |job| {
        format!(" at request {}, which it has had for {}", job.request_id, words(job.age))
    })
}

fn advice(role: Role) -> &'static str {
    match role {
        Role::Worker => "its provider does not let go of it: shorten default_request_timeout, or restart the gateway",
        Role::Conn | Role::Admin | Role::Sim => "one connection is held up; if it lasts, restart the gateway",
        _ => "a service of the gateway's own does not come round; restart the gateway, and report it",
    }
}

fn panicking(panics: &[PanicNote]) -> Vec<Finding> {
    let mut by_subject: BTreeMap<&str, Vec<&PanicNote>> = BTreeMap::new();
    for note in panics {
        // Of the threads of a service's own there is one of a name; of the others there are many, and new ones each time.
        let subject = if is_one_of_many(note.role) { note.role.as_str() } else { &*note.name };
        by_subject.entry(subject).or_default().push(note);
    }
    let found = by_subject.into_iter().filter_map(|(subject, notes)| {
        let last = notes.last()?;
        let text = format!(
            "{} in the last {}, the last one of {}: {}; the role goes on, the log has the place: report it",
            plural(notes.len(), "panic"),
            words(STEADY),
            last.name,
            last.text,
        );
        Some(Finding::new(THREAD_PANIC, subject, text))
    });
    found.collect()
}

fn is_one_of_many(role: Role) -> bool {
    matches!(role, Role::Conn | Role::Worker | Role::Admin | Role::Sim)
}

fn long_streams(pool: &PoolVitals) -> Option<Finding> {
    let long = || pool.running.iter().filter(|job| job.streams && job.age >= LONG);
    let longest = long().max_by_key(|job| job.age)?;
    let text = format!(
        "{} past {}: the longest, request {}, has run for {} on {}; stream_max_duration bounds them",
        plural(long().count(), "stream"),
        words(LONG),
        longest.request_id,
        words(longest.age),
        longest.thread,
    );
    Some(Finding::new(LONG_STREAM, &*pool.provider, text))
}

fn stalled(pool: &PoolVitals) -> Option<Finding> {
    let head = pool.queue_head?;
    let why = if head > pool.wait_timeout + HEAD_OVERDUE {
        format!("past its wait_timeout of {}", format_duration(pool.wait_timeout))
    } else if head > HEAD_BESIDE_IDLE && pool.idle > 0 {
        format!(
            "although {} idle",
            if pool.idle == 1 { "1 worker is".into() } else { format!("{} workers are", pool.idle) }
        )
    } else {
        return None;
    };
    let text = format!(
        "the queue's head has waited for {}, {why}; if it lasts, restart the gateway, and report it",
        words(head)
    );
    Some(Finding::new(QUEUE_STALLED, &*pool.provider, text))
}

fn held_back(pool: &PoolVitals) -> Option<Finding> {
    let held = pool.held_back.filter(|held| held.lasting >= HELD_LONG)?;
    let text = format!(
        "its rate limits have held requests back for {}: {} waiting now, {} refused since then; raise rate_limit if \
         the provider allows more, or add a key or a fallback",
        words(held.lasting),
        held.waiting,
        held.refused,
    );
    Some(Finding::new(RATE_LIMITED, &*pool.provider, text))
}

fn plural(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A time as people say it: in whole seconds past the first ones.
fn words(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} s", time.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ids::ThreadId;
    use crate::provider::{HeldBack, RunningJob};
    use crate::sync::State;
    use crate::time::now;

    const SECOND: Duration = Duration::from_secs(1);

    fn row(number: u64, role: Role, overdue: Option<Duration>) -> ThreadRow {
        ThreadRow {
            id: ThreadId(number),
            name: format!("p-{}-{number}", role.as_str()).into(),
            role,
            state: State::Io,
            state_ms: 12_000,
            stuck: overdue.is_some(),
            rests: false,
            overdue,
        }
    }

    fn pool(idle: usize, queue_head: Option<Duration>) -> PoolVitals {
        PoolVitals {
            provider: "p".into(),
            running: Vec::new(),
            idle,
            wait_timeout: SECOND * 5,
            queue_head,
            held_back: None,
        }
    }

    fn job(number: u64, age: Duration, streams: bool) -> RunningJob {
        RunningJob { thread: format!("p-worker-{number}"), request_id: format!("req_{number}"), age, streams }
    }

    fn view(threads: Vec<ThreadRow>, pools: Vec<PoolVitals>) -> View {
        View { threads, panics: Vec::new(), pools }
    }

    fn kinds(found: &[Finding]) -> Vec<(&str, &str)> {
        found.iter().map(|finding| (finding.kind, finding.subject.as_str())).collect()
    }

    #[test]
    fn a_stuck_worker_is_named_with_its_request_and_what_to_do() {
        let mut pool = pool(0, None);
        pool.running = vec![job(6, SECOND, false), job(7, SECOND * 130, false)];
        let threads = vec![row(6, Role::Worker, None), row(7, Role::Worker, Some(SECOND * 9))];
        let found = judge(&view(threads, vec![pool]));
        assert_eq!(kinds(&found), [(STUCK_THREAD, "p-worker-7")]);
        for word in ["9.0 s past", "thread 7", "req_7", "130 s", "default_request_timeout"] {
            assert!(found[0].message.contains(word), "{word}: {}", found[0].message);
        }
    }

    #[test]
    fn the_most_overdue_threads_are_named_and_the_rest_counted() {
        let threads = (0..40).map(|n| row(n, Role::Conn, Some(SECOND * n as u32))).collect();
        let found = judge(&view(threads, Vec::new()));
        assert_eq!(found.len(), NAMED + 1);
        assert_eq!(found[0].subject, "p-conn-39");
        assert!(found[NAMED].message.starts_with("8 more"), "{}", found[NAMED].message);
    }

    #[test]
    fn only_streams_are_long_and_a_provider_has_one_finding_of_them() {
        let mut pool = pool(0, None);
        pool.running = vec![job(1, LONG, true), job(2, LONG + SECOND * 60, true), job(3, LONG * 9, false)];
        let found = judge(&view(Vec::new(), vec![pool.clone()]));
        assert_eq!(kinds(&found), [(LONG_STREAM, "p")]);
        assert!(found[0].message.contains("2 streams") && found[0].message.contains("req_2"), "{}", found[0].message);
        pool.running = vec![job(1, LONG - SECOND, true)];
        assert!(judge(&view(Vec::new(), vec![pool])).is_empty());
    }

    #[test]
    fn a_queue_is_stalled_when_its_head_is_late_or_stands_beside_an_idle_worker() {
        for (idle, head, wrong) in [
            (0, None, false),
            (0, Some(SECOND * 6), false),
            (0, Some(SECOND * 7), true),
            (1, Some(SECOND / 2), false),
            (1, Some(SECOND * 2), true),
        ] {
            let found = judge(&view(Vec::new(), vec![pool(idle, head)]));
            assert_eq!(found.len(), usize::from(wrong), "{idle} idle, head {head:?}: {found:?}");
            assert!(found.iter().all(|finding| finding.kind == QUEUE_STALLED));
        }
    }

    #[test]
    fn a_rate_limit_is_told_of_when_it_holds_back_for_long() {
        let mut pool = pool(1, None);
        for (seconds, told) in [(9, false), (10, true)] {
            pool.held_back = Some(HeldBack { lasting: SECOND * seconds, waiting: 3, refused: 40 });
            let found = judge(&view(Vec::new(), vec![pool.clone()]));
            assert_eq!(kinds(&found), [(RATE_LIMITED, "p")][..usize::from(told)]);
            assert!(found.iter().all(|f| f.message.contains("10 s: 3 waiting now, 40 refused")), "{found:?}");
        }
    }

    #[test]
    fn panics_are_put_together_by_service_or_by_role() {
        let note =
            |name: &str, role, text: &str| PanicNote { at: now(), name: Arc::from(name), role, text: text.to_owned() };
        let panics = vec![
            note("p-worker-1", Role::Worker, "one"),
            note("stats", Role::Stats, "two"),
            note("p-worker-2", Role::Worker, "three"),
        ];
        let found = judge(&View { threads: Vec::new(), panics, pools: Vec::new() });
        assert_eq!(kinds(&found), [(THREAD_PANIC, "stats"), (THREAD_PANIC, "worker")]);
        assert!(found[1].message.starts_with("2 panics"), "{}", found[1].message);
        assert!(found[1].message.contains("p-worker-2: three"), "{}", found[1].message);
    }

    #[test]
    fn a_limit_is_near_from_ninety_percent_until_under_eighty_five() {
        let share = |used, stands| Share { used, limit: 100, stands };
        for (used, stands, near) in [(89, false, false), (90, false, true), (85, true, true), (84, true, false)] {
            let found = near_limits(share(used, stands), "sysctl vm.max_map_count", Some(share(used, stands)));
            assert_eq!(!found.is_empty(), near, "{used}, {stands}");
            if near {
                assert_eq!(kinds(&found), [(THREADS_NEAR_LIMIT, "threads"), (DESCRIPTORS_NEAR_LIMIT, "descriptors")]);
                assert!(found[0].message.contains("vm.max_map_count"), "{}", found[0].message);
            }
        }
        assert!(near_limits(share(1, false), "x", None).is_empty());
    }
}
