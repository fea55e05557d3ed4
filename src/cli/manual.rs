//! `man`: one manual page with every command in it, in roff.
//!
//! The options are set by `clap_mangen`, from what `--help` is made of. It would fill the texts under them into paragraphs;
//! here examples keep their lines, and what stands under a heading gets one of its own.

use std::io;

use clap::{Arg, Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::args::Args;
use super::output::{Failure, print};

pub(super) fn run() -> Result<(), Failure> {
    print(&page()?)
}

/// The whole page.
fn page() -> io::Result<Vec<u8>> {
    let mut top = Args::command().disable_help_subcommand(true);
    top.build();
    let man = Man::new(top.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    for command in top.get_subcommands().filter(|command| !command.is_hide_set()) {
        let mut roff = Roff::new();
        roff.control("SH", [format!("SLUICEGATE {}", command.get_name().to_uppercase()).as_str()]);
        roff.text([roman(format!("{}.", command.get_about().map(ToString::to_string).unwrap_or_default()))]);
        roff.to_writer(&mut page)?;
        // What every command has is told once, at the top.
        let shared = |arg: &Arg| arg.is_global_set() || ["help", "version"].contains(&arg.get_id().as_str());
        let man = Man::new(command.clone().mut_args(|arg| if shared(&arg) { arg.hide(true) } else { arg }));
        body(&mut page, |out| man.render_synopsis_section(out))?;
        body(&mut page, |out| man.render_options_section(out))?;
        notes(command, false, &mut page)?;
    }
    notes(&top, true, &mut page)?;
    Ok(page)
}

/// A section without its heading: it is a part of another one.
fn body(page: &mut Vec<u8>, render: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
    let mut section = Vec::new();
    render(&mut section)?;
    page.extend_from_slice(b".PP\n");
    for line in section.split_inclusive(|byte| *byte == b'\n').filter(|line| !line.starts_with(b".SH")) {
        page.extend_from_slice(line);
    }
    Ok(())
}

/// The lines of these texts that are headings.
const HEADINGS: [&str; 3] = ["Examples:", "Environment:", "Exit codes:"];

/// What stands under a command's options: indented lines as they are, others as paragraphs. A heading is a section of the
/// page's own, or stands in one.
fn notes(command: &Command, sections: bool, page: &mut Vec<u8>) -> io::Result<()> {
    let notes = command.get_after_long_help().or_else(|| command.get_after_help());
    let notes = notes.map(ToString::to_string).unwrap_or_default();
    let (mut roff, mut literal) = (Roff::new(), false);
    for line in notes.lines() {
        let indented = line.starts_with("  ");
        if literal != indented {
            literal = indented;
            roff.control(if literal { "EX" } else { "EE" }, []);
        }
        if HEADINGS.contains(&line) {
            let title = line.trim_end_matches(':').to_uppercase();
            if sections {
                roff.control("SH", [title.as_str()]);
            } else {
                roff.control("PP", []);
                roff.text([bold(title)]);
            }
        } else if line.is_empty() {
            roff.control("PP", []);
        } else {
            roff.text([roman(line)]);
        }
    }
    if literal {
        roff.control("EE", []);
    }
    roff.to_writer(page)
}
