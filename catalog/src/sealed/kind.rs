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
    Cluster = 0,
    /// Claim of a writer.
    #[n(1)]
    Epoch = 1,
    /// Last moment at which everything was archived.
    #[n(2)]
    Heartbeat = 2,
    /// WAL that is known to be missing.
    #[n(3)]
    Gap = 3,
    /// Timeline history file.
    #[n(4)]
    History = 4,
    /// Part of a WAL segment.
    #[n(5)]
    Piece = 5,
    /// Whole WAL segment.
    #[n(6)]
    Segment = 6,
    /// Announcement of a backup that has begun.
    #[n(7)]
    BackupStarted = 7,
    /// Note of a backup that failed.
    #[n(8)]
    BackupFailed = 8,
    /// Manifest of a complete backup.
    #[n(9)]
    BackupManifest = 9,
    /// Blocks of a backup's files.
    #[n(10)]
    BackupPack = 10,
    /// `backup_manifest` as Postgres sent it.
    #[n(11)]
    PostgresManifest = 11,
    /// Page of the inventory of what is archived.
    #[n(12)]
    InventoryPage = 12,
}

impl Kind {
    /// Its number in the format.
    pub(super) const fn number(self) -> u8 {
        self as u8
    }

    /// What an object of this kind is to the store.
    pub const fn class(self) -> ObjectClass {
        match self {
            Self::Epoch | Self::Heartbeat | Self::Piece => ObjectClass::Passing,
            Self::BackupStarted | Self::BackupFailed => ObjectClass::Passing,
            Self::Cluster | Self::Gap | Self::History => ObjectClass::Record,
            Self::BackupManifest | Self::PostgresManifest => ObjectClass::Record,
            Self::InventoryPage => ObjectClass::Record,
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
            Self::InventoryPage => "inventory page",
        })
    }
}
