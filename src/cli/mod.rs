//! The commands of the binary: arguments in, results on stdout, logs on stderr, an exit code out.
//!
//! Everything that concerns the whole process lives here and nowhere in the library: signals, limits, the logger.

mod args;
mod bench;
mod chat;
mod check;
mod client;
mod completions;
mod demo;
mod help;
mod journal;
mod manual;
mod output;
mod plan;
mod planes;
mod process;
mod scheduling;
mod selftest;
mod serve;
mod sim;
mod stats;
mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};
pub use output::Failure;

/// Runs the command line; the first of `args` is the program's name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            // Help and version are results; everything else is bad usage.
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    journal::start(args.log_format);
    process::keep_memory_private();
    let outcome = match args.command {
        Command::Serve(command) => serve::run(&command),
        Command::Chat(command) => chat::run(&command),
        Command::Demo => demo::run(),
        Command::Selftest(command) => selftest::run(&command),
        Command::Sim(command) => sim::run(&command),
        Command::Stats(command) => stats::run(&command),
        Command::Check(command) => check::run(&command),
        Command::Plan(command) => plan::run(&command),
        Command::Bench(command) => bench::run(&command),
        Command::Completions(command) => completions::run(&command),
        Command::Man => manual::run(),
    };
    let code = output::exit_code(outcome);
    journal::flush();
    code
}
