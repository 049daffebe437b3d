//! Never root: pgkeep runs as the user that runs Postgres, or as root only to become it.
//!
//! Becoming is one `exec` with another user id, before anything is opened; no privilege is kept.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The user that runs Postgres where nobody said otherwise.
pub(crate) const USER_DEFAULT: &str = "postgres";

/// Why we cannot become the user that runs Postgres.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrivilegeError {
    /// The system does not know the user.
    #[error("user {0:?} does not exist, and pgkeep does not work as root")]
    UnknownUser(String),
    /// The user cannot run the program where it is.
    #[error("user {user:?} cannot run {program}", program = program.display())]
    OutOfReach {
        /// The user.
        user: String,
        /// Our executable.
        program: PathBuf,
    },
    /// The system refused.
    #[error("cannot become user {user:?}")]
    Refused {
        /// The user.
        user: String,
        /// Why.
        source: std::io::Error,
    },
}

impl PrivilegeError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownUser(_) => {
                Some("install Postgres, or name its user in daemon.user".to_owned())
            }
            Self::OutOfReach { .. } => {
                Some("install pgkeep where that user reaches it, such as /usr/local/bin".to_owned())
            }
            Self::Refused { .. } => None,
        }
    }
}

/// A user of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// Its name.
    pub name: String,
    uid: u32,
    gid: u32,
    home: String,
}

impl User {
    /// Looks up `name` in /etc/passwd.
    pub(crate) fn find(name: &str) -> Result<Self, PrivilegeError> {
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self::find_in(&passwd, name).ok_or_else(|| PrivilegeError::UnknownUser(name.to_owned()))
    }

    fn find_in(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (found, _) = (fields.next()?, fields.next()?);
            let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            let home = fields.nth(1)?.to_owned();
            (found == name).then(|| Self { name: found.to_owned(), uid, gid, home })
        })
    }

    /// Whether the user may run `program` and enter every directory above it, by permission bits.
    fn may_run(&self, program: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        program.ancestors().filter(|part| !part.as_os_str().is_empty()).all(|part| {
            std::fs::metadata(part).is_ok_and(|metadata| {
                let mode = metadata.permissions().mode();
                let bit = if metadata.uid() == self.uid {
                    0o100
                } else if metadata.gid() == self.gid {
                    0o010
                } else {
                    0o001
                };
                mode & bit != 0
            })
        })
    }

    /// Gives a directory of ours to the user.
    pub(crate) fn own(&self, path: &Path) -> std::io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
    }

    /// Goes on as this user, in `directory`, as `program` with our own arguments and `extra` ones.
    /// Returns only if that fails.
    pub(crate) fn exec(
        &self,
        program: &Path,
        directory: &Path,
        extra: &[&OsStr],
    ) -> PrivilegeError {
        if !self.may_run(program) {
            return PrivilegeError::OutOfReach {
                user: self.name.clone(),
                program: program.to_owned(),
            };
        }
        let source = Command::new(program)
            .args(std::env::args_os().skip(1))
            .args(extra)
            .uid(self.uid)
            .gid(self.gid)
            .env("HOME", &self.home)
            .env("USER", &self.name)
            .env("LOGNAME", &self.name)
            .current_dir(directory)
            .exec();
        PrivilegeError::Refused { user: self.name.clone(), source }
    }
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// If we are root, goes on as `user`; otherwise does nothing.
pub(crate) fn leave_root(user: &str) -> Result<(), PrivilegeError> {
    if !is_root() {
        return Ok(());
    }
    let refused = |source| PrivilegeError::Refused { user: user.to_owned(), source };
    let program = std::env::current_exe().map_err(refused)?;
    let directory = std::env::current_dir().map_err(refused)?;
    Err(User::find(user)?.exec(&program, &directory, &[]))
}

/// The path of our executable, if its bytes make a path that can be quoted for a shell.
pub(crate) fn program() -> std::io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    if program.as_os_str().as_bytes().iter().any(|b| b.is_ascii_control()) {
        return Err(std::io::ErrorKind::InvalidFilename.into());
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104:Pg,,,:/var/lib/postgresql:/bin/sh\n";
        let user = User::find_in(passwd, "postgres").unwrap();
        assert_eq!((user.uid, user.gid, user.home.as_str()), (101, 104, "/var/lib/postgresql"));
        assert_eq!(User::find_in(passwd, "post"), None);
    }
}
