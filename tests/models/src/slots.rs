//! Slots: of all who reach for a value, one gets it.

use shuttle::thread;
use std::sync::Arc;

use crate::Model;
use crate::sync::Slot;
use crate::sync::locks::classes::TEST_LEAF;

pub const MODELS: &[Model] = &[("slots::one_taker_gets_the_value", 8_000, one)];

fn one() {
    let slot = Arc::new(Slot::new(&TEST_LEAF, 7));
    let takers: Vec<_> = (0..3)
        .map(|_| {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                let seen = slot.peek(|value| *value);
                let taken = slot.take();
                assert!(seen.is_some() || taken.is_none(), "what is gone stays gone");
                assert!(!slot.is_held(), "after a take nothing is there");
                u32::from(taken.is_some())
            })
        })
        .collect();
    assert_eq!(takers.into_iter().map(|taker| taker.join().expect("no panic")).sum::<u32>(), 1);
}
