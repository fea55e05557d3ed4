//! Taking out of a text what is found in it, whole or as it comes piece by piece.
//!
//! **Protocol.** What has come of a stream's text stands in a window until nothing that follows can make a part of it belong
//! to something that is looked for. That is so for what lies [`TAIL`] bytes back, and before the word that is being said,
//! and belongs to nothing that reaches further. Bounded (I4): a word longer than [`WORD`] and a find longer than [`MOST`] are
//! not waited for. So it does not see what is longer than [`TAIL`] with blanks in it, or longer than [`WORD`] without, unless
//! it is found before it is complete as a private key is; of what is longer than [`MOST`] it sees the beginning. A whole
//! text is a window that is filled once.
//!
//! Pure.

use super::detect::{Detector, Found};

/// How far back a find with blanks in it may begin: the longest account in groups of four has 42 bytes.
const TAIL: usize = 64;

/// How much of a word is waited for before anything is found in it, in bytes: tokens in three parts are that long.
const WORD: usize = 2 << 10;

/// The most that is held back of what was found, in bytes: a private key of 8192 bits has 6.4 KB.
const MOST: usize = 8 << 10;

/// How long a private key is waited for that has begun, and of which nothing but headers has come, in bytes: they are longer
/// than [`TAIL`].
const HEADERS: usize = 512;

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    /// Words.
    Plain,
    /// A document of JSON, as the arguments of a tool's call are: only what stands in its strings is looked at, as it is
    /// meant, and put there as it must be written.
    Json,
}

/// A text as it is looked at.
struct View {
    hay: String,
    /// How much of `hay` is context.
    context: usize,
    /// For each byte behind the context, where in the raw text the character begins that it is of; none if they are the same.
    map: Option<Vec<usize>>,
    /// How much of the raw text is seen: an escape that is not complete is not.
    seen: usize,
}

impl View {
    fn of(context: &str, raw: &str, flavour: Flavour, inside: bool) -> Self {
        let mut view = Self { hay: context.to_owned(), context: context.len(), map: None, seen: raw.len() };
        if flavour == Flavour::Plain {
            view.hay.push_str(raw);
            return view;
        }
        let (mut map, mut inside, mut at) = (Vec::with_capacity(raw.len()), inside, 0);
        while let Some(first) = raw[at..].chars().next() {
            let (shown, length) = match first {
                '\\' if inside => match escape(&raw[at..]) {
                    Some(found) => found,
                    None => break,
                },
                '"' => {
                    inside = !inside;
                    ('\0', 1)
                }
                other if inside => (other, other.len_utf8()),
                other => ('\0', other.len_utf8()),
            };
            view.hay.push(shown);
            map.resize(map.len() + shown.len_utf8(), at);
            at += length;
        }
        (view.map, view.seen) = (Some(map), at);
        view
    }

    /// Where in the raw text a place in `hay` is.
    fn raw(&self, at: usize) -> usize {
        let at = at - self.context;
        self.map.as_ref().map_or(at, |map| map.get(at).copied().unwrap_or(self.seen))
    }
}

/// The character that an escape stands for, and how long it is; none if it is not complete.
fn escape(text: &str) -> Option<(char, usize)> {
    let unit = |at: usize| u32::from_str_radix(text.get(at..at + 4)?, 16).ok();
    Some(match text.as_bytes().get(1)? {
        b'n' => ('\n', 2),
        b't' => ('\t', 2),
        b'r' => ('\r', 2),
        b'b' => ('\u{8}', 2),
        b'f' => ('\u{c}', 2),
        b'u' if text.len() < 6 => return None,
        b'u' => {
            let first = unit(2);
            let is_high = first.is_some_and(|first| (0xD800..0xDC00).contains(&first));
            // By bytes: whatever stands behind it need not end where an escape would.
            let next = text.as_bytes().get(6..).unwrap_or_default();
            if is_high && text.len() < 12 && b"\\u".starts_with(&next[..next.len().min(2)]) {
                return None;
            }
            let second =
                unit(8).filter(|second| is_high && next.starts_with(b"\\u") && (0xDC00..0xE000).contains(second));
            match (first, second) {
                (Some(first), Some(second)) => {
                    let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
                }
                (Some(first), None) => (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6),
                // No JSON: looked at as it is.
                (None, _) => ('\\', 1),
            }
        }
        b'"' | b'\\' | b'/' => (char::from(text.as_bytes()[1]), 2),
        _ => ('\\', 1),
    })
}

/// Whether a string is open at the end of `raw` where one was, or was not, at its beginning.
fn inside_after(raw: &str, inside: bool) -> bool {
    let (mut inside, mut bytes) = (inside, raw.bytes());
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if inside => {
                bytes.next();
            }
            b'"' => inside = !inside,
            _ => {}
        }
    }
    inside
}

/// What stands in the place of a find: its kind and itself are given.
pub(super) type Rename<'a> = dyn FnMut(usize, &str) -> String + 'a;

/// What has come of a text and is not yet said.
pub(super) struct Window {
    flavour: Flavour,
    raw: String,
    /// The last characters of what was said, as they were.
    context: String,
    /// Whether what is held begins in a string of JSON.
    inside: bool,
}

impl Window {
    pub(super) fn new(flavour: Flavour) -> Self {
        Self { flavour, raw: String::new(), context: String::new(), inside: false }
    }

    /// Takes `text` in, and puts into `out` what can be said now: everything, if it is the last.
    pub(super) fn take(
        &mut self,
        detector: &Detector,
        text: &str,
        last: bool,
        rename: &mut Rename<'_>,
        out: &mut String,
    ) {
        self.raw.push_str(text);
        let view = View::of(&self.context, &self.raw, self.flavour, self.inside);
        let (hay, found) = (&view.hay, detector.find(&view.hay, view.context));
        let mut cut = if last { hay.len() } else { safe(hay, view.context, TAIL.max(detector.longest())) };
        let begun = private_key(hay, view.context).filter(|at| found.iter().all(|found| found.place.start != *at));
        if let (Some(begun), false) = (begun, last) {
            cut = cut.min(begun);
        }
        let mut done = view.context;
        for Found { place, kind } in found {
            if place.end > cut && !last {
                if place.start >= cut {
                    break;
                }
                if hay.len() - place.start <= MOST {
                    cut = place.start;
                    break;
                }
                cut = place.end;
            }
            out.push_str(&self.raw[view.raw(done)..view.raw(place.start)]);
            out.push_str(&rename(kind, &hay[place.clone()]));
            done = place.end;
        }
        cut = cut.max(done);
        let said = if last { self.raw.len() } else { view.raw(cut) };
        out.push_str(&self.raw[view.raw(done)..said]);
        if self.flavour == Flavour::Json {
            self.inside = inside_after(&self.raw[..said], self.inside);
        }
        let context = hay[..cut].char_indices().rev().nth(3).map_or(0, |(at, _)| at);
        self.context = hay[context..cut].to_owned();
        self.raw.drain(..said);
    }
}

/// How far what is seen can be said, but for finds that reach beyond.
fn safe(hay: &str, from: usize, tail: usize) -> usize {
    let mut far = hay.len().saturating_sub(tail).max(from);
    while !hay.is_char_boundary(far) {
        far -= 1;
    }
    let word =
        hay.char_indices().rev().find(|(_, c)| !is_of_word(*c)).map_or(from, |(at, c)| at + c.len_utf8()).max(from);
    if hay.len() - word <= WORD { far.min(word) } else { far }
}

/// Where, not long ago, a private key may have begun.
fn private_key(hay: &str, from: usize) -> Option<usize> {
    let at = from + hay[from..].rfind("-----BEGIN ")?;
    let line = hay[at..].lines().next().unwrap_or_default();
    (hay.len() - at <= HEADERS && line.contains("PRIVATE KEY")).then_some(at)
}

/// Whether a character may stand in a key, a token or an address. Where words have no blanks between them, as in Chinese,
/// nothing is held back for long.
fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._~+/=-@:%'".contains(c) || ('\u{C0}'..='\u{24F}').contains(&c)
}

/// Whether there is anything to be found in a whole text.
pub(super) fn holds_any(detector: &Detector, text: &str, flavour: Flavour) -> bool {
    match flavour {
        Flavour::Plain => !detector.find(text, 0).is_empty(),
        Flavour::Json => !detector.find(&View::of("", text, flavour, false).hay, 0).is_empty(),
    }
}

/// A whole text with its finds renamed.
pub(super) fn renamed(detector: &Detector, text: &str, flavour: Flavour, rename: &mut Rename<'_>) -> String {
    let mut out = String::with_capacity(text.len());
    Window::new(flavour).take(detector, text, true, rename, &mut out);
    out
}
