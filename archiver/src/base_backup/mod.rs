//! Base backups: from the server's tar stream to packs and a manifest.
//!
//! `runner` asks for the backup, `announcement` reads what the server says around the copy,
//! `archive_reader` takes the archives apart, `writer` turns files into blocks of packs, `coverage_wait`
//! waits until the WAL that makes the backup consistent is archived. The manifest is written last:
//! before it, there is no backup.

mod announcement;
mod archive_reader;
mod coverage_wait;
mod runner;
mod writer;

pub use runner::{BackupProgress, BackupReport, BaseBackup};
