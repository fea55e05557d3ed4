//! The panics of a gateway's threads: counted, logged, remembered for a while, and told to whoever asked to hear of them.
//!
//! **Protocol.** Whoever catches a panic says so by [`note_panic`], on the thread that panicked; the registry does it for
//! what nobody else catches. The last ones are kept with their time, so that the watchdog can keep an alert standing while
//! a role goes on panicking.
//!
//! **Lock order.** The list is a leaf; the one who is told is called outside it.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::role::Role;
use super::state::{Entry, with_current};
use crate::metrics::Counter;
use crate::sync::locks::{Leaf, classes};
use crate::time::now;

/// How many are remembered.
const KEPT: usize = 64;

/// The most characters that are told of what a program's own code says: that may hold a whole body.
const LONGEST_TEXT: usize = 1000;

/// One panic.
#[derive(Clone, Debug)]
pub struct PanicNote {
    /// When.
    pub at: Instant,
    /// The thread's name.
    pub name: Arc<str>,
    /// Its role.
    pub role: Role,
    /// What it said, and of what.
    pub text: String,
}

type Listener = Box<dyn Fn(&PanicNote) + Send + Sync>;

/// The panics of one registry's threads.
pub(super) struct Panics {
    pub(super) total: Counter,
    last: Leaf<VecDeque<PanicNote>>,
    listener: OnceLock<Listener>,
    #[cfg(debug_assertions)]
    asked: [std::sync::atomic::AtomicU64; Role::ALL.len()],
}

impl Panics {
    pub(super) fn new() -> Self {
        Self {
            total: Counter::new(),
            last: Leaf::new(&classes::THREADS, VecDeque::new()),
            listener: OnceLock::new(),
            #[cfg(debug_assertions)]
            asked: Default::default(),
        }
    }

    pub(super) fn listen(&self, listener: Listener) {
        // It is called once, by whoever puts the gateway together; a second one would have missed the beginning.
        let _ = self.listener.set(listener);
    }

    /// Those of the last `within`, oldest first.
    pub(super) fn recent(&self, now: Instant, within: Duration) -> Vec<PanicNote> {
        let last = self.last.lock();
        last.iter().filter(|note| now.saturating_duration_since(note.at) < within).cloned().collect()
    }

    fn keep(&self, entry: &Entry, text: String) -> PanicNote {
        self.total.inc();
        log::error!("thread {} panicked: {text}", entry.name);
        let note = PanicNote { at: now(), name: Arc::clone(&entry.name), role: entry.role, text };
        let mut last = self.last.lock();
        let oldest = if last.len() == KEPT { last.pop_front() } else { None };
        last.push_back(note.clone());
        drop(last);
        drop(oldest);
        note
    }

    #[cfg(debug_assertions)]
    pub(super) fn ask(&self, role: Role) {
        self.asked[role as usize].fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

impl fmt::Debug for Panics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panics").field("total", &self.total).finish_non_exhaustive()
    }
}

/// Counts, logs and tells a panic of the current thread, which somebody above the registry has caught. `text` says what it
/// was about, as far as that is known, and what it said.
pub fn note_panic(text: impl Into<String>) {
    with_current(|entry| {
        let note = entry.panics.keep(entry, text.into());
        if let Some(listener) = entry.panics.listener.get() {
            listener(&note);
        }
    });
}

/// Like [`note_panic`], by somebody who tells it himself.
pub fn count_panic(text: impl Into<String>) {
    with_current(|entry| entry.panics.keep(entry, text.into()));
}

/// The words of a panic, as far as it has any.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}

/// The beginning of `text`, as much as is told of it.
pub(crate) fn brief(text: &str) -> &str {
    text.char_indices().nth(LONGEST_TEXT).map_or(text, |(at, _)| &text[..at])
}

/// Drops what is a program's own, and whatever a panic of that carries; `whose` says what it is.
pub(crate) fn let_go<T>(whose: &str, own: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(own))) {
        count_panic(format!("dropping what is {whose}: {}", brief(panic_text(&*panic))));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(panic)));
    }
}

/// Panics if a test has asked for a panic of a thread of this role.
#[cfg(debug_assertions)]
pub(super) fn strike() {
    use std::sync::atomic::Ordering;
    let struck = with_current(|entry| {
        let asked = &entry.panics.asked[entry.role as usize];
        asked.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |asked| asked.checked_sub(1)).is_ok()
    });
    if struck == Some(true) {
        panic!("asked for by a test");
    }
}
