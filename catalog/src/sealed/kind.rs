//! What a sealed object is.

use std::fmt;

use minicbor::{Decode, Encode};

use crate::store::ObjectClass;

/// The kind of a sealed object, from which follows how its raw bytes and its `extra` are read.
/// The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Kind {
    /// Description of a cluster.
    #[n(0)]
    Cluster,
    /// Claim of a writer.
    #[n(1)]
    Epoch,
    /// Last moment at which everything was archived.
    #[n(2)]
    Heartbeat,
    /// WAL that is known to be missing.
    #[n(3)]
    Gap,
    /// Timeline history file.
    #[n(4)]
    History,
    /// Part of a WAL segment.
    #[n(5)]
    Piece,
    /// Whole WAL segment.
    #[n(6)]
    Segment,
    /// Announcement of a backup that has begun.
    #[n(7)]
    BackupStarted,
    /// Note of a backup that failed.
    #[n(8)]
    BackupFailed,
    /// Manifest of a complete backup.
    #[n(9)]
    BackupManifest,
    /// Blocks of a backup's files.
    #[n(10)]
    BackupPack,
    /// `backup_manifest` as Postgres sent it.
    #[n(11)]
    PostgresManifest,
}

impl Kind {
    /// What an object of this kind is to the store.
    pub const fn class(self) -> ObjectClass {
        match self {
            Self::Epoch | Self::Heartbeat | Self::Piece => ObjectClass::Passing,
            Self::BackupStarted | Self::BackupFailed => ObjectClass::Passing,
            Self::Cluster | Self::Gap | Self::History => ObjectClass::Record,
            Self::BackupManifest | Self::PostgresManifest => ObjectClass::Record,
            Self::Segment => ObjectClass::Wal,
            Self::BackupPack => ObjectClass::Backup,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::Epoch => "writer epoch",
            Self::Heartbeat => "heartbeat",
            Self::Gap => "gap",
            Self::History => "timeline history",
            Self::Piece => "piece",
            Self::Segment => "segment",
            Self::BackupStarted => "begun backup",
            Self::BackupFailed => "failed backup",
            Self::BackupManifest => "backup manifest",
            Self::BackupPack => "backup pack",
            Self::PostgresManifest => "Postgres backup manifest",
        })
    }
}
