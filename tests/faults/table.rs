//! The matrix as a markdown table: cells that differ in their queue's policy alone, and came to the same, in one line.

use std::fmt::Write as _;

use super::rows::Recovery;
use super::run::{Cell, Played};

/// What a run of the matrix came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) passed: usize,
    pub(crate) missed: usize,
    pub(crate) awaiting: usize,
}

impl Totals {
    pub(crate) fn of(rows: &[Played]) -> Self {
        let mut totals = Self::default();
        for row in rows {
            for cell in &row.cells {
                let count = match (cell.awaits.is_empty(), cell.missed.is_empty() && row.missed.is_empty()) {
                    (false, _) => &mut totals.awaiting,
                    (true, true) => &mut totals.passed,
                    (true, false) => &mut totals.missed,
                };
                *count += 1;
            }
        }
        totals
    }
}

const HEAD: &str = "| behaviour | streamed | fallback | buffered | policy | the caller sees | upstream / fallback's | waits ms | |\n\
                    | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";

fn yes(yes: bool) -> &'static str {
    if yes { "yes" } else { "" }
}

fn verdict(row: &Played, cell: &Cell) -> String {
    if !cell.awaits.is_empty() {
        return format!("awaits {:?}", cell.awaits).to_lowercase();
    }
    let missed: Vec<_> = cell.missed.iter().chain(&row.missed).map(String::as_str).collect();
    if missed.is_empty() { "ok".to_owned() } else { format!("MISSED: {}", missed.join("; ").replace('\n', " ")) }
}

/// The whole table.
pub(crate) fn markdown(rows: &[Played]) -> String {
    let mut text = HEAD.to_owned();
    for row in rows {
        let mut shown = vec![false; row.cells.len()];
        for (n, cell) in row.cells.iter().enumerate() {
            if shown[n] {
                continue;
            }
            let key = |cell: &Cell| {
                let way = cell.way;
                let buffered = way.recovery != Recovery::Off;
                let came_to = (cell.seen.clone(), cell.counts.clone(), verdict(row, cell));
                (way.streamed, way.fallback, buffered, came_to)
            };
            let same: Vec<_> = (n..row.cells.len()).filter(|other| key(&row.cells[*other]) == key(cell)).collect();
            same.iter().for_each(|other| shown[*other] = true);
            let mut policies: Vec<_> = same.iter().map(|other| row.cells[*other].way.policy).collect();
            policies.dedup();
            let waits: Vec<_> = same.iter().map(|other| &row.cells[*other].waits).filter(|w| !w.is_empty()).collect();
            let waits: Vec<_> =
                waits.iter().map(|w| w.iter().map(u64::to_string).collect::<Vec<_>>().join("+")).collect();
            let (streamed, fallback, buffered, (seen, counts, verdict)) = key(cell);
            // Writing to memory cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {seen} | {counts} | {} | {verdict} |",
                row.name,
                yes(streamed),
                yes(fallback),
                yes(buffered),
                if policies.len() == super::rows::POLICIES.len() { "every".to_owned() } else { policies.join(", ") },
                waits.join(", "),
            );
        }
    }
    text
}

/// Everything that was missed, a line each.
pub(crate) fn misses(rows: &[Played]) -> Vec<String> {
    let mut missed = Vec::new();
    for row in rows {
        missed.extend(row.missed.iter().map(|what| format!("{}: {what}", row.name)));
        for cell in &row.cells {
            missed.extend(cell.missed.iter().map(|what| format!("{} {:?}: {what}", row.name, cell.way)));
        }
    }
    missed
}
