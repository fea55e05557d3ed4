//! libFuzzer's door to the property `sse`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sluicegate_fuzz::sse(bytes));
