//! The commands that end by themselves.

use std::ffi::OsStr;
use std::net::TcpListener;

use serde_json::Value;

use super::process::{FUSE, sluicegate};

/// A secret that must not be seen anywhere.
use crate::canary::UPSTREAM as CANARY;

#[test]
fn bad_usage_exits_with_2_and_prints_nothing_to_stdout() {
    let bad: [&[&str]; 5] =
        [&[], &["nonsense"], &["serve", "--listen", "nowhere"], &["chat"], &["--log-format", "xml", "demo"]];
    for args in bad {
        let done = sluicegate(args).run().exits(2);
        assert_eq!(done.stdout, "", "{args:?}");
        assert!(!done.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn help_and_version_are_results() {
    assert!(sluicegate(&["--version"]).run().exits(0).stdout.contains(env!("CARGO_PKG_VERSION")));
    let help = sluicegate(&["--help"]).run().exits(0).stdout;
    for command in ["serve", "chat", "demo", "selftest", "sim", "stats", "check", "plan", "bench", "completions", "man"]
    {
        assert!(help.contains(command), "{command} is missing in {help}");
    }
}

#[test]
fn what_cannot_be_done_says_what_can() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("it has one").to_string();
    let cases: [(&[&str], i32, &[&str]); 10] = [
        (&["hepl"], 2, &["help"]),
        (&["serve", "--confg", "x"], 2, &["--config"]),
        (&["serve", "--config", "none.json"], 2, &["none.json", "environment"]),
        (&["serve", "--listen", &taken, "--admin", "127.0.0.1:0"], 1, &["server.listen", &taken, "--listen", "port 0"]),
        (&["sim", "--listen", &taken], 1, &[&taken, "--listen"]),
        (&["serve", "--admin", "0.0.0.0:0"], 2, &["server.admin_key"]),
        (&["stats", "--admin", "nowhere at all"], 2, &["--admin", "http://127.0.0.1:8081"]),
        (&["plan", "--rate-limit", "many", "--latency", "1s"], 2, &["a number, such as"]),
        (&["chat", "-i", "-"], 2, &["standard input"]),
        (&["completions", "tcsh"], 2, &["bash, zsh, fish"]),
    ];
    for (args, code, words) in cases {
        let done = sluicegate(args).run().exits(code);
        let missing: Vec<_> = words.iter().filter(|word| !done.stderr.contains(**word)).collect();
        assert!(missing.is_empty() && done.stdout.is_empty(), "{args:?}: {missing:?} are missing in {}", done.stderr);
    }
}

#[test]
fn arguments_that_are_no_text_are_refused_and_a_file_may_be_called_so() {
    use std::os::unix::ffi::OsStrExt as _;
    let strange = OsStr::from_bytes(b"\xff.json");
    let done = sluicegate(&["chat"]).arg(strange).run().exits(2);
    assert!(done.stderr.contains("UTF-8"), "{}", done.stderr);
    let done = sluicegate(&["check"]).arg(strange).run().exits(2);
    assert!(done.stderr.contains("cannot be read"), "{}", done.stderr);
}

#[test]
fn a_provider_that_only_a_program_can_be_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("gateway.json");
    std::fs::write(&file, r#"{ "providers": { "mine": { "kind": "custom" } } }"#).expect("written");
    let file = file.to_str().expect("text");
    for args in [&["check", file][..], &["serve", "--listen", "127.0.0.1:0", "--config", file]] {
        let done = sluicegate(args).run().exits(2);
        assert!(done.stderr.contains("providers.mine.kind: no program has registered"), "{}", done.stderr);
    }
}

#[test]
fn plan_prints_the_formulas_golden_rows() {
    let plan = |args: &[&str]| sluicegate(&[&["plan"], args].concat()).run();
    let rows = [
        (["100", "500ms", "0.05"], 53, 159, 1000.0),
        (["0.2", "1s", "0"], 1, 3, 2000.0),
        (["10", "2s", "1"], 40, 120, 4000.0),
    ];
    for ([rate, latency, error_rate], workers, buffer, timeout) in rows {
        let given = ["--rate-limit", rate, "--latency", latency, "--error-rate", error_rate];
        let done = plan(&[&given[..], &["--json"]].concat()).exits(0);
        let found: Value = serde_json::from_str(&done.stdout).expect("JSON");
        assert_eq!((&found["optimal_workers"], &found["optimal_buffer"]), (&workers.into(), &buffer.into()), "{found}");
        assert_eq!(found["timeout_config"], timeout, "{found}");
        assert!(found["retry_strategy"]["max_retries"].is_u64(), "{found}");
        assert_eq!(found.as_object().expect("an object").len(), 7, "{found}");
        let text = plan(&given).exits(0).stdout;
        assert!(text.contains(&format!("workers   {workers}\nbuffer    {buffer}\n")), "{text}");
    }
    let usual = plan(&["--rate-limit", "10", "--latency", "2s"]).exits(0).stdout;
    assert!(usual.contains("workers   20"), "{usual}");
}

#[test]
fn plan_refuses_what_is_no_rate_latency_or_share() {
    for (wrong, word) in [
        (&["--rate-limit", "-5", "--latency", "1s"][..], "requests per second"),
        (&["--rate-limit", "NaN", "--latency", "1s"], "requests per second"),
        (&["--rate-limit", "inf", "--latency", "1s"], "requests per second"),
        (&["--rate-limit", "many", "--latency", "1s"], "--rate-limit"),
        (&["--rate-limit", "5", "--latency", "-1s"], "--latency"),
        (&["--rate-limit", "5", "--latency", "5"], "--latency"),
        (&["--rate-limit", "5", "--latency", "1s", "--error-rate", "1.5"], "from 0 to 1"),
        (&["--rate-limit", "5", "--latency", "1s", "--error-rate", "-0.1"], "from 0 to 1"),
        (&["--rate-limit", "5", "--latency", "1s", "--error-rate", "NaN"], "from 0 to 1"),
        (&["--latency", "1s"], "--rate-limit"),
    ] {
        let done = sluicegate(&[&["plan"], wrong].concat()).run().exits(2);
        assert!(done.stdout.is_empty() && done.stderr.contains(word), "{wrong:?}: {}", done.stderr);
    }
}

#[test]
fn check_prints_the_effective_configuration_with_secrets_redacted() {
    let config = r#"{ "providers": { "openai": { "keys": [{ "name": "a", "value": "env.THE_KEY" }] } } }"#;
    let done = sluicegate(&["check", "c.json"]).file("c.json", config).env("THE_KEY", CANARY).run().exits(0);
    let effective: Value = serde_json::from_str(&done.stdout).expect("JSON");
    let filled = &effective["providers"]["openai"]["concurrency_and_buffer_size"]["concurrency"];
    assert!(filled.is_u64(), "{}", done.stdout);
    assert_eq!(effective["server"]["listen"], "127.0.0.1:8080");
    assert!(!done.stdout.contains(CANARY) && !done.stderr.contains(CANARY), "{done:?}");
}

#[test]
fn check_tells_everything_that_is_wrong_at_once_and_no_secret() {
    let config = format!(
        r#"{{ "serverr": {{}}, "providers": {{ "sim": {{ "queue": {{ "policy": "yield", "wait_timeout": "5 parsecs" }},
            "keys": [{{ "name": "a", "value": "{CANARY}" }}] }} }} }}"#
    );
    let done = sluicegate(&["check", "c.json"]).file("c.json", &config).run().exits(2);
    for part in ["serverr", "providers.sim.queue.policy", "providers.sim.queue.wait_timeout"] {
        assert!(done.stderr.contains(part), "{part} is missing in {}", done.stderr);
    }
    assert_eq!(done.stdout, "");
    assert!(!done.stderr.contains(CANARY), "{}", done.stderr);
}

#[test]
fn a_configuration_that_cannot_be_read_exits_with_2() {
    for args in
        [&["check", "none.json"][..], &["serve", "--config", "none.json"], &["chat", "--config", "none.json", "x"]]
    {
        let done = sluicegate(args).run().exits(2);
        assert!(done.stderr.contains("none.json"), "{}", done.stderr);
    }
    // The file in the folder is found without being named.
    let done = sluicegate(&["chat", "Hello"]).file("sluicegate.json", "{ not JSON").run().exits(2);
    assert!(done.stderr.contains("sluicegate.json"), "{}", done.stderr);
}

#[test]
fn check_prints_a_schema() {
    let done = sluicegate(&["check", "--schema"]).run().exits(0);
    let schema: Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert!(schema["properties"]["providers"].is_object(), "{schema}");
}

#[test]
fn chat_prints_the_answer_to_stdout_and_a_summary_to_stderr() {
    let done = sluicegate(&["chat", "-m", "sim/echo", "Hello", "there"]).run().exits(0);
    assert_eq!(done.stdout, "Hello there\n");
    let summary = done.stderr.trim_end();
    assert!(!summary.contains('\n'), "one line: {summary}");
    for part in ["sim/echo", "attempts 1", "queue ", "upstream ", "overhead ", "tokens 2 in, 2 out"] {
        assert!(summary.contains(part), "{part:?} is missing in {summary}");
    }
}

#[test]
fn chat_reads_its_prompt_from_stdin() {
    let done = sluicegate(&["chat", "-"]).stdin("from\nstdin").run().exits(0);
    assert_eq!(done.stdout, "from\nstdin\n");
}

#[test]
fn chat_streams() {
    let done = sluicegate(&["chat", "--stream", "-m", "sim/lorem-5+gap-5ms", "x"]).run().exits(0);
    assert_eq!(done.stdout.split_whitespace().count(), 5, "{:?}", done.stdout);
    assert!(done.stderr.contains("attempts 1") && done.stderr.contains("5 out"), "{}", done.stderr);
}

#[test]
fn a_chat_that_fails_exits_with_1_and_says_why() {
    for (model, why) in [("sim/fail-500", "upstream_error"), ("nobody/x", "model_not_found"), ("sim/reset", "upstream")]
    {
        for stream in [&["chat", "-m", model, "x"][..], &["chat", "--stream", "-m", model, "x"]] {
            let done = sluicegate(stream).run().exits(1);
            assert_eq!(done.stdout, "", "{model}");
            assert!(done.stderr.contains(why), "{}", done.stderr);
        }
    }
    // A stream that is cut has said something already, and is a failure all the same.
    let done = sluicegate(&["chat", "--stream", "-m", "sim/cut-3", "one two three four five"]).run().exits(1);
    assert!(done.stdout.ends_with("three\n") && done.stderr.contains("stream_cut"), "{done:?}");
}

#[test]
#[cfg(debug_assertions)]
fn logs_are_json_lines_where_that_is_asked_for() {
    // A worker's panic is logged, and the model that asks for one exists in debug builds alone.
    let done = sluicegate(&["--log-format", "json", "chat", "-m", "sim/panic", "x"]).run().exits(1);
    let read = |line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    let logged = done.stderr.lines().map(read).collect::<Vec<_>>();
    assert!(logged.iter().any(|line| line["message"].as_str().is_some_and(|text| text.contains("internal"))));
    assert!(logged.iter().any(|line| line["level"] == "ERROR" && line["at_ms"].is_u64()), "{}", done.stderr);
    assert_eq!(done.stdout, "");
}

#[test]
fn a_closed_stdout_ends_quietly() {
    let quiet: [&[&str]; 8] = [
        &["completions", "zsh"],
        &["man"],
        &["check", "--schema"],
        &["chat", "Hello"],
        &["chat", "--stream", "-m", "sim/lorem-20+gap-1ms", "x"],
        &["check"],
        &["selftest"],
        &["demo"],
    ];
    for args in quiet {
        let done = sluicegate(args).unread().run().exits(0);
        let loud = done.stderr.contains("panicked") || done.stderr.contains("sluicegate:");
        assert!(!loud, "{args:?}: {}", done.stderr);
    }
}

#[test]
fn the_demo_shows_its_scenes_and_exits_with_0() {
    let done = sluicegate(&["demo"]).run().exits(0);
    let scenes =
        ["1. A streamed", "2. Queueing", "3. Refusal", "4. Scaling", "5. Fallback", "6. Drain", "7. The statistics"];
    for part in scenes.into_iter().chain(["24 workers (demand)", "1 target left", "Everything shown held"]) {
        assert!(done.stdout.contains(part), "{part} is missing in {}", done.stdout);
    }
    assert_eq!(done.stderr, "");
}

#[test]
fn the_self_test_holds_and_has_a_json_shape() {
    let done = sluicegate(&["selftest", "--json"]).fuse(3 * FUSE).run().exits(0);
    let report: Value = serde_json::from_str(&done.stdout).expect("JSON");
    assert_eq!(report["failed"], 0, "{}", done.stdout);
    let claims = report["claims"].as_array().expect("a list");
    assert!(claims.len() >= 95, "{} claims", claims.len());
    for claim in claims {
        let typed = claim["claim"].is_string() && claim["measured"].is_string() && claim["ms"].is_u64();
        assert!(typed && claim["ok"] == true, "{claim}");
    }
    assert_eq!(done.stderr, "", "what is provoked on purpose is not shown");
}
