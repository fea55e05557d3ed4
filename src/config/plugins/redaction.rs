//! `plugins`: the settings of `redaction`.

use crate::config::section::Section;

/// Secrets and personal data taken out of what goes to providers.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Redaction {}

/// Reads its `config`.
pub(super) fn read(_: &mut Section<'_>) -> Redaction {
    Redaction {}
}
