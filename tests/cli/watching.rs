//! `stats` of a running gateway, once and again and again.

use rustix::process::Signal;

use super::process::{ask_with, serve, sluicegate};

const SIM: &str = r#"{ "providers": { "sim": {} } }"#;

#[test]
fn tables_follow_each_other_where_no_terminal_is_and_an_interrupt_is_a_good_end() {
    let served = serve(SIM);
    let pause = ask_with(served.admin, "POST", "/providers/sim/pause", &["x-sluicegate-admin: 1"], "");
    assert_eq!(pause.0, 200, "{}", pause.1);
    let admin = served.admin.to_string();
    let watch = sluicegate(&["stats", "--watch", "--admin", &admin]).start();
    watch.until("two tables", |watch| (watch.stdout().matches("provider ").count() >= 2).then_some(()));
    watch.signal(Signal::INT);
    let done = watch.wait().exits(0);
    assert!(!done.stdout.contains('\x1b') && done.stderr.is_empty(), "{done:?}");
    let line = done.stdout.lines().find(|line| line.starts_with("sim")).expect("a line for sim");
    assert!(line.contains("paused") && line.contains("closed"), "{line}");
    assert!(done.stdout.contains("provider_paused  sim"), "{}", done.stdout);
}

#[test]
fn a_gateway_that_goes_away_is_waited_for_and_its_numbers_age() {
    let served = serve(SIM);
    let admin = served.admin.to_string();
    let watch = sluicegate(&["stats", "--watch", "--json", "--admin", &admin]).start();
    watch.until("a snapshot", |watch| watch.stdout().contains("\"providers\"").then_some(()));
    drop(served);
    watch.until("a word about it", |watch| watch.stderr().contains("no answer").then_some(()));
    assert!(watch.stderr().contains("the numbers are "), "{}", watch.stderr());
    watch.signal(Signal::TERM);
    let done = watch.wait().exits(0);
    let read = |line| serde_json::from_str::<serde_json::Value>(line).is_ok();
    assert!(done.stdout.lines().all(read), "{}", done.stdout);
}

#[test]
fn one_that_never_answers_is_a_failure_in_the_end() {
    let watch = sluicegate(&["stats", "--watch", "--admin", "127.0.0.1:1"]).start();
    watch.until("a word about it", |watch| watch.stderr().contains("no answer yet").then_some(()));
    watch.signal(Signal::INT);
    let done = watch.wait().exits(1);
    assert!(done.stdout.is_empty() && done.stderr.contains("--admin says where"), "{done:?}");
}

#[test]
fn the_data_plane_is_not_the_admin_plane() {
    let served = serve(SIM);
    let data = served.data.to_string();
    for args in [&["stats", "--admin", &data][..], &["stats", "--watch", "--admin", &data]] {
        let done = sluicegate(args).run().exits(1);
        assert!(done.stderr.contains("admin plane"), "{}", done.stderr);
    }
}
