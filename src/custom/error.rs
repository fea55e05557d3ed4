//! How a custom provider fails: in the terms that the gateway judges every provider's failures by.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::wire::openai::error_object;

/// Why a provider has no answer.
///
/// Its status decides what becomes of the request, as it does with any provider: 5xx and 408 are tried again, failed over and
/// counted by the breaker; 429 rests the key, for as long as it says; 401 and 403 concern the key; any other 4xx goes to the
/// caller at once. Every other error becomes one by `?`, with status 500.
///
/// ```
/// use std::time::Duration;
/// use sluicegate::custom::ProviderError;
///
/// fn number(text: &str) -> Result<u32, ProviderError> {
///     if text.is_empty() {
///         return Err(ProviderError::new(429, "too many at once").with_retry_after(Duration::from_secs(2)));
///     }
///     Ok(text.parse()?)
/// }
///
/// assert_eq!(number("").expect_err("empty").status(), 429);
/// assert_eq!(number("x").expect_err("no number").status(), 500);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderError {
    status: u16,
    message: String,
    code: Option<String>,
    retry_after: Option<Duration>,
    unsupported: bool,
}

/// The status of what is no error of the provider's own choosing.
const FAILED: u16 = 500;

impl ProviderError {
    /// An error of this HTTP status, 400 to 599; any other is taken for 500. The message reaches the caller.
    #[must_use]
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        let status = if (400..600).contains(&status) { status } else { FAILED };
        Self { status, message: message.into(), code: None, retry_after: None, unsupported: false }
    }

    /// The provider has no such route: the caller is told `unsupported`, and nothing else is tried.
    #[must_use]
    pub fn unsupported() -> Self {
        let text = "this provider has no such route";
        Self { unsupported: true, ..Self::new(400, text).with_code("unsupported") }
    }

    /// Names what is wrong for a program, as `context_length_exceeded` or `model_not_found`; by some the gateway tells where
    /// else a request may go.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Says when to come again.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// In words.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether there is no such route.
    pub(super) fn is_unsupported(&self) -> bool {
        self.unsupported
    }

    /// The headers that go with it.
    pub(super) fn headers(&self) -> Option<(String, String)> {
        self.retry_after.map(|after| ("retry-after-ms".to_owned(), after.as_millis().to_string()))
    }

    /// In OpenAI's shape.
    pub(super) fn object(&self) -> Value {
        error_object(self.status, &self.message, self.code.as_deref())
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (status {})", self.message, self.status)
    }
}

/// So that `?` works. For that [`ProviderError`] is no [`Error`] itself.
impl<E: Error> From<E> for ProviderError {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            message.push_str(": ");
            message.push_str(&error.to_string());
            source = error.source();
        }
        Self::new(FAILED, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_another_kind_is_told_with_all_that_caused_it() {
        #[derive(Debug)]
        struct Outer(std::num::ParseIntError);
        impl fmt::Display for Outer {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("no port")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let error = ProviderError::from(Outer("x".parse::<u16>().expect_err("no number")));
        assert_eq!((error.status(), error.message()), (500, "no port: invalid digit found in string"));
    }

    #[test]
    fn a_status_that_is_no_errors_is_a_failure() {
        for (given, taken) in [(0, 500), (200, 500), (399, 500), (400, 400), (599, 599), (600, 500)] {
            assert_eq!(ProviderError::new(given, "x").status(), taken, "{given}");
        }
    }
}
