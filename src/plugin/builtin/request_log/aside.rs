//! What this plugin and the program's logger tell each other beside a record: the `log` crate hands over a text and takes no
//! answer.
//!
//! Both are on the same thread while a line is logged, so that it stands in a thread-local. A logger that knows nothing of
//! it, as a host program's, gets a line of JSON and counts as one that took it.

use std::cell::Cell;

/// How a line is to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// An object of JSON.
    #[default]
    Json,
    /// Text for a person, whose colours a terminal shows or not.
    Text { colours: bool },
}

#[derive(Clone, Copy)]
struct Aside {
    form: Form,
    /// Whether a line of this plugin is being logged, and whether it holds bodies.
    line: Option<bool>,
    refused: bool,
}

thread_local! {
    static ASIDE: Cell<Aside> = const { Cell::new(Aside { form: Form::Json, line: None, refused: false }) };
}

fn change(change: impl FnOnce(&mut Aside)) -> Aside {
    ASIDE.with(|aside| {
        let before = aside.get();
        let mut now = before;
        change(&mut now);
        aside.set(now);
        before
    })
}

/// Logs a line by `log`; `false` if the logger had no room for it.
pub(super) fn offer(bodies: bool, log: impl FnOnce()) -> bool {
    change(|aside| (aside.line, aside.refused) = (Some(bodies), false));
    log();
    !change(|aside| aside.line = None).refused
}

/// The form that is asked for.
pub(super) fn form() -> Form {
    ASIDE.with(Cell::get).form
}

/// For a logger: whether a line of this plugin's is being logged, and if so, whether it holds bodies.
pub(crate) fn line() -> Option<bool> {
    ASIDE.with(Cell::get).line
}

/// For a logger: there is no room for the line that is being logged.
pub(crate) fn refuse() {
    change(|aside| aside.refused = true);
}

/// For a logger: has lines written so while `write` runs.
pub(crate) fn written_as<T>(form: Form, write: impl FnOnce() -> T) -> T {
    change(|aside| aside.form = form);
    let written = write();
    change(|aside| aside.form = Form::default());
    written
}
