//! The `restore_command` that asks us, or copies what we exported: quoted for the shell that runs it.

use std::path::{Path, PathBuf};

use pgkeep_catalog::ClusterName;

use crate::{Error, Result};

/// A command line for `restore_command`.
///
/// All paths are absolute: Postgres runs it in its own directory, with its own environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreCommand(String);

impl RestoreCommand {
    /// Asks `program`, configured by the file `config`, for the WAL of `cluster` that the pin of
    /// the data directory allows. The incarnation is named: a later one must not change the answer.
    pub fn new(
        program: &Path,
        config: &Path,
        cluster: &ClusterName,
        incarnation: u32,
    ) -> Result<Self> {
        let (program, config) = (quoted(program)?, quoted(config)?);
        // Postgres puts nothing but names of its own in place of %f and %p.
        Ok(Self(format!(
            "{program} --config {config} --cluster {cluster} --incarnation {incarnation} \
             archive-get --pin %f \"%p\""
        )))
    }

    /// Copies out of the directory `wal`, by what every system has.
    pub fn copy(wal: &Path) -> Result<Self> {
        Ok(Self(format!("cp {}/%f \"%p\"", quoted(wal)?)))
    }

    /// The command line.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An absolute path as one word of the shell, in which Postgres finds nothing to replace.
fn quoted(path: &Path) -> Result<String> {
    Ok(shell_word(path)?.replace('%', "%%"))
}

/// An absolute path as one word of the shell.
pub(crate) fn shell_word(path: &Path) -> Result<String> {
    let unfit = || Error::PathNotText { path: PathBuf::from(path) };
    let absolute = std::path::absolute(path).map_err(|e| Error::file("find", path, e))?;
    let text = absolute.to_str().ok_or_else(unfit)?;
    Ok(format!("'{}'", text.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn command(program: &str, config: &str) -> String {
        let cluster = "main".parse().unwrap();
        RestoreCommand::new(Path::new(program), Path::new(config), &cluster, 1).unwrap().0
    }

    #[test]
    fn a_plain_command_is_readable() {
        assert_eq!(
            command("/bin/pgkeep", "/etc/pgkeep.toml"),
            "'/bin/pgkeep' --config '/etc/pgkeep.toml' --cluster main --incarnation 1 archive-get --pin \
             %f \"%p\""
        );
    }

    #[test]
    fn a_copy_leaves_names_to_postgres() {
        let command = RestoreCommand::copy(Path::new("/srv/5% of it/wal")).unwrap();
        assert_eq!(command.as_str(), "cp '/srv/5%% of it/wal'/%f \"%p\"");
    }

    #[test]
    fn the_shell_gives_back_any_path() {
        let path = "/a b/it's \"so\" $(touch x)`y`\\ 100%/conf";
        let line = command("/bin/echo", path).replace("%%", "%");
        let line = line.replace("'/bin/echo' ", "printf '%s\\n' ");
        let output = Command::new("/bin/sh").args(["-c", &line]).output().unwrap();
        let words = String::from_utf8(output.stdout).unwrap();
        assert_eq!(words.lines().nth(1), Some(path));
    }

    #[test]
    fn a_relative_path_becomes_absolute() {
        assert!(command("pgkeep", "pgkeep.toml").starts_with("'/"));
    }

    #[test]
    fn what_is_not_text_is_refused() {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"/\xFF"));
        let refused = RestoreCommand::new(path, path, &"main".parse().unwrap(), 1);
        assert!(matches!(refused, Err(Error::PathNotText { .. })));
    }
}
