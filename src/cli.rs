//! The command line, declared once: clap makes the parser and the help of it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;
use pgkeep_catalog::backup::BackupType;
use pgkeep_catalog::key::{SecretSource, SlotName};

use crate::exit::Exit;
use crate::output::Format;

/// pgkeep keeps the past of a Postgres cluster: it streams WAL and base backups into a repository and
/// brings back any moment.
#[derive(Debug, Parser)]
#[command(name = "pgkeep", version, max_term_width = 100, propagate_version = true)]
pub(crate) struct Cli {
    /// Configuration [default: ./pgkeep.toml, then /etc/pgkeep/pgkeep.toml]
    #[arg(long, global = true, value_name = "FILE", env = "PGKEEP_CONFIG")]
    pub config: Option<PathBuf>,
    /// Cluster, when the configuration has several
    #[arg(long, global = true, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Incarnation of the cluster, for what came before `pgkeep upgrade` [default: the newest]
    #[arg(long, global = true, value_name = "NUMBER")]
    pub incarnation: Option<u32>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Tour of one minute on a throw-away cluster: stream, disaster, restore to the second before
    Demo(DemoArgs),
    /// Create the repository, register the cluster, make its replication slot
    Init(InitArgs),
    /// Go on with a server that took the place of the old one after pg_upgrade or initdb
    Upgrade,
    /// Try the repository's store like a doctor, and say whether it is safe to use
    Check,
    /// The daemon: stream WAL into the repository until stopped
    Run,
    /// Take a base backup
    Backup(BackupArgs),
    /// List backups
    List,
    /// Show how fresh the archive is, and what it covers
    Status,
    /// Bring a moment back into an empty directory
    Restore(RestoreArgs),
    /// Show and change which secrets open the repository
    #[command(subcommand)]
    Key(KeyVerb),
    /// Write a moment as plain files that Postgres' own tools restore
    Export(ExportArgs),
    /// Fetch a WAL file for a recovering server: restore_command
    ArchiveGet(ArchiveGetArgs),
    /// Check that everything in the repository is there, sound and in its place
    Verify(VerifyArgs),
    /// Print the version
    Version,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Directory with Postgres' programs [default: the newest that is installed]
    #[arg(long, value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
    /// Keep everything that was made, and say where it is
    #[arg(long)]
    pub keep: bool,
    /// Work in this directory, which must not exist; used when root becomes another user
    #[arg(long, hide = true, value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// Arguments of `init`.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct InitArgs {
    /// Go on with this server although its history left the archived one earlier: it was restored to
    /// a moment before, and promoted
    #[arg(long = "continue")]
    pub adopt: bool,
}

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Kind of backup: only `full` exists yet
    #[arg(long = "type", value_name = "TYPE", default_value = "full")]
    pub backup_type: BackupType,
    /// How hard the server works on its checkpoint at the start
    #[arg(long, value_enum, default_value_t = Checkpoint::Fast)]
    pub checkpoint: Checkpoint,
    /// How long to wait for the backup's WAL to be archived
    #[arg(long, value_name = "DURATION", default_value = "10min")]
    pub wait: SignedDuration,
}

/// How hard the server works on a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Checkpoint {
    /// At once
    Fast,
    /// Over minutes, as it is configured
    Spread,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Moment to bring back: `latest`, a time with its zone, an LSN, or `name:` and a restore point
    ///
    /// Examples: latest · '2026-11-22 14:05:00+01' · 2026-11-22T13:05:00Z · 'now - 10min' ·
    /// lsn:0/3000158 · name:before_deploy
    #[arg(long, value_name = "MOMENT")]
    pub to: String,
    /// Directory to restore into: must not exist or be empty
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Show the plan and touch nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Start Postgres, wait until the moment is reached, and say what was reached
    #[arg(long)]
    pub start: bool,
    /// Timeline to follow: `latest`, `current` (that of the backup) or a number
    #[arg(long, value_name = "TIMELINE", default_value = "latest")]
    pub timeline: String,
    /// Time zone of a time given without one, such as Europe/Berlin
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// Put a tablespace that was at OLD on the server at NEW; may be repeated
    #[arg(long = "tablespace", value_name = "OLD=NEW")]
    pub tablespaces: Vec<String>,
    /// What the server does when it has reached the moment
    #[arg(long, value_enum, default_value_t = Action::Promote)]
    pub action: Action,
    /// Directory with Postgres' programs, for --start [default: by the version of the backup]
    #[arg(long, value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
    /// How long --start may wait for the moment
    #[arg(long, value_name = "DURATION", default_value = "12h")]
    pub wait: SignedDuration,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Moment up to which WAL is exported: as with `restore`
    #[arg(long, value_name = "MOMENT")]
    pub to: String,
    /// Directory to write into: must not exist or be empty
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Show the plan and touch nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Timeline to follow: `latest`, `current` (that of the backup) or a number
    #[arg(long, value_name = "TIMELINE", default_value = "latest")]
    pub timeline: String,
    /// Time zone of a time given without one, such as Europe/Berlin
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
}

/// What a server does at the end of its recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Action {
    /// Opens for writing, on a timeline of its own
    Promote,
    /// Stays readable and waits for pg_wal_replay_resume()
    Pause,
    /// Stops
    Shutdown,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Read every byte, not only the ends of large objects
    #[arg(long)]
    pub full: bool,
    /// Begin anew, even if an earlier verification was interrupted
    #[arg(long)]
    pub restart: bool,
}

/// Arguments of `archive-get`.
#[derive(Debug, Args)]
pub(crate) struct ArchiveGetArgs {
    /// Name of the file: %f
    pub name: String,
    /// Where to put it: %p
    pub destination: PathBuf,
    /// Answer only what the pin of the restored directory allows, which is the current directory;
    /// fail without one
    #[arg(long)]
    pub pin: bool,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyVerb {
    /// List key slots, and which secret of the configuration opens which
    List,
    /// Open every slot for which there is a secret, and say what is wrong
    Check(KeyCheckArgs),
    /// Make a slot for one more secret
    Add(KeyAddArgs),
    /// Remove a slot
    Remove(KeyRemoveArgs),
    /// Put another secret in place of that of a slot
    Rotate(KeyRotateArgs),
    /// Begin a new key epoch, so that a leaked secret opens nothing new
    Revoke(KeyRevokeArgs),
    /// Make a key file
    Generate(KeyGenerateArgs),
}

/// Arguments of `key check`.
#[derive(Debug, Args)]
pub(crate) struct KeyCheckArgs {
    /// Try this secret, too: file:/PATH, env:NAME or kms:ARN; may be repeated
    #[arg(long = "secret", value_name = "SOURCE")]
    pub secrets: Vec<SecretSource>,
}

/// Arguments of `key add`.
#[derive(Debug, Args)]
pub(crate) struct KeyAddArgs {
    /// Name of the new slot
    pub name: SlotName,
    /// Where its secret is: file:/PATH, env:NAME or kms:ARN
    #[arg(long, value_name = "SOURCE")]
    pub secret: SecretSource,
}

/// Arguments of `key remove`.
#[derive(Debug, Args)]
pub(crate) struct KeyRemoveArgs {
    /// Name of the slot
    pub name: SlotName,
    /// Key epoch of the slot [default: the newest that counts]
    #[arg(long, value_name = "N")]
    pub epoch: Option<u32>,
    /// Also when only one slot is left then
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `key rotate`.
#[derive(Debug, Args)]
pub(crate) struct KeyRotateArgs {
    /// Name of the slot that goes
    pub name: SlotName,
    /// Where the new secret is: file:/PATH, env:NAME or kms:ARN
    #[arg(long, value_name = "SOURCE")]
    pub to: SecretSource,
}

/// Arguments of `key revoke`.
#[derive(Debug, Args)]
pub(crate) struct KeyRevokeArgs {
    /// Name of the slot whose secret has leaked; none if it is removed already
    pub name: Option<SlotName>,
    /// Carry over the slot of this secret, too; may be repeated
    #[arg(long, value_name = "SOURCE")]
    pub keep: Vec<SecretSource>,
}

/// Arguments of `key generate`.
#[derive(Debug, Args)]
pub(crate) struct KeyGenerateArgs {
    /// The file, which must not exist
    pub file: PathBuf,
    /// When root makes it: the user that runs pgkeep [default: postgres]
    #[arg(long, value_name = "USER")]
    pub owner: Option<String>,
}

impl Cli {
    /// Who reads along.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Text }
    }
}

/// Parses, or prints help, the version or what is wrong.
pub(crate) fn parse(arguments: &[OsString]) -> Result<Cli, Exit> {
    Cli::try_parse_from(arguments).map_err(|error| {
        drop(error.print());
        if error.use_stderr() { Exit::Usage } else { Exit::Success }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_declaration_is_sound() {
        Cli::command().debug_assert();
    }
}
