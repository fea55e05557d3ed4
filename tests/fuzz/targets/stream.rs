//! libFuzzer's door to the property `stream`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sluicegate_fuzz::stream(bytes));
