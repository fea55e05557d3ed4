//! How many threads this process may have, read from the system at start.
//!
//! A thread takes four memory maps (stack, guard, signal stack, its guard), so `vm.max_map_count` ends a process by abort
//! long before the processors do; `pid_max`, `RLIMIT_NPROC` and the cgroup's `pids.max` end it by refusal.

use rustix::process::{Resource, getrlimit};

/// Memory maps a thread takes.
const MAPS_PER_THREAD: u64 = 4;

/// What is kept back for the program's own maps, its other threads and other processes' sake, in threads.
const RESERVE: u64 = 256;

/// The most threads that are asked for where the system sets no limit.
const CEILING: u64 = 100_000;

/// The derived limit, and what sets it.
#[must_use]
pub fn derive() -> (u64, &'static str) {
    let maps = read("/proc/sys/vm/max_map_count").map(|maps| maps / MAPS_PER_THREAD);
    let candidates = [
        (maps, "sysctl vm.max_map_count (a thread takes four maps)"),
        (read("/proc/sys/kernel/pid_max"), "sysctl kernel.pid_max"),
        (read("/proc/sys/kernel/threads-max"), "sysctl kernel.threads-max"),
        (getrlimit(Resource::Nproc).current, "RLIMIT_NPROC (ulimit -u)"),
        (read("/sys/fs/cgroup/pids.max"), "the cgroup's pids.max"),
        (Some(CEILING), "the gateway's own ceiling"),
    ];
    let (limit, source) = candidates
        .into_iter()
        .filter_map(|(limit, source)| limit.map(|limit| (limit, source)))
        .min()
        .unwrap_or((CEILING, "the gateway's own ceiling"));
    (limit.saturating_sub(RESERVE).max(16), source)
}

fn read(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_limit_leaves_a_reserve_under_the_map_count() {
        let (limit, source) = super::derive();
        assert!(limit >= 16 && !source.is_empty());
        if let Some(maps) = super::read("/proc/sys/vm/max_map_count") {
            assert!(limit * super::MAPS_PER_THREAD < maps.max(5000), "{limit} threads by {source}");
        }
    }
}
