//! Placeholders such as `[EMAIL_1]`, and what stood in their places.
//!
//! The same text has the same number within a request, so that a model can tell people apart. A placeholder that stands in
//! the request already is given to nothing else: what the caller wrote comes back as it was.
//!
//! Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;

use super::text::Flavour;

/// The placeholder of a kind, with its number if it has one.
pub(super) fn placeholder(kind: &str, number: Option<usize>) -> String {
    let kind = kind.to_ascii_uppercase();
    number.map_or_else(|| format!("[{kind}]"), |number| format!("[{kind}_{number}]"))
}

/// The placeholders of one request, as they are given.
#[derive(Default)]
pub(super) struct Given {
    of: HashMap<(usize, String), String>,
    /// How many of each kind.
    numbers: HashMap<usize, usize>,
    /// Those that the caller wrote.
    taken: HashSet<String>,
}

impl Given {
    /// Keeps what looks like a placeholder in a caller's text from being given.
    pub(super) fn keep_out(&mut self, text: &str) {
        for (at, _) in text.match_indices('[') {
            if let Some(length) = length(&text[at..]) {
                self.taken.insert(text[at..at + length].to_owned());
            }
        }
    }

    /// What stands for `text`, which is of this kind.
    pub(super) fn give(&mut self, kind: usize, name: &str, text: &str) -> String {
        let Self { of, numbers, taken } = self;
        let new = || {
            let number = numbers.entry(kind).or_default();
            loop {
                *number += 1;
                let new = placeholder(name, Some(*number));
                if !taken.contains(&new) {
                    return new;
                }
            }
        };
        of.entry((kind, text.to_owned())).or_insert_with(new).clone()
    }

    /// What stood in their places.
    pub(super) fn into_originals(self) -> Originals {
        let by: BTreeMap<_, _> = self.of.into_iter().map(|((_, text), placeholder)| (placeholder, text)).collect();
        Originals { longest: by.keys().map(String::len).max().unwrap_or_default(), by }
    }
}

/// How long the placeholder is, of whatever kind, that `text` begins with.
fn length(text: &str) -> Option<usize> {
    /// Longer than any: a name has 32 letters at most.
    const MOST: usize = 64;
    let inner = text.bytes().skip(1).take(MOST).position(|byte| !is_inner(byte))?;
    (inner > 0 && text.as_bytes()[inner + 1] == b']').then_some(inner + 2)
}

fn is_inner(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_'
}

/// What was taken out of a request, by its placeholders.
#[derive(Default)]
pub(super) struct Originals {
    by: BTreeMap<String, String>,
    longest: usize,
}

impl Originals {
    pub(super) fn is_empty(&self) -> bool {
        self.by.is_empty()
    }

    /// Whether any placeholder stands in a text.
    pub(super) fn stand_in(&self, text: &str) -> bool {
        let is_one = |at| length(&text[at..]).is_some_and(|length| self.by.contains_key(&text[at..at + length]));
        !self.is_empty() && text.match_indices('[').any(|(at, _)| is_one(at))
    }

    /// Whether `text` could be the beginning of a placeholder.
    fn may_begin_with(&self, text: &str) -> bool {
        text.len() < self.longest
            && self
                .by
                .range::<str, _>((Bound::Included(text), Bound::Unbounded))
                .next()
                .is_some_and(|(placeholder, _)| placeholder.starts_with(text))
    }
}

/// Puts originals back into a text as it comes. It holds back what could be the beginning of a placeholder, and nothing else.
pub(super) struct Restorer {
    flavour: Flavour,
    held: String,
}

impl Restorer {
    pub(super) fn new(flavour: Flavour) -> Self {
        Self { flavour, held: String::new() }
    }

    /// Takes `text` in, and puts into `out` what can be said now: everything, if it is the last. Gives how many placeholders
    /// were replaced.
    pub(super) fn take(&mut self, originals: &Originals, text: &str, last: bool, out: &mut String) -> u64 {
        self.held.push_str(text);
        let (mut done, mut restored) = (0, 0);
        while let Some(next) = memchr::memchr(b'[', &self.held.as_bytes()[done..]) {
            let at = done + next;
            out.push_str(&self.held[done..at]);
            let rest = &self.held[at..];
            let found = length(rest).and_then(|length| Some((length, originals.by.get(&rest[..length])?)));
            done = match found {
                Some((length, original)) => {
                    restored += 1;
                    self.put(original, out);
                    at + length
                }
                None if !last && originals.may_begin_with(rest) => {
                    self.held.drain(..at);
                    return restored;
                }
                None => {
                    out.push('[');
                    at + 1
                }
            };
        }
        out.push_str(&self.held[done..]);
        self.held.clear();
        restored
    }

    fn put(&self, original: &str, out: &mut String) {
        match self.flavour {
            Flavour::Plain => out.push_str(original),
            Flavour::Json => {
                let quoted = serde_json::Value::from(original).to_string();
                out.push_str(&quoted[1..quoted.len() - 1]);
            }
        }
    }
}
