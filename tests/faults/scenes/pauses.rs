//! Pauses between tries: they hold no worker, hear of a cancel and of the deadline, and are paid for by a budget.

use std::time::Duration;

use serde_json::json;
use sluicegate::time::now;

use super::{Scene, Stage, body, end, outcomes, script, well};
use crate::faults::run::settled;
use crate::faults::upstream::{Act, Asked};
use crate::house::{eventually, ms};

pub(super) const SCENES: &[Scene] = &[
    Scene {
        name: "a pause holds no worker",
        needs: &[],
        specified: "another request is served by the only worker meanwhile",
        play: others_are_served,
    },
    Scene {
        name: "the client leaves in a pause",
        needs: &[],
        specified: "cancelled within 100 ms, nothing more is sent",
        play: left,
    },
    Scene {
        name: "the deadline is nearer than Retry-After",
        needs: &[],
        specified: "the error is passed on at once, and not waited for in vain",
        play: too_late,
    },
    Scene {
        name: "Retry-After as a date",
        needs: &[],
        specified: "the retry comes when it says, to the second",
        play: dated,
    },
    Scene {
        name: "a silent provider is not asked again",
        needs: &[],
        specified: "504 upstream_timeout after one attempt, the upstream sees us leave",
        play: silent,
    },
    Scene {
        name: "300 requests fail at once",
        needs: &[],
        specified: "retries: a fifth of the requests, ten a second, and no more",
        play: budgeted,
    },
];

/// An error that says when to come again.
fn later(seconds: &'static str) -> impl Fn(&Asked) -> Act {
    move |asked| match asked.number {
        0 => Act::error(503, None, vec![("retry-after", seconds.to_owned())]),
        _ => Act::good(asked),
    }
}

fn others_are_served() -> String {
    let first = |asked: &Asked| if asked.model == "first" { later("2")(asked) } else { Act::good(asked) };
    let stage = Stage::set(vec![("a", script(first), json!({}))]);
    let mut pausing = stage.client();
    pausing.chat(&[], &body("a/first", json!({})));
    eventually("it pauses", || stage.stat("/providers/a/jobs/failed_total") == 1);
    let start = now();
    assert_eq!(stage.ask("a/second", json!({})).status, 200);
    let met = now() - start;
    assert_eq!(stage.came(0), 2, "the first one still pauses");
    assert_eq!(pausing.answer().status, 200);
    assert_eq!(stage.came(0), 3);
    stage.calm();
    format!("the other one was served after {} ms", met.as_millis())
}

fn left() -> String {
    let stage = Stage::set(vec![("a", script(later("5")), json!({}))]);
    let mut client = stage.client();
    client.chat(&[], &body("a/m", json!({})));
    eventually("it pauses", || stage.stat("/providers/a/jobs/failed_total") == 1);
    drop(client);
    let start = now();
    let requests = || stage.station.house.stats()["requests"].clone();
    let seen = settled(|| (requests()["cancelled_total"] != 1).then(|| format!("{}", requests())));
    assert_eq!(seen, None, "{} came", stage.came(0));
    let took = now() - start;
    // A client that leaves in its first 50 ms is noticed by 150 ms after arrival.
    assert!(took < ms(150) * crate::house::SLACK, "{took:?}");
    stage.calm();
    assert_eq!(stage.came(0), 1);
    format!("cancelled after {} ms", took.as_millis())
}

fn too_late() -> String {
    let stage = Stage::set(vec![("a", script(later("5")), json!({}))]);
    let start = now();
    let answer = stage.client().chat(&["x-sluicegate-timeout: 3s"], &body("a/m", json!({}))).answer();
    let took = now() - start;
    assert_eq!((end(&answer), stage.came(0)), ((503, "upstream_error".to_owned()), 1));
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert!(took < Duration::from_secs(2), "{took:?}");
    stage.calm();
    format!("{} ms", took.as_millis())
}

fn dated() -> String {
    // Whole seconds from now, counted up: between two and three seconds ahead.
    let stage = Stage::set(vec![(
        "a",
        script(|asked| match asked.number {
            0 => Act::error(503, None, vec![("retry-after", date_in(3))]),
            _ => Act::good(asked),
        }),
        json!({}),
    )]);
    assert_eq!(stage.ask("a/m", json!({})).status, 200);
    let asked = stage.upstreams[0].asked(|_| true);
    let waited = asked[1].at - asked[0].at;
    assert!(waited > ms(1900) && waited < ms(2100) + ms(500) * crate::house::SLACK, "{waited:?}");
    stage.calm();
    format!("a date 2 to 3 s ahead: {} ms", waited.as_millis())
}

/// The moment so many seconds from now, as HTTP writes it.
fn date_in(seconds: i64) -> String {
    let epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is past 1970");
    let at = i64::try_from(epoch.as_secs()).expect("it fits") + seconds;
    let (days, of_day) = (at.div_euclid(86_400), at.rem_euclid(86_400));
    // Days to a date by Howard Hinnant's algorithm.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let name = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][days.rem_euclid(7) as usize];
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{name}, {day:02} {} {year} {hour:02}:{minute:02}:{second:02} GMT", months[month as usize - 1])
}

fn silent() -> String {
    let limits = json!({ "network_config": { "default_request_timeout_in_seconds": "200ms" } });
    let stage = Stage::set(vec![("a", script(|_| Act::Hang), limits)]);
    let answer = stage.ask("a/m", json!({}));
    assert_eq!(
        (end(&answer), outcomes(&answer)),
        ((504, "upstream_timeout".to_owned()), vec!["upstream_timeout".to_owned()])
    );
    let start = now();
    eventually("it saw us leave", || stage.upstreams[0].asked(|asked| asked.aborted).len() == 1);
    let took = now() - start;
    assert!(took < ms(100) * crate::house::SLACK, "{took:?}");
    stage.calm();
    assert_eq!(stage.came(0), 1);
    format!("the upstream saw it {} ms after the caller", took.as_millis())
}

fn budgeted() -> String {
    const REQUESTS: usize = 300;
    const CALLERS: usize = 12;
    let sizes = json!({ "concurrency_and_buffer_size": { "concurrency": 8, "buffer_size": 64 } });
    // The budget fills from the provider's start on.
    let start = now();
    let stage = Stage::set(vec![("a", script(|_| Act::error(500, None, Vec::new())), sizes), ("b", well(), json!({}))]);
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let mut client = stage.client();
                for _ in 0..REQUESTS / CALLERS {
                    assert_eq!(client.chat(&[], &body("a/m", json!({}))).answer().status, 500);
                }
            });
        }
    });
    let took = now() - start;
    let retries = stage.came(0) - REQUESTS;
    // The floor's first second is there from the start.
    let most = REQUESTS as f64 * 0.2 + 10.0 * (took.as_secs_f64() + 1.0);
    assert!(retries as f64 <= most, "{retries} retries of {REQUESTS} requests in {took:?}");
    assert!(retries >= REQUESTS / 10, "a budget is there to be used: {retries} retries");
    assert_eq!(stage.stat("/providers/a/jobs/retries_total"), retries as u64);
    assert_eq!(stage.ask("b/m", json!({})).status, 200, "it is one provider's own");
    stage.calm();
    format!("{retries} retries in {} ms; the budget is {most:.0}", took.as_millis())
}
