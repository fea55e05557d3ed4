//! A plugin of your own: it counts the words of each question and of each answer, whole or streamed, and adds a rule to the
//! conversation on the way.
//!
//! `cargo run --example plugin`

#![expect(clippy::print_stdout, reason = "an example prints what it got")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use sluicegate::plugin::{Context, Event, EventHook, Flow, Outcome, Plugin, PluginError, Request};
use sluicegate::{ChatRequest, Gateway};

#[derive(Default)]
struct Words {
    asked: AtomicU64,
    /// Shared with whatever looks at the events of a running stream.
    answered: Arc<AtomicU64>,
}

impl Plugin for Words {
    fn name(&self) -> &str {
        "words"
    }

    /// On the way to the provider. What is changed here counts once this returns `Ok`.
    fn pre(&self, request: &mut Request<'_>, _: &mut Context<'_>) -> Result<Flow, PluginError> {
        let Some(messages) = request.json_mut().and_then(|body| body["messages"].as_array_mut()) else {
            return Ok(Flow::Continue); // Embeddings, for instance, have no messages.
        };
        let words = messages.iter().map(|message| count(&message["content"])).sum();
        self.asked.fetch_add(words, Ordering::Relaxed);
        messages.insert(0, json!({ "role": "system", "content": "Be brief." }));
        Ok(Flow::Continue)
    }

    /// On the way back: the whole answer, or the end of a stream, whose events were seen one by one below.
    fn post(&self, outcome: &mut Outcome, _: &mut Context<'_>) -> Result<(), PluginError> {
        if let Some(text) = outcome.json().and_then(|body| body.pointer("/choices/0/message/content")) {
            self.answered.fetch_add(count(text), Ordering::Relaxed);
        }
        Ok(())
    }

    fn events(&self, _: &mut Context<'_>) -> Option<Box<dyn EventHook>> {
        Some(Box::new(StreamWords { answered: Arc::clone(&self.answered), text: String::new() }))
    }
}

/// Looks at one stream. A word may come in several pieces, so they are counted at the end.
struct StreamWords {
    answered: Arc<AtomicU64>,
    text: String,
}

impl EventHook for StreamWords {
    fn event(&mut self, event: &mut Event<'_>) -> Result<(), PluginError> {
        let piece = event.json().and_then(|data| data.pointer("/choices/0/delta/content")?.as_str());
        self.text.push_str(piece.unwrap_or_default());
        Ok(())
    }

    fn end(&mut self) -> Result<Vec<Value>, PluginError> {
        self.answered.fetch_add(self.text.split_whitespace().count() as u64, Ordering::Relaxed);
        Ok(Vec::new()) // No events of our own.
    }
}

fn count(content: &Value) -> u64 {
    content.as_str().map_or(0, |text| text.split_whitespace().count() as u64)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // An `Arc` of a plugin is one as well: that is how to keep an eye on it.
    let words = Arc::new(Words::default());
    let gateway = Gateway::builder().plugin(Arc::clone(&words)).build()?;

    gateway.ask("sim/echo", "Four words come back")?;
    for chunk in gateway.chat_stream(&ChatRequest::new("sim/lorem-9", "Three words here"))? {
        chunk?;
    }

    let (asked, answered) = (words.asked.load(Ordering::Relaxed), words.answered.load(Ordering::Relaxed));
    println!("{asked} words asked, {answered} words answered");
    let figures = &gateway.stats().plugins["words"];
    println!(
        "{} calls, {} errors, {} µs before each (median)",
        figures.calls_total, figures.errors_total, figures.pre_us.p50
    );

    assert_eq!((asked, answered), (7, 13));
    assert_eq!((figures.calls_total, figures.errors_total, figures.panics_total), (2, 0, 0));
    Ok(())
}
