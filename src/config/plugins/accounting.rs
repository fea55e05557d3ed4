//! `plugins`: the settings of `accounting`.

use crate::config::section::Section;

/// Tokens and costs by a price table, with budgets.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Accounting {}

/// Reads its `config`.
pub(super) fn read(_: &mut Section<'_>) -> Accounting {
    Accounting {}
}
