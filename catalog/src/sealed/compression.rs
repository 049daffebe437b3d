//! How frames are made smaller.

use serde::{Deserialize, Serialize};

/// The compression of new objects. Every frame says for itself how it is stored, so a change
/// concerns only what is written later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Frames are stored as they are.
    None,
    /// LZ4 blocks: faster than the disk that WAL comes from.
    #[default]
    Lz4,
}
