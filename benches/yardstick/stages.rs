//! The stages: which load, and which figures are taken of it.
//!
//! A stage is cut into slices, in which the targets take turns. A slice runs to its last answer before the CPU is read,
//! after a warm-up on the same connections that ran to its last answer too: what is counted is exactly what these
//! requests cost, the targets' afterwork included.

use std::thread;
use std::time::{Duration, Instant};

use crate::Error;
use crate::client::Times;
use crate::fixture::{Ask, EVENTS};
use crate::load::{Load, Tally};
use crate::meter::{self, Cpu};
use crate::report::{FOREIGN, Report};
use crate::targets::{Target, Upstream};

/// How long a target is left alone before its memory at rest is read.
const REST: Duration = Duration::from_millis(500);

/// How long everybody is left alone before a slice and after it.
const SETTLE: Duration = Duration::from_millis(30);

/// Into how many slices a stage is cut. With few processors the kernel may put two threads that talk to each other on
/// one of them or on two and leave them there for seconds, which changes a round trip twofold: each slice asks again.
const SLICES: u32 = 4;

/// What a slice begins with, not counted.
const WARM_UP: Duration = Duration::from_millis(100);

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

/// Runs a stage against all targets by turns, a slice at a time, and takes its figures.
pub(crate) fn run(
    stage: &Stage,
    targets: &[Target],
    upstream: &Upstream,
    measured: Duration,
    report: &mut Report,
) -> Result<(), Error> {
    let scripts: Vec<_> = targets.iter().map(|target| target.script(stage.ask)).collect();
    let mut runs = Vec::new();
    for (target, script) in targets.iter().zip(&scripts) {
        let load = Load::new(target.addr, script, stage.connections).map_err(|error| target.blame(error))?;
        runs.push(Run { stage, target, load, tally: Tally::default(), used: Used::default() });
    }
    for _ in 0..SLICES {
        for run in &mut runs {
            run.slice(upstream, measured / SLICES)
                .map_err(|error| run.target.blame(format!("{}: {error}", stage.name)))?;
        }
    }
    for run in &runs {
        run.report(report);
    }
    Ok(())
}

/// A stage against one target.
struct Run<'a> {
    stage: &'a Stage,
    target: &'a Target,
    load: Load<'a>,
    tally: Tally,
    used: Used,
}

impl Run<'_> {
    fn slice(&mut self, upstream: &Upstream, time: Duration) -> Result<(), Error> {
        self.go(WARM_UP)?;
        thread::sleep(SETTLE);
        let before = Usage::now(self.target, upstream)?;
        let tally = self.go(time)?;
        thread::sleep(SETTLE);
        self.used.add(&Usage::now(self.target, upstream)?, &before);
        self.tally.answers.extend(tally.answers);
        self.tally.elapsed += tally.elapsed;
        Ok(())
    }

    fn go(&mut self, time: Duration) -> Result<Tally, Error> {
        match self.stage.pace {
            Pace::Closed => self.load.closed(time),
            Pace::Open { rate } => self.load.open(rate, time),
        }
    }

    fn report(&self, report: &mut Report) {
        let mut add = |metric, value| report.add(self.target.kind, self.stage.name, metric, value);
        let answers = self.tally.answers.len() as f64;
        let per_second = |pieces: f64| pieces / self.tally.elapsed.as_secs_f64();
        let (whole, first) = (sorted(&self.tally, |times| times.whole), sorted(&self.tally, |times| times.first));
        if let Ask::Stream { .. } = self.stage.ask {
            let events = answers * EVENTS as f64;
            let names = ["cpu_us_per_event", "upstream_cpu_us_per_event", "generator_cpu_us_per_event"];
            self.used.report(events, names, &mut add);
            add("events_per_second", per_second(events));
            add("first_token_p50_us", micros(percentile(&first, 0.50)));
            add("first_token_p99_us", micros(percentile(&first, 0.99)));
        } else {
            let names = ["cpu_us_per_request", "upstream_cpu_us_per_request", "generator_cpu_us_per_request"];
            self.used.report(answers, names, &mut add);
            add("requests_per_second", per_second(answers));
        }
        add("p50_us", micros(percentile(&whole, 0.50)));
        add("p99_us", micros(percentile(&whole, 0.99)));
        add(FOREIGN, self.used.foreign_share());
    }
}

/// What everybody concerned has used until now.
struct Usage {
    at: Instant,
    target: Option<Cpu>,
    upstream: Cpu,
    generator: Cpu,
    /// Of the whole machine.
    busy: Duration,
}

impl Usage {
    fn now(target: &Target, upstream: &Upstream) -> Result<Self, Error> {
        Ok(Self {
            at: Instant::now(),
            target: target.pid().map(Cpu::of).transpose()?,
            upstream: Cpu::of(upstream.pid())?,
            generator: Cpu::of(std::process::id())?,
            busy: meter::machine_busy()?,
        })
    }
}

/// What was used while it was measured, over all slices.
#[derive(Default)]
struct Used {
    elapsed: Duration,
    /// `None` if nothing stands between generator and upstream.
    target: Option<Duration>,
    upstream: Duration,
    generator: Duration,
    busy: Duration,
}

impl Used {
    fn add(&mut self, now: &Usage, then: &Usage) {
        self.elapsed += now.at - then.at;
        if let Some((now, then)) = now.target.zip(then.target) {
            *self.target.get_or_insert_default() += now.since(&then);
        }
        self.upstream += now.upstream.since(&then.upstream);
        self.generator += now.generator.since(&then.generator);
        self.busy += now.busy.saturating_sub(then.busy);
    }

    /// Adds the figures per piece of work, under the names of the target's, the upstream's and the generator's.
    fn report(&self, pieces: f64, names: [&'static str; 3], add: &mut impl FnMut(&'static str, f64)) {
        for (name, time) in names.into_iter().zip([self.target, Some(self.upstream), Some(self.generator)]) {
            if let Some(time) = time {
                add(name, micros(time) / pieces);
            }
        }
    }

    /// The part of the machine that programs which are none of these took meanwhile.
    fn foreign_share(&self) -> f64 {
        let ours = self.target.unwrap_or_default() + self.upstream + self.generator;
        let machine = self.elapsed.as_secs_f64() * meter::processors() as f64;
        self.busy.saturating_sub(ours).as_secs_f64() / machine
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn sorted(tally: &Tally, time: impl Fn(&Times) -> Duration) -> Vec<Duration> {
    let mut times: Vec<_> = tally.answers.iter().map(time).collect();
    times.sort_unstable();
    times
}

/// The least time that `share` of the answers did not exceed. Exact: every answer was kept.
fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}
