//! A ledger that may be kept in a file, so that what was spent of budgets outlives the program.
//!
//! **Protocol.** The thread that settles a request writes the file if the last time is [`EVERY`] ago; one at a time, and whoever
//! finds another at it leaves it to that. It is written beside and renamed, so that it is whole at any moment. What was spent
//! since the last time is lost by a kill; an orderly end writes it, by the drop.
//!
//! **One file, one ledger.** Plugins of this process that name the same file have the same books: so a reload with other
//! prices or budgets goes on with what was spent, while requests of before it still settle. Two processes must not have
//! one file.
//!
//! **Lock order.** The ledger and the table of files are leaves; no file is touched under either.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::who::Who;
use super::ledger::{Carried, Ledger};
use crate::config::plugins::Period;
use crate::plugin::PluginError;
use crate::sync::locks::{Leaf, LeafGuard, classes};
use crate::time::{Stamp, format_duration, parse_duration};

/// How long after the file was written it is written again at the earliest.
const EVERY: Duration = Duration::from_secs(2);

/// The longest file that is read, in bytes.
const LONGEST: u64 = 16 << 20;

/// What the file begins with, so that no other is taken for it.
const FORMAT: &str = "sluicegate accounting 1";

/// A ledger, and the file that it is kept in.
#[derive(Debug)]
pub(super) struct Books {
    ledger: Leaf<Ledger>,
    file: Option<StateFile>,
}

#[derive(Debug)]
struct StateFile {
    path: PathBuf,
    /// Which version of the ledger stands in it.
    version: AtomicU64,
    /// When it may be written again, in microseconds.
    due_us: AtomicU64,
    /// Whether somebody is at it.
    busy: AtomicBool,
}

/// Books by their file's path.
type Kept = Vec<(PathBuf, Weak<Books>)>;

/// The books of this process that are kept in files.
static KEPT: Leaf<Kept> = Leaf::new(&classes::ACCOUNTING_FILES, Vec::new());

impl Books {
    fn new(file: Option<StateFile>, carried: BTreeMap<Who, Carried>) -> Self {
        Self { ledger: Leaf::new(&classes::ACCOUNTING, Ledger::new(carried)), file }
    }

    /// The books that are kept at `path`; those that are open already, if there are such.
    ///
    /// # Errors
    /// If there is another file, or one that is torn, or it cannot be read or written.
    pub(super) fn kept(path: &Path) -> Result<Arc<Self>, PluginError> {
        if let Some(open) = find(&KEPT.lock(), path) {
            return Ok(open);
        }
        let carried = read(path)?;
        let (version, due_us, busy) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let file = StateFile { path: path.to_owned(), version, due_us, busy };
        let books = Arc::new(Self::new(Some(file), carried));
        // What cannot be written must not be found out when the first money was spent.
        books.write().map_err(|error| format!("state_file {} cannot be written: {error}", path.display()))?;
        let mut kept = KEPT.lock();
        if let Some(open) = find(&kept, path) {
            // The lock must be free when the books that nobody needs are dropped, and written once more.
            drop(kept);
            return Ok(open);
        }
        kept.retain(|(_, books)| books.strong_count() > 0);
        kept.push((path.to_owned(), Arc::downgrade(&books)));
        drop(kept);
        Ok(books)
    }

    pub(super) fn ledger(&self) -> LeafGuard<'_, Ledger> {
        self.ledger.lock()
    }

    /// Writes down what was spent, if that has changed and the last time is a while ago; whether it did.
    pub(super) fn save_in_time(&self) -> io::Result<bool> {
        let is_due = |file: &StateFile| Stamp::now().micros() >= file.due_us.load(Ordering::Relaxed);
        if self.file.as_ref().is_some_and(is_due) { self.save() } else { Ok(false) }
    }

    /// Writes down what was spent, if that has changed; whether it did.
    pub(super) fn save(&self) -> io::Result<bool> {
        let is_behind = |file: &StateFile| file.version.load(Ordering::Acquire) != self.ledger().version();
        if self.file.as_ref().is_some_and(is_behind) { self.write() } else { Ok(false) }
    }

    fn write(&self) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        if file.busy.swap(true, Ordering::Acquire) {
            return Ok(false);
        }
        let (carried, version) = self.ledger().carry();
        let written = replace(&file.path, &carried);
        if written.is_ok() {
            file.version.store(version, Ordering::Release);
        }
        let every_us = u64::try_from(EVERY.as_micros()).unwrap_or(u64::MAX);
        file.due_us.store(Stamp::now().micros().saturating_add(every_us), Ordering::Relaxed);
        file.busy.store(false, Ordering::Release);
        written.map(|()| true)
    }
}

impl Default for Books {
    /// Books that are kept nowhere.
    fn default() -> Self {
        Self::new(None, BTreeMap::new())
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        if let Err(error) = self.save() {
            log::warn!("plugin accounting: what was spent could not be written down at the end: {error}");
        }
    }
}

/// Only what is asked for is taken hold of: books that are dropped write, and that must not be under the lock.
fn find(kept: &Kept, path: &Path) -> Option<Arc<Books>> {
    kept.iter().filter(|(known, _)| known == path).find_map(|(_, books)| books.upgrade())
}

/// The file's contents.
#[derive(Deserialize, Serialize)]
struct Contents {
    format: String,
    spent: Vec<Row>,
}

/// What one has spent of its budget.
#[derive(Deserialize, Serialize)]
struct Row {
    who: Who,
    period: String,
    number: u64,
    /// Digits: more than a number of JSON holds.
    picodollars: String,
}

impl Row {
    fn of((who, carried): (&Who, &Carried)) -> Self {
        let period = match carried.period {
            Period::Day => "day".to_owned(),
            Period::Month => "month".to_owned(),
            Period::Total => "total".to_owned(),
            Period::Every(time) => format_duration(time),
        };
        Self { who: who.clone(), period, number: carried.number, picodollars: carried.spent.to_string() }
    }

    fn open(self) -> Option<(Who, Carried)> {
        let period = match &*self.period {
            "day" => Period::Day,
            "month" => Period::Month,
            "total" => Period::Total,
            time => Period::Every(parse_duration(time).ok()?),
        };
        Some((self.who, Carried { period, number: self.number, spent: self.picodollars.parse().ok()? }))
    }
}

/// What stands in the file; nothing if there is none.
fn read(path: &Path) -> Result<BTreeMap<Who, Carried>, PluginError> {
    let shown = path.display();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(format!("state_file {shown} cannot be read: {error}").into()),
    };
    let mut text = String::new();
    let length = file.take(LONGEST + 1).read_to_string(&mut text).unwrap_or(0);
    let contents = serde_json::from_str::<Contents>(&text)
        .ok()
        .filter(|contents| contents.format == FORMAT && u64::try_from(length).is_ok_and(|length| length <= LONGEST));
    let rows = contents.and_then(|contents| contents.spent.into_iter().map(Row::open).collect::<Option<_>>());
    rows.ok_or_else(|| {
        let what = "was not written by this plugin, or is torn";
        format!("state_file {shown} {what}; move it away to begin with nothing spent").into()
    })
}

/// Puts a file with this in the place of the one there, whole at any moment.
fn replace(path: &Path, carried: &BTreeMap<Who, Carried>) -> io::Result<()> {
    let contents = Contents { format: FORMAT.to_owned(), spent: carried.iter().map(Row::of).collect() };
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    // For its owner alone, as the request log is: it has keys' names, and tags' values of whoever calls.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&serde_json::to_vec(&contents)?)?;
    // Else the name may outlive a power failure, and what it names not.
    file.sync_all()?;
    drop(file);
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn spent() -> BTreeMap<Who, Carried> {
        let periods = [Period::Day, Period::Month, Period::Total, Period::Every(Duration::from_secs(90))];
        let whos = [Who::Key("a".to_owned()), Who::Tag("\"b\"".to_owned()), Who::Unkeyed, Who::Others];
        let carried = |period| Carried { period, number: 7, spent: u128::MAX };
        whos.into_iter().zip(periods).map(|(who, period)| (who, carried(period))).collect()
    }

    #[test]
    fn what_is_written_is_read_again_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("spent.json");
        assert_eq!(read(&path).expect("there is none yet"), BTreeMap::new());
        for carried in [spent(), BTreeMap::new()] {
            replace(&path, &carried).expect("it can be written");
            assert_eq!(read(&path).expect("its own"), carried);
        }
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "for its owner alone");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn a_torn_or_alien_file_is_told_of_by_its_name_and_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("spent.json");
        replace(&path, &spent()).expect("it can be written");
        let whole = fs::read(&path).expect("it is there");
        let alien = whole.to_ascii_uppercase();
        for wrong in [&whole[..whole.len() - 1], &whole[..0], b"{}", b"[1]", &alien, b"\xff"] {
            fs::write(&path, wrong).expect("it can be written");
            let error = Books::kept(&path).expect_err("none of its own").to_string();
            assert!(error.contains("spent.json") && error.contains("move it away"), "{error}");
            assert_eq!(fs::read(&path).expect("it is there"), wrong);
        }
    }

    #[test]
    fn what_cannot_be_written_is_found_out_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Books::kept(&folder.path().join("missing/spent.json")).expect_err("no such folder");
        assert!(error.to_string().contains("cannot be written"), "{error}");
    }

    #[test]
    fn two_of_one_file_have_the_same_books_as_long_as_one_lives() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, other) = (folder.path().join("a.json"), folder.path().join("b.json"));
        let (one, two, third) = (Books::kept(&path), Books::kept(&path), Books::kept(&other));
        let (one, two, third) = (one.expect("new"), two.expect("open"), third.expect("new"));
        assert!(Arc::ptr_eq(&one, &two) && !Arc::ptr_eq(&one, &third));
        let before = Arc::downgrade(&one);
        drop((one, two));
        assert!(before.upgrade().is_none());
        Books::kept(&path).expect("read again");
    }
}
