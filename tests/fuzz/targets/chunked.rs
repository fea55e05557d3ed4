//! libFuzzer's door to the property `chunked`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sluicegate_fuzz::chunked(bytes));
