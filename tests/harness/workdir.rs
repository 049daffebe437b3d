//! One directory for all that a test leaves behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::account;

/// A temporary directory of one test; declare it first, so that it goes last.
///
/// It is removed when the test passes. When the test fails, or with `KEEP=1`, it stays and its
/// place is printed. It lies under the system's temporary directory and not under `target`,
/// because the account of the servers may not be able to enter the latter, and because the path
/// of a Unix socket must not exceed 107 bytes.
#[derive(Debug)]
pub(crate) struct Workdir {
    directory: TempDir,
}

impl Workdir {
    /// A fresh directory whose name says which test it belongs to.
    pub(crate) fn new(test: &str) -> Self {
        let directory =
            tempfile::Builder::new().prefix(&format!("pgkeep-{test}-")).tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        account::give(directory.path());
        Self { directory }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Makes a directory in it that the servers may write to.
    pub(crate) fn subdirectory(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        account::give(&path);
        path
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("KEEP").is_some() {
            self.directory.disable_cleanup(true);
            println!("kept: {}", self.path().display());
        }
    }
}
