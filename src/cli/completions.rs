//! `completions`: what a shell needs to complete this command line.

use clap::CommandFactory as _;
use clap_complete::{generate, shells};

use super::args::{Args, Completions, Shell};
use super::output::{Failure, print};

pub(super) fn run(command: &Completions) -> Result<(), Failure> {
    let (mut args, mut script) = (Args::command(), Vec::new());
    let name = args.get_name().to_owned();
    match command.shell {
        Shell::Bash => generate(shells::Bash, &mut args, name, &mut script),
        Shell::Zsh => generate(shells::Zsh, &mut args, name, &mut script),
        Shell::Fish => generate(shells::Fish, &mut args, name, &mut script),
    }
    print(&script)
}
