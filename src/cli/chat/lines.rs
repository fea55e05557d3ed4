//! What is typed or piped into a session: lines made into turns and commands.

use std::io::{self, BufRead, Read as _};

use crate::config::nearest;

/// The longest turn, in bytes.
const MAX_TURN: usize = 16 << 20;

/// A line that begins and ends several that are one turn.
const BLOCK: &str = "\"\"\"";

/// What a turn asks of the session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To be said to the model.
    Say(String),
    Help,
    Model(String),
    System(String),
    Clear,
    Retry,
    Save(String),
    Quit,
    /// It cannot be done, for this reason.
    Wrong(String),
}

/// Each command, what follows it, and what it does.
pub(super) const COMMANDS: [(&str, &str, &str); 7] = [
    ("/help", "", "these lines"),
    ("/model", "NAME", "who answers from now on; alone it says who does"),
    ("/system", "TEXT", "what the model is told before all else; alone it takes that back"),
    ("/clear", "", "forgets the conversation, not the system text"),
    ("/retry", "", "asks the last question again, and forgets its answer"),
    ("/save", "FILE", "writes the conversation as the body of a request; no file is written over"),
    ("/quit", "", "leaves, as Ctrl-D does"),
];

/// What was typed or piped in, without its line end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// A line, with those that it goes on in: a command, or to be said.
    Line(String),
    /// What stood between two marks: to be said as it is.
    Block(String),
}

impl Turn {
    pub(super) fn text(&self) -> &str {
        let (Self::Line(text) | Self::Block(text)) = self;
        text
    }
}

/// Takes lines in and gives turns out.
pub(super) struct Turns<R>(R);

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    Turn,
    /// More of a turn that has begun.
    More,
}

impl<R: BufRead> Turns<R> {
    pub(super) fn new(lines: R) -> Self {
        Self(lines)
    }

    /// The next turn; `None` at the end of what is typed. `waits` is called before each line.
    pub(super) fn next(&mut self, mut waits: impl FnMut(Waiting)) -> io::Result<Option<Turn>> {
        waits(Waiting::Turn);
        let Some(mut turn) = self.line(MAX_TURN)? else { return Ok(None) };
        if turn.trim() == BLOCK {
            return Ok(Some(Turn::Block(self.block(waits)?)));
        }
        while turn.ends_with('\\') {
            turn.pop();
            waits(Waiting::More);
            let Some(line) = self.line(MAX_TURN.saturating_sub(turn.len()))? else { break };
            turn.push('\n');
            turn.push_str(&line);
        }
        Ok(Some(Turn::Line(turn)))
    }

    /// The lines up to the mark, or to the end of what is typed.
    fn block(&mut self, mut waits: impl FnMut(Waiting)) -> io::Result<String> {
        let mut turn = String::new();
        let mut first = true;
        loop {
            waits(Waiting::More);
            match self.line(MAX_TURN.saturating_sub(turn.len()))? {
                Some(line) if line.trim() != BLOCK => {
                    if !std::mem::take(&mut first) {
                        turn.push('\n');
                    }
                    turn.push_str(&line);
                }
                _ => return Ok(turn),
            }
        }
    }

    fn line(&mut self, room: usize) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        let read = (&mut self.0).take(room as u64 + 1).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(None);
        }
        if read > room {
            return Err(io::Error::other("a turn is longer than 16 MiB"));
        }
        let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |at| at + 1);
        line.truncate(end);
        // One that is no UTF-8 would be refused upstream; here it loses a character, and the session goes on.
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }
}

/// What a turn asks for.
pub(super) fn read(turn: Turn) -> Asked {
    let turn = match turn {
        Turn::Line(turn) => turn,
        Turn::Block(turn) => return Asked::Say(turn),
    };
    let Some(rest) = turn.strip_prefix('/') else { return Asked::Say(turn) };
    // Two slashes begin a turn with one.
    if rest.starts_with('/') {
        return Asked::Say(rest.to_owned());
    }
    let (word, rest) = turn.split_once(char::is_whitespace).unwrap_or((turn.as_str(), ""));
    let rest = rest.trim();
    match (word, rest) {
        ("/help", "") => Asked::Help,
        ("/model", name) => Asked::Model(name.to_owned()),
        ("/system", text) => Asked::System(text.to_owned()),
        ("/clear", "") => Asked::Clear,
        ("/retry", "") => Asked::Retry,
        ("/save", "") => Asked::Wrong("/save wants the name of a file".to_owned()),
        ("/save", file) => Asked::Save(file.to_owned()),
        ("/quit" | "/exit", "") => Asked::Quit,
        _ if COMMANDS.iter().any(|(known, ..)| *known == word) => Asked::Wrong(format!("nothing follows {word}")),
        _ => {
            let near = nearest(word, COMMANDS.iter().map(|(known, ..)| *known)).unwrap_or_default();
            Asked::Wrong(format!("there is no {word}; the nearest is {near}, and // begins a turn with a slash"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(text: &str) -> Vec<String> {
        let mut turns = Turns::new(text.as_bytes());
        std::iter::from_fn(|| turns.next(|_| {}).expect("readable")).map(|turn| turn.text().to_owned()).collect()
    }

    #[test]
    fn a_line_is_a_turn_and_some_lines_are_one() {
        assert_eq!(turns("one\ntwo\r\nthree"), ["one", "two", "three"]);
        assert_eq!(turns("one \\\ntwo\\\nthree\nfour\n"), ["one \ntwo\nthree", "four"]);
        assert_eq!(turns("\"\"\"\none\\\n\n  two\n\"\"\"\nthree\n"), ["one\\\n\n  two", "three"]);
        assert_eq!(turns("\"\"\"\nnever closed"), ["never closed"]);
        assert_eq!(turns("\"\"\"\n\n\n  one\n\n\"\"\"\n"), ["\n\n  one\n"]);
        assert_eq!(turns("\n\n"), ["", ""]);
        assert_eq!(turns("last \\"), ["last "]);
    }

    #[test]
    fn more_of_a_turn_is_waited_for_by_name() {
        let mut waited = Vec::new();
        let mut turns = Turns::new(&b"a\\\nb\n"[..]);
        turns.next(|waiting| waited.push(waiting)).expect("readable");
        assert_eq!(waited, [Waiting::Turn, Waiting::More]);
    }

    #[test]
    fn bytes_that_are_no_text_do_not_end_a_session() {
        let mut turns = Turns::new(&b"a\xffb\nc\n"[..]);
        assert_eq!(turns.next(|_| {}).expect("readable"), Some(Turn::Line("a\u{fffd}b".to_owned())));
        assert_eq!(turns.next(|_| {}).expect("readable"), Some(Turn::Line("c".to_owned())));
    }

    #[test]
    fn commands_are_read_and_others_named_with_the_nearest() {
        let read = |text: &str| read(Turn::Line(text.to_owned()));
        assert_eq!(read("/model sim/echo"), Asked::Model("sim/echo".to_owned()));
        assert_eq!(read("/system  Be brief. "), Asked::System("Be brief.".to_owned()));
        assert_eq!(read("/quit"), Asked::Quit);
        assert_eq!(read("//etc is a folder"), Asked::Say("/etc is a folder".to_owned()));
        assert_eq!(read("no /command"), Asked::Say("no /command".to_owned()));
        for (wrong, part) in
            [("/retri", "/retry"), ("/clear all", "nothing follows"), ("/save", "file"), ("/", "/help")]
        {
            assert!(matches!(read(wrong), Asked::Wrong(words) if words.contains(part)), "{wrong}");
        }
    }
    #[test]
    fn what_stands_in_a_block_is_said_as_it_is() {
        for text in ["/quit", "// a comment", "/usr/bin\nis a folder"] {
            let block = format!("\"\"\"\n{text}\n\"\"\"\n");
            let turn = Turns::new(block.as_bytes()).next(|_| {}).expect("readable").expect("a turn");
            assert_eq!(read(turn), Asked::Say(text.to_owned()));
        }
    }
}
