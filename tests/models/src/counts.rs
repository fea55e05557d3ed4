//! Gauges: a limit that is never passed, and counts that are back at zero.

use shuttle::thread;
use std::sync::Arc;

use crate::Model;
use crate::metrics::Gauge;

pub const MODELS: &[Model] = &[("counts::a_limited_gauge_never_passes_its_limit", 8_000, limit)];

fn limit() {
    const LIMIT: u64 = 2;
    let gauge = Arc::new(Gauge::default());
    let entering: Vec<_> = (0..3)
        .map(|_| {
            let gauge = Arc::clone(&gauge);
            thread::spawn(move || {
                (0..2)
                    .filter(|_| {
                        let guard = gauge.enter_below(LIMIT);
                        assert!(gauge.get() <= LIMIT, "more are in than may be");
                        guard.is_some()
                    })
                    .count()
            })
        })
        .collect();
    let entered: usize = entering.into_iter().map(|thread| thread.join().expect("no panic")).sum();
    assert!(entered >= 2, "nobody may be kept out while nobody is in");
    assert_eq!(gauge.get(), 0, "everybody has left");
    assert!((1..=LIMIT).contains(&gauge.peak()));
}
