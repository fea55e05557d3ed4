//! One call: three blocking lines, no server, no runtime, no key.
//!
//! `cargo run --example one_call`. With `OPENAI_API_KEY` set, `openai/gpt-4o-mini` works in place of `sim/echo`.

#![expect(clippy::print_stdout, reason = "an example prints what it got")]

use sluicegate::Gateway;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gateway = Gateway::from_env()?;
    let answer = gateway.ask("sim/echo", "Hello from a plain thread")?;
    println!("{answer}");

    assert_eq!(answer, "Hello from a plain thread");
    Ok(())
}
