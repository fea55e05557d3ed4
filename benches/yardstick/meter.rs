//! What a process has used, read from `/proc`.
//!
//! **CPU** is the sum of `schedstat` over the process's threads: nanoseconds, brought up to date whenever a thread goes
//! to sleep, and read here only when the targets are idle. A thread that ended takes its sum with it, so the 10 ms ticks
//! of `/proc/PID/stat`, which keep the dead ones, are read too and win where they say more by a margin that rounding
//! does not explain. Both count time in the kernel on the process's behalf, softirq work included where it ran in the
//! process's time: on loopback a sender pays for most of the receiver's network stack too, in every target alike.

use std::fs;
use std::time::Duration;

use crate::Error;

/// More than the ticks of user and system time, read twice, can be off by.
const TICKS_ARE_RIGHT: Duration = Duration::from_millis(40);

/// CPU time that a process has used so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    /// By its living threads; `None` where the kernel keeps no such account.
    living: Option<Duration>,
    /// By all threads it ever had, in ticks.
    all: Duration,
}

impl Cpu {
    /// What process `pid` has used until now.
    pub(crate) fn of(pid: u32) -> Result<Self, Error> {
        let mut living = Some(Duration::ZERO);
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let text = fs::read_to_string(task?.path().join("schedstat")).ok();
            let nanos = text.as_deref().and_then(|text| text.split(' ').next()?.parse().ok());
            living = living.zip(nanos).map(|(sum, nanos)| sum + Duration::from_nanos(nanos));
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses may hold spaces; user and system time are the twelfth and thirteenth field after it.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Self { living, all: ticks_to_time(ticks) })
    }

    /// What was used since `before`.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        let all = self.all.saturating_sub(before.all);
        match self.living.zip(before.living) {
            Some((now, then)) if now.saturating_sub(then) + TICKS_ARE_RIGHT >= all => now.saturating_sub(then),
            _ => all,
        }
    }
}

/// CPU time that the whole machine has spent on something, all processors together.
pub(crate) fn machine_busy() -> Result<Duration, Error> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks = line.split_whitespace().skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
    // user nice system idle iowait irq softirq steal; guest time stands in user already.
    let busy = ticks.enumerate().filter(|(field, _)| !matches!(field, 3 | 4) && *field < 8).map(|(_, ticks)| ticks);
    Ok(ticks_to_time(busy.sum()))
}

fn ticks_to_time(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Memory of process `pid` that is resident, in bytes: `VmRSS` is what is now, `VmHWM` the most that ever was.
pub(crate) fn memory(pid: u32, field: &str) -> Result<f64, Error> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.map(|kib| kib * 1024.0).ok_or_else(|| format!("no {field} of process {pid}").into())
}

/// Processors that this program may use.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The first line of a file of `/proc` that names something, or "unknown".
pub(crate) fn first_line(path: &str, prefix: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(prefix));
    line.map_or_else(|| "unknown".to_owned(), |line| line.trim_matches([' ', '\t', ':']).to_owned())
}
