//! Versions as crates have them, as far as comparing needs: three numbers, and whether it is before its release.

/// A version. One before its release is less than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    numbers: [u64; 3],
    is_release: bool,
}

impl Version {
    /// Reads `1.2.3`, `1.2.3-rc.1` or `1.2.3+build`.
    pub(super) fn of(text: &str) -> Self {
        let plain = text.split('+').next().unwrap_or_default();
        let (plain, is_release) = plain.split_once('-').map_or((plain, true), |(plain, _)| (plain, false));
        let mut parts = plain.split('.').map(|part| part.parse().unwrap_or_else(|_| panic!("{text} is no version")));
        Self { numbers: [(); 3].map(|()| parts.next().unwrap_or(0)), is_release }
    }

    /// What a compatible version has in common with it: `1`, `0.23` or `0.0.3`.
    pub(super) fn compatibility(self) -> String {
        match self.numbers {
            [0, 0, patch] => format!("0.0.{patch}"),
            [0, minor, _] => format!("0.{minor}"),
            [major, ..] => major.to_string(),
        }
    }
}

/// Whether a version fulfils all of a range's parts, as in `>=0.5.12, <0.5.15`.
pub(super) fn lies_in(version: &Version, range: &str) -> bool {
    range.split(',').map(str::trim).all(|part| {
        let bound = |prefix: &str| part.strip_prefix(prefix).map(|text| Version::of(text.trim()));
        if let Some(least) = bound(">=") {
            *version >= least
        } else if let Some(end) = bound("<") {
            *version < end
        } else {
            panic!("{part:?} is neither >= nor <")
        }
    })
}
