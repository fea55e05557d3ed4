//! The simulated provider: a real HTTP server on loopback whose model names choose its behaviour.

mod anthropic;
mod content;
mod openai;
mod reply;
mod request;
mod words;
