//! The figures of a provider: what they are of, held against what the test itself measured.

use std::thread::scope;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluicegate::model::Operation;
use sluicegate::provider::{PoolPhase, WorkerState};
use sluicegate::time::now;
use sluicegate::transport::{Body, Incoming, MemoryTransport};

use crate::house::{House, eventually, ms, number, provider, reply, sized};

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("a short time")
}

/// Waits until so much time has passed since `start`.
fn pass(start: Instant, time: Duration) {
    eventually("time passes", || now().saturating_duration_since(start) >= time);
}

#[test]
fn a_pool_says_how_long_each_step_of_its_start_took_and_is_ready_with_every_worker_listening() {
    const WORKERS: u64 = 16;
    let begun = now();
    let (house, _gate) = House::gated(provider(json!({
        "concurrency_and_buffer_size": { "concurrency": WORKERS, "min_concurrency": WORKERS },
    })));
    let took = micros(now().saturating_duration_since(begun));
    assert!(house.gateway().is_ready());
    let figures = house.gateway().stats().providers.remove("p").expect("it is there");
    assert_eq!(figures.phase, PoolPhase::Ready);
    let times = figures.startup_us;
    let steps = [times.channels, times.resources, times.spawn].map(|step| step.expect("it is timed"));
    assert!(steps[2] > 0 && steps.iter().sum::<u64>() <= took, "{times:?} of {took} µs");
    assert_eq!(figures.per_worker.len() as u64, WORKERS);
    assert!(figures.per_worker.iter().all(|row| row.state == WorkerState::Listening && row.jobs_total == 0));
    assert_eq!(
        (figures.workers.configured, figures.workers.idle, figures.queue.submitted_total),
        (WORKERS, WORKERS, 0)
    );
}

#[test]
fn who_waits_and_who_is_served_is_timed_and_the_deepest_queue_remembered() {
    const WAIT: Duration = Duration::from_millis(60);
    let (house, gate) = House::gated(sized(1, 4, "error"));
    scope(|scope| {
        let begun = now();
        let mut callers = vec![scope.spawn(|| house.ask())];
        let held = gate.next();
        callers.extend((0..3).map(|_| scope.spawn(|| house.ask())));
        house.queued(3);
        let all_wait = now();
        pass(all_wait, WAIT);
        held.answer();
        (0..3).for_each(|_| gate.next().answer());
        callers.into_iter().for_each(|call| assert!(call.join().expect("no panic").is_ok()));
        let most = micros(now().saturating_duration_since(begun));
        let stats = house.at_rest();
        let p = |path: &str| stats["providers"]["p"].pointer(path).and_then(Value::as_f64).expect("a number") as u64;
        assert_eq!((p("/queue/wait_us/count"), p("/jobs/service_us/count")), (4, 4));
        // Percentiles are kept to two digits, so that one may lie a percent beyond what it is of.
        let bounds = micros(WAIT)..=most + most / 50;
        for path in ["/queue/wait_us/p99", "/queue/wait_us/max", "/jobs/service_us/max"] {
            assert!(bounds.contains(&p(path)), "{path}: {} of {bounds:?}", p(path));
        }
        // Three of four waited all that time, and so the mean is three quarters of it at least.
        assert!(p("/queue/wait_us/mean") >= micros(WAIT) * 3 / 4, "{}", p("/queue/wait_us/mean"));
        assert_eq!((p("/queue/high_water"), p("/queue/depth"), p("/queue/blocked_total")), (3, 0, 0));
    });
}

#[test]
fn throughput_and_error_rate_are_those_since_the_first_sample() {
    const GOOD: u64 = 30;
    const BAD: u64 = 10;
    let transport = MemoryTransport::new(|request, _| {
        let fails = request.body.windows(3).any(|text| text == b"bad");
        let (status, body) = if fails { (500, "{}".to_owned()) } else { (200, reply("well")) };
        Ok(Incoming { status, headers: Vec::new(), body: Body::from_bytes(body) })
    });
    let house = House::answered(provider(json!({})), transport);
    let ask = |model: &str| {
        let body = json!({ "model": format!("p/{model}"), "messages": [] }).to_string();
        house.gateway().raw(Operation::ChatCompletions, body.into_bytes())
    };
    assert!(house.stats()["requests"]["throughput_per_s"].is_null(), "without a sample no rate is known");
    ask("bad").expect_err("what came before the sample counts for nothing");
    let before = now();
    house.gateway().sample();
    let after = now();
    (0..GOOD).for_each(|_| assert!(ask("good").is_ok()));
    (0..BAD).for_each(|_| assert!(ask("bad").is_err()));
    pass(after, ms(200));
    let least = now().saturating_duration_since(after).as_secs_f64();
    let stats = house.stats();
    let most = now().saturating_duration_since(before).as_secs_f64();
    let jobs = (GOOD + BAD) as f64;
    for path in ["/requests/throughput_per_s", "/providers/p/queue/throughput_per_s"] {
        let rate = stats.pointer(path).and_then(Value::as_f64).expect("it is known");
        assert!((jobs / most..=jobs / least).contains(&rate), "{path}: {rate} of {jobs} in {least} to {most} s");
    }
    assert_eq!(stats["providers"]["p"]["jobs"]["error_rate"], BAD as f64 / jobs);
}

#[test]
fn errors_are_counted_by_what_went_wrong() {
    let (house, gate) = House::gated(sized(1, 1, "error"));
    scope(|scope| {
        let running = scope.spawn(|| house.ask());
        let held = gate.next();
        let waiting = scope.spawn(|| house.ask());
        house.queued(1);
        (0..3).for_each(|_| assert!(house.ask().is_err()));
        held.respond(500, &[], "{}");
        gate.next().panic();
        [running, waiting].into_iter().for_each(|call| assert!(call.join().expect("no panic").is_err()));
    });
    assert!(house.gateway().ask("nobody/m", "x").is_err());
    let stats = house.at_rest();
    let expected = json!({ "queue_full": 3, "upstream_error": 1, "internal": 1, "model_not_found": 1 });
    assert_eq!(stats["errors"], expected);
    let failed = (number(&stats, "/requests/failed_total"), number(&stats, "/providers/p/jobs/failed_total"));
    assert_eq!(failed, (6, 2), "of six failed requests a worker had two");
}

/// Each of eight callers is answered after a millisecond or so: four workers share what they ask.
#[test]
fn a_saturated_pool_spreads_its_jobs_evenly() {
    const WORKERS: u64 = 4;
    const CALLERS: u64 = 8;
    const CALLS: u64 = 100;
    let (_never, silence) = crossbeam_channel::bounded::<()>(0);
    let transport = MemoryTransport::new(move |_, _| {
        let _ = silence.recv_timeout(ms(1));
        Ok(Incoming { status: 200, headers: Vec::new(), body: Body::from_bytes(reply("well")) })
    });
    let house = House::answered(
        provider(json!({ "concurrency_and_buffer_size": {
            "concurrency": WORKERS, "min_concurrency": WORKERS, "buffer_size": 100,
        } })),
        transport,
    );
    let share = CALLERS * CALLS / WORKERS;
    let mut before = vec![0; WORKERS as usize];
    // A tenth is what is promised; a machine that others use may keep one worker from its processor for a while, so that it is
    // tried again: a pool that is uneven by itself is so each time.
    let uneven: Vec<_> = (1..=5)
        .map(|round| {
            scope(|scope| {
                for _ in 0..CALLERS {
                    scope.spawn(|| (0..CALLS).for_each(|_| assert!(house.ask().is_ok())));
                }
            });
            let stats = house.at_rest();
            let rows = stats["providers"]["p"]["per_worker"].as_array().expect("a list");
            let jobs: Vec<_> = rows.iter().map(|row| number(row, "/jobs_total")).collect();
            assert_eq!(jobs.iter().sum::<u64>(), round * CALLERS * CALLS);
            let before = std::mem::replace(&mut before, jobs.clone());
            jobs.iter().zip(before).map(|(after, before)| after - before).collect::<Vec<_>>()
        })
        .take_while(|jobs| !jobs.iter().all(|jobs| jobs.abs_diff(share) <= share / 2))
        .collect();
    assert!(uneven.len() < 5, "{uneven:?}");
}
