//! libFuzzer's door to the property `config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sluicegate_fuzz::config(bytes));
