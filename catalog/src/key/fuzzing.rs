//! Ways to what lies in a key slot, for fuzzers only.

use uuid::Uuid;
use zeroize::Zeroizing;

use super::link::Link;
use super::{KeySlot, RepositoryKey, Secret};
use crate::layout::Layout;

/// Reads any bytes as the slot of a key, and opens it with a key that is always the same. A passphrase
/// or KMS is only read: the one is slow on purpose, the other is not here.
pub async fn slot(json: &[u8]) {
    let key = Layout::key_slot(1, "encryption");
    let Ok(slot) = KeySlot::decode(&key, Some(Uuid::nil()), json) else { return };
    assert_eq!(slot.key(), key);
    let again = KeySlot::decode(&key, Some(Uuid::nil()), &slot.encode());
    assert!(again.is_ok_and(|again| again == slot), "what was read is written as it was");
    if slot.kind() == "key" {
        let opened = slot.open(&Secret::Key(Zeroizing::new([1; 32]))).await;
        // Nobody guesses a commitment.
        assert!(!matches!(opened, Ok(Some(_))), "a slot that nobody made opens");
    }
}

/// Reads any bytes as a link, and opens it with a key that is always the same.
pub fn link(json: &[u8]) {
    if let Ok(link) = Link::decode(2, Uuid::nil(), json) {
        let newer = RepositoryKey::from_bytes(2, Zeroizing::new([2; 32]));
        assert!(link.open(&newer).is_err(), "a link that nobody made opens");
    }
}
