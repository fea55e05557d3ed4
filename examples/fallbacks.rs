//! When a model fails: names of your own for models, with others behind them that take over, and what an error tells if
//! nothing helped.
//!
//! `cargo run --example fallbacks`

#![expect(clippy::print_stdout, reason = "an example prints what it got")]

use sluicegate::error::{Origin, Retry};
use sluicegate::{ChatRequest, Code, Config, Gateway};

/// The alias `smart` means a provider that is down, then one that refuses connections halfway, then one that answers.
const CONFIG: &str = r#"{
  "providers": {
    "first": { "kind": "sim", "network_config": { "max_retries": 1, "retry_backoff_initial": "10ms" } },
    "second": { "kind": "sim" }
  },
  "aliases": {
    "smart": {
      "targets": [{ "model": "first/fail-503" }, { "model": "first/reset" }],
      "strategy": "order",
      "fallbacks": ["second/echo"]
    }
  }
}"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gateway = Gateway::builder().config(Config::from_json(CONFIG, &sluicegate::config::process_env)?).build()?;

    // The caller sees the answer alone.
    let answer = gateway.ask("smart", "Who is there?")?;
    println!("{answer}");

    // The stream that answers says who it was.
    let mut stream = gateway.chat_stream(&ChatRequest::new("smart", "Who is there?"))?;
    let text: String =
        stream.by_ref().map(|chunk| chunk.map(|chunk| chunk.text().to_owned())).collect::<Result<_, _>>()?;
    let served = stream.served().expect("known once a chunk has come");
    println!("{text} ({}/{} after {} attempts)", served.provider, served.model, served.attempts);

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

    assert_eq!((answer.as_str(), text.as_str()), ("Who is there?", "Who is there?"));
    assert_eq!((&*served.provider, served.fallbacks), ("second", 2));
    // A chain that fails ends with its first target's error: the provider's own, so that another try may help.
    assert_eq!((error.code(), error.status(), error.origin()), (Code::UpstreamError, 503, Origin::Provider));
    assert_ne!(error.retry(), Retry::No);
    Ok(())
}
