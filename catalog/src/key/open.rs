//! From a secret to the keyring: the way into an encrypted repository.
//!
//! Only a slot of the active epoch opens: a secret that fits an older one alone was revoked, and would
//! seal with a key that somebody else has. From the newest key the links lead to all older ones.

use std::sync::Arc;

use uuid::Uuid;

use super::slots::FIRST_EPOCH;
use super::{KeySlot, KeySlots, Keyring, Secret, SecretSource};
use crate::store::Store;
use crate::{Error, Result};

/// An opened keyring, and the slot that opened it.
#[derive(Debug)]
pub struct OpenedKeys {
    /// The keys of all epochs.
    pub keyring: Keyring,
    /// The slot that the secret fits.
    pub slot: KeySlot,
}

/// Opens the keys of `repository` with the secret at `source`.
pub async fn open(
    store: &Arc<dyn Store>,
    repository: Uuid,
    source: &SecretSource,
) -> Result<OpenedKeys> {
    let secret = Secret::read(source).await?;
    let slots = KeySlots::list(Arc::clone(store), Some(repository)).await?;
    let active = slots.active();
    let Some((slot, newest)) = slots.find(active, &secret).await? else {
        return Err(wrong_key(&slots, store, source, &secret).await);
    };
    let mut keys = vec![newest];
    while let Some(oldest) = keys.last().filter(|key| key.epoch() > FIRST_EPOCH) {
        let older = slots.open_previous(repository, oldest).await?;
        keys.push(older);
    }
    Ok(OpenedKeys { keyring: Keyring::new(keys), slot })
}

/// Why `secret` does not open the repository.
async fn wrong_key(
    slots: &KeySlots,
    store: &Arc<dyn Store>,
    source: &SecretSource,
    secret: &Secret,
) -> Error {
    let (secret_name, location) = (source.to_string(), store.location());
    for epoch in slots.epochs_before(slots.active()).rev() {
        // Whatever else is wrong with slots that no longer count changes nothing here.
        if let Ok(Some((slot, _))) = slots.find(epoch, secret).await {
            let slot = slot.to_string();
            return Error::RevokedKey { secret: secret_name, slot, location };
        }
    }
    Error::WrongKey { secret: secret_name, location }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::fixture::Fixture;
    use super::super::{KeyChange, SlotName};
    use super::*;
    use crate::SystemClock;

    #[tokio::test]
    async fn a_wrong_key_is_told_by_its_source_and_nothing_else() {
        let fixture = Fixture::with_repository().await;
        fixture.generate("other");
        let error = fixture.open("other").await.unwrap_err();
        assert!(matches!(error, Error::WrongKey { .. }), "{error}");
        let text = fs::read_to_string(fixture.path("other")).unwrap();
        let said = format!("{error} {error:?}");
        assert!(said.contains("other") && !said.contains(text.trim()), "{said}");
    }

    #[tokio::test]
    async fn a_damaged_slot_is_told_from_a_wrong_key_and_does_not_close_the_others() {
        let fixture = Fixture::with_repository().await;
        let slot = fixture.object("keys/0001/encryption");
        let text = fs::read_to_string(&slot).unwrap();
        let (before, wrapped) = text.split_once("\"wrapped\": \"").unwrap();
        let flipped = if wrapped.starts_with('A') { "B" } else { "A" };
        let damaged = format!("{before}\"wrapped\": \"{flipped}{}", &wrapped[1..]);
        for damaged in [damaged, "{".to_owned(), String::new()] {
            fs::write(&slot, damaged).unwrap();
            let error = fixture.open("daily").await.unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
            fixture.open("spare").await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_record_that_somebody_changed_is_not_believed() {
        let fixture = Fixture::with_repository().await;
        let record = fixture.object("repository");
        let text = fs::read_to_string(&record).unwrap();
        fs::write(&record, text.replace("aes-256-gcm", "off")).unwrap();
        let error = fixture.open("daily").await.unwrap_err();
        assert!(matches!(error, Error::Unencrypted { .. }), "{error}");
        let (before, after) = text.split_once("\"mac\"").unwrap();
        fs::write(&record, format!("{}}}", before.trim().trim_end_matches(','))).unwrap();
        assert!(after.contains('='));
        let error = fixture.open("daily").await.unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_link_that_somebody_planted_is_a_fast_end() {
        let fixture = Fixture::with_repository().await;
        let planted = fixture.object("keys/4294967295");
        fs::create_dir(&planted).unwrap();
        fs::write(planted.join("previous"), "{}").unwrap();
        let error = fixture.open("daily").await.unwrap_err();
        assert!(matches!(error, Error::RevokedKey { .. }), "{error}");
    }

    #[tokio::test]
    async fn an_older_epoch_hangs_on_its_link() {
        let fixture = Fixture::with_repository().await;
        fixture.generate("new");
        let repository = fixture.open("daily").await.unwrap();
        let change = KeyChange::begin(&repository, &SystemClock).await.unwrap();
        let kept = [
            (SlotName::encryption(), fixture.source("new")),
            (SlotName::recovery(), fixture.source("spare")),
        ];
        change.revoke(Some(&SlotName::encryption()), &kept).await.unwrap();
        let opened = fixture.open("new").await.unwrap();
        assert_eq!(opened.keys().newest().unwrap().epoch(), 2);
        assert_eq!(opened.keys().get(1), repository.keys().get(1));

        let link = fixture.object("keys/0002/previous");
        let text = fs::read_to_string(&link).unwrap();
        fs::write(&link, text.replace("\"salt\": \"", "\"salt\": \"AAAA")).unwrap();
        assert!(matches!(fixture.open("new").await, Err(Error::Damaged { .. })));
    }
}
