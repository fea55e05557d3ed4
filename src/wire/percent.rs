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
