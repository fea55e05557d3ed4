//! Every behaviour of a provider in every way: as `make test` runs it, and as `make faults` prints it.

use std::sync::Mutex;

use super::rows::{POLICIES, Pace, ROWS, Row, ways};
use super::rules::DECIDED;
use super::run::{Played, Scale, play};
use super::table::{Totals, markdown, misses};

/// Rows at a time: the processors are not theirs alone.
const AT_ONCE: usize = 4;

/// Plays rows, a few at a time, and gives them back in their order.
fn played(rows: &[&Row], policies: &'static [&'static str], scale: Scale, at_once: usize) -> Vec<Played> {
    let done = Mutex::new(Vec::new());
    let (send, next) = crossbeam_channel::bounded(rows.len());
    rows.iter().enumerate().for_each(|row| send.send(row).expect("room for all"));
    drop(send);
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            let (next, done) = (next.clone(), &done);
            scope.spawn(move || {
                for (n, row) in next {
                    let played = play(row, &ways(row, policies), scale);
                    done.lock().expect("no panic under it").push((n, played));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no panic under it");
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, played)| played).collect()
}

/// Prints what `make faults` shows, and fails if anything was missed.
#[expect(clippy::print_stdout, reason = "a part of the two tests below")]
fn report(title: &str, rows: &[Played]) {
    let totals = Totals::of(rows);
    println!("\n## {title}\n\n{}", markdown(rows));
    println!(
        "{} cells as specified, {} not, {} awaiting a part that is not merged.\n",
        totals.passed, totals.missed, totals.awaiting
    );
    let slow = rows.iter().max_by_key(|row| row.took).map(|row| (row.name, row.took));
    println!("slowest row: {slow:?}");
    let missed = misses(rows);
    assert!(missed.is_empty(), "{} of {} cells:\n{}", totals.missed, totals.passed, missed.join("\n"));
}

#[test]
fn whatever_a_provider_does_each_caller_sees_what_is_specified_and_nothing_is_left() {
    let rows: Vec<_> = ROWS.iter().filter(|row| is_named(row.name)).collect();
    report("Every behaviour", &played(&rows, &POLICIES, Scale::Short, AT_ONCE));
    println!("Where the documents leave it open:\n");
    DECIDED.iter().for_each(|decided| println!("- {decided}"));
}

#[test]
fn with_the_default_configuration_it_is_the_same_and_pauses_are_full_jitter() {
    let longest = if is_full() { Pace::Patient } else { Pace::Quick };
    let rows: Vec<_> = ROWS.iter().filter(|row| row.pace <= longest && is_named(row.name)).collect();
    let rows = played(&rows, &POLICIES[..1], Scale::Default, 2 * AT_ONCE);
    report("With the default configuration", &rows);
    let shares: Vec<_> = rows.iter().flat_map(|row| &row.cells).flat_map(|cell| cell.jitter.iter().copied()).collect();
    let count = |holds: fn(f64) -> bool| shares.iter().filter(|share| holds(**share)).count();
    let (all, low, high) = (shares.len(), count(|share| share < 0.5), count(|share| share > 0.25));
    let mean = shares.iter().sum::<f64>() / all.max(1) as f64;
    println!("Back-off: {all} pauses, on average {mean:.2} of their ceilings of 500 ms and 1 s, {low} below a half.\n");
    // Evenly spread from nothing to the ceiling, with what a busy machine adds: a pause without jitter has none below a half.
    assert!(all < 60 || (low * 100 > all * 10 && high * 100 > all * 45), "{low} low and {high} high of {all}");
}

/// Whether this is `make faults`.
pub(super) fn is_full() -> bool {
    std::env::var("SLUICEGATE_FAULTS").is_ok_and(|size| size == "full")
}

/// `SLUICEGATE_FAULTS_ROW` names the rows and scenes to look at, while somebody looks into one.
pub(super) fn is_named(name: &str) -> bool {
    std::env::var("SLUICEGATE_FAULTS_ROW").map_or(true, |word| name.contains(&word))
}
