//! Claims about how a pool starts.

use serde_json::json;

use super::rig::{Miss, Verdict, configured, ensure, figures, fixed, instant, one, pool, rooted, timed};
use crate::time::micros_of;

pub(super) fn phases() -> Verdict {
    const WORKERS: usize = 16;
    let (took, gateway) = timed(|| one(fixed(WORKERS), instant()));
    let times = figures(&gateway?)?.startup_us;
    let steps = [("channels", times.channels), ("connections and keys", times.resources), ("16 workers", times.spawn)];
    let mut sum = 0;
    let mut words = Vec::with_capacity(steps.len());
    for (step, time) in steps {
        let time = time.ok_or_else(|| Miss::new(format!("{step}: not timed")))?;
        sum += time;
        words.push(format!("{step} {time} µs"));
    }
    ensure(times.spawn > Some(0) && sum <= micros_of(took), || format!("{times:?} of {took:?}"))?;
    Ok(format!("{}; {took:.1?} in all", words.join(", ")))
}

pub(super) fn fewest_first() -> Verdict {
    let mut found = Vec::new();
    let elastic = |enabled: bool| {
        let mut settings = pool(24, 100, "block");
        settings["concurrency_and_buffer_size"]["min_concurrency"] = json!(6);
        settings["scaling"] = json!({ "enabled": enabled });
        settings
    };
    for (what, settings, workers) in
        [("6 to 24", elastic(true), 6), ("24 with scaling off", elastic(false), 24), ("exactly 24", fixed(24), 24)]
    {
        let gateway = one(settings, instant())?;
        let counts = figures(&gateway)?.workers;
        let seen = (counts.configured, counts.active, counts.spawned_total, counts.max);
        ensure(seen == (workers, workers, workers, 24), || format!("{what}: {counts:?}"))?;
        found.push(format!("{what}: {workers}"));
    }
    Ok(found.join("; "))
}

pub(super) fn short_of_threads() -> Verdict {
    const WANTED: u64 = 30;
    let mut settings = rooted(vec![("first", fixed(30)), ("second", fixed(30))]);
    settings["threads"] = json!({ "max": 40 });
    let gateway = configured(&settings, vec![("first", instant()), ("second", instant())])?;
    let stats = gateway.stats();
    let counts = |name: &str| stats.providers.get(name).map(|figures| (&figures.workers, &figures.scaling));
    let (first, second) =
        counts("first").zip(counts("second")).ok_or_else(|| Miss::new("a provider has no statistics"))?;
    ensure(first.0.active == WANTED, || format!("first: {:?}", first.0))?;
    let (told, held) = ((second.0.configured, second.0.active), second.1.held_total.get("thread_limit"));
    ensure(told.0 == WANTED && (1..WANTED).contains(&told.1), || format!("second: {:?}", second.0))?;
    ensure(held.is_some_and(|held| *held > 0), || format!("second: {:?}", second.1))?;
    gateway.ask("second/x", "x")?;
    Ok(format!("40 threads for 2 × {WANTED} workers: the second pool has {} of {} and serves", told.1, told.0))
}
