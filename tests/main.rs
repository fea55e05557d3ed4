//! The integration tests: one binary, a module for each concern.

mod cli;
mod client;
mod config;
mod front;
mod gateway;
mod house;
mod http;
mod layers;
mod scaling;
mod sim;
mod transport;
