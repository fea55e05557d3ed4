//! Which targets serve a request, and in which order: aliases, strategies and fallbacks.
//!
//! Pure: a [`Table`] is made of the configuration and never changes but for its [`Meter`]s; what a plan depends on beside
//! it, the time, chance and how the providers are, is handed in as a [`Moment`]. Nothing here sends, waits or knows a
//! provider but by its name. Read `table` for what a name means and who may use it, `strategy`
//! for the order of an alias's targets, `meter` for how fast each was.

mod meter;
mod strategy;
mod table;

pub use meter::Meter;
pub use strategy::Moment;
pub use table::{Asked, Plan, Table, Target};
