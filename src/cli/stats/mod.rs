//! `stats`: the JSON endpoint of a running gateway, as a table of its providers: once, or kept up to date.

mod table;
mod watch;

use serde_json::Value;

use super::args::Stats;
use super::client::Client;
use super::output::{Failure, result};
use super::terminal;
use crate::secret::Secret;
use crate::sync::Threads;
use crate::transport::TransportErrorKind;
use table::PLAIN;
pub(super) use table::{Look, table};

/// Asks one gateway.
struct Poll {
    client: Client,
    admin: String,
    key: Option<Secret>,
}

/// Why there is no answer.
struct Trouble {
    failure: Failure,
    /// Whether asking again is of no use.
    lasting: bool,
}

pub(super) fn run(command: &Stats) -> Result<(), Failure> {
    let threads = Threads::new(8, 2 << 20);
    let wrong = || {
        let text = format!("--admin {:?}: write a URL such as http://127.0.0.1:8081, or 127.0.0.1:8081", command.admin);
        Failure::Usage(text)
    };
    let admin = if command.admin.contains("://") { command.admin.clone() } else { format!("http://{}", command.admin) };
    let client = Client::new(&admin, &threads).map_err(|_| wrong())?;
    let key = std::env::var("SLUICEGATE_ADMIN_KEY").ok().map(|key| Secret::new(format!("Bearer {key}")));
    let poll = Poll { client, admin, key };
    if command.watch {
        return watch::run(poll, command.json, &threads);
    }
    let body = poll.ask().map_err(|trouble| trouble.failure)?;
    if command.json {
        return result(&format!("{}\n", String::from_utf8_lossy(&body)));
    }
    result(&table(&read(&body)?, look()))
}

/// How a table that stays is to look: as wide as the terminal that it is shown on, else as wide as it is.
pub(super) fn look() -> Look {
    match terminal::shows_results() {
        true => Look { width: terminal::size().0, height: None, colours: terminal::takes_colours() },
        false => PLAIN,
    }
}

/// The statistics of an answer.
fn read(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::Job(format!("what answered there gave no statistics: {error}; is it the admin plane?"))
    })
}

impl Poll {
    /// The statistics as they are now.
    fn ask(&self) -> Result<Vec<u8>, Trouble> {
        let headers: Vec<_> = self.key.iter().map(|key| ("authorization", key.expose())).collect();
        let trouble = |words: &dyn std::fmt::Display, lasting| Trouble {
            failure: Failure::Job(format!("{}: {words}", self.admin)),
            lasting,
        };
        let answer = self.client.send("GET", "/stats?fresh=1", &headers, &[]).map_err(|error| match error.kind {
            TransportErrorKind::Connect => {
                trouble(&format!("{error}; does a gateway run there? --admin says where"), false)
            }
            _ => trouble(&error, false),
        })?;
        match answer.status {
            200 => Ok(answer.body),
            401 => Err(trouble(&"it asks for a key; set SLUICEGATE_ADMIN_KEY", true)),
            404 => Err(trouble(&"it has no statistics; --admin is to name the admin plane, not the data plane", true)),
            status => Err(trouble(&format!("it answered with status {status}"), status < 500)),
        }
    }
}
