//! `serve`, `sim` and `stats`: what is printed, and how signals end it.

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::certificates::{Authority, Files, connect};
use crate::house::number;

use super::process::{Reading, ask, chat, request, serve, sluicegate, timed};

/// Where chat is asked for.
const CHAT: &str = "/v1/chat/completions";

/// A gateway of the simulated provider alone.
const SIM: &str = r#"{ "providers": { "sim": {} } }"#;

/// What the gateway itself opens after its data plane takes none of the descriptors that clients' connections were left.
#[test]
fn with_few_descriptors_it_serves_few_clients_and_not_none() {
    let process = sluicegate(&["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .file("sluicegate.json", SIM)
        .descriptors(36)
        .start();
    let (data, _) = process.addresses();
    for _ in 0..5 {
        let (status, body) = ask(data, "POST", CHAT, &chat("sim/echo", false));
        assert_eq!(status, 200, "{body}");
    }
    let waiting = [(); 2].map(|()| request(data, "POST", CHAT, &chat("sim/slow-200ms", false)));
    for answer in waiting {
        let answer = answer.rest();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[test]
fn the_banner_has_both_addresses_and_a_curl_line_that_works_as_pasted() {
    let served = serve(SIM);
    assert_eq!(ask(served.data, "GET", "/readyz", "").0, 200);
    assert_eq!(ask(served.admin, "GET", "/readyz", "").0, 200);
    let banner = served.process.stdout();
    let line = banner.lines().find(|line| line.starts_with("curl ")).expect("a curl line");
    let answer = match Command::new("curl").arg("--version").output() {
        Ok(_) => {
            let output = Command::new("sh").args(["-c", line]).output().expect("a shell");
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        Err(_) => {
            assert!(line.contains(&format!("http://{}{CHAT}", served.data)), "{line}");
            let body = line.split(" -d '").nth(1).and_then(|rest| rest.strip_suffix('\'')).expect("a body");
            ask(served.data, "POST", CHAT, body).1
        }
    };
    assert!(answer.contains("data: {") && answer.contains("data: [DONE]"), "{answer}");
}

#[test]
fn over_tls_the_curl_line_works_as_pasted_and_so_does_one_that_trusts_the_authority() {
    let authority = Authority::new("root");
    let files = Files::of(&authority.issue());
    let (cert, key) = (files.path("cert.pem"), files.path("key.pem"));
    let config = json!({ "server": { "tls": { "cert_file": cert, "key_file": key } }, "providers": { "sim": {} } });
    let served = serve(&config.to_string());
    let banner = served.process.stdout();
    assert!(banner.contains(&format!("data plane   https://{}", served.data)), "{banner}");
    let line = banner.lines().find(|line| line.starts_with("curl ")).expect("a curl line");
    assert!(line.contains(&format!(" --insecure https://{}{CHAT}", served.data)), "{line}");
    let mut stream = connect(served.data, &Arc::new(authority.client()));
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("connected");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it ends");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    if Command::new("curl").arg("--version").output().is_ok() {
        let root = files.write("root.pem", &authority.pem()).display().to_string();
        for line in [line.to_owned(), line.replace("--insecure", &format!("--fail-with-body --cacert {root}"))] {
            let output = Command::new("sh").args(["-c", &line]).output().expect("a shell");
            let answer = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && answer.contains("data: [DONE]"), "{line}: {answer}");
        }
    }
}

#[test]
fn stats_prints_a_table_or_the_json_of_a_running_gateway() {
    let served = serve(SIM);
    assert_eq!(ask(served.data, "POST", CHAT, &chat("sim/echo", false)).0, 200);
    let url = format!("http://{}", served.admin);
    let json = sluicegate(&["stats", "--json", "--admin", &url]).run().exits(0);
    let stats: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!((&stats["phase"], &stats["requests"]["succeeded_total"]), (&"running".into(), &1.into()), "{stats}");
    let table = sluicegate(&["stats", "--admin", &served.admin.to_string()]).run().exits(0).stdout;
    let row = table.lines().find(|line| line.starts_with("sim")).expect("a row for sim");
    assert!(row.contains("ready") && row.contains("0/10"), "{table}");
}

#[test]
fn stats_of_nobody_is_a_failure_that_names_the_address() {
    let done = sluicegate(&["stats", "--admin", "http://127.0.0.1:1"]).run().exits(1);
    assert!(done.stdout.is_empty() && done.stderr.contains("http://127.0.0.1:1"), "{done:?}");
    let done = sluicegate(&["stats", "--admin", "ftp://here"]).run().exits(2);
    assert!(done.stderr.contains("--admin") && !done.stderr.contains("base_url"), "{done:?}");
}

#[test]
fn an_address_that_is_taken_is_a_failure_and_an_open_admin_plane_bad_configuration() {
    let served = serve(SIM);
    let taken = served.data.to_string();
    let done = sluicegate(&["serve", "--listen", &taken, "--admin", "127.0.0.1:0"]).run().exits(1);
    assert!(done.stderr.contains(&taken), "{}", done.stderr);
    let done = sluicegate(&["serve", "--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0"]).run().exits(2);
    assert!(done.stderr.contains("admin_key"), "{}", done.stderr);
}

#[test]
fn the_simulated_provider_serves_alone_until_a_signal() {
    let sim = sluicegate(&["sim", "--listen", "127.0.0.1:0"]).start();
    let addr = sim.until("the address", |sim| {
        let line = sim.stdout().lines().find(|line| line.starts_with("simulated provider"))?.to_owned();
        line.rsplit_once("http://")?.1.parse().ok()
    });
    assert!(ask(addr, "POST", CHAT, &chat("echo", false)).1.contains("one two"));
    sim.signal(Signal::TERM);
    sim.wait().exits(0);
}

/// Opens streams and waits until each has begun.
fn streams(to: std::net::SocketAddr, count: usize, model: &str) -> Vec<Reading> {
    let mut streams: Vec<_> = (0..count).map(|_| request(to, "POST", CHAT, &chat(model, true))).collect();
    for stream in &mut streams {
        let begun = stream.read_until("data: ");
        assert!(begun.starts_with("HTTP/1.1 200"), "{begun}");
    }
    streams
}

#[test]
fn sigterm_with_twenty_streams_open_finishes_all_twenty() {
    let served = serve(SIM);
    let streams = streams(served.data, 20, "sim/lorem-40+gap-25ms");
    served.process.signal(Signal::TERM);
    served.process.until("the drain", |process| process.stderr().contains("draining").then_some(()));
    // Until the note is out and the phase has moved there is a moment.
    served.process.until("not ready", |_| (ask(served.data, "GET", "/readyz", "").0 == 503).then_some(()));
    let (status, refused) = ask(served.data, "POST", CHAT, &chat("sim/echo", false));
    assert!(status == 503 && refused.contains("shutting_down"), "{refused}");
    let stats = ask(served.admin, "GET", "/stats?fresh=1", "").1;
    assert!(stats.contains("\"phase\":\"draining\"") && stats.contains("\"in_flight\":20"), "{stats}");
    for stream in streams {
        let rest = stream.rest();
        assert!(rest.contains("data: [DONE]") && rest.ends_with("0\r\n\r\n"), "{rest}");
    }
    let done = served.process.wait().exits(0);
    assert!(done.stderr.contains("drained: 20 requests finished, 0 cut"), "{}", done.stderr);
    assert!(!done.stderr.contains("did not end"), "{}", done.stderr);
}

#[test]
fn sigint_drains_too() {
    let served = serve(SIM);
    let streams = streams(served.data, 1, "sim/lorem-10+gap-20ms");
    served.process.signal(Signal::INT);
    assert!(streams.into_iter().all(|stream| stream.rest().contains("[DONE]")));
    let done = served.process.wait().exits(0);
    assert!(done.stderr.contains("drained: 1 requests finished"), "{}", done.stderr);
}

#[test]
fn a_second_signal_ends_at_once() {
    let served = serve(SIM);
    let streams = streams(served.data, 2, "sim/lorem-1000+gap-50ms");
    served.process.signal(Signal::TERM);
    served.process.until("the drain", |process| process.stderr().contains("draining").then_some(()));
    served.process.signal(Signal::TERM);
    let (took, done) = timed(|| served.process.wait());
    assert!(took < Duration::from_secs(5), "it took {took:?}, the streams would have taken 50 s");
    let done = done.exits(1);
    assert!(done.stderr.contains("second signal"), "{}", done.stderr);
    // Closed by the process's end.
    drop(streams);
}

#[test]
fn what_runs_past_the_deadline_is_cut_with_an_error_event() {
    let served = serve(r#"{ "server": { "shutdown_timeout": "300ms" }, "providers": { "sim": {} } }"#);
    let streams = streams(served.data, 3, "sim/lorem-1000+gap-20ms");
    served.process.signal(Signal::TERM);
    for stream in streams {
        let rest = stream.rest();
        assert!(rest.contains("data: {\"error\"") && rest.contains("shutting_down"), "{rest}");
        assert!(!rest.contains("[DONE]") && !rest.ends_with("0\r\n\r\n"), "a cut stream looks whole: {rest}");
    }
    let done = served.process.wait().exits(0);
    assert!(done.stderr.contains("0 requests finished, 3 cut"), "{}", done.stderr);
}

/// Stopped by a debugger, frozen by a container's pause: everybody's times run out meanwhile, and nobody is stuck.
#[test]
fn a_process_that_stood_still_calls_nobody_stuck_and_answers_what_it_had_begun() {
    const STOPPED: Duration = Duration::from_secs(4);
    // Many threads that come round more often than that.
    let providers = (0..40)
        .map(|n| (format!("p{n}"), json!({ "kind": "sim", "concurrency_and_buffer_size": { "concurrency": 1 } })));
    let config = json!({ "providers": providers.collect::<serde_json::Map<_, _>>() });
    let served = serve(&config.to_string());
    let begun = request(served.data, "POST", CHAT, &chat("p0/slow-2s", false));
    let stats = || -> Value {
        let (status, text) = ask(served.admin, "GET", "/stats?fresh=1", "");
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(text.split_once("\r\n\r\n").expect("a head").1).expect("JSON")
    };
    let running = || number(&stats(), "/providers/p0/workers/busy");
    served.process.until("it is begun", |_| (running() == 1).then_some(()));
    served.process.signal(Signal::STOP);
    let _ = crossbeam_channel::after(STOPPED).recv();
    served.process.signal(Signal::CONT);
    // Two looks at health at least.
    let rounds = || number(&stats(), "/threads/by_role/watchdog/jobs_total");
    let before = rounds();
    served.process.until("the watchdog has looked", |_| (rounds() >= before + 10).then_some(()));
    let events = stats()["events"].clone();
    let stuck = events.as_array().expect("a list").iter().filter(|event| event["kind"] == "stuck_thread").count();
    assert_eq!(stuck, 0, "{events:#}");
    let answer = begun.rest();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
