//! A row of the matrix, played: a gateway with two providers for each cell, so that no cell sees another's retry budget,
//! breaker or queue; all cells at once; then what the callers saw, what reached the upstreams, and what is left.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::scope;
use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::http::Watcher;
use sluicegate::sim::Sim;
use sluicegate::sync::Threads;
use sluicegate::time::{Deadline, now};

use super::check::{self, Seen};
use super::rows::{AWAITS, On, Part, Recovery, Row, Way};
use super::rules::{Expected, Times, Wait, expected};
use super::upstream::Upstream;
use crate::client::Client;
use crate::front::Station;
use crate::house::{FUSE, House, ms, unrest};

/// Which configuration the cells have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Short times and one worker.
    Short,
    /// What stands in no file: the defaults.
    Default,
}

impl Scale {
    pub(crate) fn times(self) -> Times {
        let (initial, max, patience, silence) = match self {
            Self::Short => (40, 60, 2_000, 1_000),
            Self::Default => (500, 5_000, 10_000, 60_000),
        };
        Times {
            max_retries: 2,
            backoff_initial: ms(initial),
            backoff_max: ms(max),
            patience: ms(patience),
            silence: ms(silence),
            checked: self == Self::Default,
        }
    }

    fn provider(self, base_url: &str) -> Value {
        let mut settings = json!({ "kind": "openai", "network_config": { "base_url": base_url } });
        if self == Self::Short {
            let times = self.times();
            let text = |time: Duration| json!(format!("{}ms", time.as_millis()));
            let network = &mut settings["network_config"];
            for name in ["default_request_timeout_in_seconds", "first_token_timeout", "stream_idle_timeout_in_seconds"]
            {
                network[name] = text(times.silence);
            }
            network["retry_backoff_initial"] = text(times.backoff_initial);
            network["retry_backoff_max"] = text(times.backoff_max);
            network["retry_after_patience"] = text(times.patience);
            settings["concurrency_and_buffer_size"] = json!({ "concurrency": 1, "buffer_size": 4 });
            // They are another cell's concern.
            settings["breaker"] = json!({ "enabled": false });
            settings["health"] = json!({ "on_start": false });
        }
        settings
    }
}

/// One cell, played or not.
pub(crate) struct Cell {
    pub(crate) way: Way,
    /// What it waits for.
    pub(crate) awaits: Vec<Part>,
    /// What was seen, in short.
    pub(crate) seen: String,
    /// Attempts, as they should be and as the upstream counted them.
    pub(crate) counts: String,
    /// The waits between the tries at the first target, in milliseconds.
    pub(crate) waits: Vec<u64>,
    /// Those of them that are back-off, as shares of the most that each may be.
    pub(crate) jitter: Vec<f64>,
    pub(crate) missed: Vec<String>,
}

/// A row, played.
pub(crate) struct Played {
    pub(crate) name: &'static str,
    pub(crate) cells: Vec<Cell>,
    /// What was wrong with the row as a whole: something that was not free, a sum that did not balance.
    pub(crate) missed: Vec<String>,
    pub(crate) took: Duration,
}

/// The parts that a cell needs.
fn needs(row: &Row, way: Way) -> Vec<Part> {
    [
        (Part::Routes, way.fallback),
        (Part::Streams, way.is_buffered() || (way.streamed && row.needs == Some(Part::Streams))),
    ]
    .into_iter()
    .filter_map(|(part, needed)| (needed && AWAITS.contains(&part)).then_some(part))
    .collect()
}

/// The two upstreams that the targets of a row go to.
struct Upstreams {
    sim: Option<Sim>,
    threads: Threads,
    scripted: Option<Upstream>,
}

impl Upstreams {
    fn start(row: &Row) -> Self {
        let threads = Threads::new(512, 1 << 20);
        let watcher = Watcher::start(&threads).expect("a watcher");
        let sim = Sim::start("127.0.0.1:0".parse().expect("an address"), threads.clone(), watcher).expect("it starts");
        let scripted = match row.on {
            On::Script(script) => Some(Upstream::start(script)),
            _ => None,
        };
        Self { sim: Some(sim), threads, scripted }
    }

    fn sim(&self) -> &Sim {
        self.sim.as_ref().expect("it runs")
    }

    fn first(&self, row: &Row) -> String {
        match (row.on, &self.scripted) {
            (On::Nobody, _) => "http://127.0.0.1:1".to_owned(),
            (_, Some(scripted)) => format!("http://{}", scripted.addr),
            _ => format!("http://{}", self.sim().addr()),
        }
    }

    /// What still goes on there.
    fn busy(&self) -> Option<String> {
        let sim = self.sim().stats()["in_flight"].as_u64().unwrap_or(0);
        let scripted = self.scripted.as_ref().map_or(0, Upstream::in_flight);
        (sim + scripted as u64 > 0).then(|| format!("{sim} and {scripted} requests are in flight upstream"))
    }

    /// Whether connections are open.
    fn connected(&self) -> Option<String> {
        let sim = self.sim().stats()["connections_open"].as_u64().unwrap_or(0);
        let scripted = self.scripted.as_ref().map_or(0, Upstream::connections);
        (sim + scripted as u64 > 0).then(|| format!("{sim} and {scripted} connections are open upstream"))
    }

    /// When requests for a model of the simulated provider came, in milliseconds, and how many were broken off by us.
    fn at_sim(&self, model: &str) -> (Vec<u64>, usize) {
        let stats = self.sim().stats();
        let figures = &stats["models"][model];
        let times = figures["times_ms"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        (times, figures["aborted_by_peer"].as_u64().unwrap_or(0) as usize)
    }

    fn at_script(&self, model: &str) -> (Vec<u64>, usize) {
        let Some(scripted) = &self.scripted else { return (Vec::new(), 0) };
        let asked = scripted.asked(|asked| asked.model == model);
        let since = |at: std::time::Instant| u64::try_from((at - asked[0].at).as_millis()).unwrap_or(u64::MAX);
        let times = asked.iter().map(|asked| since(asked.at)).collect();
        (times, asked.iter().filter(|asked| asked.aborted).count())
    }
}

impl Drop for Upstreams {
    fn drop(&mut self) {
        let left = self.sim.take().map(|sim| sim.shutdown(Deadline::after(FUSE))).unwrap_or_default();
        if !std::thread::panicking() {
            assert!(left.is_empty(), "{left:?}");
            settled(|| (self.threads.active() > 1).then(|| "threads of the simulated provider".to_owned()));
        }
    }
}

/// Polls until nothing is left to be waited for; what is, when the fuse has burnt.
pub(crate) fn settled(mut left: impl FnMut() -> Option<String>) -> Option<String> {
    let fuse = Deadline::after(FUSE);
    loop {
        match left() {
            None => return None,
            Some(what) if fuse.passed() => return Some(what),
            Some(_) => std::thread::park_timeout(ms(2)),
        }
    }
}

/// The names that one cell goes by.
struct Names {
    /// The models as they are named upstream, at the first target and at the second.
    models: [String; 2],
}

impl Names {
    fn of(row: &Row, number: usize) -> Self {
        // A word that the later ones take back: it makes the name this cell's own.
        let first = match row.on {
            On::Sim(words) => format!("lorem-{}+{words}", number + 1),
            _ => format!("model-{number}"),
        };
        Self { models: [first, format!("lorem-{}+echo", 1001 + number)] }
    }
}

/// Plays every cell of a row that can be played.
pub(crate) fn play(row: &Row, ways: &[Way], scale: Scale) -> Played {
    let start = now();
    let mut cells: Vec<Cell> = ways
        .iter()
        .map(|&way| Cell {
            way,
            awaits: needs(row, way),
            seen: String::new(),
            counts: String::new(),
            waits: Vec::new(),
            jitter: Vec::new(),
            missed: Vec::new(),
        })
        .collect();
    let mut missed = Vec::new();
    if cells.iter().any(|cell| cell.awaits.is_empty()) {
        let upstreams = Upstreams::start(row);
        let played = catch_unwind(AssertUnwindSafe(|| play_on(&upstreams, row, &mut cells, scale)));
        missed = played.unwrap_or_else(|panic| vec![format!("the gateway itself: {}", said(&panic))]);
        missed.extend(settled(|| upstreams.connected()));
    }
    Played { name: row.name, cells, missed, took: now() - start }
}

/// What a panic said.
pub(crate) fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic").chars().take(600).collect()
}

fn play_on(upstreams: &Upstreams, row: &Row, cells: &mut [Cell], scale: Scale) -> Vec<String> {
    let providers = cells.iter().enumerate().filter(|(_, cell)| cell.awaits.is_empty()).flat_map(|(n, cell)| {
        let mut first = scale.provider(&upstreams.first(row));
        crate::house::merge(&mut first, row.settings());
        let mut second = scale.provider(&format!("http://{}", upstreams.sim().addr()));
        for settings in [&mut first, &mut second] {
            settings["queue"]["policy"] = json!(cell.way.policy);
            if cell.way.recovery == Recovery::Configured {
                settings["stream_recovery"] = json!("buffer");
            }
        }
        let first = (format!("a{n}"), first);
        std::iter::once(first).chain(cell.way.fallback.then(|| (format!("b{n}"), second)))
    });
    let providers: serde_json::Map<_, _> = providers.collect();
    let station = Station::on(House::with(json!({ "providers": providers }), &[]));
    let answers: Vec<_> = scope(|scope| {
        let asking: Vec<_> = cells
            .iter()
            .enumerate()
            .map(|(n, cell)| {
                let (addr, way, names) = (station.addr, cell.way, Names::of(row, n));
                cell.awaits.is_empty().then(|| scope.spawn(move || ask(addr, row, way, n, &names)))
            })
            .collect();
        asking.into_iter().map(|asking| asking.map(|asking| asking.join())).collect()
    });
    let mut missed: Vec<_> =
        settled(|| at_rest(&station.house.stats()).or_else(|| upstreams.busy())).into_iter().collect();
    let stats = station.house.stats();
    let mut came_to = Vec::new();
    for (n, (cell, answer)) in cells.iter_mut().zip(answers).enumerate() {
        let Some(answer) = answer else { continue };
        let names = Names::of(row, n);
        let mut seen = match answer {
            Ok(seen) => seen,
            Err(panic) => {
                cell.missed.push(format!("the caller was not answered: {}", said(&*panic)));
                continue;
            }
        };
        (seen.arrivals[0], seen.left) = match row.on {
            On::Script(_) => upstreams.at_script(&names.models[0]),
            _ => upstreams.at_sim(&names.models[0]),
        };
        (seen.arrivals[1], _) = upstreams.at_sim(&names.models[1]);
        seen.figures = [&stats["providers"][format!("a{n}")], &stats["providers"][format!("b{n}")]].map(Value::clone);
        cell.seen = seen.in_short();
        cell.counts = format!("{} / {}", seen.arrivals[0].len(), seen.arrivals[1].len());
        cell.waits = seen.waits();
        // Where several ends are possible, the one that fits best is the one that is meant.
        let possible = expected(row, cell.way, &scale.times());
        let judged =
            possible.into_iter().map(|expected| (check::cell(row, cell.way, &expected, &seen, scale), expected));
        if let Some((wrong, expected)) = judged.min_by_key(|(wrong, _)| wrong.len()) {
            cell.missed.extend(wrong);
            let caps =
                expected.waits.iter().zip(cell.waits.iter().skip(expected.unseen)).filter_map(|(wait, waited)| {
                    match wait {
                        Wait::BackOff(cap) => Some(*waited as f64 / cap.as_millis() as f64),
                        Wait::RetryAfter(_) => None,
                    }
                });
            cell.jitter = caps.collect();
            came_to.push(expected);
        }
    }
    missed.extend(check::row(&came_to, &stats));
    missed.extend(everything_that_came(upstreams, row, &came_to));
    missed
}

/// What is not free again, or does not add up.
pub(crate) fn at_rest(stats: &Value) -> Option<String> {
    unrest(stats).or_else(|| {
        let providers = stats["providers"].as_object().into_iter().flatten();
        let mut wrong = providers.filter_map(|(name, provider)| {
            let [idle, configured] = ["idle", "configured"].map(|what| &provider["workers"][what]);
            let [open, unused] = ["open", "idle"].map(|what| &provider["connections"][what]);
            (idle != configured || open != unused)
                .then(|| format!("{name}: {idle} of {configured} workers are idle, {unused} of {open} connections"))
        });
        wrong.next()
    })
}

/// Nothing else reached the simulated provider: names that are none of its words are counted, too.
fn everything_that_came(upstreams: &Upstreams, row: &Row, came_to: &[Expected]) -> Option<String> {
    let came = upstreams.sim().stats()["requests"].as_u64().unwrap_or(0) as usize;
    let first = |expected: &Expected| if matches!(row.on, On::Sim(_)) { expected.arrivals(row, 0) } else { 0 };
    let wanted: usize = came_to.iter().map(|expected| first(expected) + expected.arrivals(row, 1)).sum();
    (came != wanted).then(|| format!("{came} requests reached the simulated provider, and not {wanted}"))
}

/// One caller.
fn ask(addr: std::net::SocketAddr, row: &Row, way: Way, number: usize, names: &Names) -> Seen {
    let mut body = json!({
        "model": format!("a{number}/{}", names.models[0]), "stream": way.streamed,
        "messages": [{ "role": "user", "content": "one two" }],
        "tools": [{ "type": "function", "function": { "name": "look", "parameters": { "type": "object" } } }],
    });
    if way.fallback {
        body["fallbacks"] = json!([format!("b{number}/{}", names.models[1])]);
    }
    let id = format!("cell-{number}");
    let mut headers = vec![format!("x-request-id: {id}")];
    headers.extend(row.deadline.map(|limit| format!("x-sluicegate-timeout: {}ms", limit.as_millis())));
    if way.recovery == Recovery::Asked {
        headers.push("x-sluicegate-stream-recovery: buffer".to_owned());
    }
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let start = now();
    let mut client = Client::connect(addr);
    // A debug build under load is given time, and still a fuse.
    client.socket.set_read_timeout(Some(3 * FUSE)).expect("connected");
    let answer = client.chat(&headers, &body.to_string()).answer();
    let took = now() - start;
    let closed = !answer.complete && client.is_closed();
    Seen::new(answer, id, took, closed)
}
