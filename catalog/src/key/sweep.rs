//! The corruption sweep of what holds keys: of a slot and of a link, every bit.
//!
//! A changed one fails to open, or gives the very key that was wrapped (where only spaces or the
//! spelling of a number changed). Another key must never come out: what is sealed with it would be lost.

use jiff::Timestamp;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::link::Link;
use super::slot::SlotPlace;
use super::{KeySlot, RepositoryKey, Secret, SlotName};
use crate::Result;

const REPOSITORY: Uuid = Uuid::from_u128(7);

#[derive(Debug, Default)]
struct Count {
    mutations: u64,
    same: u64,
    undetected: u64,
}

impl Count {
    fn add(&mut self, opened: Result<Option<RepositoryKey>>, right: &RepositoryKey) {
        self.mutations += 1;
        match opened {
            Ok(Some(key)) if key == *right => self.same += 1,
            Ok(Some(_)) => self.undetected += 1,
            Ok(None) | Err(_) => {}
        }
    }
}

fn flipped(json: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..json.len() * 8).map(|bit| {
        let mut changed = json.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    })
}

fn judge(what: &str, json: &[u8], count: &Count) {
    println!("{what}: {count:?}");
    assert_eq!(count.mutations, json.len() as u64 * 8);
    assert_eq!(count.undetected, 0);
    // Spaces between fields, and no more.
    assert!(count.same * 4 < count.mutations, "{what}: {count:?}");
}

#[tokio::test]
async fn no_bit_of_a_slot_leads_to_another_key() {
    let (key, secret) = (RepositoryKey::generate(1), Secret::Key(Zeroizing::new([1; 32])));
    let (name, created_at) = (SlotName::encryption(), Timestamp::UNIX_EPOCH);
    let place = SlotPlace { repository: REPOSITORY, name, created_at };
    let slot = KeySlot::new(place, &key, &secret).await.unwrap();
    let (json, mut count) = (slot.encode(), Count::default());
    for changed in flipped(&json) {
        let opened = match KeySlot::decode(&slot.key(), Some(REPOSITORY), &changed) {
            Ok(slot) => slot.open(&secret).await,
            Err(error) => Err(error),
        };
        count.add(opened, &key);
    }
    judge("slot", &json, &count);
}

#[test]
fn no_bit_of_a_link_leads_to_another_key() {
    let (older, newer) = (RepositoryKey::generate(1), RepositoryKey::generate(2));
    let link = Link::new(REPOSITORY, &newer, &older, Timestamp::UNIX_EPOCH);
    let (json, mut count) = (link.encode(), Count::default());
    for changed in flipped(&json) {
        let opened = Link::decode(2, REPOSITORY, &changed).and_then(|link| link.open(&newer));
        count.add(opened.map(Some), &older);
    }
    judge("link", &json, &count);
}
