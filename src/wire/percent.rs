//! Text as a part of a path.

use std::fmt::Write as _;

/// Appends `text` with all encoded but what is unreserved (RFC 3986, section 2.3).
pub(crate) fn percent_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// The bytes that a part of a path stands for, and whether every `%` in it has its two digits: one that has not stands for
/// itself.
#[cfg(any(feature = "front", feature = "bedrock"))]
pub(crate) fn percent_decode(text: &str) -> (Vec<u8>, bool) {
    let bytes = text.as_bytes();
    let (mut decoded, mut at, mut whole) = (Vec::with_capacity(bytes.len()), 0, true);
    while let Some(&byte) = bytes.get(at) {
        let digit = |offset: usize| bytes.get(at + offset).and_then(|digit| char::from(*digit).to_digit(16));
        match (byte, digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                whole &= byte != b'%';
                decoded.push(byte);
                at += 1;
            }
        }
    }
    (decoded, whole)
}
