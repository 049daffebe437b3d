//! The link from a key epoch to the one before it: the older key, wrapped under the newer one.
//!
//! It lies at `keys/<epoch, 4 digits>/previous` as JSON. An epoch after the first counts only when its
//! link is there: it is written last, when all slots of the epoch are. So the secret of any slot of
//! the newest epoch opens all that was ever sealed.
//!
//! ```text
//! format       1
//! repository   UUID of the repository
//! epoch        the newer epoch, from 2 on
//! previous     the older one: epoch - 1
//! created_at   RFC 3339 in UTC
//! salt         32 random bytes
//! check        16 bytes: that of the older key, as in its slots
//! wrapped      48 bytes: the older key and its tag
//!
//! wrapping key = HKDF-SHA-256(key of the newer epoch, salt, info, 32 bytes)
//! info    = "pgkeep/1 previous key" | repository 16 bytes | epoch u32
//! wrapped = AES-256-GCM(wrapping key, nonce 12 zero bytes, AAD, older key) | tag
//! AAD     = SHA-256("pgkeep/1 previous key" | format u32 | repository 16 bytes | epoch u32
//!                | previous u32 | text(created_at) | salt | check)
//! ```
//!
//! Bytes, numbers and `text` are as in a slot.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::repository_key::{KEY_SIZE, derive};
use super::slot::text;
use super::wrap::{WRAPPED_SIZE, unwrap, wrap};
use super::{RepositoryKey, encoded};
use crate::layout::Layout;
use crate::store::ObjectKey;
use crate::{Error, Result};

/// The name of a link, which no slot may have.
pub(super) const LINK_NAME: &str = "previous";

const FORMAT: u32 = 1;
const LABEL: &[u8] = b"pgkeep/1 previous key";

/// The key of an epoch, wrapped under that of the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    format: u32,
    repository: Uuid,
    epoch: u32,
    previous: u32,
    created_at: Timestamp,
    #[serde(with = "encoded")]
    salt: [u8; KEY_SIZE],
    #[serde(with = "encoded")]
    check: [u8; 16],
    #[serde(with = "encoded")]
    wrapped: [u8; WRAPPED_SIZE],
}

impl Link {
    /// The link from `newer` to `older`, of the epoch before.
    pub(super) fn new(
        repository: Uuid,
        newer: &RepositoryKey,
        older: &RepositoryKey,
        created_at: Timestamp,
    ) -> Self {
        let mut salt = [0; KEY_SIZE];
        getrandom::fill(&mut salt).expect("the kernel has random numbers");
        let mut link = Self {
            format: FORMAT,
            repository,
            epoch: newer.epoch(),
            previous: older.epoch(),
            created_at: Timestamp::from_second(created_at.as_second()).unwrap_or(created_at),
            salt,
            check: older.check_value(),
            wrapped: [0; WRAPPED_SIZE],
        };
        link.wrapped = wrap(&link.wrapping_key(newer), &link.aad(), older.bytes());
        link
    }

    /// Reads the link of `epoch`.
    pub(super) fn decode(epoch: u32, repository: Uuid, json: &[u8]) -> Result<Self> {
        let key = Self::key_of(epoch);
        let link: Self = serde_json::from_slice(json)
            .map_err(|error| Error::damaged(&key, error.to_string()))?;
        let is_next = link.previous.checked_add(1) == Some(link.epoch);
        if link.format != FORMAT || link.epoch != epoch || !is_next {
            let what = format!(
                "format {}, from key epoch {} to {}",
                link.format, link.epoch, link.previous
            );
            return Err(Error::damaged(&key, what));
        }
        if link.repository != repository {
            let what = format!("a link of repository {}", link.repository);
            return Err(Error::Foreign { key, what });
        }
        Ok(link)
    }

    /// Its JSON.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("a link has only texts and numbers");
        json.push(b'\n');
        json
    }

    /// The key of the epoch before, by that of this one.
    pub(super) fn open(&self, newer: &RepositoryKey) -> Result<RepositoryKey> {
        let key = unwrap(&self.wrapping_key(newer), &self.aad(), &self.wrapped)
            .map(|key| RepositoryKey::from_bytes(self.previous, key));
        key.filter(|key| key.check_value() == self.check).ok_or_else(|| {
            Error::damaged(&Self::key_of(self.epoch), "the key of this epoch does not open it")
        })
    }

    /// Where the link of `epoch` lies.
    pub(super) fn key_of(epoch: u32) -> ObjectKey {
        Layout::key_slot(epoch, LINK_NAME)
    }

    fn wrapping_key(&self, newer: &RepositoryKey) -> Zeroizing<[u8; KEY_SIZE]> {
        let mut info = LABEL.to_vec();
        info.extend(self.repository.as_bytes());
        info.extend(self.epoch.to_le_bytes());
        Zeroizing::new(derive(newer.bytes(), Some(&self.salt), &info))
    }

    fn aad(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(LABEL);
        digest.update(self.format.to_le_bytes());
        digest.update(self.repository.as_bytes());
        digest.update(self.epoch.to_le_bytes());
        digest.update(self.previous.to_le_bytes());
        text(&mut digest, self.created_at.to_string().as_bytes());
        digest.update(self.salt);
        digest.update(self.check);
        digest.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_key_opens_the_older_one_and_no_other_does() {
        let repository = Uuid::from_u128(7);
        let (older, newer) = (RepositoryKey::generate(1), RepositoryKey::generate(2));
        let link = Link::new(repository, &newer, &older, Timestamp::UNIX_EPOCH);
        let json = link.encode();
        let read = Link::decode(2, repository, &json).unwrap();
        assert_eq!(read.open(&newer).unwrap(), older);
        assert!(read.open(&RepositoryKey::generate(2)).is_err());
        let moved = Link { created_at: Timestamp::MAX, ..read };
        assert!(moved.open(&newer).is_err(), "every field is bound");
        assert!(Link::decode(3, repository, &json).is_err());
        let foreign = Link::decode(2, Uuid::from_u128(8), &json).unwrap_err();
        assert!(matches!(foreign, Error::Foreign { .. }), "{foreign}");
    }
}
