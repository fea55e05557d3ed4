//! The yardstick: what a request costs through the gateway, through nginx, and with nothing in between, in one run.
//!
//! ```text
//! cargo bench --bench yardstick                      three rounds of three seconds a stage, about four minutes
//! cargo bench --bench yardstick -- --quick           one round of one second a stage: a look, not a result
//! cargo bench --bench yardstick -- --rounds 5 --secs 2 --targets direct,nginx --gateway PATH
//! ```
//! JSON goes to standard output, a table to standard error. A wrong answer, a closed connection or ten seconds of
//! silence ends the run with exit code 1: there are no figures of a path that does not work.
//!
//! **What runs.** This program starts itself again as the upstream (`upstream`: a thread per connection, fixed answers),
//! starts the gateway's release binary and nginx (`targets`), and is the load generator itself (`load`: one thread on
//! epoll). Every target sends the same bytes to the same upstream, and every answer is compared with what the upstream
//! is known to send, byte for byte (`client`, `fixture`).
//!
//! **How to read it.** Generator, upstream and target share the same processors, so requests per second and latency
//! are those of the whole arrangement: on two processors the generator and the upstream take more than half of both.
//! CPU per request is the target's own (`meter` says how it is counted and how exactly), but caches and clock speed are
//! shared, so that figure moves with the machine's mood too. What counts are the ratios to nginx: in each stage the
//! targets take turns in slices of less than a second, a ratio is made within its round, and the median of the rounds is
//! what is reported. `foreign_cpu_share` tells which part of the machine others used meanwhile: past a tenth or so, do
//! it again.
//!
//! **Stages.** `closed_1`, `closed_32`: a connection sends its next request as soon as it has its answer. `open_500`:
//! 500 requests a second at times fixed beforehand, in turn over 32 connections, so that each rests 64 ms between two
//! of its requests as real clients do; latency counts from the time that was fixed, so a stall is charged to every
//! request that it delayed. `stream_1`, `stream_32`: whole streams, 202 events each, as fast as the upstream can send
//! them, so that a reader finds many at once and CPU per event is that of bulk; `stream_paced_16`: 16 streams whose
//! events come about 2.5 ms apart, each of which then costs a wake-up of its own, as a real model's do.
//!
//! Times are microseconds but for `_ms`, memory is in millions of bytes. `start_to_first_answer_ms` runs from before the
//! program is started, over `/readyz` (the gateway) or the first connection (nginx), to the end of a whole answer;
//! `rss_at_rest_mb` is read half a second later, `rss_peak_mb` after the last stage.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the bench is a program of its own: it reads the clock, sleeps, starts threads and prints, and none of the \
              library's rules on these would make its figures better"
)]

#[path = "yardstick/client.rs"]
mod client;
#[path = "yardstick/fixture.rs"]
mod fixture;
#[path = "yardstick/load.rs"]
mod load;
#[path = "yardstick/meter.rs"]
mod meter;
#[path = "yardstick/report.rs"]
mod report;
#[path = "yardstick/stages.rs"]
mod stages;
#[path = "yardstick/targets.rs"]
mod targets;
#[path = "yardstick/upstream.rs"]
mod upstream;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use report::Report;
use targets::{Kind, Target, Upstream};

/// Why the run ended: told as text, since nothing is decided by it.
type Error = Box<dyn std::error::Error>;

/// What the arguments ask for.
struct Options {
    rounds: usize,
    /// How long one stage of one target is measured in a round.
    measured: Duration,
    targets: Vec<Kind>,
    gateway: PathBuf,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Error> {
        let mut options = Self {
            rounds: 3,
            measured: Duration::from_secs(3),
            targets: vec![Kind::Direct, Kind::Nginx, Kind::Gateway],
            gateway: PathBuf::from(env!("CARGO_BIN_EXE_sluicegate")),
        };
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "--bench" => {}
                "--quick" => (options.rounds, options.measured) = (1, Duration::from_secs(1)),
                "--rounds" => options.rounds = value()?.parse::<usize>()?.max(1),
                "--secs" => options.measured = Duration::try_from_secs_f64(value()?.parse()?)?,
                "--gateway" => options.gateway = PathBuf::from(value()?),
                "--targets" => {
                    options.targets = value()?.split(',').map(Kind::parse).collect::<Result<_, _>>()?;
                }
                _ => return Err(format!("unknown option {name}: see the head of benches/yardstick.rs").into()),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    let done = match args.peek().map(String::as_str) {
        Some(targets::ROLE_UPSTREAM) => upstream::run(),
        Some(targets::ROLE_HELD) => targets::run_held(args.skip(1)),
        // `cargo test --benches` starts every bench with no argument: that asks whether it builds, not for four minutes.
        None => {
            eprintln!("yardstick: nothing measured; run `cargo bench --bench yardstick`");
            Ok(())
        }
        Some(_) => Options::parse(args).and_then(|options| measure(&options)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("yardstick: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all rounds and prints both forms of the result.
fn measure(options: &Options) -> Result<(), Error> {
    let mut kinds = options.targets.clone();
    let nginx = targets::find_nginx();
    if nginx.is_none() && kinds.contains(&Kind::Nginx) {
        eprintln!("yardstick: nginx is not installed (apt-get install nginx-light): no ratios to it in this run");
        kinds.retain(|kind| *kind != Kind::Nginx);
    }
    let folder = tempfile::tempdir()?;
    let upstream = Upstream::start(folder.path())?;
    let mut report = Report::new(nginx.as_deref(), options.rounds, options.measured);

    for round in 0..options.rounds {
        let mut running = Vec::new();
        for kind in &kinds {
            let target = Target::start(*kind, upstream.addr(), folder.path(), nginx.as_deref(), &options.gateway)?;
            stages::at_start(&target, &mut report)?;
            running.push(target);
        }
        // Nobody is always first: what the one before leaves behind (warm caches, a busy host) is shared out.
        running.rotate_left(round % kinds.len().max(1));
        for stage in stages::ALL {
            stages::run(stage, &running, &upstream, options.measured, &mut report)?;
        }
        for target in running {
            stages::at_end(&target, &mut report)?;
            target.stop()?;
        }
        report.close_round();
        eprintln!("yardstick: round {} of {} done", round + 1, options.rounds);
    }
    eprint!("{}", report.table());
    println!("{}", serde_json::to_string_pretty(&report.json())?);
    Ok(())
}
