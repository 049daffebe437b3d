//! Where the programs of one major version of Postgres are.
//!
//! A data directory is understood by the major version that made it and no other, so a directory
//! of programs is taken only after its `postgres` has told its version.
//!
//! Every program runs with `LC_ALL=C`, since its output is parsed, and without the operator's `PG*`
//! variables, which would lead it to another server. The rest of the environment stays: a
//! `restore_command` is run with it.

use std::env;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::ServerError;

/// Time for a program that only looks at a file or prints a line.
pub(super) const GLANCE_DEADLINE: Duration = Duration::from_secs(30);

/// How much of what a failed program wrote is kept, counted from the end.
const OUTPUT_CHARS_MAX: usize = 2000;

/// The programs of one major version of Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    bin: PathBuf,
}

impl Installation {
    /// Finds the programs of Postgres `major`.
    ///
    /// Looks only into `bin` if it is given; else where Debian and Red Hat put the programs of
    /// several versions beside each other, then along `PATH`.
    pub async fn find(major: u32, bin: Option<&Path>) -> Result<Self, ServerError> {
        if let Some(bin) = bin {
            let installation = Self { bin: bin.to_owned() };
            return match installation.major().await? {
                found if found == major => Ok(installation),
                found => {
                    Err(ServerError::WrongVersion { bin: bin.to_owned(), found, wanted: major })
                }
            };
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let usual = [format!("/usr/lib/postgresql/{major}/bin"), format!("/usr/pgsql-{major}/bin")];
        for bin in usual.into_iter().map(PathBuf::from).chain(env::split_paths(&path)) {
            let installation = Self { bin };
            if installation.program("postgres").is_file()
                && installation.major().await.is_ok_and(|found| found == major)
            {
                return Ok(installation);
            }
        }
        Err(ServerError::NotInstalled { major })
    }

    /// Finds the newest Postgres there is; looks only into `bin` if it is given.
    pub async fn newest(bin: Option<&Path>) -> Result<Self, ServerError> {
        let mut newest: Option<(u32, Self)> = None;
        for bin in bin.map_or_else(installed, |bin| vec![bin.to_owned()]) {
            let installation = Self { bin };
            let found = installation.major().await.ok();
            if let Some(major) = found.filter(|m| newest.as_ref().is_none_or(|(n, _)| m > n)) {
                newest = Some((major, installation));
            }
        }
        newest.map(|(_, installation)| installation).ok_or(ServerError::NotInstalled { major: 15 })
    }

    /// The path of a program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// A program with its environment cleaned, still without arguments.
    pub(super) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.program(name));
        for (variable, _) in env::vars_os().filter(|(name, _)| is_foreign(name)) {
            command.env_remove(variable);
        }
        command.env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    async fn major(&self) -> Result<u32, ServerError> {
        let mut command = self.command("postgres");
        command.arg("--version");
        parse_major(&run(command, GLANCE_DEADLINE).await?)
            .ok_or(ServerError::Output { program: "postgres", what: "its version" })
    }
}

/// Runs a program to its end and returns what it printed. Dropping the future kills it.
pub(super) async fn run(mut command: Command, deadline: Duration) -> Result<String, ServerError> {
    let program = PathBuf::from(command.as_std().get_program());
    let output = match timeout(deadline, command.kill_on_drop(true).output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(source)) => return Err(ServerError::Run { program, source }),
        Err(_) => {
            return Err(ServerError::Deadline { what: program.display().to_string(), deadline });
        }
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let skipped = text.trim().chars().count().saturating_sub(OUTPUT_CHARS_MAX);
    let output_end = text.trim().chars().skip(skipped).collect();
    Err(ServerError::Failed { program, status: output.status, output: output_end })
}

/// The major version in `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_major(line: &str) -> Option<u32> {
    let (_, version) = line.split_once("(PostgreSQL) ")?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Directories in which programs of Postgres may be.
fn installed() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let debian = versions.flatten().map(|version| version.path().join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let all = debian.chain(env::split_paths(&path));
    all.filter(|bin| bin.join("postgres").is_file()).collect()
}

/// Whether a variable would lead Postgres' programs elsewhere. Ours are for `restore_command`.
fn is_foreign(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"PG") && !name.as_bytes().starts_with(b"PGKEEP_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 19devel\n"), Some(19));
        assert_eq!(parse_major("postgres (Other) 15\n"), None);
        assert_eq!(parse_major("postgres (PostgreSQL) devel\n"), None);
    }
}
