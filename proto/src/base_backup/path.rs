//! The path of something in a base backup, relative to the data directory or tablespace.
//!
//! Kept as bytes: Postgres takes over file names it did not make, in whatever encoding they are,
//! and every one of them has to come back as it was.
//!
//! Invariant: not empty, not absolute, no component empty, `.` or `..`, no zero byte. So a path
//! joined to a directory names something below that directory, as long as no link is followed.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::{Error, Result};

/// A path below the data directory or tablespace that is being backed up or restored.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupPath(Vec<u8>);

impl BackupPath {
    /// Judges a path from an archive or a repository.
    pub fn new(path: impl Into<Vec<u8>>) -> Result<Self> {
        let path = path.into();
        let honest = |component: &[u8]| !matches!(component, b"" | b"." | b"..");
        if path.contains(&0) || !path.split(|byte| *byte == b'/').all(honest) {
            let text = String::from_utf8_lossy(&path);
            return Err(Error::text("not a path within a base backup", &text));
        }
        Ok(Self(path))
    }

    /// The bytes of the path.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as the system takes it.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

/// For people: what is not UTF-8 is replaced.
impl fmt::Display for BackupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_path().display().fmt(f)
    }
}

impl fmt::Debug for BackupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_path().fmt(f)
    }
}

impl<C> minicbor::Encode<C> for BackupPath {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.bytes(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for BackupPath {
    fn decode(
        decoder: &mut minicbor::Decoder<'b>,
        _: &mut C,
    ) -> Result<Self, minicbor::decode::Error> {
        Self::new(decoder.bytes()?).map_err(minicbor::decode::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_directory_are_refused() {
        for path in
            ["", "/", "/etc/passwd", "..", "a/../b", "a/..", ".", "./a", "a//b", "a/", "a\0"]
        {
            assert!(BackupPath::new(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn names_that_are_not_utf8_survive() {
        let path = BackupPath::new(*b"base/5/caf\xE9").unwrap();
        assert_eq!(path.as_path().as_os_str().as_bytes(), b"base/5/caf\xE9");
        assert_eq!(path.to_string(), "base/5/caf\u{FFFD}");
        assert!(BackupPath::new("base/5/..16384").is_ok());
    }
}
