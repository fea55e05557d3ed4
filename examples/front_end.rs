//! The front end inside a program of your own: the gateway that the program calls also answers HTTP, as `sluicegate serve`
//! does. Any OpenAI client reaches it by its base URL.
//!
//! `cargo run --example front_end`

#![expect(clippy::print_stdout, reason = "an example prints what it got")]

use std::time::Duration;

use sluicegate::Gateway;
use sluicegate::front::Front;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gateway = Gateway::from_env()?;

    // Port 0 takes whichever is free; `front.addr()` says which.
    let front = Front::start(&gateway, "127.0.0.1:0".parse()?)?;
    println!("base URL for any OpenAI client: http://{}/v1", front.addr());

    // Another program would do this, in whatever language.
    let answer = ureq::post(format!("http://{}/v1/chat/completions", front.addr()))
        .header("content-type", "application/json")
        .send(r#"{"model": "sim/echo", "messages": [{"role": "user", "content": "Hello over HTTP"}]}"#)?
        .body_mut()
        .read_to_string()?;
    let answer: serde_json::Value = serde_json::from_str(&answer)?;
    println!("{}", answer["choices"][0]["message"]["content"]);

    // The program's own calls take the short way, to the same workers and figures.
    let own = gateway.ask("sim/echo", "Hello from inside")?;
    println!("{own}");

    // The end, in this order: no new connection, then the requests, then the connections that are left.
    front.stop_accepting();
    let report = gateway.shutdown(Duration::from_secs(5));
    let stragglers = front.shutdown(Duration::from_secs(5));

    assert_eq!(answer["choices"][0]["message"]["content"], "Hello over HTTP");
    assert_eq!(gateway.stats().requests.succeeded_total, 2);
    assert!(report.stragglers.is_empty() && stragglers.is_empty(), "{report:?} {stragglers:?}");
    Ok(())
}
