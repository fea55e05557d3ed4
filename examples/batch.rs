//! A thousand prompts, thirty-two at a time, with a bar that shows how far it is. What fails is kept beside what does not.
//!
//! `cargo run --example batch`

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example prints what it got")]

use std::io::{IsTerminal as _, stderr};

use sluicegate::{ChatRequest, Gateway};

const PROMPTS: usize = 1000;
const AT_ONCE: usize = 32;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gateway = Gateway::from_env()?;

    // Any iterator will do: of a file's lines, for instance. It is asked for the next one when there is room for it.
    let requests = (0..PROMPTS).map(|number| {
        let model = if number % 250 == 249 { "sim/fail-400" } else { "sim/echo+slow-5ms" };
        ChatRequest::new(model, format!("Prompt {number}"))
    });

    let mut answers = vec![None; PROMPTS];
    let mut failures = Vec::new();
    let mut bar = Bar::new(PROMPTS);
    // As they come, each with the number of its request; `map_ordered` gives them in the order of the requests.
    for (number, reply) in gateway.map_unordered(requests, AT_ONCE) {
        match reply {
            Ok(reply) => answers[number] = Some(reply.text().to_owned()),
            Err(error) => failures.push((number, error)),
        }
        bar.step();
    }
    bar.finish();

    let answered = answers.iter().flatten().count();
    println!("{answered} answered, {} failed", failures.len());
    for (number, error) in &failures {
        println!("prompt {number}: {error}");
    }

    assert_eq!((answered, failures.len()), (996, 4));
    assert_eq!(answers[7].as_deref(), Some("Prompt 7"));
    Ok(())
}

/// A line on standard error that grows; nothing at all where that is no terminal.
struct Bar {
    whole: usize,
    done: usize,
    shown: bool,
}

impl Bar {
    const WIDTH: usize = 40;

    fn new(whole: usize) -> Self {
        Self { whole, done: 0, shown: stderr().is_terminal() }
    }

    fn step(&mut self) {
        let filled = |done| done * Self::WIDTH / self.whole;
        let grows = filled(self.done) < filled(self.done + 1);
        self.done += 1;
        if self.shown && grows {
            let (done, whole, full) = (self.done, self.whole, "#".repeat(filled(self.done)));
            eprint!("\r[{full:<width$}] {done}/{whole}", width = Self::WIDTH);
        }
    }

    fn finish(self) {
        if self.shown {
            eprintln!();
        }
    }
}
