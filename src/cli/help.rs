//! What stands under each command's options: examples that work as pasted, the environment, the exit codes.
//!
//! A test takes every line that calls `sluicegate` out of these texts and has the command line read it; `manual` sets the
//! same texts into the manual page.

/// Under the short help and the long one.
macro_rules! first_steps {
    () => {
        "\
Examples:
  sluicegate demo
  sluicegate chat 'Hello through the gate'
  sluicegate serve --config sluicegate.json
  sluicegate stats --watch

"
    };
}

pub(super) const TOP: &str = concat!(
    first_steps!(),
    "\
`sluicegate help COMMAND` has more of each; `sluicegate man | man -l -` has all of it."
);

pub(super) const TOP_LONG: &str = concat!(
    first_steps!(),
    "\
Environment:
  OPENAI_API_KEY, ANTHROPIC_API_KEY, …  keys of providers: without a configuration file, each that is set is a provider
  SLUICEGATE_KEY                        the gateway's key that `bench` sends
  SLUICEGATE_DIRECT_KEY                 the provider's key that `bench --direct` sends
  SLUICEGATE_ADMIN_KEY                  the admin plane's key that `stats` sends
  RUST_LOG                              what is logged, as in `info` or `warn,sluicegate=debug`
  NO_COLOR                              no colours, on a terminal either

Exit codes:
  0  done
  1  the job failed
  2  bad usage or bad configuration

Results go to standard output, logs and progress to standard error."
);

pub(super) const SERVE: &str = "\
Examples:
  sluicegate serve
  sluicegate serve --config sluicegate.json
  sluicegate serve --listen 0.0.0.0:8080 --admin 127.0.0.1:8081
  OPENAI_API_KEY=sk-… sluicegate serve --listen 127.0.0.1:0

Port 0 takes a free one, which is printed. SIGHUP has it read its configuration again; a second SIGINT or SIGTERM ends
it at once.";

pub(super) const CHAT: &str = "\
Examples:
  sluicegate chat 'Hello through the gate'
  sluicegate chat --stream -m sim/lorem-40+gap-50ms 'Take your time'
  sluicegate chat -m openai/gpt-4o-mini - < question.txt
  sluicegate chat -i -m sim/echo
  printf 'One turn\\nand another\\n' | sluicegate chat -i

In a session (-i) each line is a turn. A line that ends with \\ goes on in the next one, and lines between two lines of
\"\"\" are one turn. Ctrl-C ends an answer, Ctrl-D the session; /help lists its commands. Where nobody types, nothing
prompts, and the exit code is 1 if a turn failed.";

pub(super) const DEMO: &str = "\
Examples:
  sluicegate demo";

pub(super) const SELFTEST: &str = "\
Examples:
  sluicegate selftest
  sluicegate selftest --json

The exit code is 1 if a claim was missed.";

pub(super) const SIM: &str = "\
Examples:
  sluicegate sim
  sluicegate sim --listen 127.0.0.1:9000

The model's name says how it behaves: echo, lorem-N, slow-D, ttft-D, gap-D, fail-STATUS, flaky-P, hang, cut-N, …; words
join with +, as in lorem-100+gap-10ms, and an unknown one is answered with the list of all.";

pub(super) const STATS: &str = "\
Examples:
  sluicegate stats
  sluicegate stats --watch
  sluicegate stats --json
  sluicegate stats --admin http://127.0.0.1:8081 --json --watch

Environment:
  SLUICEGATE_ADMIN_KEY  the admin plane's key, if it has one
  NO_COLOR              no colours, on a terminal either

With --watch it goes on while the gateway is away, and the exit code is 1 if it never answered.";

pub(super) const CHECK: &str = "\
Examples:
  sluicegate check
  sluicegate check sluicegate.json
  sluicegate check --schema > sluicegate.schema.json
  sluicegate check config.json > in-force.json

Of a config.json of Bifrost's a report on standard error says what of it is taken and what is not, key by key, with what
to use instead. The exit code is 2 if the file cannot be used.";

pub(super) const PLAN: &str = "\
Examples:
  sluicegate plan --rate-limit 100 --latency 500ms
  sluicegate plan --rate-limit 20 --latency 2s --error-rate 0.05 --json";

pub(super) const BENCH: &str = "\
Examples:
  sluicegate bench --url http://127.0.0.1:8080 --rate 200 --secs 5
  sluicegate bench --url http://127.0.0.1:8080 -m sim/lorem-20+gap-10ms --stream
  sluicegate bench --url http://127.0.0.1:8080 -m sim/slow-50ms --direct http://127.0.0.1:8090
  sluicegate bench --url http://127.0.0.1:8080/v1/messages --json

A request's time counts from when it was due: one that finds every connection busy is sent late and pays for it. A URL
without a path means its /v1/chat/completions. Ctrl-C ends it early, with the report so far. The exit code is 1 if no
request was answered well.

Environment:
  SLUICEGATE_KEY         the key that --url is sent
  SLUICEGATE_DIRECT_KEY  the key that --direct is sent";

pub(super) const COMPLETIONS: &str = "\
Examples:
  sluicegate completions bash > ~/.local/share/bash-completion/completions/sluicegate
  sluicegate completions zsh > ~/.zfunc/_sluicegate
  sluicegate completions fish > ~/.config/fish/completions/sluicegate.fish

zsh looks in ~/.zfunc if ~/.zshrc says `fpath+=~/.zfunc` before `compinit`. For this shell alone:
  source <(sluicegate completions bash)";

pub(super) const MAN: &str = "\
Examples:
  sluicegate man | man -l -
  sluicegate man > ~/.local/share/man/man1/sluicegate.1";

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use crate::cli::args::Args;

    /// The words of a line as a shell has them, up to where another command or a file takes over.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
        for c in line.chars() {
            match c {
                '\'' => {
                    quoted = !quoted;
                    word.get_or_insert_default();
                }
                '|' | '>' | '<' | ')' if !quoted => break,
                ' ' if !quoted => words.extend(word.take()),
                c => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
        words
    }

    /// The command lines in a command's help.
    fn examples(help: &str) -> Vec<&str> {
        let lines = help.lines().filter(|line| line.starts_with("  "));
        lines.filter_map(|line| line.find("sluicegate ").map(|at| &line[at..])).collect()
    }

    #[test]
    fn every_example_is_a_command_line_that_is_taken() {
        let mut top = Args::command();
        top.build();
        let commands = top.get_subcommands().filter(|command| command.get_name() != "help");
        for command in commands.chain([&top]) {
            let help = command.get_after_long_help().or_else(|| command.get_after_help()).map(ToString::to_string);
            let help = help.unwrap_or_else(|| panic!("{} has no examples", command.get_name()));
            assert!(help.starts_with("Examples:\n"), "{}", command.get_name());
            let found = examples(&help);
            assert!(!found.is_empty(), "{} has no examples", command.get_name());
            for line in found {
                let words = words(line);
                Args::try_parse_from(&words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
                let own = command.get_name() == "sluicegate" || words[1] == command.get_name();
                assert!(own, "{line} stands under {}", command.get_name());
            }
        }
    }

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_lines_words_are_a_shells() {
        assert_eq!(words("sluicegate chat 'a b' x > f"), ["sluicegate", "chat", "a b", "x"]);
        assert_eq!(examples("Examples:\n  A=1 sluicegate demo\nor sluicegate x\n"), ["sluicegate demo"]);
    }
}
