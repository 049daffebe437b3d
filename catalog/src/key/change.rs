//! What changes which secrets open a repository: add, remove, rotate, revoke.
//!
//! Invariants: a slot counts as made only when it was read back and opened by its secret; the old way
//! in is removed only after the new one was seen to work; the last slot is never removed. So at every
//! step, whoever dies there, a secret that the operator has opens the repository.

use std::sync::Arc;

use super::link::Link;
use super::slot::SlotPlace;
use super::{KeySlot, KeySlots, RepositoryKey, Secret, SecretSource, SlotName};
use crate::failpoint;
use crate::{Clock, Error, Repository, Result};

/// A repository whose slots are about to change.
#[derive(Debug)]
pub struct KeyChange<'a> {
    repository: &'a Repository,
    clock: &'a dyn Clock,
    slots: KeySlots,
    newest: &'a RepositoryKey,
}

/// Whether a slot may go that leaves a repository with only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastButOne {
    /// It stays.
    Keep,
    /// It may go.
    Remove,
}

/// What a revocation did.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// The epoch that was exposed: what was sealed in it and before is read by who has its key.
    pub exposed_epoch: u32,
    /// The epoch that seals from now on.
    pub epoch: u32,
    /// Slots of the new epoch.
    pub made: Vec<SlotName>,
    /// Slots of the old epoch, besides the revoked one, that open nothing new any more.
    pub left_behind: Vec<SlotName>,
}

impl<'a> KeyChange<'a> {
    /// Begins a change of the slots of an encrypted repository.
    pub async fn begin(repository: &'a Repository, clock: &'a dyn Clock) -> Result<Self> {
        let newest = repository.keys().newest().ok_or_else(|| Error::KeyRefused {
            what: "this repository is not encrypted and has no keys".to_owned(),
            hint: "encryption is decided when a repository is made; begin a new one",
        })?;
        let store = Arc::clone(repository.store());
        let slots = KeySlots::list(store, Some(repository.uuid())).await?;
        if slots.active() != newest.epoch() {
            return Err(Error::KeyRefused {
                what: format!("key epoch {} has just begun", slots.active()),
                hint: "somebody else is revoking a key; try again when that is done",
            });
        }
        Ok(Self { repository, clock, slots, newest })
    }

    /// The slots as they were when the change began.
    pub const fn slots(&self) -> &KeySlots {
        &self.slots
    }

    /// Makes a slot for the secret at `source`.
    pub async fn add(&self, name: &SlotName, source: &SecretSource) -> Result<KeySlot> {
        let secret = Secret::read(source).await?;
        self.put_and_open(self.newest, name, source, &secret).await
    }

    /// Removes a slot of the active epoch, or of an older one.
    pub async fn remove(
        &self,
        epoch: u32,
        name: &SlotName,
        last_but_one: LastButOne,
        own: &SecretSource,
    ) -> Result<()> {
        self.must_exist(epoch, name)?;
        if epoch == self.newest.epoch() {
            let left = self.slots.names_of(epoch).filter(|other| *other != name).count();
            if left == 0 {
                return Err(Error::KeyRefused {
                    what: format!("slot {name} is the last one that opens this repository"),
                    hint: "add another slot first: `pgkeep key add`",
                });
            }
            if left == 1 && last_but_one == LastButOne::Keep {
                return Err(Error::KeyRefused {
                    what: format!("without slot {name} only one slot would be left"),
                    hint: "add another slot first, or say --force",
                });
            }
            let secret = Secret::read(own).await?;
            if self.opens(epoch, name, &secret).await? {
                return Err(Error::KeyRefused {
                    what: format!("slot {name} is the one that {own} opens"),
                    hint: "name another secret in repository.encryption_key first, \
                           or use `pgkeep key rotate`",
                });
            }
        }
        self.slots.remove(epoch, name).await
    }

    /// Makes a slot for the secret at `to` in place of the slot `name`, which goes when the new one is
    /// seen to work. Run again after a crash, it finishes.
    pub async fn rotate(&self, name: &SlotName, to: &SecretSource) -> Result<KeySlot> {
        let epoch = self.newest.epoch();
        self.must_exist(epoch, name)?;
        let secret = Secret::read(to).await?;
        let made = match self.slots.find(epoch, &secret).await? {
            Some((slot, _)) if slot.name() == name => {
                return Err(Error::KeyRefused {
                    what: format!("{to} is the secret of slot {name} already"),
                    hint: "make a new secret: `pgkeep key generate FILE`",
                });
            }
            // Begun before, and not finished.
            Some((slot, _)) if slot.name().is_kin(name) => slot,
            Some((slot, _)) => {
                return Err(Error::KeyRefused {
                    what: format!("{to} is the secret of slot {} already", slot.name()),
                    hint: "give each slot a secret of its own",
                });
            }
            None => {
                let new = name.successor(|taken| self.slots.has(epoch, taken));
                self.put_and_open(self.newest, &new, to, &secret).await?
            }
        };
        failpoint::hit(failpoint::KEY_BEFORE_REMOVE);
        self.remove_old(epoch, name).await?;
        Ok(made)
    }

    /// Begins a new key epoch for `kept`, each with the name of its slot there, and removes the slot
    /// `revoked`. Run again after a crash, it finishes what was begun with the same secrets.
    pub async fn revoke(
        &self,
        revoked: Option<&SlotName>,
        kept: &[(SlotName, SecretSource)],
    ) -> Result<Revoked> {
        let exposed_epoch = self.newest.epoch();
        let epoch = exposed_epoch.saturating_add(1);
        let mut secrets: Vec<Secret> = Vec::new();
        for (name, source) in kept {
            let secret = Secret::read(source).await?;
            self.may_be_kept(revoked, source, &secret).await?;
            if secrets.contains(&secret) {
                return Err(Error::KeyRefused {
                    what: format!("{source} for slot {name} is the secret of another slot, too"),
                    hint: "give each slot a secret of its own",
                });
            }
            secrets.push(secret);
        }
        if let Some(name) = revoked {
            self.must_exist(exposed_epoch, name)?;
        }
        let key = self.key_of_next(epoch, &secrets).await?;
        for ((name, source), secret) in kept.iter().zip(&secrets) {
            self.settle(&key, name, source, secret).await?;
        }
        failpoint::hit(failpoint::REVOKE_BEFORE_LINK);
        let uuid = self.repository.uuid();
        let link = Link::new(uuid, &key, self.newest, self.clock.now());
        match self.slots.put_link(epoch, &link).await {
            Err(error) if error.is_already_exists() => {}
            put => put?,
        }
        // Read back, and by whoever wrote it: from now on everything hangs on it.
        if self.slots.open_previous(uuid, &key).await? != *self.newest {
            return Err(Error::damaged(&Link::key_of(epoch), "it holds another key"));
        }
        failpoint::hit(failpoint::KEY_BEFORE_REMOVE);
        if let Some(name) = revoked {
            self.remove_old(exposed_epoch, name).await?;
        }
        let made: Vec<SlotName> = kept.iter().map(|(name, _)| name.clone()).collect();
        let left = self.slots.names_of(exposed_epoch).filter(|name| Some(*name) != revoked);
        let left_behind = left.filter(|name| !made.contains(name)).cloned().collect();
        Ok(Revoked { exposed_epoch, epoch, made, left_behind })
    }

    /// The slot of the active epoch that the secret at `source` opens.
    pub async fn slot_of(&self, source: &SecretSource) -> Result<SlotName> {
        let secret = Secret::read(source).await?;
        let found = self.slots.find(self.newest.epoch(), &secret).await?;
        found.map(|(slot, _)| slot.name().clone()).ok_or_else(|| Error::WrongKey {
            secret: source.to_string(),
            location: self.repository.store().location(),
        })
    }

    /// Refuses a secret that must not go on: that of the slot that is revoked.
    async fn may_be_kept(
        &self,
        revoked: Option<&SlotName>,
        source: &SecretSource,
        secret: &Secret,
    ) -> Result<()> {
        let epoch = self.newest.epoch();
        let Some(name) = revoked.filter(|name| self.slots.has(epoch, name)) else { return Ok(()) };
        if self.opens(epoch, name, secret).await? {
            return Err(Error::KeyRefused {
                what: format!("{source} opens the slot {name} that is to be revoked"),
                hint: "make another secret, add it with `pgkeep key add`, name it in the \
                       configuration, and revoke then",
            });
        }
        Ok(())
    }

    /// The key of an epoch that was begun and not finished, or a new one.
    async fn key_of_next(&self, epoch: u32, secrets: &[Secret]) -> Result<RepositoryKey> {
        if self.slots.names_of(epoch).next().is_none() {
            return Ok(RepositoryKey::generate(epoch));
        }
        for secret in secrets {
            if let Some((_, key)) = self.slots.find(epoch, secret).await? {
                return Ok(key);
            }
        }
        Err(Error::KeyRefused {
            what: format!("key epoch {epoch} was begun with other secrets and not finished"),
            hint: "finish it with those, or remove its slots: `pgkeep key remove NAME --epoch N`",
        })
    }

    /// Makes a slot, or finds it made; it must hold `key`.
    async fn settle(
        &self,
        key: &RepositoryKey,
        name: &SlotName,
        source: &SecretSource,
        secret: &Secret,
    ) -> Result<()> {
        if self.slots.has(key.epoch(), name) {
            return self.must_open(key, name, source, secret).await.map(drop);
        }
        match self.put_and_open(key, name, source, secret).await {
            Err(error) if error.is_already_exists() => {
                self.must_open(key, name, source, secret).await.map(drop)
            }
            made => made.map(drop),
        }
    }

    async fn put_and_open(
        &self,
        key: &RepositoryKey,
        name: &SlotName,
        source: &SecretSource,
        secret: &Secret,
    ) -> Result<KeySlot> {
        let repository = self.repository.uuid();
        let place = SlotPlace { repository, name: name.clone(), created_at: self.clock.now() };
        self.slots.put(&KeySlot::new(place, key, secret).await?).await?;
        failpoint::hit(failpoint::KEY_AFTER_PUT);
        self.must_open(key, name, source, secret).await
    }

    /// Reads a slot back and opens it.
    async fn must_open(
        &self,
        key: &RepositoryKey,
        name: &SlotName,
        source: &SecretSource,
        secret: &Secret,
    ) -> Result<KeySlot> {
        let slot = self.slots.read(key.epoch(), name).await?;
        if slot.open(secret).await?.as_ref() == Some(key) {
            return Ok(slot);
        }
        Err(Error::KeyRefused {
            what: format!("{source} does not open the {slot}, or to another key"),
            hint: "nothing was removed; `pgkeep key list` shows the slots there are",
        })
    }

    /// Removes a slot in whose place there is a new one that works.
    async fn remove_old(&self, epoch: u32, name: &SlotName) -> Result<()> {
        self.slots.remove(epoch, name).await.map_err(|error| match error {
            Error::Denied { source, .. } => Error::KeyRefused {
                what: format!(
                    "the new slots work, and the old slot {name} of key epoch {epoch} could not be \
                     removed: {source}"
                ),
                hint: "a locked bucket keeps it until its retention ends; whoever has its secret \
                       can open it until then, as any copy of it",
            },
            error => error,
        })
    }

    async fn opens(&self, epoch: u32, name: &SlotName, secret: &Secret) -> Result<bool> {
        match self.slots.read(epoch, name).await {
            Ok(slot) => Ok(slot.open(secret).await?.is_some()),
            // A slot that nobody can open any more may go.
            Err(Error::Damaged { .. } | Error::Foreign { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn must_exist(&self, epoch: u32, name: &SlotName) -> Result<()> {
        if self.slots.has(epoch, name) {
            return Ok(());
        }
        Err(Error::KeyRefused {
            what: format!("there is no slot {name} in key epoch {epoch}"),
            hint: "`pgkeep key list` names the slots there are",
        })
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use bytes::Bytes;

    use super::super::fixture::Fixture;
    use super::*;
    use crate::SystemClock;
    use crate::store::{GetRange, Listed, Object, ObjectKey, PutOptions, Store, Upload};

    fn name(text: &str) -> SlotName {
        text.parse().unwrap()
    }

    async fn begin(repository: &Repository) -> KeyChange<'_> {
        KeyChange::begin(repository, &SystemClock).await.unwrap()
    }

    fn is_refused<T: std::fmt::Debug>(result: Result<T>, why: &str) {
        let error = result.unwrap_err();
        let is_refusal = matches!(error, Error::KeyRefused { .. });
        assert!(is_refusal && error.to_string().contains(why), "{error:?}");
    }

    #[tokio::test]
    async fn a_slot_is_added_and_its_secret_opens() {
        let fixture = Fixture::with_repository().await;
        let laptop = fixture.generate("laptop");
        let repository = fixture.open("daily").await.unwrap();
        begin(&repository).await.add(&name("laptop"), &laptop).await.unwrap();
        assert_eq!(fixture.open("laptop").await.unwrap().keys(), repository.keys());
        let taken = begin(&repository).await.add(&name("laptop"), &laptop).await.unwrap_err();
        assert!(taken.is_already_exists(), "{taken}");
    }

    #[tokio::test]
    async fn neither_the_last_slot_nor_our_own_is_removed() {
        let fixture = Fixture::with_repository().await;
        let repository = fixture.open("daily").await.unwrap();
        let own = fixture.source("daily");
        let (keep, force) = (LastButOne::Keep, LastButOne::Remove);
        let change = begin(&repository).await;
        is_refused(change.remove(1, &name("recovery"), keep, &own).await, "only one slot");
        is_refused(change.remove(1, &name("encryption"), force, &own).await, "the one that");
        is_refused(change.remove(1, &name("nobody"), force, &own).await, "no slot");
        change.remove(1, &name("recovery"), force, &own).await.unwrap();
        assert!(matches!(fixture.open("spare").await, Err(Error::WrongKey { .. })));
        let change = begin(&repository).await;
        is_refused(change.remove(1, &name("encryption"), force, &own).await, "last one");
        fixture.open("daily").await.unwrap();
    }

    #[tokio::test]
    async fn a_rotated_secret_no_longer_opens_and_the_new_one_does() {
        let fixture = Fixture::with_repository().await;
        let repository = fixture.open("daily").await.unwrap();
        let new = fixture.generate("new");
        let change = begin(&repository).await;
        is_refused(change.rotate(&name("encryption"), &fixture.source("daily")).await, "already");
        is_refused(change.rotate(&name("recovery"), &fixture.source("daily")).await, "already");
        let slot = change.rotate(&name("encryption"), &new).await.unwrap();
        assert_eq!(slot.name().as_str(), "encryption-2");
        assert_eq!(fixture.open("new").await.unwrap().keys(), repository.keys());
        assert!(matches!(fixture.open("daily").await, Err(Error::WrongKey { .. })));
    }

    #[tokio::test]
    async fn a_rotation_that_died_before_its_end_is_finished() {
        let fixture = Fixture::with_repository().await;
        let repository = fixture.open("daily").await.unwrap();
        let new = fixture.generate("new");
        begin(&repository).await.add(&name("encryption-2"), &new).await.unwrap();
        let slot = begin(&repository).await.rotate(&name("encryption"), &new).await.unwrap();
        assert_eq!(slot.name().as_str(), "encryption-2");
        assert_eq!(begin(&repository).await.slots().names().count(), 2);
    }

    /// A store in which nothing may be deleted.
    #[derive(Debug)]
    struct Locked(Arc<dyn Store>);

    #[async_trait]
    impl Store for Locked {
        async fn put(&self, key: &ObjectKey, body: Bytes, how: PutOptions) -> Result<()> {
            self.0.put(key, body, how).await
        }

        async fn upload(&self, key: &ObjectKey, how: PutOptions) -> Result<Box<dyn Upload>> {
            self.0.upload(key, how).await
        }

        async fn get(&self, key: &ObjectKey, range: GetRange) -> Result<Object> {
            self.0.get(key, range).await
        }

        async fn head(&self, key: &ObjectKey) -> Result<u64> {
            self.0.head(key).await
        }

        async fn list(
            &self,
            prefix: &str,
            after: Option<&ObjectKey>,
            limit: usize,
        ) -> Result<Vec<Listed>> {
            self.0.list(prefix, after, limit).await
        }

        async fn delete(&self, key: &ObjectKey) -> Result<()> {
            let (what, source) = (format!("delete {key}"), "it is locked".into());
            Err(Error::Denied { what, source })
        }

        fn location(&self) -> String {
            self.0.location()
        }
    }

    #[tokio::test]
    async fn where_nothing_may_be_deleted_both_slots_work_and_that_is_told() {
        let fixture = Fixture::with_repository().await;
        let new = fixture.generate("new");
        let plain = fixture.open("daily").await.unwrap();
        let locked = Arc::new(Locked(Arc::clone(plain.store())));
        let locked = Repository::open_store(locked, plain.sealing().clone()).await.unwrap();
        let rotated = begin(&locked).await.rotate(&name("encryption"), &new).await;
        is_refused(rotated, "could not be removed: it is locked");
        fixture.open("new").await.unwrap();
        fixture.open("daily").await.unwrap();
    }

    #[tokio::test]
    async fn a_revoked_secret_opens_nothing_new() {
        let fixture = Fixture::with_repository().await;
        let repository = fixture.open("daily").await.unwrap();
        let (laptop, new) = (fixture.generate("laptop"), fixture.generate("new"));
        begin(&repository).await.add(&name("laptop"), &laptop).await.unwrap();
        let encryption = SlotName::encryption();
        let kept = |daily| {
            let spare = fixture.source("spare");
            [(SlotName::encryption(), daily), (SlotName::recovery(), spare)]
        };
        let change = begin(&repository).await;
        let leaked = kept(fixture.source("daily"));
        is_refused(change.revoke(Some(&encryption), &leaked).await, "to be revoked");
        let done = change.revoke(Some(&encryption), &kept(new)).await.unwrap();
        assert_eq!((done.exposed_epoch, done.epoch), (1, 2));
        assert_eq!(done.left_behind, [name("laptop")]);
        for open in ["new", "spare"] {
            let keys = fixture.open(open).await.unwrap();
            assert_eq!(keys.keys().newest().unwrap().epoch(), 2);
            assert_eq!(keys.keys().get(1), repository.keys().get(1));
        }
        assert!(matches!(fixture.open("daily").await, Err(Error::WrongKey { .. })));
        let error = fixture.open("laptop").await.unwrap_err();
        assert!(matches!(&error, Error::RevokedKey { slot, .. } if slot.contains("laptop")));

        // Whoever still has the keys of before may not change what is.
        is_refused(KeyChange::begin(&repository, &SystemClock).await, "has just begun");
    }

    #[tokio::test]
    async fn a_revocation_that_died_counts_for_nothing_and_is_finished_with_its_key() {
        let fixture = Fixture::with_repository().await;
        let repository = fixture.open("daily").await.unwrap();
        let new = fixture.generate("new");
        let kept = [
            (SlotName::encryption(), new.clone()),
            (SlotName::recovery(), fixture.source("spare")),
        ];
        let change = begin(&repository).await;
        let key = RepositoryKey::generate(2);
        let secret = Secret::read(&new).await.unwrap();
        change.settle(&key, &SlotName::encryption(), &new, &secret).await.unwrap();
        assert_eq!(fixture.open("daily").await.unwrap().keys(), repository.keys());

        let other = [(SlotName::encryption(), fixture.generate("other"))];
        is_refused(begin(&repository).await.revoke(None, &other).await, "with other secrets");
        begin(&repository).await.revoke(None, &kept).await.unwrap();
        assert_eq!(fixture.open("new").await.unwrap().keys().newest(), Some(&key));
    }
}
