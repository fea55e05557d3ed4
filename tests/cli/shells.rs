//! What shells and `man` are given. `make shells` has zsh, fish and man read it, too.

use std::process::Command;

use super::process::sluicegate;

const COMMANDS: [&str; 11] =
    ["serve", "chat", "demo", "selftest", "sim", "stats", "check", "plan", "bench", "completions", "man"];

#[test]
fn bash_reads_its_completions_and_completes_with_them() {
    let script = sluicegate(&["completions", "bash"]).run().exits(0).stdout;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let asked = "\
source \"$1\"
COMP_WORDS=(sluicegate b); COMP_CWORD=1; COMPREPLY=()
_sluicegate sluicegate b sluicegate; echo \"${COMPREPLY[@]}\"
COMP_WORDS=(sluicegate bench --dir); COMP_CWORD=2; COMPREPLY=()
_sluicegate sluicegate --dir bench; echo \"${COMPREPLY[@]}\"";
    std::fs::write(file.path(), &script).expect("it is written");
    let out = Command::new("bash").args(["-ec", asked, "bash"]).arg(file.path()).output().expect("bash");
    let (said, wrong) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && wrong.is_empty(), "{wrong}");
    assert_eq!(said.lines().collect::<Vec<_>>(), ["bench", "--direct --direct-model"]);
}

#[test]
fn every_shell_is_told_of_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = sluicegate(&["completions", shell]).run().exits(0).stdout;
        let missing: Vec<_> = COMMANDS.iter().filter(|command| !script.contains(**command)).collect();
        assert!(missing.is_empty(), "{shell}: {missing:?}");
    }
}

#[test]
fn the_manual_page_has_every_command_with_its_options_and_examples() {
    let page = sluicegate(&["man"]).run().exits(0).stdout;
    assert!(page.contains(".TH sluicegate 1"), "{page}");
    for command in COMMANDS {
        assert!(page.contains(&format!(".SH \"SLUICEGATE {}\"", command.to_uppercase())), "{command}");
    }
    for part in [
        "\\-\\-direct\\-model",
        "SLUICEGATE_ADMIN_KEY",
        ".SH ENVIRONMENT",
        ".SH \"EXIT CODES\"",
        "sluicegate chat \\-i",
    ] {
        assert!(page.contains(part), "{part} is missing");
    }
    let (begun, ended) = (page.matches("\n.EX\n").count(), page.matches("\n.EE\n").count());
    assert!(begun == ended && begun > COMMANDS.len(), "{begun} begun, {ended} ended");
}
