//! libFuzzer's door to the property `url`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sluicegate_fuzz::url(bytes));
