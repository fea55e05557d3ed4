//! libFuzzer's door to the property `frames`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sluicegate_fuzz::frames(bytes));
