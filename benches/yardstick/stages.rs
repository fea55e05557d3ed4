//! The stages: which load, and which figures are taken of it.
//!
//! A stage runs to its last answer before the CPU is read, after a warm-up on the same connections that ran to its last
//! answer too: what is counted is exactly what these requests cost, the targets' afterwork included.

use std::thread;
use std::time::Duration;

use crate::Error;
use crate::fixture::{Ask, EVENTS};
use crate::load::{Load, Tally};
use crate::meter::{self, Cpu};
use crate::report::Report;
use crate::targets::{Kind, Target, Upstream};

/// How long a target is left alone before its memory at rest is read, and before and after a stage.
const REST: Duration = Duration::from_millis(500);
const SETTLE: Duration = Duration::from_millis(30);

/// How the questions follow one another.
#[derive(Clone, Copy, Debug)]
enum Pace {
    Closed,
    Open { rate: u32 },
}

/// One kind of load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage {
    name: &'static str,
    ask: Ask,
    connections: usize,
    pace: Pace,
}

const FULL_SPEED: Ask = Ask::Stream { gap: Duration::ZERO };
const PACED: Ask = Ask::Stream { gap: Duration::from_micros(2500) };

/// In the order in which they run.
pub(crate) const ALL: &[Stage] = &[
    Stage { name: "closed_1", ask: Ask::Chat, connections: 1, pace: Pace::Closed },
    Stage { name: "closed_32", ask: Ask::Chat, connections: 32, pace: Pace::Closed },
    Stage { name: OPEN_LOOP, ask: Ask::Chat, connections: 32, pace: Pace::Open { rate: 500 } },
    Stage { name: "stream_1", ask: FULL_SPEED, connections: 1, pace: Pace::Closed },
    Stage { name: "stream_32", ask: FULL_SPEED, connections: 32, pace: Pace::Closed },
    Stage { name: "stream_paced_16", ask: PACED, connections: 16, pace: Pace::Closed },
];

/// The stage whose latency is compared with the direct path's.
pub(crate) const OPEN_LOOP: &str = "open_500";

/// The figures of a target that has just started and answered once.
pub(crate) fn at_start(target: &Target, report: &mut Report) -> Result<(), Error> {
    let (Some(pid), Some(first)) = (target.pid(), target.first_answer) else { return Ok(()) };
    report.add(target.kind, "process", "start_to_first_answer_ms", first.as_secs_f64() * 1e3);
    thread::sleep(REST);
    report.add(target.kind, "process", "rss_at_rest_mb", meter::memory(pid, "VmRSS")? / 1e6);
    Ok(())
}

/// The figures of a target that has done all its work.
pub(crate) fn at_end(target: &Target, report: &mut Report) -> Result<(), Error> {
    if let Some(pid) = target.pid() {
        report.add(target.kind, "process", "rss_peak_mb", meter::memory(pid, "VmHWM")? / 1e6);
    }
    Ok(())
}

/// Runs a stage against a target and takes its figures.
pub(crate) fn run(
    stage: &Stage,
    target: &Target,
    upstream: &Upstream,
    warm_up: Duration,
    measured: Duration,
    report: &mut Report,
) -> Result<(), Error> {
    let script = target.script(stage.ask);
    let blame = |error| target.blame(format!("{}: {error}", stage.name));
    let mut load = Load::new(target.addr, &script, stage.connections).map_err(blame)?;
    let mut go = |time| match stage.pace {
        Pace::Closed => load.closed(time).map_err(blame),
        Pace::Open { rate } => load.open(rate, time).map_err(blame),
    };
    go(warm_up)?;
    thread::sleep(SETTLE);
    let before = Usage::now(target, upstream)?;
    let tally = go(measured)?;
    thread::sleep(SETTLE);
    let used = Usage::now(target, upstream)?.since(&before);

    let mut add = |metric, value| report.add(target.kind, stage.name, metric, value);
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let answers = tally.answers.len() as f64;
    let whole = sorted(&tally, |times| times.whole);
    if let Ask::Stream { .. } = stage.ask {
        let first = sorted(&tally, |times| times.first);
        let events = answers * EVENTS as f64;
        used.report(
            target.kind,
            events,
            ["cpu_us_per_event", "upstream_cpu_us_per_event", "generator_cpu_us_per_event"],
            &mut add,
        );
        add("events_per_second", events / tally.elapsed.as_secs_f64());
        add("first_token_p50_us", micros(percentile(&first, 0.50)));
        add("first_token_p99_us", micros(percentile(&first, 0.99)));
    } else {
        used.report(
            target.kind,
            answers,
            ["cpu_us_per_request", "upstream_cpu_us_per_request", "generator_cpu_us_per_request"],
            &mut add,
        );
        add("requests_per_second", answers / tally.elapsed.as_secs_f64());
    }
    add("p50_us", micros(percentile(&whole, 0.50)));
    add("p99_us", micros(percentile(&whole, 0.99)));
    let machine = (tally.elapsed + 2 * SETTLE).as_secs_f64() * meter::processors() as f64;
    add("foreign_cpu_share", used.foreign.as_secs_f64() / machine);
    Ok(())
}

/// CPU time of everybody concerned.
struct Usage {
    target: Option<Cpu>,
    upstream: Cpu,
    generator: Cpu,
    machine: Duration,
}

/// What was used between two looks.
struct Used {
    target: Option<Duration>,
    upstream: Duration,
    generator: Duration,
    /// By programs that are none of these.
    foreign: Duration,
}

impl Usage {
    fn now(target: &Target, upstream: &Upstream) -> Result<Self, Error> {
        Ok(Self {
            target: target.pid().map(Cpu::of).transpose()?,
            upstream: Cpu::of(upstream.pid())?,
            generator: Cpu::of(std::process::id())?,
            machine: meter::machine_busy()?,
        })
    }

    fn since(&self, before: &Self) -> Used {
        let target = self.target.zip(before.target).map(|(now, then)| now.since(&then));
        let upstream = self.upstream.since(&before.upstream);
        let generator = self.generator.since(&before.generator);
        let ours = target.unwrap_or_default() + upstream + generator;
        let foreign = self.machine.saturating_sub(before.machine).saturating_sub(ours);
        Used { target, upstream, generator, foreign }
    }
}

impl Used {
    /// Adds the figures per piece of work, under the names of the target's, the upstream's and the generator's.
    fn report(&self, kind: Kind, pieces: f64, names: [&'static str; 3], add: &mut impl FnMut(&'static str, f64)) {
        debug_assert_eq!(self.target.is_none(), kind == Kind::Direct);
        for (name, time) in names.into_iter().zip([self.target, Some(self.upstream), Some(self.generator)]) {
            if let Some(time) = time {
                add(name, time.as_secs_f64() * 1e6 / pieces);
            }
        }
    }
}

fn sorted(tally: &Tally, time: impl Fn(&crate::client::Times) -> Duration) -> Vec<Duration> {
    let mut times: Vec<_> = tally.answers.iter().map(time).collect();
    times.sort_unstable();
    times
}

/// The least time that `share` of the answers did not exceed. Exact: every answer was kept.
fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}
