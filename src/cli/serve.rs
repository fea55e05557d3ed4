//! `serve`: the gateway with both planes, until a signal, then the drain.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{bounded, select};

use super::args::Serve;
use super::journal;
use super::output::{Failure, note, result, warning};
use super::planes::{self, Planes};
use super::process::{self, Signals};
use super::scheduling;
use crate::admin::Admin;
use crate::config::{self, Config};
use crate::front::Front;
use crate::gateway::{Gateway, ShutdownReport, StartError};
use crate::sync::{Role, State, threads};
use crate::time::{Deadline, format_duration};

/// How long a reload may take: behind another one, and until new pools are up.
const RELOAD_ROUND: Duration = Duration::from_secs(30);

/// How long the planes may take to close once nothing is under way.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// How long plugins have for what they still hold back, as lines for a file.
const LAST_LINES: Duration = Duration::from_millis(500);

pub(super) fn run(command: &Serve) -> Result<(), Failure> {
    process::raise_limits();
    scheduling::limit_arenas();
    scheduling::widen_futex_table();
    scheduling::prefer_throughput();
    let mut config = Config::discover(command.config.as_deref(), &config::process_env)?;
    config.listen_on(command.listen, command.admin)?;
    config.log_requests();
    config.warnings.iter().for_each(|text| warning(text));
    let gateway = Gateway::builder().config(config).on_config(journal::mask).build()?;
    journal::spool_by(gateway.threads())?;
    let signals = Signals::listen_with_reloads(gateway.threads())?;
    reload_when_told(&gateway, &signals)?;
    let Planes { front, stats, admin } = Planes::start(&gateway)?;
    result(&banner(&gateway, &front, &admin))?;

    let _ = signals.channel().recv();
    let patience = gateway.config().server.shutdown_timeout;
    note(&format!("draining: at most {}; a second signal ends at once", format_duration(patience)));
    let Some(mut report) = drain(&gateway, front, &signals, patience) else {
        note("ended at once by a second signal");
        gateway.flush_plugins(Deadline::after(LAST_LINES));
        journal::flush();
        std::process::exit(1);
    };
    report.stragglers.extend(admin.shutdown(Deadline::after(CLOSE_WAIT)));
    if let Some(stats) = planes::sole(stats, Deadline::after(CLOSE_WAIT)) {
        stats.stop(Deadline::after(CLOSE_WAIT));
    }
    // A straggler may hold them past the end of the process.
    gateway.flush_plugins(Deadline::after(LAST_LINES));
    note(&summary(&report));
    Ok(())
}

/// Reloads at each signal that asks for it, on a thread of its own, so that one that asks for the end is heard meanwhile.
fn reload_when_told(gateway: &Gateway, signals: &Signals) -> Result<(), StartError> {
    let (weak, asked) = (gateway.downgrade(), signals.reloads().clone());
    gateway.threads().service(Role::Watchdog, "reloads", move || {
        loop {
            {
                let _resting = threads::rest(State::WaitingChannel, Duration::MAX);
                if asked.recv().is_err() {
                    return;
                }
            }
            let _round = threads::round(RELOAD_ROUND);
            let Some(gateway) = weak.upgrade() else { return };
            // What is wrong, and what is to be warned of, stands in the log.
            if let Ok(changes) = gateway.reread() {
                note(&format!("reloaded: {changes}"));
            }
        }
    })?;
    Ok(())
}

/// Drains; `None` if a second signal came first.
///
/// The listener stays open meanwhile: a probe hears 503 and a new request `shutting_down`, which says more to a load
/// balancer and to a client than a refused connection.
fn drain(gateway: &Gateway, front: Arc<Front>, signals: &Signals, patience: Duration) -> Option<ShutdownReport> {
    let (done, is_done) = bounded(1);
    let own = gateway.clone();
    let ended = gateway.threads().spawn(Role::Watchdog, "drain", move || {
        let mut report = own.shutdown(patience);
        // What the connections still write is the end of answers that are counted already.
        if let Some(front) = planes::sole(front, Deadline::after(CLOSE_WAIT)) {
            report.stragglers.extend(front.shutdown(Deadline::after(CLOSE_WAIT)));
        }
        let _ = done.send(report);
    });
    if let Err(error) = ended {
        log::warn!("no thread for the drain, so a second signal is not heard: {error}");
        return Some(gateway.shutdown(patience));
    }
    select! {
        recv(is_done) -> report => report.ok(),
        recv(signals.channel()) -> _ => None,
    }
}

fn banner(gateway: &Gateway, front: &Front, admin: &Admin) -> String {
    let config = gateway.config();
    let mut text = format!("sluicegate {}\n", env!("CARGO_PKG_VERSION"));
    for source in &config.sources {
        let _ = writeln!(text, "  {source}");
    }
    let _ = writeln!(text, "providers    {}", gateway.provider_names().join(", "));
    let scheme = if config.server.tls.is_some() { "https" } else { "http" };
    let _ = writeln!(text, "data plane   {scheme}://{}", front.addr());
    let _ = writeln!(text, "admin plane  http://{}", admin.addr());
    let key = if config.server.keys.is_empty() { "" } else { " -H \"authorization: Bearer $SLUICEGATE_KEY\"" };
    // The line is for this machine, whose address few certificates bear.
    let tls = match &config.server.tls {
        None => "",
        Some(tls) if tls.client_ca_file.is_none() => " --insecure",
        Some(_) => " --insecure --cert CLIENT.pem --key CLIENT.key",
    };
    let model = if gateway.provider_names().iter().any(|name| name == "sim") {
        "sim/lorem-40+gap-50ms"
    } else {
        "PROVIDER/MODEL"
    };
    let _ = writeln!(
        text,
        "\ncurl -N{tls} {scheme}://{}/v1/chat/completions{key} -H 'content-type: application/json' \
         -d '{{\"model\":\"{model}\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'\n",
        front.addr(),
    );
    text
}

fn summary(report: &ShutdownReport) -> String {
    let mut text = format!(
        "drained: {} requests finished, {} cut, {} answered from the queue",
        report.finished, report.cut, report.swept
    );
    if !report.stragglers.is_empty() {
        let _ = write!(text, "; threads that did not end: {}", report.stragglers.join(", "));
    }
    text
}
