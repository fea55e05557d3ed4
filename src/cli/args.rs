//! The command line as types.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

/// An LLM gateway on OS threads and bounded channels.
#[derive(Debug, Parser)]
#[command(name = "sluicegate", version, about, propagate_version = true)]
pub(super) struct Args {
    /// How log lines are written to stderr; what is logged is chosen by RUST_LOG.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    pub(super) log_format: LogFormat,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the gateway until SIGINT or SIGTERM, then drain; SIGHUP has it read its configuration again.
    Serve(Serve),
    /// Make one call through a gateway in this process; the answer goes to stdout.
    Chat(Chat),
    /// Show a gateway at work on the simulated provider: no network, no key.
    Demo,
    /// Check the claims of the concurrency page in this process.
    Selftest(Selftest),
    /// Serve the simulated provider alone.
    Sim(Sim),
    /// Read the statistics of a running gateway.
    Stats(Stats),
    /// Validate a configuration and print it with every default filled in.
    Check(Check),
    /// Work out workers, buffer, time-out and retries for a provider.
    Plan(Plan),
    /// Load a gateway at a constant rate (not built yet).
    #[command(hide = true)]
    Bench(Rest),
}

#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// The configuration; without it ./sluicegate.json if there is one, else what the environment offers.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Where the data plane listens.
    #[arg(long, value_name = "ADDR", value_parser = crate::config::parse_address)]
    pub(super) listen: Option<SocketAddr>,
    /// Where the admin plane listens.
    #[arg(long, value_name = "ADDR", value_parser = crate::config::parse_address)]
    pub(super) admin: Option<SocketAddr>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Chat {
    /// The model, as provider/model or an alias.
    #[arg(short, long, default_value = "sim/echo")]
    pub(super) model: String,
    /// Print the answer as it comes.
    #[arg(long)]
    pub(super) stream: bool,
    /// The configuration; without it ./sluicegate.json if there is one, else what the environment offers.
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// What to say; several words are joined by spaces, and - reads stdin.
    #[arg(required = true, value_name = "PROMPT")]
    pub(super) prompt: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Selftest {
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Sim {
    /// Where it listens.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8090", value_parser = crate::config::parse_address)]
    pub(super) listen: SocketAddr,
}

#[derive(Debug, clap::Args)]
pub(super) struct Stats {
    /// The admin plane.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    pub(super) admin: String,
    /// Refresh each second until interrupted.
    #[arg(long)]
    pub(super) watch: bool,
    /// Print the JSON as it is.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// The file; without it ./sluicegate.json if there is one, else what the environment offers.
    #[arg(value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// Print the JSON schema of a configuration instead.
    #[arg(long)]
    pub(super) schema: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    /// Requests a second that the provider takes.
    #[arg(long, value_name = "RPS", allow_hyphen_values = true)]
    pub(super) rate_limit: f64,
    /// How long an answer takes on average, as in 500ms.
    #[arg(long, value_name = "D", allow_hyphen_values = true, value_parser = crate::time::parse_duration)]
    pub(super) latency: Duration,
    /// The share of requests that fail, 0 to 1.
    #[arg(long, value_name = "R", default_value_t = 0.0, allow_hyphen_values = true)]
    pub(super) error_rate: f64,
    /// Print JSON: the keys of `optimization` in the statistics, times in milliseconds.
    #[arg(long)]
    pub(super) json: bool,
}

/// The arguments of a command that is not built yet: taken, and not looked at.
#[derive(Debug, clap::Args)]
pub(super) struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _rest: Vec<String>,
}
