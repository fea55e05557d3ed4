//! A provider of your own: some questions are answered in the process, the others go on to a model.
//!
//! `cargo run --example custom_provider`

#![expect(clippy::print_stdout, reason = "an example prints what it got")]

use std::collections::HashMap;

use sluicegate::custom::{CallContext, ChunkIter, CustomProvider, ProviderError};
use sluicegate::{AliasSetup, ChatChunk, ChatRequest, Concurrency, Gateway, Message, ProviderReply, ProviderSetup};

/// What is asked often, and what is answered to it.
struct Faq(HashMap<&'static str, &'static str>);

impl Faq {
    fn find(&self, request: &ChatRequest) -> Result<&'static str, ProviderError> {
        let question = request.messages.last().map(Message::text).unwrap_or_default();
        // By its status and code the gateway judges an error, as it does with every provider's: this one says that the
        // next model is to be tried. A 503 would be tried again first, and a 400 nowhere.
        let unknown = || ProviderError::new(404, "not asked often enough").with_code("model_not_found");
        self.0.get(question).copied().ok_or_else(unknown)
    }
}

/// Its methods run on the provider's own workers, behind its queue, limits and breaker, and may block there.
impl CustomProvider for Faq {
    fn chat(&self, request: &ChatRequest, _: &CallContext<'_>) -> Result<ProviderReply, ProviderError> {
        Ok(ProviderReply::text(self.find(request)?))
    }

    /// Without this, a stream has the whole answer as its only piece.
    fn chat_stream(&self, request: &ChatRequest, _: &CallContext<'_>) -> Result<ChunkIter, ProviderError> {
        let words = self.find(request)?.split_inclusive(' ');
        Ok(Box::new(words.map(|word| Ok(ChatChunk::from_text(word)))))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let faq = Faq(HashMap::from([("What is a sluice gate?", "A gate that lets water through as it can be borne.")]));
    let gateway = Gateway::builder()
        .custom_provider("faq", faq)
        .provider(ProviderSetup::custom("faq").concurrency(Concurrency::fixed(2)))
        .provider(ProviderSetup::sim("sim"))
        .alias(AliasSetup::new("help", "faq/any").fallback("sim/lorem-5"))
        .build()?;

    let mut pieces = Vec::new();
    for chunk in gateway.chat_stream(&ChatRequest::new("help", "What is a sluice gate?"))? {
        pieces.push(chunk?.text().to_owned());
    }
    println!("{}", pieces.concat());

    let reply = gateway.chat(&ChatRequest::new("help", "What is the meaning of it?"))?;
    println!("{} ({})", reply.text(), reply.served().provider);

    // Its figures are like any provider's.
    let faq = &gateway.stats().providers["faq"];
    println!("{} answered, {} passed on", faq.jobs.succeeded_total, faq.jobs.fallbacks_total);
    assert_eq!(pieces.concat(), "A gate that lets water through as it can be borne.");
    assert_eq!(pieces.iter().filter(|piece| !piece.is_empty()).count(), 11);
    assert_eq!((faq.jobs.succeeded_total, faq.jobs.fallbacks_total, &*reply.served().provider), (1, 1, "sim"));
    Ok(())
}
