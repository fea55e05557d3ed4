//! The certificate in force, and its replacement when its files change.
//!
//! **Protocol.** Handshakes take what is in force when they begin and keep it. [`Certificates::look`] is called by one thread
//! about once a second: it asks the file system whether the files are still those that were read, and reads them again once
//! they have changed and then stayed the same from one look to the next, since certificate and key are seldom written at the
//! same moment. What cannot be used changes nothing, and is not read again until the files change again.
//!
//! **Invariants.** I11: the new is complete and checked before it is swapped in.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;

use crate::config::{ConfigError, LoadedTls, Tls};
use crate::sync::Leaf;
use crate::sync::locks::classes;

/// What is said of a file without reading it: where it lies, how long it is, when it was written. A link that points
/// elsewhere is another file.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// What came of a look at the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// They are those that were read last.
    Same,
    /// What is in them now is in force.
    Taken,
    /// They cannot be used, because of this; what was in force still is.
    Refused(String),
}

/// The certificate, key and authorities of a listener.
#[derive(Debug)]
pub struct Certificates {
    settings: Tls,
    current: ArcSwap<LoadedTls>,
    seen: Leaf<Seen>,
}

#[derive(Debug)]
struct Seen {
    /// The files as they were when they were read last.
    read: Vec<Stamp>,
    /// The files as they were at the last look, if they are others.
    changed: Option<Vec<Stamp>>,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(settings: &Tls) -> Result<Self, ConfigError> {
        // Before they are read: what changes meanwhile is seen at the next look.
        let read = stamps(settings);
        let loaded = settings.load().map_err(|problems| ConfigError { file: None, problems })?;
        let seen = Leaf::new(&classes::LISTENER, Seen { read, changed: None });
        Ok(Self { settings: settings.clone(), current: ArcSwap::from_pointee(loaded), seen })
    }

    /// What a session that begins now is made of.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().config)
    }

    /// What is to be warned of in the certificate in force.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        self.current.load().remark()
    }

    /// Looks whether the files have changed, and takes them if they have and can be used.
    pub fn look(&self) -> Look {
        let stamps = stamps(&self.settings);
        let mut seen = self.seen.lock();
        if stamps == seen.read {
            seen.changed = None;
            return Look::Same;
        }
        if seen.changed.as_ref() != Some(&stamps) {
            seen.changed = Some(stamps);
            return Look::Same;
        }
        seen.read = stamps;
        seen.changed = None;
        drop(seen);
        match self.settings.load() {
            Ok(loaded) => {
                self.current.store(Arc::new(loaded));
                Look::Taken
            }
            Err(problems) => Look::Refused(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        }
    }
}

fn stamps(settings: &Tls) -> Vec<Stamp> {
    let stamp = |path| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
    };
    settings.files().map(stamp).collect()
}
