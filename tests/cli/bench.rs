//! The load test, against a gateway of its own.

use rustix::process::Signal;
use serde_json::Value;

use super::process::{Done, FUSE, Process, Served, ask, serve, sluicegate};

/// What is loaded: enough workers that nothing waits, and failures seen at once.
const CONFIG: &str = r#"{ "providers": { "sim": {
    "concurrency_and_buffer_size": { "concurrency": 32, "min_concurrency": 32 },
    "network_config": { "max_retries": 0 }, "breaker": { "enabled": false } } } }"#;

/// Runs it against a gateway; `args` follow its address.
fn bench(served: &Served, args: &[&str]) -> Done {
    let url = format!("http://{}", served.data);
    sluicegate(&[&["bench", "--url", url.as_str(), "--json"], args].concat()).run()
}

fn report(done: &Done) -> Value {
    serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {}\n{}", done.stdout, done.stderr))
}

/// A simulated provider alone, and where it is.
fn simulated() -> (Process, String) {
    let sim = sluicegate(&["sim", "--listen", "127.0.0.1:0"]).start();
    let url = sim.until("its address", |sim| {
        let text = sim.stdout();
        // The second line is whole when the first one is.
        text.contains("/sim/stats")
            .then(|| text.split_whitespace().find(|word| word.starts_with("http")).map(str::to_owned))?
    });
    (sim, url)
}

#[test]
fn a_known_delay_is_what_is_measured_and_every_request_is_accounted_for() {
    let served = serve(CONFIG);
    let done = bench(&served, &["-m", "sim/slow-50ms", "--rate", "40", "--secs", "2"]).exits(0);
    let report = report(&done);
    let gateway = &report["gateway"];
    for total in ["due_total", "sent_total", "succeeded_total"] {
        assert_eq!(gateway[total], 80, "{total}: {}", done.stdout);
    }
    let p50 = gateway["latency_us"]["p50"].as_u64().expect("a time");
    assert!((50_000..250_000).contains(&p50), "{}", done.stdout);
    assert_eq!((&gateway["unsent_total"], &gateway["latency_us"]["count"]), (&0.into(), &80.into()));
    assert_eq!(
        (&report["interrupted"], &report["direct"], &report["cost"]),
        (&false.into(), &Value::Null, &Value::Null)
    );
    let (_, stats) = ask(served.admin, "GET", "/stats?fresh=1", "");
    assert!(stats.contains("\"received_total\":80,"), "it sends what it says: {stats}");
}

#[test]
fn a_request_that_waits_for_a_connection_pays_for_it() {
    let served = serve(CONFIG);
    let done = bench(&served, &["-m", "sim/slow-200ms", "--rate", "20", "--secs", "2", "--conns", "1"]).exits(0);
    let report = report(&done);
    let gateway = &report["gateway"];
    // Ten of forty fit on one connection; the last of them was due a second and more before it was sent.
    assert!(
        gateway["unsent_total"].as_u64() >= Some(20) && gateway["late_total"].as_u64() >= Some(3),
        "{}",
        done.stdout
    );
    assert!(gateway["latency_us"]["max"].as_u64() >= Some(800_000), "{}", done.stdout);
}

#[test]
fn the_provider_itself_is_asked_by_turns_and_the_difference_told() {
    let (_sim, direct) = simulated();
    let served = serve(CONFIG);
    let args = ["-m", "sim/lorem-5+gap-5ms", "--stream", "--rate", "20", "--secs", "1", "--direct", &direct];
    let done = bench(&served, &args).exits(0);
    let report = report(&done);
    for side in ["gateway", "direct"] {
        let side = &report[side];
        assert_eq!((&side["succeeded_total"], &side["failed_total"]), (&20.into(), &0.into()), "{}", done.stdout);
        assert_eq!(side["first_event_us"]["count"], 20, "{}", done.stdout);
        // A busy machine reads several events at once; but not all of them.
        assert!(side["event_gap_us"]["max"].as_u64() >= Some(1_000), "{}", done.stdout);
    }
    assert_eq!(report["direct"]["model"], "lorem-5+gap-5ms");
    let less = report["gateway"]["latency_us"]["p50"].as_i64().zip(report["direct"]["latency_us"]["p50"].as_i64());
    assert_eq!(report["cost"]["latency_us"]["p50"].as_i64(), less.map(|(a, b)| a - b), "{}", done.stdout);
    assert!(report["cost"]["first_event_us"]["mean"].is_i64(), "{}", done.stdout);
    let text = sluicegate(&["bench", "--url", &direct, "-m", "echo", "--secs", "1"]).run().exits(0).stdout;
    assert!(text.contains("100 of 100 due were sent") && text.contains("p99.9"), "{text}");
}

#[test]
fn errors_are_told_by_status_and_code_and_a_cut_stream_is_one() {
    let served = serve(CONFIG);
    let (_sim, direct) = simulated();
    let failed = |model: &str, stream: &[&str]| {
        let args =
            [&["-m", model, "--rate", "10", "--secs", "1", "--timeout", "300ms", "--direct", &direct], stream].concat();
        let done = bench(&served, &args).exits(1);
        let report = report(&done);
        let kinds = |side: &str| -> Vec<String> {
            let failed: u64 =
                report[side]["errors"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
            assert_eq!(report[side]["failed_total"], failed, "{}", done.stdout);
            report[side]["errors"].as_object().expect("kinds").keys().cloned().collect()
        };
        (kinds("gateway"), kinds("direct"))
    };
    let one = |kind: &str| vec![kind.to_owned()];
    assert_eq!(failed("sim/fail-503", &[]).0, one("503 upstream_error"));
    assert_eq!(failed("sim/hang", &[]), (one("timeout"), one("timeout")));
    assert_eq!(failed("sim/reset", &[]), (one("502 upstream_connect_error"), one("closed unanswered")));
    assert_eq!(failed("sim/cut-3", &["--stream"]), (one("stream: stream_cut"), one("cut")));
    // The gateway gives a stream the end mark that its provider forgot.
    assert_eq!(failed("sim/no-done", &["--stream"]), (Vec::new(), one("stream: no end")));
}

#[test]
fn what_time_will_not_mend_ends_it_early_and_says_what_to_do() {
    let served = serve(r#"{ "server": { "keys": ["gk-0123456789abcdef"] }, "providers": { "sim": {} } }"#);
    let url = format!("http://{}", served.data);
    for (url, env, word) in [
        ("http://127.0.0.1:1", "", "--url says where"),
        (url.as_str(), "", "SLUICEGATE_KEY"),
        (&format!("{url}/nowhere/messages"), "gk-0123456789abcdef", "--url has no such route"),
    ] {
        let done = sluicegate(&["bench", "--url", url, "--secs", "600"]).env("SLUICEGATE_KEY", env).run().exits(1);
        assert!(done.stderr.contains(word) && done.stdout.contains("errors, gateway"), "{url}: {}", done.stderr);
    }
    let with_key = ["bench", "--url", url.as_str(), "--secs", "1", "--key", "gk-0123456789abcdef"];
    sluicegate(&with_key).run().exits(0);
    for wrong in [["--url", "ftp://x"], ["--url", "http://u:p@x"], ["--conns", "0"], ["--secs", "86400"]] {
        let done = sluicegate(
            &[&["bench", "--url", "http://127.0.0.1:1"][..if wrong[0] == "--url" { 1 } else { 3 }], &wrong].concat(),
        );
        let done = done.run().exits(2);
        assert!(done.stdout.is_empty() && !done.stderr.is_empty(), "{wrong:?}");
    }
}

#[test]
fn an_interrupt_ends_it_with_the_report_so_far() {
    let served = serve(CONFIG);
    let url = format!("http://{}", served.data);
    let args = ["bench", "--url", &url, "--json", "--secs", "600", "--rate", "20", "-m", "sim/slow-100ms"];
    let running = sluicegate(&args).fuse(2 * FUSE).start();
    running.until("a first answer", |_| {
        let (_, stats) = ask(served.admin, "GET", "/stats?fresh=1", "");
        (!stats.contains("\"succeeded_total\":0")).then_some(())
    });
    running.signal(Signal::INT);
    let done = running.wait().exits(0);
    let report = report(&done);
    let count = |total: &str| report["gateway"][total].as_u64().expect("a count");
    assert_eq!(report["interrupted"], true, "{}", done.stdout);
    assert_eq!(count("sent_total"), count("succeeded_total") + count("cancelled_total"), "{}", done.stdout);
    assert!(count("succeeded_total") >= 1, "{}", done.stdout);
}

#[test]
fn streams_that_outlive_the_run_are_cut_and_counted() {
    let served = serve(CONFIG);
    let args = ["-m", "sim/lorem-1000+gap-50ms", "--stream", "--rate", "4", "--secs", "1", "--timeout", "500ms"];
    let done = bench(&served, &args).exits(1);
    let report = report(&done);
    let gateway = &report["gateway"];
    assert_eq!((&gateway["sent_total"], &gateway["cancelled_total"]), (&4.into(), &4.into()), "{}", done.stdout);
    assert_eq!((&gateway["succeeded_total"], &gateway["failed_total"]), (&0.into(), &0.into()), "{}", done.stdout);
    assert!(done.stderr.contains("none had come to its end"), "{}", done.stderr);
}
