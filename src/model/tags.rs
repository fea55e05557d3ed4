//! Notes that a caller puts on a request for whoever looks at it on the way; they never go upstream.

use std::ops::Deref;
use std::sync::Arc;

use crate::error::Error;

/// The notes on one request: pairs of key and value, in the order in which they were put on. Cheap to clone, and nothing at
/// all where there are none.
///
/// A request has at most 16. A key is 1 to 64 letters, digits, `_`, `-` or `.` of ASCII; a value is at most 512 bytes
/// without control characters.
///
/// ```
/// use sluicegate::model::Tags;
///
/// let tags: Tags = [("team", "search")].into_iter().collect();
/// assert_eq!(tags.get("team"), Some("search"));
/// assert_eq!(tags.len(), 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Option<Arc<[(String, String)]>>);

impl Tags {
    /// The most that one request may bear.
    pub const MOST: usize = 16;

    /// The longest key, in bytes.
    pub const LONGEST_KEY: usize = 64;

    /// The longest value, in bytes.
    pub const LONGEST_VALUE: usize = 512;

    /// No tags.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// The value under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Puts `value` under `key`, in the place of another one there.
    pub(crate) fn set(&mut self, key: String, value: String) {
        let mut tags = self.to_vec();
        match tags.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = value,
            None => tags.push((key, value)),
        }
        self.0 = Some(tags.into());
    }

    /// Whether each is one that a request may bear.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`](crate::Code::InvalidRequest), naming the first that is not.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.len() > Self::MOST {
            return Err(Error::invalid("tags", format!("a request bears at most {} tags", Self::MOST)));
        }
        self.iter().try_for_each(|(key, value)| {
            let shown: String = key.chars().take(Self::LONGEST_KEY).collect();
            let is_key = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
            if !(1..=Self::LONGEST_KEY).contains(&key.len()) || !key.bytes().all(is_key) {
                let most = Self::LONGEST_KEY;
                let text = format!("the tag {shown:?}: a key is 1 to {most} letters, digits, '_', '-' or '.' of ASCII");
                return Err(Error::invalid("tags", text));
            }
            if value.len() > Self::LONGEST_VALUE || value.chars().any(char::is_control) {
                let most = Self::LONGEST_VALUE;
                let text = format!("the tag {shown:?}: a value is at most {most} bytes without control characters");
                return Err(Error::invalid("tags", text));
            }
            Ok(())
        })
    }
}

impl Deref for Tags {
    type Target = [(String, String)];

    fn deref(&self) -> &Self::Target {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Tags {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut tags = Self::none();
        pairs.into_iter().for_each(|(key, value)| tags.set(key.into(), value.into()));
        tags
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn a_key_stands_once_and_keeps_its_place() {
        let tags: Tags = [("a", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
        assert_eq!(*tags, [("a".to_owned(), "3".to_owned()), ("b".to_owned(), "2".to_owned())]);
        assert_eq!((tags.get("b"), tags.get("c"), Tags::none().len()), (Some("2"), None, 0));
    }

    #[test]
    fn every_edge_of_what_a_tag_may_be_is_kept() {
        let good = |key: &str, value: &str| Tags::from_iter([(key, value)]).check().is_ok();
        assert!(good("a", "") && good("team_1.x-y", "what ever, é") && good(&"k".repeat(64), &"v".repeat(512)));
        for (key, value) in [("", "v"), ("a b", "v"), ("é", "v"), ("k", "line\nbreak"), ("k", "\u{7f}")] {
            assert!(!good(key, value), "{key:?} {value:?}");
        }
        assert!(!good(&"k".repeat(65), "v") && !good("k", &"v".repeat(513)));
        let many = |count: usize| (0..count).map(|n| (n.to_string(), "v")).collect::<Tags>();
        assert!(many(16).check().is_ok());
        assert_eq!(many(17).check().expect_err("too many").code(), Code::InvalidRequest);
    }
}
