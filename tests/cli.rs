//! The built binary as a user meets it: exit codes, what goes where, signals.

mod bench;
mod bifrost;
mod commands;
mod leaks;
mod logs;
pub(crate) mod process;
mod reload;
mod secrets;
mod serve;
mod session;
mod shells;
mod watching;
