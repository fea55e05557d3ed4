//! The integration tests: one binary, a module for each concern.

mod cli;
mod config;
mod http;
mod layers;
mod sim;
mod transport;
