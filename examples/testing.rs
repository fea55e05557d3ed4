//! How to test a program of yours: a script stands in the model's place, so that its answers, its failures and what it was
//! asked are the test's to decide. No key, no network, no waiting.
//!
//! `cargo run --example testing` runs the program, `cargo test --example testing` its tests.

#![expect(clippy::print_stdout, reason = "an example prints what it got")]

use sluicegate::{ChatRequest, Gateway, Result};

/// Sorts a text into one of the classes; a model that says something else is asked once more.
fn classify<'a>(gateway: &Gateway, model: &str, text: &str, classes: &[&'a str]) -> Result<Option<&'a str>> {
    let question = format!("Which of {} is this? Say only that.\n\n{text}", classes.join(", "));
    let request = ChatRequest::new(model, question).with("temperature", 0);
    for _ in 0..2 {
        let reply = gateway.chat(&request)?;
        let said = reply.text().trim().to_lowercase();
        if let Some(class) = classes.iter().find(|class| **class == said) {
            return Ok(Some(class));
        }
    }
    Ok(None)
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let gateway = Gateway::from_env()?;
    // The simulated model repeats the question, which is no class.
    let class = classify(&gateway, "sim/echo", "Where is my parcel?", &["question", "praise"])?;
    println!("{class:?}");
    assert_eq!(class, None);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sluicegate::Code;
    use sluicegate::testing::{Canned, Script};

    use super::*;

    /// A gateway whose only provider, `model`, answers by the script.
    fn gateway(script: &Script) -> Gateway {
        Gateway::builder().transport("model", Arc::new(script.clone())).build().expect("nothing to go wrong")
    }

    #[test]
    fn an_answer_that_is_no_class_is_asked_for_once_more() {
        let script = Script::new().then(Canned::text("Hm.")).then(Canned::text(" Praise\n"));
        let class = classify(&gateway(&script), "model/any", "Well done!", &["question", "praise"]);
        assert_eq!(class.expect("it answers"), Some("praise"));

        let asked = script.requests();
        assert_eq!((asked.len(), asked[0].model(), &asked[0].body["temperature"]), (2, "any", &0.into()));
    }

    #[test]
    fn a_refusal_is_passed_on() {
        let script = Script::new().then(Canned::error(400, "that is too long"));
        let error = classify(&gateway(&script), "model/any", "…", &["question"]).expect_err("it is refused");
        assert_eq!((error.code(), error.status()), (Code::UpstreamError, 400));
        assert!(error.message().contains("too long"));
    }

    #[test]
    fn a_provider_in_trouble_is_asked_again() {
        let script = Script::new().then(Canned::error(503, "overloaded")).then(Canned::text("question"));
        let class = classify(&gateway(&script), "model/any", "Why?", &["question"]);
        assert_eq!((class.expect("the gateway tries again"), script.left()), (Some("question"), 0));
    }
}
