//! libFuzzer's door to the property `hygiene`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sluicegate_fuzz::hygiene(bytes));
