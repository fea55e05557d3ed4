//! When a model fails: names of your own for models, with others behind them that take over, and what an error tells if
//! nothing helped.
//!
//! `cargo run --example fallbacks`

#![expect(clippy::print_stdout, reason = "an example prints what it got")]

use std::time::Duration;

use sluicegate::error::{Origin, Retry};
use sluicegate::{AliasSetup, ChatRequest, Code, Gateway, ProviderSetup, Strategy};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let quick = Duration::from_millis(10);
    let gateway = Gateway::builder()
        .provider(ProviderSetup::sim("first").max_retries(1).retry_backoff(quick, quick))
        .provider(ProviderSetup::sim("second"))
        // A model that is always overloaded, then one that resets each connection, then one that answers.
        .alias(
            AliasSetup::new("smart", "first/fail-503")
                .target("first/reset")
                .strategy(Strategy::Order)
                .fallback("second/echo"),
        )
        .build()?;

    // The caller sees the answer alone.
    let answer = gateway.ask("smart", "Who is there?")?;
    println!("{answer}");

    // Unless it asks who it was.
    let reply = gateway.chat(&ChatRequest::new("smart", "Who is there?"))?;
    let served = reply.served();
    println!("{} ({}/{} after {} attempts)", reply.text(), served.provider, served.model, served.attempts);

    // Without an alias, a request names its fallbacks itself. This one has none that works.
    let request = ChatRequest::new("first/fail-503", "Hello").with_fallback("second/fail-500");
    let error = gateway.chat(&request).expect_err("both fail");
    println!("{error}");
    for attempt in error.attempts() {
        println!(
            "  {}/{}: {} {:?} in {} ms",
            attempt.provider, attempt.model, attempt.outcome, attempt.status, attempt.ms
        );
    }

    assert_eq!((answer.as_str(), reply.text()), ("Who is there?", "Who is there?"));
    assert_eq!((&*served.provider, served.fallbacks), ("second", 2));
    // A chain that fails ends with its first target's error: the provider's own, so that another try may help.
    assert_eq!((error.code(), error.status(), error.origin()), (Code::UpstreamError, 503, Origin::Provider));
    assert_ne!(error.retry(), Retry::No);
    Ok(())
}
