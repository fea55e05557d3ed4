//! A strict pull scanner over JSON text that finds where values stand, without building any of them.
//!
//! The gateway forwards bodies untouched, so it needs places, not values: serde would build what is thrown away, cannot
//! say where a member stands, and passes over duplicate keys and depth in what it ignores. One pass validates the whole
//! text (RFC 8259 grammar) at about a gigabyte a second; strings are walked eight bytes at a time.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// The deepest nesting taken, the outermost value counted as one. One bit each in a `u128`.
pub(crate) const MAX_DEPTH: u32 = 128;

/// What is wrong with a text, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Syntax {
    what: &'static str,
    at: usize,
}

impl fmt::Display for Syntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

/// A string as it stands in the text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    /// What stands between the quotes.
    inner: &'a [u8],
    /// The same with the quotes.
    quoted: &'a [u8],
    escaped: bool,
}

impl<'a> Text<'a> {
    /// The string's meaning, escapes resolved; `None` if it has none (half a surrogate pair, or bytes that are no UTF-8).
    pub(crate) fn decode(&self) -> Option<Cow<'a, str>> {
        if self.escaped {
            serde_json::from_slice(self.quoted).ok().map(Cow::Owned)
        } else {
            std::str::from_utf8(self.inner).ok().map(Cow::Borrowed)
        }
    }

    /// The same with half a surrogate pair replaced.
    pub(crate) fn decode_lossy(&self) -> Cow<'a, str> {
        self.decode()
            .unwrap_or_else(|| Cow::Owned(serde_json::from_slice(&self.with_whole_pairs()).unwrap_or_default()))
    }

    /// The quoted string with U+FFFD for each half of a surrogate pair that stands alone.
    fn with_whole_pairs(&self) -> Vec<u8> {
        let unit = |at: usize| {
            let digits = self.inner.get(at..)?.strip_prefix(b"\\u")?.get(..4)?;
            u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        let (mut out, mut at) = (vec![b'"'], 0);
        while let Some(rest) = self.inner.get(at..).filter(|rest| !rest.is_empty()) {
            let length = match (rest[0], unit(at)) {
                (b'\\', Some(0xD800..0xDC00)) if matches!(unit(at + 6), Some(0xDC00..0xE000)) => 12,
                (b'\\', Some(0xD800..0xE000)) => {
                    out.extend_from_slice(b"\\ufffd");
                    at += 6;
                    continue;
                }
                (b'\\', _) => 2,
                _ => 1,
            };
            out.extend_from_slice(&rest[..length.min(rest.len())]);
            at += length;
        }
        out.push(b'"');
        out
    }

    /// The key to match on: escapes are resolved, so that `mod\u0065l` is `model`. A key without meaning equals none.
    pub(crate) fn key(&self) -> Cow<'a, [u8]> {
        if !self.escaped {
            return Cow::Borrowed(self.inner);
        }
        self.decode().map_or(Cow::Borrowed(self.quoted), |text| Cow::Owned(text.into_owned().into_bytes()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }
}

/// A member's key, with the places that cutting the member out needs.
#[derive(Debug)]
pub(crate) struct Key<'a> {
    pub(crate) text: Text<'a>,
    /// Where its opening quote stands.
    pub(crate) start: usize,
    /// Where the comma before it stands; `None` for the first.
    pub(crate) comma: Option<usize>,
}

/// A position in a text.
#[derive(Clone, Debug)]
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: u32,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0 }
    }

    /// How many bytes were scanned.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The first byte of what comes next, spaces left out; `None` at the end.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        self.space();
        self.byte()
    }

    /// Enters the object that comes next.
    pub(crate) fn enter_object(&mut self) -> Result<(), Syntax> {
        self.enter(b'{', "an object is expected")
    }

    /// Enters the array that comes next.
    pub(crate) fn enter_array(&mut self) -> Result<(), Syntax> {
        self.enter(b'[', "an array is expected")
    }

    /// The next member's key, with its value to be read next; `None` once the object has ended. `first` tells whether
    /// this is the first call for this object, and is changed by it.
    pub(crate) fn next_key(&mut self, first: &mut bool) -> Result<Option<Key<'a>>, Syntax> {
        let Some(comma) = self.next_item(first, b'}')? else { return Ok(None) };
        let start = self.at;
        let text = self.key()?;
        Ok(Some(Key { text, start, comma }))
    }

    /// Whether another element follows, to be read next. `first` as for [`Self::next_key`].
    pub(crate) fn next_element(&mut self, first: &mut bool) -> Result<bool, Syntax> {
        Ok(self.next_item(first, b']')?.is_some())
    }

    /// Reads the string that comes next.
    pub(crate) fn text(&mut self) -> Result<Text<'a>, Syntax> {
        match self.peek() {
            Some(b'"') => self.string(),
            _ => Err(self.fail("a string is expected")),
        }
    }

    /// Passes over one value, whatever it is, and says where it stands.
    pub(crate) fn skip(&mut self) -> Result<Range<usize>, Syntax> {
        self.space();
        let start = self.at;
        // One bit per open container: 1 for an object. The depth check keeps it from overflowing.
        let (mut kinds, mut open) = (0u128, 0u32);
        loop {
            match self.byte() {
                Some(bracket @ (b'{' | b'[')) => {
                    self.at += 1;
                    if self.depth + open >= MAX_DEPTH {
                        return Err(self.fail("the nesting is deeper than 128"));
                    }
                    let object = bracket == b'{';
                    (kinds, open) = (kinds << 1 | u128::from(object), open + 1);
                    self.space();
                    let empty = self.byte() == Some(if object { b'}' } else { b']' });
                    if !empty {
                        if object {
                            self.key()?;
                        }
                        continue;
                    }
                }
                Some(b'"') => {
                    self.string()?;
                }
                Some(b't') => self.word(b"true")?,
                Some(b'f') => self.word(b"false")?,
                Some(b'n') => self.word(b"null")?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(_) => return Err(self.fail("a value is expected")),
                None => return Err(self.fail("the text ends where a value is expected")),
            }
            loop {
                if open == 0 {
                    return Ok(start..self.at);
                }
                self.space();
                let object = kinds & 1 == 1;
                match self.byte() {
                    Some(b',') => {
                        self.at += 1;
                        self.space();
                        if object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if object => {}
                    Some(b']') if !object => {}
                    _ => {
                        return Err(self.fail(if object {
                            "',' or '}' is expected"
                        } else {
                            "',' or ']' is expected"
                        }));
                    }
                }
                self.at += 1;
                (kinds, open) = (kinds >> 1, open - 1);
            }
        }
    }

    /// Checks that nothing but space is left.
    pub(crate) fn end(&mut self) -> Result<(), Syntax> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.fail("the end is expected")),
        }
    }

    fn fail(&self, what: &'static str) -> Syntax {
        Syntax { what, at: self.at }
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn enter(&mut self, bracket: u8, what: &'static str) -> Result<(), Syntax> {
        if self.peek() != Some(bracket) {
            return Err(self.fail(what));
        }
        self.at += 1;
        if self.depth >= MAX_DEPTH {
            return Err(self.fail("the nesting is deeper than 128"));
        }
        self.depth += 1;
        Ok(())
    }

    /// Stands on the next item of a container; the inner option is the place of the comma before it.
    fn next_item(&mut self, first: &mut bool, close: u8) -> Result<Option<Option<usize>>, Syntax> {
        let found = self.peek();
        if found == Some(close) {
            self.at += 1;
            self.depth -= 1;
            return Ok(None);
        }
        if std::mem::take(first) {
            return Ok(Some(None));
        }
        if found != Some(b',') {
            return Err(self.fail(if close == b'}' { "',' or '}' is expected" } else { "',' or ']' is expected" }));
        }
        let comma = self.at;
        self.at += 1;
        self.space();
        Ok(Some(Some(comma)))
    }

    /// A key with its colon; stands on the value afterwards.
    fn key(&mut self) -> Result<Text<'a>, Syntax> {
        if self.byte() != Some(b'"') {
            return Err(self.fail("a key in quotes is expected"));
        }
        let text = self.string()?;
        if self.peek() != Some(b':') {
            return Err(self.fail("':' is expected"));
        }
        self.at += 1;
        self.space();
        Ok(text)
    }

    /// A string; stands on its opening quote.
    fn string(&mut self) -> Result<Text<'a>, Syntax> {
        let start = self.at;
        let mut escaped = false;
        self.at += 1;
        loop {
            self.at += plain_run(&self.bytes[self.at..]);
            match self.byte() {
                Some(b'"') => {
                    let inner = &self.bytes[start + 1..self.at];
                    self.at += 1;
                    return Ok(Text { inner, quoted: &self.bytes[start..self.at], escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(self.fail("a control character stands in a string")),
                None => return Err(self.fail("the text ends within a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Syntax> {
        let length = match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') => {
                let digits = self.bytes.get(self.at + 2..self.at + 6);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.fail("\\u needs four hexadecimal digits"));
                }
                6
            }
            _ => return Err(self.fail("an unknown escape stands in a string")),
        };
        self.at += length;
        Ok(())
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), Syntax> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(self.fail("a value is expected"));
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Syntax> {
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.byte(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Syntax> {
        let start = self.at;
        while matches!(self.byte(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.fail("a digit is expected")) } else { Ok(()) }
    }
}

/// Whether a string may stand between quotes as it is.
pub(crate) fn is_plain(text: &str) -> bool {
    plain_run(text.as_bytes()) == text.len()
}

/// How many bytes at the front are neither a quote, a backslash nor a control character.
#[inline]
fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    // Marks the zero bytes of a word. A mark above the lowest one may be false, for the subtraction borrows; only the
    // lowest is used.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let quote = zeros(word ^ (ONES * u64::from(b'"')));
        let slash = zeros(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let hit = (quote | slash | control) & HIGH;
        if hit != 0 {
            return at + (hit.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let tail = bytes[at..].iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20));
    tail.map_or(bytes.len(), |more| at + more)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(text: &[u8]) -> Result<Range<usize>, Syntax> {
        let mut scanner = Scanner::new(text);
        let range = scanner.skip()?;
        scanner.end()?;
        Ok(range)
    }

    #[test]
    fn the_grammar_is_the_one_of_the_standard() {
        let good = [
            "0",
            "-0",
            "1.5e-3",
            "1E+2",
            "\"\"",
            "true",
            "false",
            "null",
            "[]",
            "{}",
            " [ 1 , 2 ] ",
            "{\"a\":{\"b\":[]}}",
            "\"\\u00e9\\n\\/\"",
            "\"\\ud800\"",
            "[[],{},[{}]]",
            "\t\r\n 1 ",
        ];
        for text in good {
            assert!(whole(text.as_bytes()).is_ok(), "{text}: {:?}", whole(text.as_bytes()));
        }
        let bad = [
            "",
            " ",
            "01",
            "+1",
            "1.",
            ".5",
            "1e",
            "--1",
            "tru",
            "nulll",
            "[1,]",
            "[,1]",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\"1}",
            "{\"a\":}",
            "[1 2]",
            "[1}",
            "{\"a\":1]",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\n\"",
            "\"\u{1}\"",
            "1 2",
            "[",
            "{",
            "{\"a\"",
            "'a'",
            "NaN",
            "\u{feff}1",
            "\u{a0}1",
            "[1]]",
        ];
        for text in bad {
            assert!(whole(text.as_bytes()).is_err(), "{text} must be refused");
        }
    }

    #[test]
    fn nesting_ends_at_128() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(whole(nested(128).as_bytes()).is_ok());
        assert!(whole(nested(129).as_bytes()).is_err());
        // The levels that were entered by hand count too.
        let text = format!("{{\"a\":{}}}", nested(128));
        let mut scanner = Scanner::new(text.as_bytes());
        scanner.enter_object().expect("an object");
        scanner.next_key(&mut true).expect("a key");
        assert!(scanner.skip().is_err());
    }

    proptest! {
        #[test]
        fn it_agrees_with_serde_on_what_is_json(text in "[\\[\\]{},:\"\\\\0-9a-u .eE+-]{0,24}") {
            // The alphabet has no way to half a surrogate pair inside a number, and serde bounds exponents: left out.
            let serde: Result<&serde_json::value::RawValue, _> = serde_json::from_str(&text);
            prop_assert_eq!(whole(text.as_bytes()).is_ok(), serde.is_ok(), "{}", text);
        }

        #[test]
        fn it_takes_every_string_that_serde_writes(text in any::<String>()) {
            let quoted = serde_json::to_string(&text).expect("a string");
            let mut scanner = Scanner::new(quoted.as_bytes());
            let found = scanner.text().expect("a string");
            prop_assert_eq!(found.decode().expect("it has a meaning"), text);
            prop_assert!(scanner.end().is_ok());
        }

        #[test]
        fn a_plain_run_ends_where_a_naive_look_says(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let naive = bytes.iter().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)).unwrap_or(bytes.len());
            prop_assert_eq!(plain_run(&bytes), naive);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = whole(&bytes);
        }
    }
}
