//! `selftest`: the claims of the concurrency page, checked in this process.

use super::args::Selftest;
use super::output::Failure;

pub(super) fn run(_command: &Selftest) -> Result<(), Failure> {
    Err(Failure::unbuilt("selftest"))
}
