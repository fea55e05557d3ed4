//! Claims about what is known of pooled objects: numbers, times, counts, memory, and that nobody shares one.

use std::thread::scope;
use std::time::Duration;

use super::rig::{Miss, Verdict, ensure, instant, join, one, pool, until};
use crate::recycle::{Buffer, Buffers, Lease, Limits};
use crate::time::Stamp;

/// A pool of memory that keeps eight.
fn buffers() -> Buffers {
    Buffers::new(Limits { initial: 0, max_idle: 8, idle_max_age: Duration::from_secs(60), alert_below: 0.7 })
}

pub(super) fn each_kind() -> Verdict {
    let gateway = one(pool(2, 4, "block"), instant())?;
    let pools = || {
        let pools = gateway.stats().pools;
        [
            ("channels", pools.reply_channel),
            ("jobs", pools.job),
            ("responses", pools.response),
            ("buffers", pools.buffer),
        ]
    };
    let made: Vec<_> = pools().iter().map(|(_, pool)| pool.created_total).collect();
    gateway.ask("p/x", "x")?;
    until("everything is back", || pools().iter().all(|(_, pool)| pool.live == pool.idle))?;
    let mut words = Vec::new();
    for ((name, pool), made) in pools().into_iter().zip(made) {
        ensure(pool.acquired_total > 0 && pool.hits_total == pool.acquired_total, || format!("{name}: {pool:?}"))?;
        words.push(format!("{} of {made} {name}", pool.acquired_total));
    }
    Ok(format!("one request used {}, all made beforehand", words.join(", ")))
}

pub(super) fn numbered_and_timed() -> Verdict {
    let pool = buffers();
    let first = pool.acquire();
    let made = *first.tag();
    first.give_back();
    until("the clock ticks", || Stamp::now() > made.created)?;
    let again = pool.acquire();
    let (tag, other) = (*again.tag(), *pool.acquire().tag());
    ensure((tag.id, tag.created) == (made.id, made.created), || format!("{made:?}, then {tag:?}"))?;
    ensure(tag.acquired > made.acquired && tag.returned >= made.acquired, || format!("{made:?}, then {tag:?}"))?;
    ensure(other.id != tag.id, || format!("{tag:?} and {other:?}"))?;
    let age = tag.acquired.since(tag.created);
    Ok(format!("number {} made, returned, and acquired again after {age:.0?}; the next is number {}", tag.id, other.id))
}

pub(super) fn used_once() -> Verdict {
    let pool = buffers();
    let mut once = pool.acquire();
    let id = once.tag().id;
    once.use_once();
    once.give_back();
    let next = pool.acquire().tag().id;
    let stats = pool.stats();
    ensure(next != id && stats.hits_total == 0 && stats.returned_total == 0, || format!("{id}, {next}: {stats:?}"))?;
    Ok(format!("number {id} was discarded when it came back, number {next} was made in its place"))
}

pub(super) fn counted() -> Verdict {
    const ROUNDS: u64 = 10;
    let pool = buffers();
    for _ in 0..ROUNDS {
        drop([pool.buffer(), pool.buffer(), pool.buffer()]);
    }
    let stats = pool.stats();
    let counts =
        [stats.acquired_total, stats.misses_total, stats.hits_total, stats.created_total, stats.returned_total];
    ensure(counts == [3 * ROUNDS, 3, 3 * ROUNDS - 3, 3, 3 * ROUNDS], || format!("{stats:?}"))?;
    let ratio = stats.hit_ratio.ok_or_else(|| Miss::new("the ratio is unknown"))?;
    ensure((ratio - 0.9).abs() < 1e-9, || format!("ratio {ratio}"))?;
    let [acquired, misses, hits, created, returned] = counts;
    Ok(format!(
        "{acquired} acquired = {hits} hits + {misses} misses, {created} made, {returned} returned; ratio {ratio:.2}"
    ))
}

pub(super) fn timed_one_in_64() -> Verdict {
    const USES: u64 = 64 * 10;
    let pool = buffers();
    (0..USES).for_each(|_| drop(pool.buffer()));
    let stats = pool.stats();
    let times = [("acquired", stats.acquire_ns), ("reset", stats.reset_ns), ("returned", stats.return_ns)];
    ensure(times.iter().all(|(_, dist)| dist.count == USES / 64), || format!("{times:?}"))?;
    let words: Vec<_> = times.iter().map(|(what, dist)| format!("{what} in {} ns", dist.p50)).collect();
    Ok(format!("{} of {USES} uses timed; median: {}", USES / 64, words.join(", ")))
}

pub(super) fn memory() -> Verdict {
    let pool = buffers();
    let mut out: Vec<Lease<Vec<u8>>> = (0..4).map(|_| pool.acquire()).collect();
    let all_out = pool.stats();
    ensure(all_out.utilisation == Some(1.0) && all_out.bytes_held == 0, || format!("{all_out:?}"))?;
    let bytes: u64 = out.iter().skip(1).map(|lease| lease.capacity() as u64).sum();
    out.drain(1..).for_each(Lease::give_back);
    let held = pool.stats();
    ensure((held.utilisation, held.bytes_held) == (Some(0.25), bytes), || format!("{bytes} bytes: {held:?}"))?;
    drop((0..3).map(|_| pool.buffer()).collect::<Vec<Buffer>>());
    let again = pool.stats();
    ensure(again.bytes_reused_total == bytes, || format!("{bytes} bytes: {again:?}"))?;
    Ok(format!("1 of 4 in use is 25 %; 3 idle hold {bytes} bytes, all of which were used again"))
}

pub(super) fn never_shared() -> Verdict {
    const THREADS: u8 = 4;
    const ROUNDS: u64 = 2000;
    let pool = buffers();
    let use_it = |thread: u8| {
        let mut buffer = pool.buffer();
        ensure(buffer.is_empty(), || format!("{} bytes of another's", buffer.len()))?;
        buffer.resize(32, thread);
        std::thread::yield_now();
        ensure(buffer.iter().all(|byte| *byte == thread), || "another wrote into it".to_owned())
    };
    scope(|scope| {
        let threads: Vec<_> =
            (0..THREADS).map(|thread| scope.spawn(move || (0..ROUNDS).try_for_each(|_| use_it(thread)))).collect();
        threads.into_iter().try_for_each(|thread| join(thread)?)
    })?;
    let stats = pool.stats();
    let uses = u64::from(THREADS) * ROUNDS;
    let balanced = stats.acquired_total == uses && stats.returned_total + stats.discarded_total == uses;
    ensure(balanced && stats.live == stats.idle, || format!("{stats:?}"))?;
    Ok(format!("{uses} uses by {THREADS} threads of {} objects, none by two at a time", stats.created_total))
}
