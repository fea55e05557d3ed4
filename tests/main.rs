//! The tests that go through sockets, as modules of one binary.
#![allow(missing_docs, reason = "tests document themselves by their names")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod sim;
