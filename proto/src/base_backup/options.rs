//! What is asked of the server: the `BASE_BACKUP` command of Postgres 15 and later.
//!
//! The server is never told to wait for its own archiving (`WAIT false`): an `archive_command` that
//! fails would hold the backup for ever, and the end of the backup is judged by what we archived.
//!
//! See `parse_basebackup_options` in Postgres' `src/backend/backup/basebackup.c`.

use crate::{Error, Result};

/// Longest label the server takes (`MAXPGPATH`).
const LABEL_BYTES_MAX: usize = 1024;

/// The choices left to whoever takes a base backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupOptions {
    /// Kept in `backup_label`.
    pub label: String,
    /// How the checkpoint at the start of the backup is made.
    pub checkpoint: CheckpointMode,
}

impl BackupOptions {
    /// The text of the command.
    ///
    /// A label with a control character is refused: the server writes it into `backup_label` as it
    /// is, where a line break would forge a line that recovery obeys.
    pub fn command(&self) -> Result<String> {
        if self.label.len() > LABEL_BYTES_MAX || self.label.contains(char::is_control) {
            return Err(Error::text("not a backup label of one line", &self.label));
        }
        let label = self.label.replace('\'', "''");
        let checkpoint = match self.checkpoint {
            CheckpointMode::Fast => "fast",
            CheckpointMode::Spread => "spread",
        };
        Ok(format!(
            "BASE_BACKUP (LABEL '{label}', PROGRESS, CHECKPOINT '{checkpoint}', WAIT false, \
             MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C')"
        ))
    }
}

/// How hard the server works on the checkpoint that begins a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointMode {
    /// At once, at the price of a burst of writes.
    Fast,
    /// Spread like any other checkpoint; the first byte of the backup may be minutes away.
    Spread,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(label: &str) -> Result<String> {
        BackupOptions { label: label.to_owned(), checkpoint: CheckpointMode::Fast }.command()
    }

    #[test]
    fn quotes_in_a_label_are_doubled() {
        assert_eq!(
            command(r"it's \ 42").unwrap(),
            "BASE_BACKUP (LABEL 'it''s \\ 42', PROGRESS, CHECKPOINT 'fast', WAIT false, \
             MANIFEST 'yes', MANIFEST_CHECKSUMS 'CRC32C')"
        );
    }

    #[test]
    fn labels_that_would_forge_a_line_are_refused() {
        assert!(command("x\nSTART TIMELINE: 7").is_err());
        assert!(command("x\0").is_err());
        assert!(command(&"x".repeat(1025)).is_err());
        assert!(command(&"x".repeat(1024)).is_ok());
    }
}
