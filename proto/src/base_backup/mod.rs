//! The stream of `BASE_BACKUP`: what is asked, what comes back, and the archives within it.
//!
//! A backup is one copy: [`BackupMessage`] says which archive its bytes belong to, [`Tar`] turns
//! those bytes into entries, and [`BackupLabel`] reads the file from which recovery begins.
//!
//! See Postgres' `src/backend/backup/basebackup.c` and `basebackup_copy.c`.

mod label;
mod manifest;
mod message;
mod options;
mod path;
mod tar;

pub use label::{BackupLabel, BackupOrigin};
pub use manifest::check_manifest;
pub use message::{BackupMessage, Tablespace};
pub use options::{BackupOptions, CheckpointMode};
pub use path::BackupPath;
pub use tar::{EntryKind, Tar, TarEntry, TarEvent};
