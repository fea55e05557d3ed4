//! The vectors of some texts, and which of them is nearest to another.
//!
//! `cargo run --example embeddings`. With `OPENAI_API_KEY` set, `openai/text-embedding-3-small` works in place of the
//! simulated model, whose vectors know equal texts and nothing of what they mean.

#![expect(clippy::print_stdout, reason = "an example prints what it got")]

use sluicegate::{EmbedRequest, Gateway};

const TEXTS: [&str; 3] = ["a gate in a weir", "a lock on a canal", "a cat on a mat"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gateway = Gateway::from_env()?;
    let known = gateway.embed(&EmbedRequest::new("sim/echo", TEXTS))?;
    let asked = gateway.embed(&EmbedRequest::new("sim/echo", ["a lock on a canal"]))?;

    // The vectors have length 1: their product is the cosine of the angle between them.
    let likeness = |vector: &Vec<f32>| -> f32 { vector.iter().zip(&asked.vectors[0]).map(|(a, b)| a * b).sum() };
    let found: Vec<_> = TEXTS.iter().zip(known.vectors.iter().map(likeness)).collect();
    for (text, likeness) in &found {
        println!("{likeness:5.2}  {text}");
    }

    let nearest = found.iter().max_by(|one, other| one.1.total_cmp(&other.1)).expect("there are some");
    assert_eq!(*nearest.0, "a lock on a canal");
    assert!((nearest.1 - 1.0).abs() < 0.01, "{nearest:?}");
    Ok(())
}
