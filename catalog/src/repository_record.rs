//! The record of a repository: the object `repository`, plain JSON, written once.
//!
//! ```text
//! format       1
//! uuid         identity of the repository
//! encryption   "off" or "aes-256-gcm"
//! mac          of an encrypted repository only: 32 bytes, base64 with padding
//!
//! mac = HMAC-SHA-256(key, "pgkeep/1 repository record" | format u32, little endian
//!                         | uuid 16 bytes | encryption, its text)
//! key = HKDF-SHA-256(repository key of epoch 1, no salt, "pgkeep/1 repository record", 32 bytes)
//! ```
//!
//! Invariant: the record decides nothing about encryption. The configuration does, and a record that
//! says otherwise is refused.

use bytes::Bytes;
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

use crate::key::{Keyring, encoded, is_equal};
use crate::layout::Layout;
use crate::store::{GetRange, ObjectClass, PutOptions, Store};
use crate::{Error, Result};

/// The format this program writes.
pub const FORMAT: u32 = 1;

/// Largest record in bytes.
const RECORD_SIZE_MAX: u64 = 64 << 10;

/// Key epoch whose key authenticates the record: it is written before there is another.
const MAC_EPOCH: u32 = 1;

/// Whether the objects of a repository are encrypted; in its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encryption {
    /// They are checksummed but readable by whoever can read the store.
    #[serde(rename = "off")]
    Off,
    /// They are, by AES-256-GCM.
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
}

/// What a repository says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RepositoryRecord {
    format: u32,
    pub(crate) uuid: Uuid,
    pub(crate) encryption: Encryption,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "optional_mac")]
    mac: Option<[u8; 32]>,
}

impl RepositoryRecord {
    /// Of a new repository with these keys.
    pub(crate) fn new(uuid: Uuid, keys: &Keyring) -> Self {
        let encryption = if keys.is_on() { Encryption::Aes256Gcm } else { Encryption::Off };
        let mut record = Self { format: FORMAT, uuid, encryption, mac: None };
        record.mac = record.mac_by(keys);
        record
    }

    /// Reads the record in `store`; `NoRepository` if there is none.
    pub(crate) async fn read(store: &dyn Store) -> Result<Self> {
        let key = Layout::repository();
        let object =
            store.get(&key, GetRange::Range(0..RECORD_SIZE_MAX)).await.map_err(|error| {
                if error.is_not_found() {
                    Error::NoRepository { location: store.location() }
                } else {
                    error
                }
            })?;
        // The format comes first: a newer record may have fields that this program cannot read.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = |e: serde_json::Error| Error::damaged(&key, e.to_string());
        let Format { format } = serde_json::from_slice(&object.bytes).map_err(damaged)?;
        if format != FORMAT {
            return Err(Error::OtherFormat {
                location: store.location(),
                format,
                supported: FORMAT,
            });
        }
        serde_json::from_slice(&object.bytes).map_err(damaged)
    }

    /// Writes the record; of several that try at once, one succeeds.
    pub(crate) async fn create(&self, store: &dyn Store) -> Result<()> {
        let mut json = serde_json::to_vec_pretty(self).expect("a record has texts and a number");
        json.push(b'\n');
        let how = PutOptions::create(ObjectClass::Record);
        store.put(&Layout::repository(), Bytes::from(json), how).await
    }

    /// Refuses a record that does not agree with the keys that the configuration gives.
    pub(crate) fn check(&self, keys: &Keyring, location: String) -> Result<()> {
        match (self.encryption, keys.is_on()) {
            (Encryption::Off, false) => Ok(()),
            (Encryption::Aes256Gcm, false) => Err(Error::NoKey { what: location }),
            // Whoever has a key expects that it is needed: the record is not believed against it.
            (Encryption::Off, true) => Err(Error::Unencrypted { key: Layout::repository() }),
            (Encryption::Aes256Gcm, true) => match (self.mac, self.mac_by(keys)) {
                (Some(stored), Some(ours)) if is_equal(&stored, &ours) => Ok(()),
                _ => {
                    let what = "its MAC is not of the key that opens this repository";
                    Err(Error::damaged(&Layout::repository(), what))
                }
            },
        }
    }

    /// The MAC by the first of `keys`; none without keys.
    fn mac_by(&self, keys: &Keyring) -> Option<[u8; 32]> {
        let key = keys.get(MAC_EPOCH)?.record_key();
        let encryption: &[u8] = match self.encryption {
            Encryption::Off => b"off",
            Encryption::Aes256Gcm => b"aes-256-gcm",
        };
        let mut message = b"pgkeep/1 repository record".to_vec();
        message.extend(self.format.to_le_bytes());
        message.extend(self.uuid.as_bytes());
        message.extend(encryption);
        // The extraction of HKDF is HMAC with its salt as the key (RFC 5869, section 2.2).
        let (mac, _) = Hkdf::<Sha256>::extract(Some(key.as_slice()), &message);
        Some(mac.into())
    }
}

/// A MAC that may be missing.
mod optional_mac {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::encoded;

    #[derive(Serialize, Deserialize)]
    struct Mac(#[serde(with = "encoded")] [u8; 32]);

    pub(super) fn serialize<S: Serializer>(
        mac: &Option<[u8; 32]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        mac.map(Mac).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<[u8; 32]>, D::Error> {
        Ok(Option::<Mac>::deserialize(deserializer)?.map(|Mac(mac)| mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::RepositoryKey;

    #[test]
    fn a_record_agrees_with_its_keys_only_as_it_was_written() {
        let keys = Keyring::new([RepositoryKey::generate(1), RepositoryKey::generate(2)]);
        let record = RepositoryRecord::new(Uuid::from_u128(7), &keys);
        let check = |record: &RepositoryRecord, keys: &Keyring| record.check(keys, String::new());
        let json = serde_json::to_string(&record).unwrap();
        let record: RepositoryRecord = serde_json::from_str(&json).unwrap();
        check(&record, &keys).unwrap();

        let off = Keyring::off();
        assert!(matches!(check(&record, &off), Err(Error::NoKey { .. })));
        let plain = RepositoryRecord::new(Uuid::from_u128(7), &off);
        assert!(plain.mac.is_none());
        check(&plain, &off).unwrap();
        assert!(matches!(check(&plain, &keys), Err(Error::Unencrypted { .. })));

        let other_keys = Keyring::new([RepositoryKey::generate(1)]);
        let moved = RepositoryRecord { uuid: Uuid::from_u128(8), ..record };
        let bare = RepositoryRecord { mac: None, ..record };
        for wrong in [check(&record, &other_keys), check(&moved, &keys), check(&bare, &keys)] {
            assert!(matches!(wrong, Err(Error::Damaged { .. })), "{wrong:?}");
        }
    }
}
