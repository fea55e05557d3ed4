//! `chat -i` where nobody types: turns from a pipe. What a terminal sees is tested in tests/sdk/test_command_line.py.

use rustix::process::Signal;
use serde_json::Value;

use super::process::sluicegate;

#[test]
fn each_line_is_a_turn_and_nothing_prompts() {
    let done =
        sluicegate(&["chat", "-i", "first"]).stdin("Hello\n\none \\\ntwo\n\"\"\"\na\nb\n\"\"\"\n").run().exits(0);
    assert_eq!(done.stdout, "first\nHello\none \ntwo\na\nb\n");
    assert_eq!(
        done.stderr.lines().filter(|line| line.starts_with("sim/echo: attempts 1")).count(),
        4,
        "{}",
        done.stderr
    );
    assert_eq!(done.stderr.lines().count(), 4, "a line for each answer: {}", done.stderr);
}

#[test]
fn a_conversation_is_remembered_and_a_failed_question_is_not() {
    let script = "\
/system Be brief.
one
/model sim/fail-400
two
/model sim/echo
/retry
/retry
three
/save kept.json
/clear
/save cleared.json
/save kept.json
/quit
never said
";
    let folder = tempfile::tempdir().expect("a folder");
    let script = script.replace("/save ", &format!("/save {}/", folder.path().display()));
    let done = sluicegate(&["chat", "-i"]).stdin(&script).run().exits(1);
    assert_eq!(done.stdout, "one\ntwo\ntwo\nthree\n");
    assert!(
        done.stderr.contains("error: upstream_error") && done.stderr.contains("2 of what was asked failed"),
        "{}",
        done.stderr
    );
    let read = |name: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(folder.path().join(name)).expect("saved")).expect("JSON")
    };
    let said = |body: &Value| -> Vec<String> {
        body["messages"]
            .as_array()
            .expect("messages")
            .iter()
            .map(|m| format!("{}: {}", m["role"], m["content"]))
            .collect()
    };
    let system = "\"system\": \"Be brief.\"";
    let turns =
        ["one", "two", "three"].map(|text| [format!("\"user\": \"{text}\""), format!("\"assistant\": \"{text}\"")]);
    assert_eq!(said(&read("kept.json")), [vec![system.to_owned()], turns.concat()].concat(), "{}", done.stderr);
    assert_eq!(said(&read("cleared.json")), [system], "and the first file was not written over");
}

#[test]
fn an_interrupt_ends_the_answer_and_not_the_session() {
    let running =
        sluicegate(&["chat", "-i", "-m", "sim/lorem-1000+gap-20ms"]).stdin("long\n/model sim/echo\nafter\n").start();
    running.until("a word", |running| running.stdout().contains("lorem").then_some(()));
    running.signal(Signal::INT);
    let done = running.wait().exits(0);
    assert!(done.stdout.starts_with("lorem") && done.stdout.ends_with("\nafter\n"), "{}", done.stdout);
    assert!(done.stderr.contains("ended; what came is kept"), "{}", done.stderr);
}
