//! What can go wrong with a Postgres of our own.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// A fact about a program of Postgres or a server we started. None is worth retrying unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Postgres refuses to run as root, and so do we before anything is touched.
    #[error("Postgres does not run as root")]
    Root,
    /// No directory with the programs of this version.
    #[error("no programs of Postgres {major} found")]
    NotInstalled {
        /// Major version that was looked for.
        major: u32,
    },
    /// The programs in the named directory are of another version.
    #[error("{} holds Postgres {found}, but Postgres {wanted} is needed", bin.display())]
    WrongVersion {
        /// The named directory.
        bin: PathBuf,
        /// Major version of its programs.
        found: u32,
        /// Major version that was looked for.
        wanted: u32,
    },
    /// A program could not be started, or be waited for.
    #[error("cannot run {}", program.display())]
    Run {
        /// Its path.
        program: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A program ended with a failure.
    #[error("{} failed ({status}): {output}", program.display())]
    Failed {
        /// Its path.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The last of what it wrote to standard error.
        output: String,
    },
    /// A program printed something unforeseen.
    #[error("{program} did not print {what}")]
    Output {
        /// Name of the program.
        program: &'static str,
        /// What was looked for.
        what: &'static str,
    },
    /// Something took longer than it was given.
    #[error("{what} was not done within {deadline:?}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// The time given.
        deadline: Duration,
    },
    /// A file or directory of the private server could not be made or read.
    #[error("cannot use {}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The server ended by itself before it was ready.
    #[error("server on {} stopped ({status}): {reason}", data.display())]
    Stopped {
        /// Its data directory.
        data: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The line of its log that tells why.
        reason: String,
    },
}

impl ServerError {
    /// What the operator may do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Root => Some("run pgkeep as the user who is to own the data directory"),
            Self::NotInstalled { .. } | Self::WrongVersion { .. } => {
                Some("install that version, or name the directory of its programs with --pg-bin")
            }
            Self::Stopped { .. } | Self::Deadline { .. } | Self::Failed { .. } => {
                Some("pgkeep-start.log in its data directory has all that it said")
            }
            _ => None,
        }
    }
}
