//! Configuration: raw JSON, checked and resolved into types that cannot be wrong.
