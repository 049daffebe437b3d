//! The head of a chain: the one thing a witness has to remember.

use minicbor::{Decode, Encode};
use pgkeep_proto::{Lsn, TimelineId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The newest page of a timeline. Part of `status --json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct InventoryHead {
    /// The timeline.
    #[n(0)]
    pub timeline: TimelineId,
    /// Number of the page; the first is 1.
    #[n(1)]
    pub number: u64,
    /// BLAKE3 digest of its raw content; in JSON 64 hexadecimal digits.
    #[cbor(n(2), with = "minicbor::bytes")]
    #[serde(serialize_with = "to_hex", deserialize_with = "from_hex")]
    pub digest: [u8; 32],
    /// End of what was archived when it was written.
    #[n(3)]
    pub archived: Lsn,
}

fn to_hex<S: Serializer>(digest: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&blake3::Hash::from(*digest).to_hex())
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(deserializer)?;
    let digest = blake3::Hash::from_hex(text).map_err(serde::de::Error::custom)?;
    Ok(digest.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_the_same_after_json() {
        let head = InventoryHead {
            timeline: TimelineId::FIRST,
            number: 7,
            digest: [0xA5; 32],
            archived: Lsn::new(0x16B_3740),
        };
        let text = serde_json::to_string(&head).unwrap();
        assert!(text.contains("\"digest\":\"a5a5") && text.contains("\"0/16B3740\""), "{text}");
        assert_eq!(serde_json::from_str::<InventoryHead>(&text).unwrap(), head);
    }
}
