//! A key slot: the repository key of one epoch, wrapped for one secret.
//!
//! It lies at `keys/<epoch, 4 digits>/<slot>` as JSON, is written once and never rewritten:
//!
//! ```text
//! format       1
//! repository   UUID of the repository
//! epoch        key epoch, from 1 on
//! slot         its name, as in its place
//! created_at   RFC 3339 in UTC, as in 2026-11-22T16:48:26Z
//! kind         "key", "passphrase" or "kms"
//! argon2       only of a passphrase: {"memory_kib", "passes", "lanes"}
//! kms          only of KMS: {"key": name of the key, "secret": what KMS encrypted}
//! salt         32 random bytes
//! commitment   32 bytes
//! check        16 bytes: HKDF-SHA-256(repository key, no salt, "pgkeep/1 key check")
//! wrapped      48 bytes: the repository key and its tag
//! ```
//!
//! Bytes are base64 with padding. What opens it:
//!
//! ```text
//! secret                 of a key:         its 32 bytes
//!                        of a passphrase:  Argon2id version 19 (passphrase, salt), 32 bytes
//!                        of KMS:           the 32 bytes that KMS Decrypt gives for kms.secret with
//!                                          the encryption context {"repository": UUID as text,
//!                                          "epoch": decimal, "slot": name}
//! wrapping key (32) | commitment (32)
//!      = HKDF-SHA-256(secret, salt, info, 64 bytes)
//! info = "pgkeep/1 key slot" | repository 16 bytes | epoch u32 | slot
//! wrapped = AES-256-GCM(wrapping key, nonce 12 zero bytes, AAD, repository key) | tag
//! AAD  = SHA-256("pgkeep/1 key slot" | format u32 | repository 16 bytes | epoch u32
//!             | text(slot) | text(created_at)
//!             | kind u8: 1 key, 2 passphrase, 3 kms
//!             | memory_kib u32 | passes u32 | lanes u32, zeros where there is no argon2
//!             | text(kms.key) | text(kms.secret, decoded), empty where there is no kms
//!             | salt | commitment | check)
//! text(x) = length of x in bytes as u32 | x
//! ```
//!
//! Numbers are little endian, the repository is its sixteen bytes in the order of its text.
//!
//! Invariants: the commitment is compared before anything is unwrapped, so that a secret that is not
//! the one of this slot is told from damage; a slot that was moved to another repository, epoch or
//! name does not open.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::kms::KmsSecret;
use super::repository_key::{KEY_SIZE, derive, is_equal};
use super::stretch::Stretch;
use super::wrap::{WRAPPED_SIZE, unwrap, wrap};
use super::{RepositoryKey, Secret, SlotName, encoded, kms};
use crate::layout::Layout;
use crate::store::{ObjectKey, blocking};
use crate::{Error, Result};

/// The format of key slots that this program writes.
const FORMAT: u32 = 1;

const LABEL: &[u8] = b"pgkeep/1 key slot";

/// A repository key, wrapped for one secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySlot {
    format: u32,
    repository: Uuid,
    epoch: u32,
    slot: SlotName,
    created_at: Timestamp,
    #[serde(flatten)]
    holder: Holder,
    #[serde(with = "encoded")]
    salt: [u8; KEY_SIZE],
    #[serde(with = "encoded")]
    commitment: [u8; KEY_SIZE],
    #[serde(with = "encoded")]
    check: [u8; 16],
    #[serde(with = "encoded")]
    wrapped: [u8; WRAPPED_SIZE],
}

/// What kind of secret opens a slot, and what it takes besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Holder {
    Key,
    Passphrase { argon2: Stretch },
    Kms { kms: KmsSecret },
}

/// Where a new slot goes.
#[derive(Clone, Debug)]
pub(super) struct SlotPlace {
    pub(super) repository: Uuid,
    pub(super) name: SlotName,
    pub(super) created_at: Timestamp,
}

impl KeySlot {
    /// Wraps `key` for `secret`.
    pub(super) async fn new(
        place: SlotPlace,
        key: &RepositoryKey,
        secret: &Secret,
    ) -> Result<Self> {
        let mut salt = [0; KEY_SIZE];
        getrandom::fill(&mut salt).expect("the kernel has random numbers");
        let holder = match secret {
            Secret::Key(_) => Holder::Key,
            Secret::Passphrase(_) => Holder::Passphrase { argon2: Stretch::default() },
            Secret::Kms(id) => {
                let context = kms::Context {
                    repository: place.repository,
                    epoch: key.epoch(),
                    slot: &place.name,
                };
                Holder::Kms { kms: KmsSecret::generate(id, context).await? }
            }
        };
        Self::with(place, key, secret, holder, salt).await
    }

    async fn with(
        place: SlotPlace,
        key: &RepositoryKey,
        secret: &Secret,
        holder: Holder,
        salt: [u8; KEY_SIZE],
    ) -> Result<Self> {
        let SlotPlace { repository, name, created_at } = place;
        // Whole seconds: nothing else in the world needs to know it better.
        let created_at = Timestamp::from_second(created_at.as_second()).unwrap_or(created_at);
        let mut slot = Self {
            format: FORMAT,
            repository,
            epoch: key.epoch(),
            slot: name,
            created_at,
            holder,
            salt,
            commitment: [0; KEY_SIZE],
            check: key.check_value(),
            wrapped: [0; WRAPPED_SIZE],
        };
        let stretched = slot.stretch(secret).await?;
        let stretched = stretched.expect("the slot was made for this secret");
        let (wrapping_key, commitment) = slot.wrapping_key(&stretched);
        slot.commitment = commitment;
        slot.wrapped = wrap(&wrapping_key, &slot.aad(), key.bytes());
        Ok(slot)
    }

    /// Reads the slot that lies at `key`, in the repository `repository` if that is known yet.
    pub(super) fn decode(key: &ObjectKey, repository: Option<Uuid>, json: &[u8]) -> Result<Self> {
        let slot: Self =
            serde_json::from_slice(json).map_err(|error| Error::damaged(key, error.to_string()))?;
        if slot.format != FORMAT {
            let what = format!("format {} of key slots is unknown to this version", slot.format);
            return Err(Error::damaged(key, what));
        }
        if slot.key() != *key || repository.is_some_and(|expected| expected != slot.repository) {
            let what = format!(
                "slot {} of key epoch {} of repository {}",
                slot.slot, slot.epoch, slot.repository
            );
            return Err(Error::Foreign { key: key.clone(), what });
        }
        let problem = match &slot.holder {
            Holder::Key => None,
            Holder::Passphrase { argon2 } => argon2.problem(),
            Holder::Kms { kms } => kms.problem(),
        };
        problem.map_or(Ok(slot), |what| Err(Error::damaged(key, what)))
    }

    /// Its JSON.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("a slot has only texts and numbers");
        json.push(b'\n');
        json
    }

    /// The repository key, if `secret` is the one of this slot. Damage is an error, and so is a KMS
    /// that does not answer.
    pub async fn open(&self, secret: &Secret) -> Result<Option<RepositoryKey>> {
        let Some(stretched) = self.stretch(secret).await? else { return Ok(None) };
        let (wrapping_key, commitment) = self.wrapping_key(&stretched);
        if !is_equal(&commitment, &self.commitment) {
            return Ok(None);
        }
        let damaged = |what: &str| Error::damaged(&self.key(), what);
        let key = unwrap(&wrapping_key, &self.aad(), &self.wrapped);
        let key =
            key.ok_or_else(|| damaged("the secret fits, and the wrapped key is not whole"))?;
        let key = RepositoryKey::from_bytes(self.epoch, key);
        if key.check_value() != self.check {
            return Err(damaged("the check value is not that of the wrapped key"));
        }
        Ok(Some(key))
    }

    /// The 32 bytes that the secret gives here; none if it is of another kind, or refused by KMS.
    async fn stretch(&self, secret: &Secret) -> Result<Option<Zeroizing<[u8; KEY_SIZE]>>> {
        match (&self.holder, secret) {
            (Holder::Key, Secret::Key(key)) => Ok(Some(key.clone())),
            (Holder::Passphrase { argon2 }, Secret::Passphrase(passphrase)) => {
                let (argon2, passphrase, salt) = (*argon2, passphrase.clone(), self.salt);
                blocking(move || Ok(argon2.derive(&passphrase, &salt))).await
            }
            (Holder::Kms { kms }, Secret::Kms(id)) => {
                let context = kms::Context {
                    repository: self.repository,
                    epoch: self.epoch,
                    slot: &self.slot,
                };
                kms.decrypt(id, context).await
            }
            _ => Ok(None),
        }
    }

    fn wrapping_key(&self, secret: &[u8; KEY_SIZE]) -> (Zeroizing<[u8; KEY_SIZE]>, [u8; KEY_SIZE]) {
        let mut info = LABEL.to_vec();
        info.extend(self.repository.as_bytes());
        info.extend(self.epoch.to_le_bytes());
        info.extend(self.slot.as_str().as_bytes());
        let both: Zeroizing<[u8; 64]> = Zeroizing::new(derive(secret, Some(&self.salt), &info));
        let (mut wrapping_key, mut commitment) = (Zeroizing::new([0; KEY_SIZE]), [0; KEY_SIZE]);
        let (first, second) = both.split_at(KEY_SIZE);
        wrapping_key.copy_from_slice(first);
        commitment.copy_from_slice(second);
        (wrapping_key, commitment)
    }

    fn aad(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(LABEL);
        digest.update(self.format.to_le_bytes());
        digest.update(self.repository.as_bytes());
        digest.update(self.epoch.to_le_bytes());
        text(&mut digest, self.slot.as_str().as_bytes());
        text(&mut digest, self.created_at.to_string().as_bytes());
        let nothing = Stretch { memory_kib: 0, passes: 0, lanes: 0 };
        let (kind, argon2, kms) = match &self.holder {
            Holder::Key => (1_u8, &nothing, None),
            Holder::Passphrase { argon2 } => (2, argon2, None),
            Holder::Kms { kms } => (3, &nothing, Some(kms)),
        };
        digest.update([kind]);
        digest.update(argon2.memory_kib.to_le_bytes());
        digest.update(argon2.passes.to_le_bytes());
        digest.update(argon2.lanes.to_le_bytes());
        text(&mut digest, kms.map_or(&[], |kms| kms.key().as_bytes()));
        text(&mut digest, kms.map_or(&[], KmsSecret::ciphertext));
        digest.update(self.salt);
        digest.update(self.commitment);
        digest.update(self.check);
        digest.finalize().into()
    }

    /// Where it lies.
    pub fn key(&self) -> ObjectKey {
        Layout::key_slot(self.epoch, self.slot.as_str())
    }

    /// Its key epoch.
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Its name.
    pub const fn name(&self) -> &SlotName {
        &self.slot
    }

    /// The repository it belongs to.
    pub(super) const fn repository(&self) -> Uuid {
        self.repository
    }

    /// When it was made, by the clock of who made it.
    pub const fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// `key`, `passphrase` or `kms`.
    pub const fn kind(&self) -> &'static str {
        match self.holder {
            Holder::Key => "key",
            Holder::Passphrase { .. } => "passphrase",
            Holder::Kms { .. } => "kms",
        }
    }
}

impl fmt::Display for KeySlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {} of key epoch {}", self.slot, self.epoch)
    }
}

/// Adds a text with its length before it, so that no two lists of texts look alike.
pub(super) fn text(digest: &mut Sha256, text: &[u8]) {
    digest.update(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    digest.update(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Stretch = Stretch { memory_kib: 64 << 10, passes: 1, lanes: 1 };

    fn place() -> SlotPlace {
        let (repository, created_at) = (Uuid::from_u128(7), Timestamp::UNIX_EPOCH);
        SlotPlace { repository, name: SlotName::encryption(), created_at }
    }

    fn secret(byte: u8) -> Secret {
        Secret::Key(Zeroizing::new([byte; KEY_SIZE]))
    }

    fn decode(json: &[u8]) -> Result<KeySlot> {
        let key = Layout::key_slot(1, "encryption");
        KeySlot::decode(&key, Some(Uuid::from_u128(7)), json)
    }

    #[tokio::test]
    async fn a_key_opens_its_slot_and_another_is_told_from_damage() {
        let key = RepositoryKey::generate(1);
        let slot = KeySlot::new(place(), &key, &secret(1)).await.unwrap();
        let slot = decode(&slot.encode()).unwrap();
        assert_eq!(slot.open(&secret(1)).await.unwrap(), Some(key));
        assert_eq!(slot.open(&secret(2)).await.unwrap(), None);
        assert_eq!(slot.kind(), "key");
    }

    #[tokio::test]
    async fn a_passphrase_opens_its_slot_and_no_other_does() {
        let key = RepositoryKey::generate(3);
        let passphrase = |text: &str| Secret::Passphrase(Zeroizing::new(text.into()));
        let right = passphrase("correct horse battery");
        let holder = Holder::Passphrase { argon2: CHEAP };
        let slot = KeySlot::with(place(), &key, &right, holder, [5; 32]).await.unwrap();
        assert_eq!(slot.open(&right).await.unwrap(), Some(key));
        assert_eq!(slot.open(&passphrase("correct horse batterz")).await.unwrap(), None);
        assert_eq!(slot.open(&secret(1)).await.unwrap(), None, "a key is no passphrase");
    }

    #[tokio::test]
    async fn every_field_is_bound() {
        let key = RepositoryKey::generate(1);
        let slot = KeySlot::new(place(), &key, &secret(1)).await.unwrap();
        let mut changed = vec![
            KeySlot { created_at: Timestamp::MAX, ..slot.clone() },
            KeySlot { check: [0; 16], ..slot.clone() },
            KeySlot { wrapped: [0; WRAPPED_SIZE], ..slot.clone() },
            KeySlot { format: 2, ..slot.clone() },
        ];
        for changed in &changed {
            let error = changed.open(&secret(1)).await.unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
        }
        // With these another wrapping key comes out: the secret does not fit any more.
        changed = vec![
            KeySlot { repository: Uuid::from_u128(8), ..slot.clone() },
            KeySlot { epoch: 2, ..slot.clone() },
            KeySlot { slot: SlotName::recovery(), ..slot.clone() },
            KeySlot { salt: [0; 32], ..slot.clone() },
            KeySlot { commitment: [0; 32], ..slot.clone() },
        ];
        for changed in &changed {
            assert_eq!(changed.open(&secret(1)).await.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn a_slot_elsewhere_or_with_hostile_parameters_is_refused() {
        let key = RepositoryKey::generate(1);
        let slot = KeySlot::new(place(), &key, &secret(1)).await.unwrap();
        for foreign in [
            KeySlot { repository: Uuid::from_u128(8), ..slot.clone() },
            KeySlot { epoch: 2, ..slot.clone() },
            KeySlot { slot: SlotName::recovery(), ..slot.clone() },
        ] {
            assert!(matches!(decode(&foreign.encode()), Err(Error::Foreign { .. })));
        }
        let dear = Stretch { memory_kib: u32::MAX, ..CHEAP };
        let hostile = KeySlot { holder: Holder::Passphrase { argon2: dear }, ..slot.clone() };
        for json in [hostile.encode(), b"{}".to_vec(), slot.encode()[1..].to_vec()] {
            assert!(matches!(decode(&json), Err(Error::Damaged { .. })));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_at_the_place_of_a_slot_do_harm(at in 0..GOLDEN.len(), byte: u8) {
            let mut json = GOLDEN.as_bytes().to_vec();
            json[at] = byte;
            if let Ok(slot) = decode(&json) {
                proptest::prop_assert!(KeySlot::decode(&slot.key(), None, &slot.encode()).is_ok());
            }
            drop(decode(&json[at..]));
        }
    }

    #[tokio::test]
    async fn the_format_of_a_slot_does_not_change() {
        let key = RepositoryKey::from_bytes(1, Zeroizing::new([9; 32]));
        let slot = KeySlot::with(place(), &key, &secret(1), Holder::Key, [5; 32]).await.unwrap();
        assert_eq!(String::from_utf8(slot.encode()).unwrap(), GOLDEN);
    }

    /// Made once, and opened by a program in another language that follows the head of this file.
    const GOLDEN: &str = r#"{
  "format": 1,
  "repository": "00000000-0000-0000-0000-000000000007",
  "epoch": 1,
  "slot": "encryption",
  "created_at": "1970-01-01T00:00:00Z",
  "kind": "key",
  "salt": "BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU=",
  "commitment": "N3xpuLXdv8gnRt+lnYjTBdeRctM/bfVqska034XENCU=",
  "check": "Xj6kI89kWyNiXtnkHuaxrw==",
  "wrapped": "Ya6vIV5GX+Yv/br5Ftte5bz8jdq5c/PpPSc6dpDiWV4XLt6azMk7XBWSBwl9e+Oy"
}
"#;
}
