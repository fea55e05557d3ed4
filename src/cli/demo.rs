//! `demo`: a gateway at work on the simulated provider.

use super::output::Failure;

pub(super) fn run() -> Result<(), Failure> {
    Err(Failure::unbuilt("demo"))
}
