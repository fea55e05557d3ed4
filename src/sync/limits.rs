//! How many threads, and how much memory, this process may have, read from the system at start.
//!
//! A thread takes four memory maps (stack, guard, signal stack, its guard), so `vm.max_map_count` ends a process by abort
//! long before the processors do; `pid_max`, `threads-max`, `RLIMIT_NPROC` and the cgroups' `pids.max` end it by refusal.
//! The least of them, less a reserve, is the limit. For more threads raise the one that is named:
//! `sysctl -w vm.max_map_count=262144` allows 65,000, where the default of 65,530 allows 16,100; `sysctl -w
//! kernel.pid_max=…`, `ulimit -u`, and the `pids.max` (`TasksMax=` under systemd, `--pids-limit` of a container) the others.

//!
//! The memory is the least of its cgroups' limits and of what the machine has: beyond it the kernel ends the process. What is
//! *available* at a moment is not asked: it falls with other programs' needs, and refusing requests would not bring it back.

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
        (cgroup("pids", ["pids.max"; 2]), "the cgroup's pids.max"),
        (Some(CEILING), "the gateway's own ceiling"),
    ];
    let (limit, source) = candidates
        .into_iter()
        .filter_map(|(limit, source)| limit.map(|limit| (limit, source)))
        .min()
        .unwrap_or((CEILING, "the gateway's own ceiling"));
    (limit.saturating_sub(RESERVE).max(16), source)
}

/// The memory that this process may have, in bytes, and what sets it. `None` if the system does not tell.
#[must_use]
pub fn memory() -> Option<(u64, &'static str)> {
    // A group without a limit says "max" in the second version and a number past all memory in the first.
    let group =
        cgroup("memory", ["memory.max", "memory.limit_in_bytes"]).map(|most| (most, "the cgroup's memory limit"));
    let machine = machine_memory().map(|most| (most, "the machine's memory"));
    group.into_iter().chain(machine).min()
}

fn machine_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    kib.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The least limit of the cgroups that this process is in, from its own up to the one that it sees as the root; `files` are
/// what the limit is called in the second version and in the first.
fn cgroup(controller: &str, files: [&str; 2]) -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    limit_files(&groups, controller, files).iter().filter_map(|path| read(path)).min()
}

/// Where the limits of these groups stand, for a text of `/proc/self/cgroup`: lines of `number:controllers:path`, of which
/// the second version has one, without a controller.
fn limit_files(groups: &str, controller: &str, [second, first]: [&str; 2]) -> Vec<String> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, name) = match controllers {
            "" => ("/sys/fs/cgroup".to_owned(), second),
            _ if controllers.split(',').any(|name| name == controller) => {
                (format!("/sys/fs/cgroup/{controller}"), first)
            }
            _ => continue,
        };
        let mut group = path.trim_end_matches('/');
        loop {
            files.push(format!("{root}{group}/{name}"));
            match group.rsplit_once('/') {
                Some((parent, _)) => group = parent,
                None => break,
            }
        }
    }
    files
}

fn read(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_limit_of_every_cgroup_on_the_way_up_counts_in_both_versions() {
        let groups = "12:cpu,pids:/a/b\n3:memory:/m\n0::/docker/x\nnonsense\n";
        let files = super::limit_files(groups, "pids", ["pids.max"; 2]);
        let expected = [
            "/sys/fs/cgroup/pids/a/b/pids.max",
            "/sys/fs/cgroup/pids/a/pids.max",
            "/sys/fs/cgroup/pids/pids.max",
            "/sys/fs/cgroup/docker/x/pids.max",
            "/sys/fs/cgroup/docker/pids.max",
            "/sys/fs/cgroup/pids.max",
        ];
        assert_eq!(files, expected);
        let files = super::limit_files(groups, "memory", ["memory.max", "memory.limit_in_bytes"]);
        let expected = [
            "/sys/fs/cgroup/memory/m/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/docker/x/memory.max",
            "/sys/fs/cgroup/docker/memory.max",
            "/sys/fs/cgroup/memory.max",
        ];
        assert_eq!(files, expected);
    }

    #[test]
    fn there_is_memory_and_not_more_than_the_machine_has() {
        let (most, set_by) = super::memory().expect("Linux tells");
        assert!(most > 0 && !set_by.is_empty());
        assert!(super::machine_memory().is_none_or(|machine| most <= machine));
    }

    #[test]
    fn the_limit_leaves_a_reserve_under_the_map_count() {
        let (limit, source) = super::derive();
        assert!(limit >= 16 && !source.is_empty());
        if let Some(maps) = super::read("/proc/sys/vm/max_map_count") {
            assert!(limit * super::MAPS_PER_THREAD < maps.max(5000), "{limit} threads by {source}");
        }
    }
}
