//! The key slots that a repository has, by key epoch.
//!
//! Invariants: an epoch after the first counts only with its link; what else lies under `keys/` is not
//! read. Slots are create-only. Neither their number nor their size is believed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::link::{LINK_NAME, Link};
use super::{KeySlot, RepositoryKey, Secret, SlotName};
use crate::layout::Layout;
use crate::store::{GetRange, ObjectClass, ObjectKey, PutOptions, Store};
use crate::{Error, Result};

/// The key epoch that every repository begins with.
pub(super) const FIRST_EPOCH: u32 = 1;

/// Most slots and links that are looked at.
const SLOTS_MAX: usize = 1000;

/// Largest slot or link, in bytes.
const SLOT_SIZE_MAX: u64 = 16 << 10;

/// The slots under `keys/`, as they were listed.
#[derive(Debug)]
pub struct KeySlots {
    store: Arc<dyn Store>,
    repository: Option<Uuid>,
    epochs: BTreeMap<u32, EpochSlots>,
}

#[derive(Debug, Default)]
struct EpochSlots {
    names: BTreeSet<SlotName>,
    is_linked: bool,
}

impl KeySlots {
    /// Lists the slots of the repository, whose identity may not be known yet.
    pub(crate) async fn list(store: Arc<dyn Store>, repository: Option<Uuid>) -> Result<Self> {
        let listed = store.list(Layout::keys(), None, SLOTS_MAX).await?;
        if listed.len() >= SLOTS_MAX {
            let what = format!("{} has {SLOTS_MAX} objects or more under keys/", store.location());
            return Err(Error::Invalid { what });
        }
        let mut epochs: BTreeMap<u32, EpochSlots> = BTreeMap::new();
        for (epoch, name) in listed.iter().filter_map(|listed| Layout::key_slot_of(&listed.key)) {
            let slots = epochs.entry(epoch).or_default();
            if name == LINK_NAME {
                slots.is_linked = true;
            } else if let Ok(name) = name.parse() {
                slots.names.insert(name);
            }
        }
        Ok(Self { store, repository, epochs })
    }

    /// Whether there is nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.epochs.is_empty()
    }

    /// The epoch whose key seals: the newest that counts.
    pub fn active(&self) -> u32 {
        let linked = self.epochs.iter().rev().find(|(_, slots)| slots.is_linked);
        linked.map_or(FIRST_EPOCH, |(epoch, _)| *epoch)
    }

    /// The epochs before `epoch` of which anything is there, oldest first. Numbers are not counted
    /// through: whoever writes to the store may have made up any.
    pub(super) fn epochs_before(&self, epoch: u32) -> impl DoubleEndedIterator<Item = u32> {
        self.epochs.range(..epoch).map(|(epoch, _)| *epoch)
    }

    /// All slots, from the oldest epoch to the newest; after the active one those of a revocation that
    /// was not finished.
    pub fn names(&self) -> impl Iterator<Item = (u32, &SlotName)> {
        self.epochs.iter().flat_map(|(epoch, slots)| slots.names.iter().map(|name| (*epoch, name)))
    }

    /// The slots of one epoch.
    pub fn names_of(&self, epoch: u32) -> impl Iterator<Item = &SlotName> {
        self.epochs.get(&epoch).into_iter().flat_map(|slots| &slots.names)
    }

    /// Whether there is this slot.
    pub fn has(&self, epoch: u32, name: &SlotName) -> bool {
        self.epochs.get(&epoch).is_some_and(|slots| slots.names.contains(name))
    }

    /// Reads a slot.
    pub async fn read(&self, epoch: u32, name: &SlotName) -> Result<KeySlot> {
        let key = Layout::key_slot(epoch, name.as_str());
        KeySlot::decode(&key, self.repository, &self.get(&key).await?)
    }

    /// The slot of `epoch` that `secret` opens, and its key.
    ///
    /// A slot that cannot be read does not stand in the way of a sound one; it is the error if there
    /// is none.
    pub(super) async fn find(
        &self,
        epoch: u32,
        secret: &Secret,
    ) -> Result<Option<(KeySlot, RepositoryKey)>> {
        let mut unreadable = None;
        for name in self.names_of(epoch) {
            let opened = match self.read(epoch, name).await {
                Ok(slot) => slot.open(secret).await.map(|key| key.map(|key| (slot, key))),
                // Removed since it was listed.
                Err(error) if error.is_not_found() => continue,
                Err(error) => Err(error),
            };
            match opened {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(error @ (Error::Damaged { .. } | Error::Foreign { .. })) => {
                    unreadable.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        unreadable.map_or(Ok(None), Err)
    }

    /// The key of the epoch before that of `newer`.
    pub(crate) async fn open_previous(
        &self,
        repository: Uuid,
        newer: &RepositoryKey,
    ) -> Result<RepositoryKey> {
        let key = Link::key_of(newer.epoch());
        let json = self.get(&key).await.map_err(|error| {
            if error.is_not_found() {
                Error::damaged(&key, "it is missing, and an older epoch hangs on it")
            } else {
                error
            }
        })?;
        Link::decode(newer.epoch(), repository, &json)?.open(newer)
    }

    /// Stores a slot under a name that is not taken.
    pub(super) async fn put(&self, slot: &KeySlot) -> Result<()> {
        self.put_new(&slot.key(), slot.encode()).await
    }

    /// Stores a link. From here on its epoch counts.
    pub(super) async fn put_link(&self, epoch: u32, link: &Link) -> Result<()> {
        self.put_new(&Link::key_of(epoch), link.encode()).await
    }

    /// Removes a slot; whoever has a copy of it and its secret can still open it.
    pub(super) async fn remove(&self, epoch: u32, name: &SlotName) -> Result<()> {
        self.store.delete(&Layout::key_slot(epoch, name.as_str())).await
    }

    async fn put_new(&self, key: &ObjectKey, json: Vec<u8>) -> Result<()> {
        let json = Bytes::from(json);
        let put = self.store.put(key, json.clone(), PutOptions::create(ObjectClass::Record)).await;
        match put {
            // An answer that was lost on its way: a salt like ours is ours.
            Err(error) if error.is_already_exists() => match self.get(key).await {
                Ok(stored) if stored == json => Ok(()),
                _ => Err(error),
            },
            put => put,
        }
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        let object = self.store.get(key, GetRange::Range(0..SLOT_SIZE_MAX)).await?;
        if object.size > SLOT_SIZE_MAX {
            let what = format!("{} bytes are too many for a key slot", object.size);
            return Err(Error::damaged(key, what));
        }
        Ok(object.bytes)
    }
}
