//! Every key slot, and which secrets of the configuration were seen to open it.

use std::collections::BTreeSet;

use pgkeep_catalog::key::{KeySlot, KeySlots, Secret, SecretSource};
use pgkeep_catalog::{Error, RepositoryConfig};

/// One slot.
#[derive(Debug)]
pub(super) struct TriedSlot {
    /// Its key epoch.
    pub(super) epoch: u32,
    /// Its name.
    pub(super) name: String,
    /// What it says of itself, or why it cannot be read.
    pub(super) slot: Result<KeySlot, Error>,
    /// Who opens it, as `encryption_key`.
    pub(super) opened_by: Vec<String>,
    /// What went wrong when it was opened.
    pub(super) failure: Option<Error>,
}

/// A secret that was tried, or could not be.
#[derive(Debug)]
pub(super) struct TriedSecret {
    /// Its place in the configuration, or on the command line.
    pub(super) role: &'static str,
    /// Where it comes from.
    pub(super) source: SecretSource,
    /// What it is, or why it cannot be had.
    pub(super) secret: Result<Secret, Error>,
    /// Whether it opens a slot of the epoch that counts.
    pub(super) opens: bool,
}

/// What came of trying everything.
#[derive(Debug)]
pub(super) struct Tried {
    /// The epoch whose key seals.
    pub(super) active: u32,
    /// Every slot, oldest epoch first.
    pub(super) slots: Vec<TriedSlot>,
    /// Every secret.
    pub(super) secrets: Vec<TriedSecret>,
}

impl Tried {
    /// Tries the secrets of the configuration, and `more`, on every slot.
    pub(super) async fn all(
        config: &RepositoryConfig,
        slots: &KeySlots,
        more: Vec<SecretSource>,
    ) -> Self {
        let named = [
            ("encryption_key", config.encryption_key.clone()),
            ("recovery_key", config.recovery_key.clone()),
        ];
        let named = named.into_iter().filter_map(|(role, source)| Some((role, source?)));
        let sources = named.chain(more.into_iter().map(|source| ("--secret", source)));
        let mut secrets = Vec::new();
        for (role, source) in sources {
            let secret = Secret::read(&source).await;
            secrets.push(TriedSecret { role, source, secret, opens: false });
        }
        let active = slots.active();
        let mut tried = Vec::new();
        for (epoch, name) in slots.names() {
            let slot = slots.read(epoch, name).await;
            let mut row = TriedSlot {
                epoch,
                name: name.to_string(),
                slot,
                opened_by: Vec::new(),
                failure: None,
            };
            row.open(&mut secrets, active).await;
            tried.push(row);
        }
        Self { active, slots: tried, secrets }
    }

    /// Slots of the epoch that counts that were opened.
    pub(super) fn working(&self) -> usize {
        self.current().filter(|slot| !slot.opened_by.is_empty()).count()
    }

    /// Slots of the epoch that counts.
    pub(super) fn current(&self) -> impl Iterator<Item = &TriedSlot> {
        self.slots.iter().filter(|slot| slot.epoch == self.active)
    }

    /// Epochs that were begun and do not count yet.
    pub(super) fn unfinished(&self) -> BTreeSet<u32> {
        self.slots.iter().map(|slot| slot.epoch).filter(|epoch| *epoch > self.active).collect()
    }
}

impl TriedSlot {
    async fn open(&mut self, secrets: &mut [TriedSecret], active: u32) {
        let Ok(slot) = &self.slot else { return };
        for tried in secrets {
            let Ok(secret) = &tried.secret else { continue };
            match slot.open(secret).await {
                Ok(None) => {}
                Ok(Some(_)) => {
                    tried.opens |= self.epoch == active;
                    self.opened_by.push(tried.role.to_owned());
                }
                Err(error) => self.failure = Some(error),
            }
        }
    }
}
