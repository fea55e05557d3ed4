//! `check`: a configuration validated, and printed as it is in force.

use super::args::Check;
use super::output::{Failure, note, result, warning};
use crate::config::{self, Config};

pub(super) fn run(command: &Check) -> Result<(), Failure> {
    if command.schema {
        return print(&config::schema());
    }
    let mut config = Config::discover(command.file.as_deref(), &config::process_env)?;
    // As `serve` has it.
    config.log_requests();
    config.check_custom(|_| false)?;
    config.sources.iter().for_each(|source| note(source));
    config.warnings.iter().for_each(|text| warning(text));
    print(&config.effective_json())
}

fn print(value: &serde_json::Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Job(error.to_string()))?;
    result(&format!("{text}\n"))
}
