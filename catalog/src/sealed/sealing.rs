//! How new objects are sealed: with which key, and how small.

use std::sync::Arc;

use super::Compression;
use crate::key::Keyring;

/// What a writer needs besides the header.
#[derive(Clone, Debug, Default)]
pub struct Sealing {
    /// The newest key of it is used; none if the repository is not encrypted.
    pub keys: Arc<Keyring>,
    /// How frames are made smaller.
    pub compression: Compression,
}
