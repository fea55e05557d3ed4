//! The certificate in force, and its replacement when its files change.
//!
//! **Protocol.** Handshakes take what is in force when they begin and keep it. [`Certificates::look`] is called by one thread
//! about once a second: it asks the file system whether the files are still those that were read, and reads them again once
//! they have changed and then stayed the same from one look to the next, since certificate and key are seldom written at the
//! same moment. What cannot be used changes nothing, and is not read again until the files change again.
//!
//! **Invariants.** I11: the new is complete and checked before it is swapped in.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::{ConfigError, Files, LoadedTls, Tls};
use crate::sync::Leaf;
use crate::sync::locks::classes;

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
    files: Leaf<Files>,
}

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(settings: &Tls) -> Result<Self, ConfigError> {
        let files = Files::of(settings.files());
        let loaded = settings.load().map_err(|problems| ConfigError { file: None, problems })?;
        let files = Leaf::new(&classes::LISTENER, files);
        Ok(Self { settings: settings.clone(), current: ArcSwap::from_pointee(loaded), files })
    }

    /// What a session that begins now is made of.
    pub(super) fn current(&self) -> Arc<LoadedTls> {
        self.current.load_full()
    }

    /// What is to be warned of in the certificate in force.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        self.current.load().remark()
    }

    /// Looks whether the files have changed, and takes them if they have and can be used.
    pub fn look(&self) -> Look {
        // The file system is asked outside the lock; nobody else looks.
        let mut files = self.files.lock().clone();
        let changed = files.look();
        *self.files.lock() = files;
        if !changed {
            return Look::Same;
        }
        match self.settings.load() {
            Ok(loaded) => {
                self.current.store(Arc::new(loaded));
                Look::Taken
            }
            Err(problems) => Look::Refused(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        }
    }
}
