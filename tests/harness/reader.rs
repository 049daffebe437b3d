//! The independent reader: `tests/reader/pgkeep_reader.py`, with the packages it needs.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cache::cache;

/// The reader of one repository. It runs as we do, not as the servers do.
#[derive(Debug)]
pub(crate) struct Reader {
    repository: PathBuf,
    options: Vec<OsString>,
}

impl Reader {
    /// Of the repository in a directory.
    pub(crate) fn new(repository: &Path) -> Self {
        Self { repository: repository.to_owned(), options: Vec::new() }
    }

    /// With an option that names a file.
    pub(crate) fn with(mut self, option: &str, path: &Path) -> Self {
        self.options.extend([option.into(), path.into()]);
        self
    }

    /// The command line of a verb.
    pub(crate) fn command(&self, verb: &str, arguments: &[&OsStr]) -> Command {
        let mut command = Command::new(python());
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reader/pgkeep_reader.py"));
        command.args(&self.options).arg(verb).arg(&self.repository).args(arguments);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

fn python() -> PathBuf {
    let python = cache().join("reader/bin/python");
    assert!(python.exists(), "{} is missing: run tests/reader/setup.sh", python.display());
    python
}
