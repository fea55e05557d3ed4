//! Every attack against the gateway's binary, as a table: sent, answered, the most threads, descriptors and memory held
//! meanwhile, and the time until it serves and is back where it was (P2, P3, P15).
//!
//! ```text
//! cargo build --release && cargo bench --bench attacks          full size, about two minutes
//! cargo bench --bench attacks -- --quick                        a tenth of it
//! cargo bench --bench attacks -- idle                           those whose name has the word
//! ```
//! The table goes to standard output; exit code 1 if a promise was broken. Both sides run on the same processors.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the bench is a program of its own: it prints")]

#[path = "attacks/mod.rs"]
mod attacks;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use attacks::{ATTACKS, Size};

/// What is promised, for as many as are promised.
const FULL: Size = Size {
    idle: 10_000,
    slow: 2_000,
    pipelined: 200_000,
    limit: Duration::from_secs(2),
    thread_idle: Duration::from_secs(2),
    slack: 1,
};

const QUICK: Size = Size { idle: 1_000, slow: 200, pipelined: 20_000, limit: Duration::from_millis(500), ..FULL };

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let size = if words.iter().any(|word| word == "--quick") { QUICK } else { FULL };
    let named: Vec<_> = words.iter().filter(|word| !word.starts_with("--")).collect();
    let program = Path::new(env!("CARGO_BIN_EXE_sluicegate"));
    let mut held = true;
    println!(
        "| attack | sent | answer | threads base/peak/after | descriptors | RSS MB | serving after | back at base after |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for attack in ATTACKS.iter().filter(|attack| named.is_empty() || named.iter().any(|n| attack.name.contains(*n))) {
        match attacks::run(attack, program, &size) {
            Ok(outcome) => {
                println!("{}", outcome.row(attack.name));
                for broken in &outcome.broken {
                    eprintln!("BROKEN: {}: {broken}", attack.name);
                }
                held &= outcome.broken.is_empty();
            }
            Err(error) => {
                println!("| {} | | BROKEN: {error} | | | | | |", attack.name);
                held = false;
            }
        }
    }
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
