//! Providers that the program itself is: a trait, and the adaptor that puts one behind a provider's pool of workers.
//!
//! A [`CustomProvider`] is asked on the workers of its own pool, like any provider's upstream: behind the queue, the policy,
//! the limits, the breaker and the keys of its configuration, and before retries and fallbacks. The adaptor is its
//! transport: it reads a request's body once, asks, and writes the answer in OpenAI's shape, so that whatever stands above
//! cannot tell it from another. It knows nothing of pools, and waits for nothing but what it asks.

// Read `provider` for the trait, `context` for what goes with a request, `error` for how one fails, `adaptor` for the way.

mod adaptor;
mod context;
mod embed;
mod error;
mod own;
mod provider;

pub(crate) use adaptor::{Adaptor, models};
pub use context::CallContext;
pub use embed::ProviderVectors;
pub use error::ProviderError;
pub(crate) use own::Own;
pub use provider::{ChunkIter, CustomProvider};
