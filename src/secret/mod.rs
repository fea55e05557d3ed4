//! Secrets that cannot be printed, masks that take them out of other people's words, and digests that are compared in
//! constant time (I10).
//!
//! A secret's own memory is written over when it drops. That is all that is promised: a key that is sent stands in the
//! headers of each request, in buffers of the HTTP library and of TLS, and in the kernel's. What keeps those from others is that
//! the binary leaves no core dump and lets no other process of its user look into it.

mod mask;

pub use mask::Mask;

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// What stands where a secret was.
pub const REDACTED: &str = "[redacted]";

/// A key or password. `Debug`, `Display` and serialisation show [`REDACTED`]; only [`Secret::expose`] gives the text.
///
/// ```
/// use sluicegate::config::Secret;
///
/// let key = Secret::from("sk-0000");
/// assert_eq!(format!("{key} {key:?}"), "[redacted] [redacted]");
/// assert_eq!(format!("Bearer {}", key.expose()), "Bearer sk-0000");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text in.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself: for the one header that carries it, and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl serde::Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

/// The SHA-256 of a secret, for comparing what a client sent against what is configured.
///
/// Comparing digests in constant time tells neither how long the secret is nor how much of a guess was right.
#[derive(Clone)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The index of this digest in `known`, looking at every entry whatever the answer.
    #[must_use]
    pub fn find_in<'a>(&self, known: impl IntoIterator<Item = &'a Self>) -> Option<usize> {
        let mut found = None;
        for (index, other) in known.into_iter().enumerate() {
            if bool::from(self.0.ct_eq(&other.0)) {
                found = Some(index);
            }
        }
        found
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_way_of_printing_shows_the_text() {
        let secret = Secret::new("sk-canary");
        let printed =
            format!("{secret} {secret:?} {:?} {}", Digest::of(b"sk-canary"), serde_json::to_string(&secret).unwrap());
        assert!(!printed.contains("canary"), "{printed}");
    }

    #[test]
    fn a_digest_is_found_wherever_it_stands() {
        let known: Vec<_> = ["a", "b", "c"].iter().map(|k| Digest::of(k.as_bytes())).collect();
        assert_eq!(Digest::of(b"c").find_in(&known), Some(2));
        assert_eq!(Digest::of(b"d").find_in(&known), None);
    }
}
