//! For tests of programs that use the gateway: a provider whose every answer the test gives, without network or key.
//!
//! A [`Script`] stands in a provider's place, behind its whole pool: what a program does with a 429, a stream that is cut or
//! a provider that hangs is seen as it will be, in milliseconds. [`Canned`] is one of its answers, [`Seen`] a request that
//! came. For anything that this does not play there is [`MemoryTransport`](crate::transport::MemoryTransport), a closure.
//!
//! A whole unit test of a program that asks a model to classify, and asks again when the answer is none of the classes:
//!
//! ```
//! use std::sync::Arc;
//! use sluicegate::testing::{Canned, Script};
//! use sluicegate::{Code, Gateway, Result};
//!
//! fn classify(gateway: &Gateway, text: &str) -> Result<bool> {
//!     loop {
//!         match gateway.ask("model/any", &format!("Is this spam, yes or no? {text}"))?.as_str() {
//!             "yes" => return Ok(true),
//!             "no" => return Ok(false),
//!             _ => {}
//!         }
//!     }
//! }
//!
//! # fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
//! let script = Script::new().then(Canned::text("maybe")).then(Canned::text("yes")).then(Canned::error(400, "too long"));
//! let gateway = Gateway::builder().transport("model", Arc::new(script.clone())).build()?;
//!
//! assert!(classify(&gateway, "win a car")?);
//! let refused = classify(&gateway, "…").expect_err("the model refuses");
//! assert_eq!((refused.code(), refused.status()), (Code::UpstreamError, 400));
//!
//! let requests = script.requests();
//! assert_eq!(requests.len(), 3);
//! assert_eq!(requests[0].body["messages"][0]["content"], "Is this spam, yes or no? win a car");
//! assert_eq!(script.left(), 0);
//! # Ok(())
//! # }
//! ```

mod canned;
mod script;

pub use canned::Canned;
pub use script::{Script, Seen};
