//! What is looked for: the built-in kinds, and the user's own texts and patterns.
//!
//! Pure. A text is looked through once for each kind, by patterns of the crate `regex`, which knows no backtracking, and by
//! the bounded looks of `numbers`. Of what overlaps, the first is taken, and the longest where several begin.

use std::fmt;
use std::ops::Range;

use regex::{Regex, RegexBuilder};

use super::numbers;
use crate::config::plugins::{PATTERN_SIZE, Redaction as Settings};
use crate::plugin::PluginError;

/// Names and domains with letters of Latin scripts; others are kept apart from the words around by nothing.
const EMAIL: &str =
    r"[A-Za-z0-9\u{C0}-\u{24F}._%+'-]+@[A-Za-z0-9\u{C0}-\u{24F}-]+(?:\.[A-Za-z0-9\u{C0}-\u{24F}-]+)*\.[A-Za-z]{2,}";

/// Keys that are told by how they begin, tokens in three parts or more, passwords in URLs, private keys in PEM with whatever
/// of their body there is, its lines broken by themselves or by `\n`.
const KEYS: &str = r"(?x)
    (?-u:\b)(?:
        (?:AKIA|ASIA)[A-Z0-9]{16}(?-u:\b)
      | gh[pousr]_[A-Za-z0-9]{36,} | github_pat_[A-Za-z0-9_]{22,} | glpat-[A-Za-z0-9_-]{20,}
      | xox[abeoprs]-[A-Za-z0-9-]{10,} | xapp-[A-Za-z0-9-]{10,}
      | AIza[A-Za-z0-9_-]{35} | ya29\.[A-Za-z0-9_-]{20,}
      | [rs]k_(?:live|test)_[A-Za-z0-9]{16,} | whsec_[A-Za-z0-9+/=]{24,}
      | hf_[A-Za-z0-9]{30,} | gsk_[A-Za-z0-9]{20,} | npm_[A-Za-z0-9]{36} | pypi-[A-Za-z0-9_-]{50,}
      | SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}
      | eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+){1,3}
    )
  | [A-Za-z]://[^\s/:@\x00]+:([^\s/@\x00]{3,})@
  | -----BEGIN\ (?:[A-Z0-9]+\ )*PRIVATE\ KEY(?:\ BLOCK)?-----
    (?:(?:\s|\\[nr])*[A-Za-z-]+:[^\n\\\x00]*)*
    (?:(?:\s|\\[nr])+[A-Za-z0-9+/=]{16,})+
    (?:(?:\s|\\[nr])+[A-Za-z0-9+/=]{1,64})?
    (?:(?:\s|\\[nr])*-----END\ [A-Z0-9\ ]+-----)?";

/// Keys that begin as words may: there must be a digit in them.
const TOKENS: &str =
    r"(?-u:\b)(?:(sk-[A-Za-z0-9_-]{20,})|(?i:bearer|x-api-key|api[_-]?key)\s*[:=]?\s*([A-Za-z0-9._~+/=-]{16,}))";

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it stands.
    pub(super) place: Range<usize>,
    /// Which kind it is: an index into [`Detector::kinds`].
    pub(super) kind: usize,
}

enum Look {
    /// A pattern, or its first group that took part.
    Pattern(Regex),
    /// The same with a digit in it.
    WithDigit(Regex),
    Number(fn(&[u8], usize) -> Option<usize>),
}

/// Everything that is looked for.
pub(super) struct Detector {
    /// The kinds by their names, as in the configuration.
    kinds: Vec<String>,
    looks: Vec<(usize, Look)>,
    /// Nothing that is found is shorter.
    shortest: usize,
    /// The longest text of the user's own.
    longest: usize,
}

impl Detector {
    pub(super) fn new(settings: &Settings) -> Result<Self, PluginError> {
        let mut detector = Self { kinds: Vec::new(), looks: Vec::new(), shortest: 6, longest: 0 };
        let pattern = |text: &str| RegexBuilder::new(text).size_limit(PATTERN_SIZE).build();
        for (name, _) in settings.kinds.named().into_iter().filter(|(_, on)| *on) {
            let looks = match name {
                "api_key" => vec![Look::Pattern(pattern(KEYS)?), Look::WithDigit(pattern(TOKENS)?)],
                "email" => vec![Look::Pattern(pattern(EMAIL)?)],
                "phone" => vec![Look::Number(numbers::phone_at)],
                "credit_card" => vec![Look::Number(numbers::card_at)],
                "iban" => vec![Look::Number(numbers::iban_at)],
                "ip_address" => vec![Look::Number(numbers::address_at)],
                "us_ssn" => vec![Look::Number(numbers::ssn_at)],
                _ => Vec::new(),
            };
            detector.add(name, looks);
        }
        if !settings.literals.is_empty() {
            let mut texts: Vec<_> = settings.literals.iter().map(|text| text.expose()).collect();
            texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
            detector.longest = texts[0].len();
            let either = texts.into_iter().map(regex::escape).collect::<Vec<_>>().join("|");
            detector.add("literal", vec![Look::Pattern(Regex::new(&either)?)]);
        }
        for own in &settings.patterns {
            detector.add(&own.name, vec![Look::Pattern(pattern(&own.pattern)?)]);
        }
        if !(settings.literals.is_empty() && settings.patterns.is_empty()) {
            detector.shortest = 1;
        }
        Ok(detector)
    }

    fn add(&mut self, kind: &str, looks: Vec<Look>) {
        let at = self.kinds.len();
        self.kinds.push(kind.to_owned());
        self.looks.extend(looks.into_iter().map(|look| (at, look)));
    }

    /// The kinds that are looked for.
    pub(super) fn kinds(&self) -> &[String] {
        &self.kinds
    }

    /// The longest text that is looked for as it is, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// What stands in `text` from `from` on, in its order; what stands before is context.
    pub(super) fn find(&self, text: &str, from: usize) -> Vec<Found> {
        let mut all: Vec<Found> = Vec::new();
        if text.len() - from < self.shortest {
            return all;
        }
        for (kind, look) in &self.looks {
            let mut note = |place: Range<usize>| {
                // What does not stand in a string of JSON is none of it.
                if !text[place.clone()].contains('\0') {
                    all.push(Found { place, kind: *kind });
                }
            };
            match look {
                Look::Number(at) => numbers::scan(text, from, *at, note),
                Look::Pattern(pattern) => each(pattern, text, from, note),
                Look::WithDigit(pattern) => each(pattern, text, from, |place| {
                    if text[place.clone()].contains(|c: char| c.is_ascii_digit()) {
                        note(place);
                    }
                }),
            }
        }
        all.sort_by_key(|found| (found.place.start, std::cmp::Reverse(found.place.end)));
        let mut done = from;
        all.retain(|found| {
            let is_free = found.place.start >= done;
            done = if is_free { found.place.end } else { done };
            is_free
        });
        all
    }
}

/// Each match of `pattern` from `from` on, or the group of it that stands for the whole.
fn each(pattern: &Regex, text: &str, from: usize, mut note: impl FnMut(Range<usize>)) {
    let mut next = from;
    while let Some(whole) = pattern.find_at(text, next) {
        let of_group = || {
            let groups = pattern.captures_at(text, next)?;
            groups.iter().skip(1).flatten().next().map(|group| group.range())
        };
        let place = if pattern.captures_len() > 1 { of_group().unwrap_or(whole.range()) } else { whole.range() };
        // A pattern may match the empty text somewhere, though it does not do so everywhere.
        let after = text[whole.end()..].chars().next().map_or(1, char::len_utf8);
        next = if whole.is_empty() { whole.end() + after } else { whole.end() };
        if !place.is_empty() {
            note(place);
        }
        if next > text.len() {
            return;
        }
    }
}

/// Shows neither texts nor patterns of the user's own (I10).
impl fmt::Debug for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detector").field("kinds", &self.kinds).finish_non_exhaustive()
    }
}
