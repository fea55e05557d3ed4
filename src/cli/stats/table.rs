//! The table of a gateway's providers: as many columns as there is room for, coloured where colours are taken.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::cli::terminal::{age, short};

/// The most alerts that are told in a line each.
const MOST_ALERTS: usize = 4;

/// The longest name of a provider that is shown whole.
const LONGEST_NAME: usize = 24;

/// How it is to look.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct Look {
    /// Columns that there are.
    pub(in crate::cli) width: usize,
    /// Lines that there are; `None` for as many as it takes.
    pub(in crate::cli) height: Option<usize>,
    pub(in crate::cli) colours: bool,
}

/// Everything, as plain text.
pub(in crate::cli) const PLAIN: Look = Look { width: usize::MAX, height: None, colours: false };

/// What a piece of text is drawn in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tone {
    Plain,
    Strong,
    Faint,
    Warning,
    Alarm,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "\x1b[1m",
            Self::Faint => "\x1b[2m",
            Self::Warning => "\x1b[33m",
            Self::Alarm => "\x1b[1;31m",
        }
    }
}

/// A line of pieces, each in a tone of its own.
#[derive(Default)]
struct Line(Vec<(String, Tone)>);

impl Line {
    fn of(text: impl Into<String>, tone: Tone) -> Self {
        Self(vec![(text.into(), tone)])
    }

    /// The line cut to the width, without a line end.
    fn draw(&self, look: Look, into: &mut String) {
        let mut room = look.width;
        for (text, tone) in &self.0 {
            let cut: String = text.chars().take(room).collect();
            room -= cut.chars().count();
            if look.colours && *tone != Tone::Plain && !cut.trim().is_empty() {
                let _ = write!(into, "{}{cut}\x1b[0m", tone.code());
            } else {
                into.push_str(&cut);
            }
        }
        // Blanks at the end would only be selected with the text.
        into.truncate(into.trim_end_matches(' ').len());
    }
}

/// One column: its heading, how gladly it is left out where there is no room, and what stands in it.
struct Column {
    heading: &'static str,
    /// The higher, the sooner it is left out; none at 0.
    spare: u8,
    left: bool,
    cell: fn(&Row<'_>) -> (String, Tone),
}

/// Blanks behind a column.
const GAP: usize = 2;

/// A column with what stands in it.
struct Filled {
    column: &'static Column,
    /// The heading, then a cell for each provider.
    cells: Vec<(String, Tone)>,
    /// The widest of them.
    width: usize,
}

impl Filled {
    fn new(column: &'static Column, rows: &[Row<'_>]) -> Self {
        let heading = (column.heading.to_owned(), Tone::Faint);
        let cells: Vec<_> = [heading].into_iter().chain(rows.iter().map(column.cell)).collect();
        let width = cells.iter().map(|(text, _)| text.chars().count()).max().unwrap_or(0);
        Self { column, cells, width }
    }

    /// A cell as wide as the column, with the blanks behind it.
    fn padded(&self, index: usize) -> (String, Tone) {
        let ((text, tone), width, gap) = (&self.cells[index], self.width, " ".repeat(GAP));
        let text = if self.column.left { format!("{text:<width$}{gap}") } else { format!("{text:>width$}{gap}") };
        (text, *tone)
    }
}

/// One provider.
struct Row<'a> {
    name: &'a str,
    values: &'a Value,
    paused: bool,
}

impl Row<'_> {
    fn text(&self, path: &str) -> String {
        self.values.pointer(path).map_or_else(|| "-".to_owned(), cell)
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.values.pointer(path).and_then(Value::as_u64)
    }

    /// A sum of counts, those that are there.
    fn sum(&self, paths: &[&str]) -> (String, Tone) {
        plain(paths.iter().filter_map(|path| self.number(path)).sum::<u64>().to_string())
    }

    /// A time; of a distribution without values there is none.
    fn time(&self, dist: &str, percentile: &str) -> (String, Tone) {
        let counted = self.number(&format!("{dist}/count")) != Some(0);
        let time = self.number(&format!("{dist}/{percentile}")).filter(|_| counted);
        plain(time.map_or_else(|| "-".to_owned(), short))
    }
}

fn plain(text: String) -> (String, Tone) {
    (text, Tone::Plain)
}

static COLUMNS: [Column; 14] = [
    Column {
        heading: "provider",
        spare: 0,
        left: true,
        cell: |row| plain(row.name.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect()),
    },
    Column { heading: "phase", spare: 0, left: true, cell: phase },
    Column { heading: "breaker", spare: 1, left: true, cell: breaker },
    Column { heading: "busy/all/max", spare: 0, left: false, cell: workers },
    Column { heading: "queue", spare: 0, left: false, cell: queue },
    Column { heading: "jobs/s", spare: 2, left: false, cell: |row| plain(row.text("/queue/throughput_per_s")) },
    Column { heading: "wait p50", spare: 7, left: false, cell: |row| row.time("/queue/wait_us", "p50") },
    Column { heading: "wait p99", spare: 4, left: false, cell: |row| row.time("/queue/wait_us", "p99") },
    Column { heading: "serv p50", spare: 6, left: false, cell: |row| row.time("/jobs/service_us", "p50") },
    Column { heading: "serv p99", spare: 3, left: false, cell: |row| row.time("/jobs/service_us", "p99") },
    Column { heading: "ok", spare: 9, left: false, cell: |row| row.sum(&["/jobs/succeeded_total"]) },
    Column {
        heading: "errors",
        spare: 1,
        left: false,
        cell: |row| row.sum(&["/jobs/failed_total", "/jobs/timed_out_total"]),
    },
    Column {
        heading: "refused",
        spare: 5,
        left: false,
        cell: |row| row.sum(&["/queue/rejected_total", "/queue/dropped_total", "/queue/timed_out_total"]),
    },
    Column { heading: "retries", spare: 8, left: false, cell: |row| row.sum(&["/jobs/retries_total"]) },
];

fn phase(row: &Row<'_>) -> (String, Tone) {
    match row.text("/phase") {
        _ if row.paused => ("paused".to_owned(), Tone::Warning),
        phase if phase == "ready" || phase == "-" => plain(phase),
        phase => (phase, Tone::Warning),
    }
}

fn breaker(row: &Row<'_>) -> (String, Tone) {
    let state = row.text("/breaker/state").replace('_', " ");
    let tone = match state.as_str() {
        "open" => Tone::Alarm,
        "half open" => Tone::Warning,
        _ => Tone::Plain,
    };
    (state, tone)
}

fn workers(row: &Row<'_>) -> (String, Tone) {
    let text = ["busy", "active", "max"].map(|key| row.text(&format!("/workers/{key}"))).join("/");
    let all = row.number("/workers/max").is_some_and(|max| max > 0 && row.number("/workers/busy") >= Some(max));
    (text, if all { Tone::Warning } else { Tone::Plain })
}

fn queue(row: &Row<'_>) -> (String, Tone) {
    let text = ["depth", "capacity"].map(|key| row.text(&format!("/queue/{key}"))).join("/");
    let tone = match (row.number("/queue/depth"), row.number("/queue/capacity")) {
        (Some(depth), Some(capacity)) if depth > 0 && depth >= capacity => Tone::Alarm,
        (Some(depth), Some(capacity)) if depth * 5 > capacity * 4 => Tone::Warning,
        _ => Tone::Plain,
    };
    (text, tone)
}

/// The whole of a snapshot, under a line of the caller's own if there is one to be said.
pub(in crate::cli) fn table(snapshot: &Value, look: Look) -> String {
    draw(None, Some(snapshot), look)
}

/// The same under what is to be said of the connection.
pub(super) fn draw(trouble: Option<&str>, snapshot: Option<&Value>, look: Look) -> String {
    let mut above: Vec<_> = trouble.map(|text| Line::of(text, Tone::Alarm)).into_iter().collect();
    let (mut rows, mut below) = (Vec::new(), Vec::new());
    if let Some(snapshot) = snapshot {
        above.extend(summary(snapshot, look.width));
        above.push(Line::default());
        rows = providers(snapshot, look.width);
        below = alerts(snapshot, look.width);
    }
    // Headings are no provider; a line says how many providers there is no room for.
    if let Some(room) = look.height.map(|height| height.saturating_sub(above.len() + below.len() + 1))
        && rows.len() > room.max(2)
    {
        let left_out = rows.len() - (room.max(2) - 1);
        rows.truncate(room.max(2) - 1);
        rows.push(Line::of(format!("… and {left_out} more"), Tone::Faint));
    }
    let mut text = String::new();
    // A line more than there are would scroll the screen.
    let most = look.height.map_or(usize::MAX, |height| height.saturating_sub(1).max(1));
    for line in above.iter().chain(&rows).chain(&below).take(most) {
        line.draw(look, &mut text);
        text.push('\n');
    }
    text
}

/// How the gateway is and what became of its requests; two lines where one is too long.
fn summary(snapshot: &Value, width: usize) -> Vec<Line> {
    let at = |path: &str| snapshot.pointer(path).map_or_else(|| "-".to_owned(), cell);
    let phase = at("/phase");
    let tone = if phase == "running" { Tone::Plain } else { Tone::Warning };
    let up = snapshot.pointer("/uptime_s").and_then(Value::as_f64).map_or_else(|| "-".to_owned(), |s| age(s as u64));
    let title = format!("sluicegate {}  ", at("/version"));
    let now = format!("  up {up}  in flight {}  {}/s", at("/requests/in_flight"), at("/requests/throughput_per_s"));
    let ever = ["received", "succeeded", "failed", "cancelled"]
        .map(|what| format!("{what} {}", at(&format!("/requests/{what}_total"))))
        .join("  ");
    let first = [(title, Tone::Strong), (phase, tone), (now, Tone::Plain)];
    let taken: usize = first.iter().map(|(text, _)| text.chars().count()).sum();
    if taken + 2 + ever.chars().count() > width {
        return vec![Line(first.into()), Line::of(ever, Tone::Plain)];
    }
    vec![Line(first.into_iter().chain([(format!("  {ever}"), Tone::Plain)]).collect())]
}

/// The headings, and a line for each provider.
fn providers(snapshot: &Value, width: usize) -> Vec<Line> {
    let none = Map::new();
    let paused: Vec<_> = alerts_of(snapshot)
        .filter(|alert| alert.get("kind").is_some_and(|kind| kind == "provider_paused"))
        .filter_map(|alert| alert.get("subject").and_then(Value::as_str))
        .collect();
    let rows: Vec<_> = snapshot
        .get("providers")
        .and_then(Value::as_object)
        .unwrap_or(&none)
        .iter()
        .map(|(name, values)| Row { name, values, paused: paused.contains(&name.as_str()) })
        .collect();
    let mut columns: Vec<_> = COLUMNS.iter().map(|column| Filled::new(column, &rows)).collect();
    let total = |columns: &[Filled]| columns.iter().map(|filled| filled.width + GAP).sum::<usize>() - GAP;
    while total(&columns) > width {
        let spare = columns.iter().map(|filled| filled.column.spare).max().unwrap_or(0);
        if spare == 0 {
            break;
        }
        columns.retain(|filled| filled.column.spare != spare);
    }
    (0..=rows.len()).map(|index| Line(columns.iter().map(|filled| filled.padded(index)).collect())).collect()
}

fn alerts_of(snapshot: &Value) -> impl Iterator<Item = &Value> {
    snapshot.get("alerts").and_then(Value::as_array).into_iter().flatten()
}

/// What is wrong: each with its kind, and its words in as many lines as they take.
fn alerts(snapshot: &Value, width: usize) -> Vec<Line> {
    let text = |alert: &Value, key: &str| alert.get(key).map_or_else(|| "-".to_owned(), cell);
    let all: Vec<_> = alerts_of(snapshot).collect();
    let mut lines = Vec::new();
    for alert in all.iter().take(MOST_ALERTS) {
        lines.push(Line::default());
        lines.push(Line(vec![
            (text(alert, "kind"), Tone::Alarm),
            (format!("  {}", text(alert, "subject")), Tone::Plain),
        ]));
        let words: Vec<_> = text(alert, "message").chars().collect();
        let room = width.saturating_sub(2).max(1);
        lines.extend(words.chunks(room).map(|piece| Line::of(format!("  {}", String::from_iter(piece)), Tone::Plain)));
    }
    if let Some(more) = all.len().checked_sub(MOST_ALERTS).filter(|more| *more > 0) {
        lines.push(Line::of(format!("… and {more} more alerts"), Tone::Faint));
    }
    lines
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        // A name of somebody's choosing must not draw on this terminal.
        Value::String(text) => text.chars().filter(|c| !c.is_control()).collect(),
        Value::Number(number) if number.is_f64() => format!("{:.1}", number.as_f64().unwrap_or(0.0)),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn snapshot() -> Value {
        json!({
            "version": "1", "phase": "running", "uptime_s": 125,
            "providers": {
                "sim": {
                    "phase": "ready",
                    "workers": { "busy": 2, "active": 4, "max": 64 },
                    "queue": { "depth": 1, "capacity": 500, "throughput_per_s": null, "wait_us": { "count": 9, "p50": 90, "p99": 1500 } },
                    "jobs": { "failed_total": 3, "timed_out_total": 1, "retries_total": 7, "service_us": { "count": 0, "p99": 0 } },
                    "breaker": { "state": "half_open" },
                },
                "openai": { "phase": "ready", "breaker": { "state": "open" } },
            },
            "alerts": [{ "kind": "provider_paused", "subject": "openai", "message": "paused by its operator" }],
        })
    }

    fn line_of(text: &str, name: &str) -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn each_provider_has_a_line_with_pause_and_breaker_and_a_dash_for_what_is_unknown() {
        let text = table(&snapshot(), PLAIN);
        let expected =
            ["sim", "ready", "half open", "2/4/64", "1/500", "-", "90 µs", "1.50 ms", "-", "-", "0", "4", "0", "7"];
        assert_eq!(line_of(&text, "sim"), expected, "{text}");
        assert_eq!(line_of(&text, "openai")[1..3], ["paused", "open"], "{text}");
        assert!(
            text.contains("\nprovider_paused  openai\n  paused by its operator\n") && text.contains("up 2 min"),
            "{text}"
        );
        assert!(!text.contains('\x1b') && !text.contains(" \n"), "{text}");
    }

    #[test]
    fn a_narrow_terminal_has_fewer_columns_and_no_line_is_longer_than_it() {
        for width in [20, 40, 60, 80, 100, 120, 160] {
            let text = table(&snapshot(), Look { width, height: None, colours: false });
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            let headings = text.lines().find(|line| line.starts_with("provider")).expect("headings");
            assert_eq!(headings.contains("retries"), width >= 160, "{width}:\n{text}");
            assert!(width < 60 || headings.contains("queue") && headings.contains("breaker"), "{width}:\n{text}");
        }
    }

    #[test]
    fn a_low_terminal_says_how_many_providers_it_leaves_out() {
        let mut snapshot = snapshot();
        for number in 0..50 {
            snapshot["providers"][format!("p{number}")] = json!({ "phase": "ready" });
        }
        for height in [10, 20, 30] {
            let text = table(&snapshot, Look { width: 80, height: Some(height), colours: false });
            assert!(text.lines().count() < height, "{height}:\n{text}");
            assert!(text.contains("… and ") && text.contains("provider_paused"), "{text}");
        }
    }

    #[test]
    fn no_table_is_higher_than_the_terminal_however_much_is_wrong() {
        let mut snapshot = snapshot();
        snapshot["alerts"] = vec![json!({ "kind": "k", "subject": "s", "message": "m".repeat(500) }); 9].into();
        for height in [2, 5, 12, 24] {
            let text = table(&snapshot, Look { width: 80, height: Some(height), colours: false });
            assert!(text.lines().count() < height, "{height}:\n{text}");
        }
    }

    #[test]
    fn colours_surround_what_is_wrong_and_are_taken_back() {
        let text = table(&snapshot(), Look { width: 200, height: None, colours: true });
        assert!(text.contains("\x1b[1;31mopen") && text.contains("\x1b[33mpaused"), "{text:?}");
        assert!(text.lines().all(|line| !line.contains('\x1b') || line.contains("\x1b[0m")), "{text:?}");
    }

    #[test]
    fn a_name_cannot_draw_on_the_terminal() {
        let text = table(&json!({ "phase": "\x1b[2Jrunning" }), PLAIN);
        assert!(!text.contains('\x1b'), "{text:?}");
    }
}
