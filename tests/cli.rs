//! The built binary as a user meets it: exit codes, what goes where, signals.

mod commands;
pub(crate) mod process;
mod serve;
