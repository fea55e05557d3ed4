//! `plan`: workers, buffer, time-out and retries for a provider, by the provider-optimization formula.

use super::args::Plan as Command;
use super::output::{Failure, result};
use crate::config::Optimization;
use crate::provider::{OptimizationStats, Plan, RetryStrategy};
use crate::time::format_duration;

pub(super) fn run(command: &Command) -> Result<(), Failure> {
    let known = Optimization {
        rate_limit: Some(command.rate_limit),
        avg_latency: Some(command.latency),
        error_rate: Some(command.error_rate),
    };
    let plan = Plan::of(&known).map_err(|error| Failure::Usage(error.to_string()))?;
    if !command.json {
        return result(&table(command, &plan));
    }
    let text = serde_json::to_string_pretty(&OptimizationStats::of(&known, &plan))
        .map_err(|error| Failure::Job(error.to_string()))?;
    result(&format!("{text}\n"))
}

fn table(command: &Command, plan: &Plan) -> String {
    let count = |count: Option<usize>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    let retries = plan.retries.map_or_else(
        || "-".to_owned(),
        |strategy| {
            let RetryStrategy { max_retries, retry_backoff_initial, retry_backoff_max } = strategy;
            format!("{max_retries} after {retry_backoff_initial}ms, at most {retry_backoff_max}ms each")
        },
    );
    format!(
        "for {} requests a second of {}, {} of which fail:\nworkers   {}\nbuffer    {}\ntime-out  {}\nretries   {retries}\n",
        command.rate_limit,
        format_duration(command.latency),
        percent(command.error_rate),
        count(plan.workers),
        count(plan.buffer),
        plan.timeout.map_or_else(|| "-".to_owned(), format_duration),
    )
}

fn percent(share: f64) -> String {
    format!("{} %", (share * 10_000.0).round() / 100.0)
}
