//! Several threads on one gateway: each calls as if it were alone, and the provider's queue lets them through in order.
//!
//! `cargo run --example threads`

#![expect(clippy::print_stdout, reason = "an example prints what it got")]

use std::thread;

use sluicegate::Gateway;

const CALLERS: usize = 32;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gateway = Gateway::from_env()?;

    // A gateway can be lent to threads as it is. It can be cloned as well, for those that outlive their maker: all clones
    // are one gateway, with the same workers, queues and figures.
    let answers = thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|number| {
                let gateway = gateway.clone();
                scope.spawn(move || gateway.ask("sim/echo+slow-50ms", &format!("I am thread {number}")))
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().expect("no caller panics")).collect::<Result<Vec<_>, _>>()
    })?;

    // Each got its own answer, never a neighbour's.
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(*answer, format!("I am thread {number}"));
    }

    let stats = gateway.stats();
    let sim = &stats.providers["sim"];
    println!(
        "{} callers answered by {} workers, at most {} waited at once",
        answers.len(),
        sim.workers.active,
        sim.queue.high_water
    );
    assert_eq!(stats.requests.succeeded_total, CALLERS as u64);
    Ok(())
}
