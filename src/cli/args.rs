//! The command line as types.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use super::help;
use crate::secret::Secret;

/// An LLM gateway on OS threads and bounded channels.
#[derive(Debug, Parser)]
#[command(name = "sluicegate", version, about, propagate_version = true)]
#[command(after_help = help::TOP, after_long_help = help::TOP_LONG)]
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
    #[command(after_help = help::SERVE)]
    Serve(Serve),
    /// Make one call through a gateway in this process, or hold a conversation; answers go to stdout.
    #[command(after_help = help::CHAT)]
    Chat(Chat),
    /// Show a gateway at work on the simulated provider: no network, no key.
    #[command(after_help = help::DEMO)]
    Demo,
    /// Check the claims of the concurrency page in this process.
    #[command(after_help = help::SELFTEST)]
    Selftest(Selftest),
    /// Serve the simulated provider alone.
    #[command(after_help = help::SIM)]
    Sim(Sim),
    /// Read the statistics of a running gateway.
    #[command(after_help = help::STATS)]
    Stats(Stats),
    /// Validate a configuration and print it with every default filled in.
    #[command(after_help = help::CHECK)]
    Check(Check),
    /// Work out workers, buffer, time-out and retries for a provider.
    #[command(after_help = help::PLAN)]
    Plan(Plan),
    /// Load a gateway at a constant rate and tell how long it took and what failed.
    #[command(after_help = help::BENCH)]
    Bench(Bench),
    /// Print what a shell needs to complete this command line.
    #[command(after_help = help::COMPLETIONS)]
    Completions(Completions),
    /// Print the manual page.
    #[command(after_help = help::MAN)]
    Man,
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
    /// Hold a conversation: every line is a turn, and answers are streamed.
    #[arg(short, long)]
    pub(super) interactive: bool,
    /// What to say; several words are joined by spaces, and - reads stdin. In a session it is the first turn.
    #[arg(required_unless_present = "interactive", value_name = "PROMPT")]
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
    #[arg(value_name = "FILE", conflicts_with = "schema")]
    pub(super) file: Option<PathBuf>,
    /// Print the JSON schema of a configuration instead.
    #[arg(long)]
    pub(super) schema: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    /// Requests a second that the provider takes.
    #[arg(long, value_name = "RPS", allow_hyphen_values = true, value_parser = number)]
    pub(super) rate_limit: f64,
    /// How long an answer takes on average, as in 500ms.
    #[arg(long, value_name = "D", allow_hyphen_values = true, value_parser = crate::time::parse_duration)]
    pub(super) latency: Duration,
    /// The share of requests that fail, 0 to 1.
    #[arg(long, value_name = "R", default_value_t = 0.0, allow_hyphen_values = true, value_parser = number)]
    pub(super) error_rate: f64,
    /// Print JSON: the keys of `optimization` in the statistics, times in milliseconds.
    #[arg(long)]
    pub(super) json: bool,
}

fn number(text: &str) -> Result<f64, &'static str> {
    text.parse().map_err(|_| "a number, such as 100 or 0.05")
}

#[derive(Debug, clap::Args)]
pub(super) struct Bench {
    /// The gateway: a base URL, or one with the route that is to be asked.
    #[arg(long, value_name = "URL")]
    pub(super) url: String,
    /// Requests that are due each second.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) rate: u32,
    /// Connections, each with a thread of its own: the most requests that are under way at a time.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(super) conns: u32,
    /// For how many seconds requests are due.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(super) secs: u32,
    /// Ask for streams, and time their first event and the gaps between the others.
    #[arg(long)]
    pub(super) stream: bool,
    /// The provider itself: it is asked the same by turns, and the gateway's own cost is what lies between the two.
    #[arg(long, value_name = "URL")]
    pub(super) direct: Option<String>,
    /// The model, as provider/model or an alias.
    #[arg(short, long, default_value = "sim/echo")]
    pub(super) model: String,
    /// The model's name at the provider; without it what follows the first / of the model.
    #[arg(long, value_name = "MODEL", requires = "direct")]
    pub(super) direct_model: Option<String>,
    /// The gateway's key. Better in SLUICEGATE_KEY: others on this machine can read command lines.
    #[arg(long)]
    pub(super) key: Option<Secret>,
    /// How long the prompt is, in bytes.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(super) prompt_bytes: u32,
    /// How long a request may take from when it is sent, and a stream may be silent.
    #[arg(long, value_name = "D", default_value = "30s", value_parser = crate::time::parse_duration)]
    pub(super) timeout: Duration,
    /// Print JSON, times in microseconds.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub(super) shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}
