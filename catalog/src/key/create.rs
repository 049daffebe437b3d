//! The first two key slots of a repository, before there is a repository.
//!
//! ```text
//! keys/0001/encryption     for the secret of daily work
//! keys/0001/recovery       for the day when that is lost
//! repository               last: now the repository exists
//! ```
//!
//! Invariants:
//! * a key is used only when two secrets were seen to open it, each by reading back its slot;
//! * whoever comes second, after a crash or in a race, takes over the key and the identity that it
//!   finds, if its secrets open them, or refuses: there are never two keys of one epoch.

use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use super::slot::SlotPlace;
use super::slots::FIRST_EPOCH;
use super::{KeySlot, KeySlots, Keyring, RepositoryKey, Secret, SecretSource, SlotName};
use crate::failpoint;
use crate::store::{Store, blocking};
use crate::{Clock, Error, Result};

/// The keys of a repository that is about to be.
#[derive(Debug)]
pub(crate) struct CreatedKeys {
    /// Its identity, to which the slots are bound.
    pub(crate) repository: Uuid,
    /// Its first key.
    pub(crate) keyring: Keyring,
    /// Key files that were made because they did not exist.
    pub(crate) generated: Vec<PathBuf>,
}

/// Makes both slots in `store`, or finds them made.
pub(crate) async fn create(
    store: &Arc<dyn Store>,
    encryption: &SecretSource,
    recovery: &SecretSource,
    clock: &dyn Clock,
) -> Result<CreatedKeys> {
    let found = KeySlots::list(Arc::clone(store), None).await?;
    let mut generated = Vec::new();
    if found.is_empty() {
        for source in [encryption, recovery] {
            generated.extend(generate_missing(source).await?);
        }
    }
    let secrets = [Secret::read(encryption).await?, Secret::read(recovery).await?];
    let [daily, spare] = &secrets;
    if daily == spare {
        return Err(Error::KeyRefused {
            what: format!("{encryption} and {recovery} give the same secret"),
            hint: "two slots protect from a loss only if their secrets differ and lie apart",
        });
    }
    let new_identity = || (Uuid::new_v4(), RepositoryKey::generate(FIRST_EPOCH));
    let (repository, key) =
        settle(&found, &SlotName::encryption(), (encryption, daily), clock, new_identity).await?;
    failpoint::hit(failpoint::INIT_AFTER_FIRST_SLOT);
    let same = || (repository, key.clone());
    let (other, spare_key) =
        settle(&found, &SlotName::recovery(), (recovery, spare), clock, same).await?;
    if other != repository || spare_key != key {
        return Err(Error::KeyRefused {
            what: format!("the key slots at {} hold different keys", store.location()),
            hint: "they are not of one repository; begin a new one elsewhere",
        });
    }
    failpoint::hit(failpoint::INIT_BEFORE_RECORD);
    Ok(CreatedKeys { repository, keyring: Keyring::new([key]), generated })
}

/// The identity and key in the slot `name`, which is made for `secret` if it is missing, and opened
/// with it in either case.
async fn settle(
    slots: &KeySlots,
    name: &SlotName,
    (source, secret): (&SecretSource, &Secret),
    clock: &dyn Clock,
    fresh: impl FnOnce() -> (Uuid, RepositoryKey),
) -> Result<(Uuid, RepositoryKey)> {
    if !slots.has(FIRST_EPOCH, name) {
        let (repository, key) = fresh();
        let place = SlotPlace { repository, name: name.clone(), created_at: clock.now() };
        let slot = KeySlot::new(place, &key, secret).await?;
        match slots.put(&slot).await {
            // Somebody else is at it: what counts is what is there.
            Err(error) if error.is_already_exists() => {}
            put => put?,
        }
    }
    let slot = slots.read(FIRST_EPOCH, name).await?;
    let key = slot.open(secret).await?.ok_or_else(|| Error::KeyRefused {
        what: format!("{source} does not open the {slot}, which somebody else has made"),
        hint: "there is no repository yet: finish `init` with the secrets it was begun with, \
               or begin at another place",
    })?;
    Ok((slot.repository(), key))
}

/// Makes the key file that a source names, if there is none.
async fn generate_missing(source: &SecretSource) -> Result<Option<PathBuf>> {
    let SecretSource::File(path) = source else { return Ok(None) };
    let path = path.clone();
    let secret = source.to_string();
    blocking(move || {
        if path.symlink_metadata().is_ok() {
            return Ok(None);
        }
        match Secret::generate(&path) {
            Ok(_) => Ok(Some(path)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => {
                let what = format!("it does not exist and cannot be made: {error}");
                Err(Error::Secret { secret, what })
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::fixture::Fixture;
    use super::*;
    use crate::store::{Faulty, MemoryStore};
    use crate::{Repository, SystemClock};

    #[tokio::test]
    async fn either_secret_opens_what_was_made() {
        let fixture = Fixture::empty();
        let made = fixture.init("daily", "spare").await.unwrap();
        let [daily, spare] = [fixture.open("daily").await, fixture.open("spare").await];
        assert_eq!(daily.unwrap().keys(), made.keys());
        assert_eq!(spare.unwrap().keys(), made.keys());
        assert!(made.keys().is_on());
        fixture.init("daily", "none").await.expect("a second time nothing is made");
        assert!(!fixture.path("none").exists());
    }

    #[tokio::test]
    async fn what_was_begun_is_finished_with_the_same_key() {
        for lost in [&["repository"][..], &["repository", "keys/0001/recovery"]] {
            let fixture = Fixture::empty();
            let made = fixture.init("daily", "spare").await.unwrap();
            for key in lost {
                fs::remove_file(fixture.object(key)).unwrap();
            }
            let again = fixture.init("daily", "spare").await.unwrap();
            assert_eq!((again.uuid(), again.keys()), (made.uuid(), made.keys()));
        }
    }

    #[tokio::test]
    async fn of_many_that_begin_at_once_all_get_the_same_key() {
        let fixture = Fixture::empty();
        fixture.generate("daily");
        fixture.generate("spare");
        let all = futures_util::future::join_all((0..8).map(|_| fixture.init("daily", "spare")));
        let opened: Vec<Repository> = all.await.into_iter().map(|opened| opened.unwrap()).collect();
        for one in &opened {
            assert_eq!((one.uuid(), one.keys()), (opened[0].uuid(), opened[0].keys()));
        }
    }

    #[tokio::test]
    async fn whatever_the_store_does_there_is_one_key_and_both_secrets_open_it() {
        let fixture = Fixture::empty();
        let (daily, spare) = (fixture.generate("daily"), fixture.generate("spare"));
        let mut failures = 0;
        for seed in 0..200 {
            let store: Arc<dyn Store> = Arc::new(Faulty::seeded(MemoryStore::default(), seed, 300));
            let mut seen: Vec<(Uuid, Keyring)> = Vec::new();
            for _ in 0..40 {
                match create(&store, &daily, &spare, &SystemClock).await {
                    Ok(made) => seen.push((made.repository, made.keyring)),
                    Err(_) => failures += 1,
                }
            }
            let (repository, keyring) = seen.first().expect("a store that works now and then");
            assert!(seen.iter().all(|(uuid, keys)| (uuid, keys) == (repository, keyring)));
        }
        assert!(failures > 1000, "only {failures} attempts failed");
    }

    #[tokio::test]
    async fn slots_of_somebody_else_are_left_alone() {
        let fixture = Fixture::empty();
        fixture.init("daily", "spare").await.unwrap();
        fs::remove_file(fixture.object("repository")).unwrap();
        fixture.generate("other");
        fixture.generate("another");
        let before = fs::read(fixture.object("keys/0001/encryption")).unwrap();
        let error = fixture.init("other", "another").await.unwrap_err();
        assert!(error.to_string().contains("somebody else"), "{error}");
        let plain = crate::RepositoryConfig::plain(fixture.config("", "").url);
        let error = Repository::open_or_create(&plain, &SystemClock).await.unwrap_err();
        assert!(error.to_string().contains("key slot"), "{error}");
        assert_eq!(fs::read(fixture.object("keys/0001/encryption")).unwrap(), before);
        assert!(!fixture.object("repository").exists());
    }

    #[tokio::test]
    async fn one_secret_under_two_names_is_one_secret() {
        let fixture = Fixture::empty();
        fixture.generate("daily");
        fs::copy(fixture.path("daily"), fixture.path("copy")).unwrap();
        let error = fixture.init("daily", "copy").await.unwrap_err();
        assert!(error.to_string().contains("same secret"), "{error}");
        assert!(!fixture.object("keys").exists());
    }

    #[tokio::test]
    async fn without_a_recovery_key_nothing_is_made() {
        let fixture = Fixture::empty();
        let mut config = fixture.config("daily", "spare");
        config.recovery_key = None;
        let error = Repository::open_or_create(&config, &SystemClock).await.unwrap_err();
        assert!(error.to_string().contains("recovery_key"), "{error}");
        assert!(error.hint().is_some() && !fixture.path("daily").exists());
    }
}
