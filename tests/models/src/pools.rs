//! Object pools: an object is in one hand at a time, clean, and none is lost from the count.

use shuttle::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::Model;
use crate::recycle::{Limits, Pool, Recycle};

pub const MODELS: &[Model] = &[("pools::what_is_given_back_is_had_by_one_at_a_time", 6_000, one_hand)];

#[derive(Default)]
struct Thing {
    dirt: u32,
    in_hand: AtomicBool,
}

impl Recycle for Thing {
    fn make() -> Self {
        Self::default()
    }
    fn reset(&mut self) -> bool {
        self.dirt = 0;
        true
    }
    fn bytes(&self) -> u64 {
        1
    }
}

fn one_hand() {
    let limits = Limits { initial: 1, max_idle: 2, idle_max_age: Duration::ZERO, alert_below: 0.0 };
    let pool = Pool::<Thing>::new(limits);
    let hands: Vec<_> = (0..3u32)
        .map(|number| {
            let pool = pool.clone();
            thread::spawn(move || {
                for round in 0..2 {
                    let mut thing = pool.acquire();
                    assert!(!thing.in_hand.swap(true, Ordering::SeqCst), "it is in another hand");
                    assert_eq!(thing.dirt, 0, "it is as new");
                    thing.dirt = number + 1;
                    thread::yield_now();
                    assert_eq!(thing.dirt, number + 1, "nobody else writes to it");
                    thing.in_hand.store(false, Ordering::SeqCst);
                    if number == 0 && round == 0 { drop(thing) } else { thing.give_back() }
                }
            })
        })
        .collect();
    let _ = pool.tend(crate::time::now());
    hands.into_iter().for_each(|hand| hand.join().expect("no panic"));
    let stats = pool.stats();
    assert_eq!(stats.live, stats.idle, "nothing is out");
    assert!(stats.idle <= 2, "idle objects are bounded");
    assert_eq!(stats.acquired_total, 6);
    assert_eq!(stats.returned_total + stats.discarded_total, 6, "each came back or was discarded");
    assert_eq!(stats.created_total, stats.live + stats.discarded_total + stats.evicted_total);
}
