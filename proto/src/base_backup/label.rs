//! `backup_label`: where recovery of a base backup begins.
//!
//! The file itself is restored byte for byte; this reading of it is for planning. Lines we do not
//! need (`START TIME`) are passed over, as their form depends on the server's settings.
//!
//! See `build_backup_content` in Postgres' `src/backend/access/transam/xlogbackup.c` and
//! `read_backup_label` in `xlogrecovery.c`.

use std::str::FromStr;

use crate::{Error, Lsn, Result, TimelineId};

/// What `backup_label` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupLabel {
    /// Redo position of the first checkpoint: WAL is needed from here.
    pub start_lsn: Lsn,
    /// Where the record of that checkpoint stands.
    pub checkpoint_lsn: Lsn,
    /// Timeline of the start.
    pub start_timeline: TimelineId,
    /// Which kind of server was backed up.
    pub origin: BackupOrigin,
    /// The label given by whoever took the backup; what is not UTF-8 is replaced.
    pub label: String,
}

impl BackupLabel {
    /// Reads the content of the file.
    ///
    /// Only `BACKUP METHOD: streamed` is taken: an exclusive backup (before Postgres 15) does not
    /// say in WAL where it ends.
    pub fn parse(file: &[u8]) -> Result<Self> {
        let text = String::from_utf8_lossy(file);
        let start = line(&text, "START WAL LOCATION: ")?;
        let (start_lsn, _) = start.split_once(" (file ").ok_or_else(|| wrong(start))?;
        let method = line(&text, "BACKUP METHOD: ")?;
        if method != "streamed" {
            return Err(Error::text("not a method of backup we can restore", method));
        }
        Ok(Self {
            start_lsn: start_lsn.parse()?,
            checkpoint_lsn: line(&text, "CHECKPOINT LOCATION: ")?.parse()?,
            start_timeline: TimelineId::from_decimal(line(&text, "START TIMELINE: ")?)?,
            origin: line(&text, "BACKUP FROM: ")?.parse()?,
            label: line(&text, "LABEL: ")?.to_owned(),
        })
    }
}

/// Which kind of server a backup was taken from; it decides what marks the end of the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupOrigin {
    /// Consistent at the end-of-backup record in WAL.
    Primary,
    /// Consistent at `minRecoveryPoint` in the `pg_control` of the backup.
    Standby,
}

impl FromStr for BackupOrigin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "primary" => Ok(Self::Primary),
            "standby" => Ok(Self::Standby),
            _ => Err(Error::text("not an origin of a backup", text)),
        }
    }
}

/// The rest of the one line that begins with `key`. A second one means that the file was forged.
fn line<'a>(text: &'a str, key: &str) -> Result<&'a str> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(key));
    match (lines.next(), lines.next()) {
        (Some(value), None) => Ok(value),
        _ => Err(wrong(text)),
    }
}

fn wrong(text: &str) -> Error {
    Error::text("not a backup_label", text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOLDEN: &str = include_str!("../../../tests/golden/15/base_backup/backup_label");

    #[test]
    fn a_label_of_postgres_is_read() {
        let label = BackupLabel::parse(GOLDEN.as_bytes()).unwrap();
        assert_eq!(label.start_lsn, Lsn::new(0x200_0028));
        assert_eq!(label.checkpoint_lsn, Lsn::new(0x200_0060));
        assert_eq!(label.start_timeline, TimelineId::FIRST);
        assert_eq!(label.origin, BackupOrigin::Primary);
        assert_eq!(label.label, "before 'deploy 42'");
    }

    #[test]
    fn a_label_without_a_needed_line_is_refused() {
        for key in
            ["START WAL", "CHECKPOINT", "BACKUP METHOD", "BACKUP FROM", "LABEL", "START TIMEL"]
        {
            let lines = GOLDEN.lines().filter(|line| !line.starts_with(key));
            let file = lines.collect::<Vec<_>>().join("\n");
            assert!(BackupLabel::parse(file.as_bytes()).is_err(), "{key}");
        }
    }

    #[test]
    fn a_second_line_of_a_kind_is_refused() {
        let file = format!("{GOLDEN}START TIMELINE: 7\n");
        assert!(BackupLabel::parse(file.as_bytes()).is_err());
    }

    #[test]
    fn an_exclusive_backup_is_refused() {
        let file = GOLDEN.replace("streamed", "pg_start_backup");
        assert!(BackupLabel::parse(file.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn random_bytes_do_not_panic(file: Vec<u8>) {
            let _ = BackupLabel::parse(&file);
        }
    }
}
