//! libFuzzer's door to the property `head`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sluicegate_fuzz::head(bytes));
