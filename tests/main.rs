//! The integration tests: one binary, a module for each concern.

mod anthropic;
mod canary;
mod certificates;
mod cli;
mod client;
mod config;
mod faults;
mod front;
mod gateway;
mod house;
mod http;
mod layers;
mod page;
mod scaling;
mod sim;
mod storm;
mod stress;
mod supply;
mod threads;
mod transport;
