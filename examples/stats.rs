//! What a gateway knows of itself: typed figures, the same as JSON, and the last events.
//!
//! `cargo run --example stats`

#![expect(clippy::print_stdout, reason = "an example prints what it got")]

use sluicegate::{Code, Gateway};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gateway = Gateway::from_env()?;

    // Something to look at: three answers, one failure of the provider's, one mistake of ours.
    for word in ["one", "two", "three"] {
        gateway.ask("sim/echo+slow-20ms", word)?;
    }
    let failure = gateway.ask("sim/fail-400", "Hello").expect_err("it always fails");
    let mistake = gateway.ask("simm/echo", "Hello").expect_err("there is no such provider");
    assert_eq!((failure.code(), mistake.code()), (Code::UpstreamError, Code::ModelNotFound));

    // A snapshot costs some microseconds and holds nobody up. Counters end in `_total` and only grow.
    let stats = gateway.stats();
    let requests = &stats.requests;
    println!(
        "{} requests: {} succeeded, {} failed, {} under way",
        requests.received_total, requests.succeeded_total, requests.failed_total, requests.in_flight
    );
    for (code, count) in &stats.errors {
        println!("  {code}: {count}");
    }

    // Times are distributions, in microseconds: a count, a mean and percentiles.
    for (name, provider) in &stats.providers {
        let (queue, jobs) = (&provider.queue, &provider.jobs);
        println!(
            "{name}: {} workers, {} of {} places in the queue taken, waited {} µs, served in {} µs (medians)",
            provider.workers.active, queue.depth, queue.capacity, queue.wait_us.p50, jobs.service_us.p50
        );
        println!("  {} tokens in, {} out, {} retries", jobs.tokens_in_total, jobs.tokens_out_total, jobs.retries_total);
    }

    // What happened, oldest first: phases, scaling, breakers, panics, reloads.
    for event in gateway.events().list() {
        println!("event: {} {}: {}", event.kind, event.subject, event.message);
    }

    // The same as `GET /stats` says, for whoever collects JSON.
    let json = serde_json::to_value(&stats)?;
    assert_eq!(json["requests"]["succeeded_total"], 3);
    assert_eq!((requests.received_total, requests.failed_total), (5, 2));
    let sim = &stats.providers["sim"];
    assert_eq!(sim.queue.submitted_total, sim.queue.completed_total, "a name that leads nowhere is never submitted");
    assert!(sim.jobs.service_us.p50 >= 20_000, "{:?}", sim.jobs.service_us);
    Ok(())
}
