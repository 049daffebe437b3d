//! The settings of a recovery: what a restored server is told before it starts.
//!
//! They are appended to `postgresql.auto.conf`, which Postgres reads last and in which the last
//! value of a setting counts: so nothing that came with the backup outlives them.
//!
//! Invariants:
//! * one target is set. Postgres refuses a second one, and sees even an empty value as an
//!   attempt when it comes after the one that is set;
//! * nothing of the old server's is reached: neither its archive nor its primary nor its standbys.
//!
//! See `error_multiple_recovery_targets` in Postgres' `src/backend/access/transam/xlogrecovery.c`.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use pgkeep_catalog::durable;
use pgkeep_proto::{Lsn, TimelineId};

use crate::{Error, RestoreCommand, Result};

/// What of the old server's would reach beyond the restored one.
const NEUTRALISED: [(&str, &str); 9] = [
    ("archive_mode", "off"),
    ("archive_command", ""),
    ("archive_library", ""),
    ("archive_cleanup_command", ""),
    ("recovery_end_command", ""),
    ("primary_conninfo", ""),
    ("primary_slot_name", ""),
    ("synchronous_standby_names", ""),
    ("recovery_min_apply_delay", "0"),
];

/// The ways to name a target that are not ours.
const OTHER_TARGETS: [&str; 4] =
    ["recovery_target", "recovery_target_name", "recovery_target_time", "recovery_target_xid"];

/// Files that Postgres wants in the data directory and some systems keep elsewhere.
const CONFIGURATION: [(&str, &str); 3] = [
    ("postgresql.conf", "# Written by pgkeep: the backup has no postgresql.conf.\n"),
    ("pg_hba.conf", "# Written by pgkeep: the backup has no pg_hba.conf.\nlocal all all peer\n"),
    ("pg_ident.conf", "# Written by pgkeep: the backup has no pg_ident.conf.\n"),
];

/// What a recovery is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoverySettings {
    /// What was asked for, in words.
    pub asked: String,
    /// How WAL is fetched.
    pub restore_command: RestoreCommand,
    /// Start of the last record that is replayed.
    pub stop: Lsn,
    /// The timeline to follow.
    pub timeline: TimelineId,
    /// What happens at the end.
    pub action: TargetAction,
}

/// What the server does when the target is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetAction {
    /// Opens for writing, on a new timeline.
    #[default]
    Promote,
    /// Opens for reading and waits for somebody to decide.
    Pause,
    /// Shuts down.
    Shutdown,
}

impl RecoverySettings {
    /// Writes them into the data directory `data` durably, and the files of its configuration that
    /// are missing, whose names are returned.
    pub(crate) fn write(&self, data: &Path) -> Result<Vec<&'static str>> {
        let mut written = Vec::new();
        for (name, text) in CONFIGURATION {
            match durable::create_new(&data.join(name), text.as_bytes()) {
                Ok(()) => written.push(name),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::file("write", data.join(name), e)),
            }
        }
        let auto = data.join("postgresql.auto.conf");
        let mut text = match fs::read(&auto) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(|e| Error::file("read", &auto, e))?,
        };
        text.extend_from_slice(self.to_string().as_bytes());
        durable::replace(&auto, &text).map_err(|e| Error::file("write", auto, e))?;

        // A backup of a standby has it, and it would win over the other one.
        let standby = data.join("standby.signal");
        match durable::remove(&standby) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("remove", standby, e));
            }
            _ => {}
        }
        let signal = data.join("recovery.signal");
        durable::replace(&signal, b"").map_err(|e| Error::file("write", signal, e))?;
        Ok(written)
    }
}

/// The block of `postgresql.auto.conf`.
impl std::fmt::Display for RecoverySettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "\n# Written by pgkeep, asked for {}", self.asked.escape_debug())?;
        for (name, value) in NEUTRALISED {
            setting(f, name, value)?;
        }
        for name in OTHER_TARGETS {
            setting(f, name, "")?;
        }
        setting(f, "restore_command", self.restore_command.as_str())?;
        setting(f, "recovery_target_timeline", &self.timeline.get().to_string())?;
        setting(f, "recovery_target_inclusive", "true")?;
        setting(f, "recovery_target_action", self.action.as_str())?;
        setting(f, "recovery_target_lsn", &self.stop.to_string())
    }
}

impl TargetAction {
    /// The value of `recovery_target_action`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Pause => "pause",
            Self::Shutdown => "shutdown",
        }
    }
}

/// One line, quoted as `GUC_scanstr` reads it.
fn setting(f: &mut impl Write, name: &str, value: &str) -> std::fmt::Result {
    let value = value.replace('\\', "\\\\").replace('\'', "''").replace('\n', "\\n");
    writeln!(f, "{name} = '{value}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> RecoverySettings {
        let path = Path::new("/opt/it's here\\pgkeep");
        RecoverySettings {
            asked: "name:a\nb".to_owned(),
            restore_command: RestoreCommand::new(path, path, &"main".parse().unwrap(), 1).unwrap(),
            stop: Lsn::new(0x16B_3740),
            timeline: TimelineId::FIRST,
            action: TargetAction::Promote,
        }
    }

    #[test]
    fn the_one_target_comes_last_and_all_others_are_empty() {
        let text = settings().to_string();
        assert_eq!(text.lines().last(), Some("recovery_target_lsn = '0/16B3740'"));
        for name in OTHER_TARGETS {
            assert!(text.contains(&format!("\n{name} = ''\n")), "{name}");
        }
    }

    #[test]
    fn what_was_asked_stays_in_its_comment() {
        let text = settings().to_string();
        assert!(text.starts_with("\n# Written by pgkeep, asked for name:a\\nb\narchive_mode"));
    }

    #[test]
    fn quotes_and_backslashes_are_doubled() {
        let text = settings().to_string();
        let line = text.lines().find(|line| line.starts_with("restore_command")).unwrap();
        let path = "''/opt/it''\\\\''''s here\\\\pgkeep''";
        assert!(line.starts_with(&format!("restore_command = '{path} --config {path} ")), "{line}");
    }

    #[test]
    fn what_came_with_the_backup_is_kept_but_for_the_signal_of_a_standby() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("postgresql.auto.conf"), "archive_mode = 'on'\n").unwrap();
        fs::write(path("postgresql.conf"), "port = 5433\n").unwrap();
        fs::write(path("standby.signal"), "").unwrap();
        let written = settings().write(directory.path()).unwrap();
        assert_eq!(written, ["pg_hba.conf", "pg_ident.conf"]);
        let auto = fs::read_to_string(path("postgresql.auto.conf")).unwrap();
        assert!(auto.starts_with("archive_mode = 'on'\n") && auto.contains("archive_mode = 'off'"));
        assert_eq!(fs::read(path("postgresql.conf")).unwrap(), b"port = 5433\n");
        assert!(path("recovery.signal").exists() && !path("standby.signal").exists());
    }
}
