//! What is looked for: the built-in kinds, and the user's own texts and patterns.
//!
//! Pure. A text is looked through once for each kind, by patterns of the crate `regex`, which knows no backtracking, and by
//! the bounded looks of `numbers`. What overlaps is taken out together, as the kind that begins first, and is the longest
//! where several begin.

use std::fmt;
use std::ops::Range;

use regex::{Regex, RegexBuilder};

use super::numbers;
use crate::config::plugins::{PATTERN_SIZE, Redaction as Settings};
use crate::plugin::PluginError;

/// Names and domains with letters of Latin scripts; others are kept apart from the words around by nothing.
const EMAIL: &str =
    r"[A-Za-z0-9\u{C0}-\u{24F}._%+'-]+@[A-Za-z0-9\u{C0}-\u{24F}-]+(?:\.[A-Za-z0-9\u{C0}-\u{24F}-]+)*\.[A-Za-z]{2,}";

/// Keys that are told by how they begin, tokens in three parts or more, private keys in PEM with whatever of their body there
/// is, its lines broken by themselves or by `\n`.
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
  | -----BEGIN\ (?:[A-Z0-9]+\ )*PRIVATE\ KEY(?:\ BLOCK)?-----
    (?:(?:\s|\\[nr])*[A-Za-z-]+:[^\n\\\x00]*)*
    (?:(?:\s|\\[nr])+[A-Za-z0-9+/=]{16,})+
    (?:(?:\s|\\[nr])+[A-Za-z0-9+/=]{1,64})?
    (?:(?:\s|\\[nr])*-----END\ [A-Z0-9\ ]+-----)?";

/// Keys that begin as words may: there must be a digit in them.
const TOKENS: &str = r"(?-u:\b)sk-[A-Za-z0-9_-]{20,}";

/// What stands behind a word that says that it is a key; there must be a digit in it, too.
const NAMED: &str = r"(?-u:\b)(?i:bearer|x-api-key|api[_-]?key)(?:\s*[:=]\s*|\s+)[A-Za-z0-9._~+/=-]{16,}";

/// The password in a URL, with what stands around it.
const PASSWORDS: &str = r"[A-Za-z]://[^\s/:@\x00]+:[^\s/@\x00]{3,}@";

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it stands.
    pub(super) place: Range<usize>,
    /// Which kind it is: an index into [`Detector::kinds`].
    pub(super) kind: usize,
}

enum Look {
    /// A pattern, and the part of what it matches that is taken out; none if it is no find after all. Not a group of the
    /// pattern: looking for those takes ten times as long in a long text.
    Pattern(Regex, fn(&str) -> Option<Range<usize>>),
    Number(fn(&[u8], usize) -> Option<usize>),
}

/// All of it.
fn whole(text: &str) -> Option<Range<usize>> {
    Some(0..text.len())
}

/// All of it, if there is a digit in it.
fn with_digit(text: &str) -> Option<Range<usize>> {
    text.contains(|c: char| c.is_ascii_digit()).then_some(0..text.len())
}

/// What stands behind a name and what parts it from it.
fn named(text: &str) -> Option<Range<usize>> {
    let value = text.trim_start_matches(|c: char| c.is_ascii_alphabetic() || c == '-' || c == '_');
    let value = value.trim_start_matches(|c: char| c.is_whitespace() || c == ':' || c == '=');
    with_digit(value).map(|_| text.len() - value.len()..text.len())
}

/// What stands between a user's name and the `@` at the end.
fn password(text: &str) -> Option<Range<usize>> {
    let host = text.find("://")? + 3;
    Some(host + text[host..].find(':')? + 1..text.len() - 1)
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
                "api_key" => vec![
                    Look::Pattern(pattern(KEYS)?, whole),
                    Look::Pattern(pattern(TOKENS)?, with_digit),
                    Look::Pattern(pattern(NAMED)?, named),
                    Look::Pattern(pattern(PASSWORDS)?, password),
                ],
                "email" => vec![Look::Pattern(pattern(EMAIL)?, whole)],
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
            detector.add("literal", vec![Look::Pattern(Regex::new(&either)?, whole)]);
        }
        for own in &settings.patterns {
            detector.add(&own.name, vec![Look::Pattern(pattern(&own.pattern)?, whole)]);
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
        // Each string of JSON is looked through by itself: a pattern may match anything else that stands between two of them.
        let mut begin = 0;
        for string in text.split('\0') {
            if begin + string.len() >= from + self.shortest {
                self.find_in(string, from.saturating_sub(begin), begin, &mut all);
            }
            begin += string.len() + 1;
        }
        all.sort_by_key(|found| (found.place.start, std::cmp::Reverse(found.place.end)));
        let mut apart: Vec<Found> = Vec::with_capacity(all.len());
        for found in all {
            match apart.last_mut() {
                Some(last) if found.place.start < last.place.end => {
                    last.place.end = last.place.end.max(found.place.end);
                }
                _ => apart.push(found),
            }
        }
        apart
    }

    /// Puts into `all` what each look finds in `text` from `from` on, which itself begins at `begin`.
    fn find_in(&self, text: &str, from: usize, begin: usize, all: &mut Vec<Found>) {
        if text.len() - from < self.shortest {
            return;
        }
        for (kind, look) in &self.looks {
            let mut note = |place: Range<usize>| {
                all.push(Found { place: begin + place.start..begin + place.end, kind: *kind });
            };
            match look {
                Look::Number(at) => numbers::scan(text, from, *at, note),
                Look::Pattern(pattern, part) => each(pattern, text, from, |place| {
                    if let Some(part) = part(&text[place.clone()]) {
                        note(place.start + part.start..place.start + part.end);
                    }
                }),
            }
        }
    }
}

/// Each match of `pattern` from `from` on.
fn each(pattern: &Regex, text: &str, from: usize, mut note: impl FnMut(Range<usize>)) {
    let mut next = from;
    while let Some(found) = pattern.find_at(text, next) {
        next = found.end();
        if found.is_empty() {
            // A pattern may match the empty text somewhere, though it does not do so everywhere.
            match text[next..].chars().next() {
                Some(c) => next += c.len_utf8(),
                None => return,
            }
        } else {
            note(found.range());
        }
    }
}

/// Shows neither texts nor patterns of the user's own (I10).
impl fmt::Debug for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detector").field("kinds", &self.kinds).finish_non_exhaustive()
    }
}
