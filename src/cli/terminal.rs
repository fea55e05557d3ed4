//! What a terminal takes that a file or a pipe does not: colours, lines written over, and how wide it is.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

/// Columns of a terminal that does not say.
const USUAL_WIDTH: usize = 80;

/// Whether a person looks at stdout.
pub(super) fn shows_results() -> bool {
    io::stdout().is_terminal() && !is_dumb()
}

/// Whether a person looks at stderr.
pub(super) fn shows_notes() -> bool {
    io::stderr().is_terminal() && !is_dumb()
}

/// Whether a person types.
pub(super) fn is_typed_into() -> bool {
    io::stdin().is_terminal()
}

/// Whether results may be coloured: on a terminal, unless `NO_COLOR` says otherwise.
pub(super) fn takes_colours() -> bool {
    shows_results() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A terminal that can do nothing but print.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb")
}

/// Columns and rows of the terminal behind stdout.
pub(super) fn size() -> (usize, Option<usize>) {
    size_of(io::stdout())
}

fn size_of(terminal: impl AsFd) -> (usize, Option<usize>) {
    let Ok(size) = tcgetwinsize(terminal) else { return (USUAL_WIDTH, None) };
    let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
    (if columns == 0 { USUAL_WIDTH } else { columns }, (rows > 0).then_some(rows))
}

/// Others' words as they may be written to stdout: a terminal is not steered by them, a file or a pipe takes them as they are.
pub(super) fn for_results(text: &str) -> Cow<'_, str> {
    if io::stdout().is_terminal() { harmless(text) } else { text.into() }
}

/// The same for stderr.
pub(super) fn for_notes(text: &str) -> Cow<'_, str> {
    if io::stderr().is_terminal() { harmless(text) } else { text.into() }
}

/// A text without what would clear a screen, fill a clipboard or draw elsewhere: of control characters, C1's too, line ends
/// and tabs alone stay.
fn harmless(text: &str) -> Cow<'_, str> {
    let harms = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if text.contains(harms) { text.replace(harms, "").into() } else { text.into() }
}

/// Writes over the line of stderr that the cursor stands in; an empty text takes it away. One that is as wide as the
/// terminal or wider is cut: of a line that wraps, only the last piece could be written over.
pub(super) fn overwrite_note(text: &str) {
    let room = size_of(io::stderr()).0.saturating_sub(1);
    let cut: String = text.chars().take(room).collect();
    // Nothing can be done about a closed stderr.
    let _ = write!(io::stderr().lock(), "\r{cut}\x1b[K");
}

/// A time in the unit that it is easiest read in.
pub(super) fn short(us: u64) -> String {
    let (ms, s) = (us as f64 / 1e3, us as f64 / 1e6);
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{ms:.2} ms"),
        10_000..100_000 => format!("{ms:.1} ms"),
        100_000..1_000_000 => format!("{ms:.0} ms"),
        _ => format!("{s:.2} s"),
    }
}

/// How long something has lasted, to two units.
pub(super) fn age(s: u64) -> String {
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min", s / 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_does_not_steer_a_terminal() {
        assert_eq!(harmless("a\x1b]52;c;AAAA\x07b\x1b[2J\r\n\tc\u{9b}2J\u{85}\x7fd é"), "a]52;c;AAAAb[2J\n\tc2Jd é");
        assert!(matches!(harmless("one\n\ttwo"), Cow::Borrowed("one\n\ttwo")));
    }

    #[test]
    fn times_are_told_to_three_digits_or_so() {
        let told =
            [(999, "999 µs"), (1_234, "1.23 ms"), (50_321, "50.3 ms"), (432_100, "432 ms"), (2_345_000, "2.35 s")];
        for (us, text) in told {
            assert_eq!(short(us), text);
        }
        let ages = [(59, "59 s"), (125, "2 min"), (7_260, "2 h 1 min"), (180_000, "2 d 2 h")];
        for (s, text) in ages {
            assert_eq!(age(s), text);
        }
    }
}
