//! A file that lines are appended to, and that somebody else may move away.
//!
//! **Protocol.** The file is opened for appending, and each line is one `write(2)`: lines of many threads, and of several
//! processes, do not mix. Whoever writes has it looked before each line, once a second, whether the path still names the file that is open; if not, as
//! after logrotate's `rename`, the path is opened anew, and lines that are being written meanwhile still go to the old
//! file. No signal and no reload is needed for it, and no line is lost by it.
//!
//! **A full disk** may take the beginning of a line. It is ended before the next one, which is whole again.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::time::Stamp;

/// How often it is looked whether the file has been moved.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A file to append to.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    open: ArcSwap<Open>,
    /// Whether the last line was cut, and has no end.
    cut: AtomicBool,
    /// When it was last looked whether the path still names it, in microseconds.
    looked: AtomicU64,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode.
    id: (u64, u64),
}

impl LogFile {
    /// Opens the file, which is made if it is not there, for its owner alone.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let open = ArcSwap::from_pointee(open(path)?);
        let (cut, looked) = (AtomicBool::new(false), AtomicU64::new(Stamp::now().micros()));
        Ok(Self { path: path.to_owned(), open, cut, looked })
    }

    /// Appends a whole line.
    pub(super) fn append(&self, line: &[u8]) -> io::Result<()> {
        self.put(&mut &self.open.load().file, line)
    }

    /// Writes a line at once, behind the end of one that was cut.
    fn put(&self, file: &mut impl io::Write, line: &[u8]) -> io::Result<()> {
        if self.cut.swap(false, Ordering::Relaxed) {
            file.write(b"\n").inspect_err(|_| self.cut.store(true, Ordering::Relaxed))?;
        }
        let written = file.write(line)?;
        if written < line.len() {
            self.cut.store(true, Ordering::Relaxed);
            return Err(io::Error::new(io::ErrorKind::WriteZero, "a line was cut"));
        }
        Ok(())
    }

    /// Opens the path anew if it names another file than the one that is open, or none; the one that is open stays so where
    /// that fails. None if it was looked within the last second.
    pub(super) fn follow(&self, now: Stamp) -> Option<io::Result<()>> {
        let last = self.looked.load(Ordering::Relaxed);
        let is_due = u128::from(now.micros().saturating_sub(last)) >= LOOK_EVERY.as_micros();
        let is_mine = || self.looked.compare_exchange(last, now.micros(), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !is_due || !is_mine() {
            return None;
        }
        if std::fs::metadata(&self.path).is_ok_and(|found| id(&found) == self.open.load().id) {
            return Some(Ok(()));
        }
        Some(open(&self.path).map(|open| self.open.store(open.into())))
    }
}

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn open(path: &Path) -> io::Result<Open> {
    // A pipe without a reader would hold up the one who opens it, and one that is full each request.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.file_type().is_char_device()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file that can be appended to"));
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let id = id(&file.metadata()?);
    Ok(Open { file, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).expect("it is there")
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew_and_loses_no_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, old) = (dir.path().join("requests.log"), dir.path().join("requests.log.1"));
        let log = LogFile::open(&path).expect("it opens");
        log.append(b"one\n").expect("it is written");
        std::fs::rename(&path, &old).expect("it moves");
        assert!(log.follow(Stamp::now()).is_none());
        log.append(b"two\n").expect("it is written");
        assert_eq!(read(&old), "one\ntwo\n", "it is not looked more than once a second");
        log.looked.store(0, Ordering::Relaxed);
        log.follow(Stamp::at(crate::time::now() + 2 * LOOK_EVERY)).expect("it is looked").expect("it opens");
        log.append(b"three\n").expect("it is written");
        assert_eq!((&*read(&old), &*read(&path)), ("one\ntwo\n", "three\n"));
    }

    #[test]
    fn a_line_that_was_cut_takes_no_other_with_it() {
        /// Has room for so many bytes.
        struct Disk(Vec<u8>, usize);

        impl io::Write for Disk {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                let room = line.len().min(self.1 - self.0.len());
                self.0.extend(&line[..room]);
                if room == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(room) }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let dir = tempfile::tempdir().expect("a directory");
        let log = LogFile::open(&dir.path().join("requests.log")).expect("it opens");
        let mut disk = Disk(Vec::new(), 7);
        log.put(&mut disk, b"one\n").expect("there is room");
        assert!(log.put(&mut disk, b"two two\n").is_err() && log.put(&mut disk, b"lost\n").is_err());
        disk.1 = 99;
        log.put(&mut disk, b"three\n").expect("there is room again");
        log.put(&mut disk, b"four\n").expect("there is room again");
        assert_eq!(String::from_utf8_lossy(&disk.0), "one\ntwo\nthree\nfour\n");
    }

    #[test]
    fn what_cannot_be_opened_is_told_and_lines_go_where_they_went() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(LogFile::open(dir.path()).is_err(), "a directory is no file");
        assert!(LogFile::open(&dir.path().join("none/requests.log")).is_err());
        let (path, old) = (dir.path().join("requests.log"), dir.path().join("old"));
        let log = LogFile::open(&path).expect("it opens");
        std::fs::rename(&path, &old).expect("it moves");
        std::fs::create_dir(&path).expect("something else stands there");
        log.looked.store(0, Ordering::Relaxed);
        let later = Stamp::at(crate::time::now() + 2 * LOOK_EVERY);
        assert!(log.follow(later).expect("it is looked").is_err());
        log.append(b"one\n").expect("it is written");
        assert_eq!(read(&old), "one\n");
        let full = LogFile::open(Path::new("/dev/full")).expect("it opens");
        assert!(full.append(b"one\n").is_err());
    }
}
