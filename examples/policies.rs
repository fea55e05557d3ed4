//! What becomes of a request that finds no place: the four policies side by side, on providers of one worker and two places.
//!
//! `cargo run --example policies`

#![expect(clippy::print_stdout, reason = "an example prints what it got")]

use std::thread;
use std::time::Duration;

use sluicegate::{ChatRequest, Concurrency, Gateway, Policy, ProviderSetup};

/// Each on a provider of its name.
const POLICIES: [(&str, Policy); 4] = [
    // Waits for a place, as long as `wait_timeout` allows: for batch jobs, where nobody is in a hurry.
    ("block", Policy::Block),
    // Refuses at once, with a hint when to come again: for callers that can go elsewhere.
    ("error", Policy::Error),
    // Sheds at once, and a chain of fallbacks ends there: for load that is worth nothing when it comes late.
    ("drop", Policy::Drop),
    // Sheds who has waited longest: for callers who want the newest answer only.
    ("drop_oldest", Policy::DropOldest),
];

const CALLS: u64 = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let small =
        |(name, policy)| ProviderSetup::sim(name).concurrency(Concurrency::fixed(1)).buffer_size(2).policy(policy);
    let gateway = POLICIES
        .map(small)
        .into_iter()
        .fold(Gateway::builder(), |builder, provider| builder.provider(provider))
        .build()?;

    let mut all = Vec::new();
    for (name, _) in POLICIES {
        let outcomes = outcomes(&gateway, name)?;
        println!("{name:>11}: {}", outcomes.join(", "));
        all.push(outcomes);
    }

    let [answered, full, dropped] = ["answered", "queue_full", "request_dropped"];
    assert_eq!(all[0], [answered; 5]);
    assert_eq!(all[1], [answered, answered, full, full, full]);
    assert_eq!(all[2], [answered, answered, dropped, dropped, dropped]);
    assert_eq!(all[3], [dropped, dropped, dropped, answered, answered]);
    Ok(())
}

/// What five calls come to, one after the other, while the only worker is busy.
fn outcomes(gateway: &Gateway, provider: &str) -> Result<Vec<&'static str>, Box<dyn std::error::Error>> {
    // An open stream keeps the worker.
    let busy = gateway.chat_stream(&ChatRequest::new(format!("{provider}/lorem-1000+gap-50ms"), "Hello"))?;
    Ok(thread::scope(|scope| {
        let calls: Vec<_> = (1..=CALLS)
            .map(|number| {
                let call = scope.spawn(move || match gateway.ask(&format!("{provider}/echo"), "Hello") {
                    Ok(_) => "answered",
                    Err(error) => error.code().as_str(),
                });
                // The next one comes when this one has: the stream was the first that was submitted.
                while gateway.stats().providers[provider].queue.submitted_total <= number {
                    thread::park_timeout(Duration::from_millis(1));
                }
                call
            })
            .collect();
        // The worker is free again, and those who still wait get their answers.
        drop(busy);
        calls.into_iter().map(|call| call.join().expect("no call panics")).collect()
    }))
}
