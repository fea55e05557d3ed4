//! Whether files are still those that were read: asked of the file system, without reading them again.
//!
//! Files that belong together are seldom written at the same moment, so a change counts once it has stayed the same from one
//! look to the next.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What is said of a file without reading it: where it lies, how long it is, when it was written; nothing of one that is not
/// there. A link that points elsewhere is another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<(u64, u64, u64, i64, i64)>);

impl Stamp {
    /// The file's now.
    pub(super) fn of(path: &Path) -> Self {
        let file = std::fs::metadata(path).ok();
        Self(file.map(|file| (file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec())))
    }
}

/// Files as they were when they were read, to be looked at from time to time.
#[derive(Clone, Debug, Default)]
pub struct Files {
    paths: Vec<PathBuf>,
    /// As they were when they were read last.
    read: Vec<Stamp>,
    /// As they were at the last look, if they were others.
    changed: Option<Vec<Stamp>>,
}

impl Files {
    /// These, which are about to be read: what changes from here on is seen.
    #[must_use]
    pub fn of<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Self {
        Self::stamped(paths.into_iter().map(|path| (path.to_owned(), Stamp::of(path))))
    }

    /// Files with their stamps from before they were read.
    pub(super) fn stamped(files: impl IntoIterator<Item = (PathBuf, Stamp)>) -> Self {
        let (paths, read) = files.into_iter().unzip();
        Self { paths, read, changed: None }
    }

    /// Looks at these, too.
    pub(super) fn extend(&mut self, others: Self) {
        self.paths.extend(others.paths);
        self.read.extend(others.read);
        self.changed = None;
    }

    /// Whether they have changed since they were read, and stayed the same since the last look. They count as read then, so
    /// that this is said once of a change, whether what is in them can be used or not.
    pub fn look(&mut self) -> bool {
        let now: Vec<_> = self.paths.iter().map(|path| Stamp::of(path)).collect();
        if now == self.read {
            self.changed = None;
            return false;
        }
        if self.changed.as_ref() != Some(&now) {
            self.changed = Some(now);
            return false;
        }
        self.read = now;
        self.changed = None;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_said_once_when_it_has_settled_and_not_if_it_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
        std::fs::write(&one, "1").unwrap();
        let mut files = Files::of([&*one, &*two]);
        assert!(!files.look(), "nothing has changed");
        std::fs::write(&two, "22").unwrap();
        assert!(!files.look(), "it may still be written");
        std::fs::write(&one, "333").unwrap();
        assert!(!files.look(), "it was still written");
        assert!(files.look() && !files.look(), "once");
        std::fs::rename(&one, folder.path().join("away")).unwrap();
        assert!(!files.look(), "it may come back");
        std::fs::rename(folder.path().join("away"), &one).unwrap();
        assert!(!files.look() && !files.look(), "it came back");
        std::fs::remove_file(&two).unwrap();
        assert!(!files.look() && files.look(), "it is gone");
    }
}
