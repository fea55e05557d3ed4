//! `check`: a configuration validated, and printed as it is in force; of one of Bifrost's, a report of what is taken.

mod report;

use super::args::Check;
use super::output::{Failure, note, result, warning};
use crate::config::{self, Config};

pub(super) fn run(command: &Check) -> Result<(), Failure> {
    if command.schema {
        return print(&config::schema());
    }
    let env = &config::process_env;
    let (imported, config) = Config::discover_imported(command.file.as_deref(), env);
    // It is told also of a file that cannot be used: what is wrong with it follows.
    if let Some((file, imported)) = &imported {
        note(&report::text(&file.display().to_string(), imported));
    }
    let mut config = config?;
    // As `serve` has it.
    config.log_requests();
    config.check_custom(|_| false)?;
    config.sources.iter().for_each(|source| note(source));
    let told = |text: &&String| imported.as_ref().is_some_and(|(_, imported)| imported.tells(text));
    config.warnings.iter().filter(|text| !told(text)).for_each(|text| warning(text));
    print(&config.effective_json())
}

fn print(value: &serde_json::Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Job(error.to_string()))?;
    result(&format!("{text}\n"))
}
