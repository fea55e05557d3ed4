//! Taking known secrets out of other people's words: a provider that echoes a key does so plainly, percent-encoded as in a
//! URL, in base64 as in a `Basic` header, or in hexadecimal.
//!
//! Pure, and for errors: nothing of it runs where everything goes well.

use std::fmt;
use std::ops::Range;

use super::{REDACTED, Secret};

/// Shorter ones are not looked for: they would be found in words that hold no secret.
const SHORTEST: usize = 4;

/// A beginning of a secret counts as one where the text ends with it, for it may have been cut there. Not a shorter one: words
/// such as `sk-proj-` begin many a key, and are no secret.
const CUT: usize = 12;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Secrets to be taken out of texts.
#[derive(Clone, Default)]
pub struct Mask {
    secrets: Vec<Secret>,
    /// What stands for a secret in base64, wherever in a group of three bytes it begins, without the characters at its edges
    /// that its neighbours have a part in; with `-` and `_` written as `+` and `/`.
    encoded: Vec<Secret>,
    shortest: usize,
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mask").field("secrets", &self.secrets.len()).finish_non_exhaustive()
    }
}

impl Mask {
    /// Looks for these; those shorter than four bytes are left alone.
    #[must_use]
    pub fn of(secrets: impl IntoIterator<Item = Secret>) -> Self {
        let mut secrets: Vec<_> = secrets.into_iter().filter(|secret| secret.expose().len() >= SHORTEST).collect();
        // The longest first, so that none is cut by a shorter one that is a part of it.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        let encoded = secrets.iter().flat_map(|secret| (0..3).map(move |lead| core(secret.expose().as_bytes(), lead)));
        let encoded = encoded.filter(|core| core.expose().len() >= SHORTEST).collect();
        let shortest = secrets.last().map_or(usize::MAX, |secret| secret.expose().len());
        Self { secrets, encoded, shortest }
    }

    /// `text` with [`REDACTED`](super::REDACTED) wherever a secret stood.
    #[must_use]
    pub fn apply(&self, text: String) -> String {
        // In no form that is looked for is a secret shorter than it is.
        if text.len() < self.shortest {
            return text;
        }
        let bytes = text.as_bytes();
        let mut found: Vec<Range<usize>> = Vec::new();
        for secret in &self.secrets {
            let secret = secret.expose().as_bytes();
            found.extend((0..bytes.len()).filter_map(|at| Some(at..at + spelled(&bytes[at..], secret)?)));
            found.extend((0..bytes.len()).filter_map(|at| Some(at..at + in_hex(&bytes[at..], secret)?)));
        }
        let standard: Vec<u8> = bytes.iter().map(|byte| standard(*byte)).collect();
        for core in &self.encoded {
            let places = memchr::memmem::find_iter(&standard, core.expose().as_bytes());
            let cut = (0..bytes.len().saturating_sub(CUT)).rev().take(core.expose().len());
            let cut = cut.filter(|at| core.expose().as_bytes().starts_with(&standard[*at..]));
            found.extend(cut.map(|at| run_around(&standard, at..bytes.len())));
            found.extend(places.map(|at| run_around(&standard, at..at + core.expose().len())));
        }
        if found.is_empty() {
            return text;
        }
        found.sort_unstable_by_key(|place| (place.start, std::cmp::Reverse(place.end)));
        let (mut out, mut done) = (String::with_capacity(text.len()), 0);
        for place in found {
            if place.start >= done {
                out.push_str(text.get(done..place.start).unwrap_or_default());
                out.push_str(REDACTED);
            }
            done = done.max(place.end);
        }
        out.push_str(text.get(done..).unwrap_or_default());
        out
    }
}

/// How much of `text`'s beginning spells `secret`, each byte as it is or percent-encoded.
fn spelled(text: &[u8], secret: &[u8]) -> Option<usize> {
    let mut at = 0;
    for (nth, wanted) in secret.iter().enumerate() {
        if at == text.len() {
            return (nth >= CUT).then_some(at);
        }
        let (byte, width) = match text.get(at..)? {
            [b'%', high, low, ..] if digit(*high).is_some() && digit(*low).is_some() => {
                (digit(*high)? << 4 | digit(*low)?, 3)
            }
            [b'+', ..] if *wanted == b' ' => (b' ', 1),
            [byte, ..] => (*byte, 1),
            [] => return None,
        };
        if byte != *wanted {
            return None;
        }
        at += width;
    }
    Some(at)
}

/// How much of `text`'s beginning is `secret` in hexadecimal.
fn in_hex(text: &[u8], secret: &[u8]) -> Option<usize> {
    let hex = &text[..text.len().min(secret.len() * 2)];
    if hex.len() < secret.len() * 2 && hex.len() < CUT * 2 {
        return None;
    }
    let same = |(pair, byte): (&[u8], &u8)| digit(pair[0]).zip(digit(pair[1])) == Some((byte >> 4, byte & 15));
    hex.chunks_exact(2).zip(secret).all(same).then_some(hex.len())
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// The base64 of `secret` where `lead` bytes of something else stand before it in its first group, without the characters that
/// hold bits of a neighbour's.
fn core(secret: &[u8], lead: usize) -> Secret {
    let bits: Vec<bool> = secret.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
    // Where the secret's first whole character begins, in bits of its own.
    let skip = (6 - lead * 8 % 6) % 6;
    let sextet = |six: &[bool]| six.iter().fold(0, |value, bit| value << 1 | usize::from(*bit));
    let text: String = bits[skip..].chunks_exact(6).map(|six| char::from(STANDARD[sextet(six)])).collect();
    Secret::new(text)
}

/// A character of the URL's alphabet as the standard one's.
fn standard(byte: u8) -> u8 {
    match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => other,
    }
}

/// All of the base64 that a place is within: what stands around it may hold the secret's first and last bits.
fn run_around(text: &[u8], place: Range<usize>) -> Range<usize> {
    let belongs = |byte: &&u8| STANDARD.contains(byte) || **byte == b'=';
    let before = text[..place.start].iter().rev().take_while(belongs).count();
    let after = text[place.end..].iter().take_while(belongs).count();
    place.start - before..place.end + after
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "sk-canary/7f3a9+Q_z~";

    fn masked(text: &str) -> String {
        Mask::of([Secret::new(KEY)]).apply(text.to_owned())
    }

    fn base64(bytes: &[u8], url: bool) -> String {
        let mut out = String::new();
        for group in bytes.chunks(3) {
            let word = group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
            for at in 0..=group.len() {
                let byte = STANDARD[(word >> (18 - 6 * at) & 63) as usize];
                out.push(char::from(match byte {
                    b'+' if url => b'-',
                    b'/' if url => b'_',
                    other => other,
                }));
            }
        }
        out
    }

    #[test]
    fn a_secret_is_found_however_it_is_written() {
        let percent: String = KEY.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let some = KEY.replace('/', "%2F").replace('+', "%2B");
        let hex: String = KEY.bytes().map(|byte| format!("{byte:02X}")).collect();
        for written in [KEY, &percent, &some, &hex, &hex.to_lowercase()] {
            assert_eq!(masked(&format!("the key {written}, no good")), "the key [redacted], no good");
        }
        assert_eq!(masked(&format!("{KEY}{KEY} {some}")), "[redacted][redacted] [redacted]");
        for words in ["the key is wrong", "", "sk-canary", "naïve ☃ %zz %2", "sk-canary/7f3a9+Q_z"] {
            assert_eq!(masked(words), words);
        }
    }

    #[test]
    fn a_secret_that_is_cut_by_the_texts_end_is_found_too() {
        let hex: String = KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
        let encoded = base64(KEY.as_bytes(), false);
        for (written, least) in [(KEY, CUT), (&*hex, 2 * CUT), (&*encoded, CUT + 1)] {
            for end in least..=written.len() {
                let text = format!("the provider says of {}", &written[..end]);
                assert_eq!(masked(&text), "the provider says of [redacted]", "{end} of {written}");
            }
        }
        assert_eq!(masked("the provider says of sk-canary/"), "the provider says of sk-canary/");
    }

    #[test]
    fn a_longer_secret_is_not_cut_by_a_shorter_one_and_a_very_short_one_is_not_looked_for() {
        let mask = Mask::of(["abcd", "abcdefgh", "xyz"].map(Secret::new));
        assert_eq!(mask.apply("abcdefgh abcd xyz".to_owned()), "[redacted] [redacted] xyz");
        assert!(!format!("{mask:?}").contains("abcd"));
    }

    proptest! {
        #[test]
        fn base64_hides_no_secret_wherever_it_stands(
            before in proptest::collection::vec(any::<u8>(), 0..7),
            after in proptest::collection::vec(any::<u8>(), 0..7),
            url in any::<bool>(),
        ) {
            let text = base64(&[&before, KEY.as_bytes(), &after].concat(), url);
            prop_assert_eq!(masked(&format!("Basic {text} there")), "Basic [redacted] there");
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}", secret in "[ -~]{1,12}") {
            let _ = Mask::of([Secret::new(secret)]).apply(text);
        }
    }
}
