//! Breaks a store on purpose, in ways that can be repeated exactly.
//!
//! Faults come from a script, each waiting for the first call it can befall; or one befalls every call
//! or a single one; or they come from a seed, which gives the same faults for the same calls every
//! time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::fault::{Call, Fault};
use super::plan::Plan;
use super::upload::FaultyUpload;
use crate::store::{GetRange, Listed, Object, ObjectKey, PutMode, PutOptions, Store, Upload};
use crate::{Error, Result};

/// A store with faults.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// What a store and its uploads have in common.
#[derive(Debug)]
pub(super) struct Shared {
    plan: Mutex<Plan>,
    /// What each object was before it was last put; none if it was not there.
    before: Mutex<HashMap<ObjectKey, Option<Bytes>>>,
}

impl<S: Store> Faulty<S> {
    /// Fails by `script`, and is sound when it has been played.
    pub fn scripted(inner: S, script: impl IntoIterator<Item = Fault>) -> Self {
        Self::new(inner, Plan::Script(script.into_iter().collect()))
    }

    /// Fails at random in `rate_per_mille` of a thousand calls.
    pub fn seeded(inner: S, seed: u64, rate_per_mille: u64) -> Self {
        Self::new(inner, Plan::Chance { rate_per_mille, state: seed })
    }

    /// Suffers `fault` in every call that it can befall.
    pub fn always(inner: S, fault: Fault) -> Self {
        Self::new(inner, Plan::Always(fault))
    }

    /// Suffers `fault` once: in the call with this number, from 0, among those it can befall.
    pub fn at(inner: S, fault: Fault, number: usize) -> Self {
        Self::new(inner, Plan::At { fault, left: Some(number) })
    }

    fn new(inner: S, plan: Plan) -> Self {
        let shared = Shared { plan: Mutex::new(plan), before: Mutex::default() };
        Self { inner, shared: Arc::new(shared) }
    }

    /// Appends a fault to the script.
    pub fn inject(&self, fault: Fault) {
        lock(&self.shared.plan).append(fault);
    }

    /// Whether the fault of [`Faulty::at`] has struck.
    pub fn has_struck(&self) -> bool {
        lock(&self.shared.plan).has_struck()
    }

    /// The store behind the faults.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    async fn remember(&self, key: &ObjectKey) {
        let now = self.inner.get(key, GetRange::All).await.ok().map(|object| object.bytes);
        lock(&self.shared.before).insert(key.clone(), now);
    }

    fn stale(&self, key: &ObjectKey, range: &GetRange, now: Object) -> Result<Object> {
        let Some(before) = lock(&self.shared.before).get(key).cloned() else { return Ok(now) };
        let before = before.ok_or_else(|| Error::NotFound { key: key.clone() })?;
        let size = before.len() as u64;
        let range = range.within(size);
        let place = |at| usize::try_from(at).expect("a place in memory is a usize");
        Ok(Object { bytes: before.slice(place(range.start)..place(range.end)), size })
    }
}

impl Shared {
    /// Suffers what comes before the act: fails or waits; says which fault the rest must show.
    pub(super) async fn strike(&self, call: Call, bytes: usize) -> Result<Option<Fault>> {
        let fault = lock(&self.plan).next(call);
        let what = || format!("{call:?} in a store with faults");
        match fault {
            Some(Fault::Before) => return Err(injected("the request was lost")),
            Some(Fault::Denied) => {
                return Err(Error::Denied { what: what(), source: "as injected".into() });
            }
            Some(Fault::Refused) => return Err(Error::Invalid { what: what() }),
            Some(Fault::Stall(delay)) => tokio::time::sleep(delay).await,
            Some(Fault::Slow(rate)) => {
                let seconds = bytes as u64 / u64::from(rate.max(1));
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            }
            _ => {}
        }
        Ok(fault)
    }

    /// Suffers what comes after the act.
    pub(super) fn answer(fault: Option<Fault>) -> Result<()> {
        if fault == Some(Fault::After) { Err(injected("the answer was lost")) } else { Ok(()) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn injected(what: &'static str) -> Error {
    Error::unavailable("reach the store", what)
}

fn flip(bytes: &[u8]) -> Bytes {
    let mut flipped = BytesMut::from(bytes);
    let middle = flipped.len() / 2;
    if let Some(byte) = flipped.get_mut(middle) {
        *byte ^= 1;
    }
    flipped.freeze()
}

/// The first half.
pub(super) fn half(mut bytes: Bytes) -> Bytes {
    bytes.truncate(bytes.len() / 2);
    bytes
}

/// How something is put under `fault`.
const fn under(fault: Option<Fault>, how: PutOptions) -> PutOptions {
    match fault {
        Some(Fault::IgnoreCondition) => PutOptions { mode: PutMode::Overwrite, ..how },
        _ => how,
    }
}

#[async_trait]
impl<S: Store> Store for Faulty<S> {
    async fn put(&self, key: &ObjectKey, body: Bytes, how: PutOptions) -> Result<()> {
        let fault = self.shared.strike(Call::Put, body.len()).await?;
        if fault == Some(Fault::Drop) {
            return Ok(());
        }
        self.remember(key).await;
        let body = if fault == Some(Fault::TruncatePut) { half(body) } else { body };
        self.inner.put(key, body, under(fault, how)).await?;
        Shared::answer(fault)
    }

    async fn upload(&self, key: &ObjectKey, how: PutOptions) -> Result<Box<dyn Upload>> {
        let fault = self.shared.strike(Call::Upload, 0).await?;
        self.remember(key).await;
        let inner = self.inner.upload(key, under(fault, how)).await?;
        Shared::answer(fault)?;
        Ok(Box::new(FaultyUpload { inner, shared: Arc::clone(&self.shared) }))
    }

    async fn get(&self, key: &ObjectKey, range: GetRange) -> Result<Object> {
        let fault = self.shared.strike(Call::Get, 0).await?;
        let mut object = self.inner.get(key, range.clone()).await?;
        match fault {
            Some(Fault::Truncate) => object.bytes = half(object.bytes),
            Some(Fault::Flip) => object.bytes = flip(&object.bytes),
            Some(Fault::Stale) => object = self.stale(key, &range, object)?,
            _ => {}
        }
        Shared::answer(fault)?;
        Ok(object)
    }

    async fn head(&self, key: &ObjectKey) -> Result<u64> {
        let fault = self.shared.strike(Call::Head, 0).await?;
        let size = self.inner.head(key).await?;
        Shared::answer(fault)?;
        Ok(size)
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<Listed>> {
        let fault = self.shared.strike(Call::List, 0).await?;
        let mut page = self.inner.list(prefix, after, limit).await?;
        match fault {
            Some(Fault::Omit) if !page.is_empty() => drop(page.remove(0)),
            Some(Fault::Page(length)) => page.truncate(length),
            _ => {}
        }
        Shared::answer(fault)?;
        Ok(page)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let fault = self.shared.strike(Call::Delete, 0).await?;
        self.inner.delete(key).await?;
        Shared::answer(fault)
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{self, Claims};
    use crate::store::{MemoryStore, ObjectClass};

    const CREATE: PutOptions = PutOptions::create(ObjectClass::Record);

    fn key() -> ObjectKey {
        "main/1/cluster".parse().unwrap()
    }

    #[tokio::test]
    async fn without_faults_the_contract_is_kept() {
        conformance::check(Arc::new(Faulty::seeded(MemoryStore::new(), 1, 0))).await;
    }

    #[tokio::test]
    async fn a_store_that_ignores_conditions_keeps_the_rest_of_the_contract() {
        let store = Faulty::always(MemoryStore::new(), Fault::IgnoreCondition);
        conformance::check_claims(Arc::new(store), Claims { conditional_put: false }).await;
    }

    #[tokio::test]
    async fn one_call_alone_suffers_the_fault_that_is_meant_for_it() {
        let store = Faulty::at(MemoryStore::new(), Fault::Drop, 1);
        for name in ["a", "b", "c"] {
            store.put(&name.parse().unwrap(), Bytes::from_static(b"x"), CREATE).await.unwrap();
            assert_eq!(store.has_struck(), name != "a");
        }
        let listed = store.list("", None, 10).await.unwrap();
        assert_eq!(listed.iter().map(|listed| listed.key.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    }

    #[tokio::test]
    async fn a_stale_answer_is_what_was_there_before() {
        let store = Faulty::scripted(MemoryStore::new(), [Fault::Stale; 2]);
        let overwrite = PutOptions::overwrite(ObjectClass::Passing);
        store.put(&key(), Bytes::from_static(b"old"), CREATE).await.unwrap();
        assert!(store.get(&key(), GetRange::All).await.unwrap_err().is_not_found());
        store.put(&key(), Bytes::from_static(b"new"), overwrite).await.unwrap();
        assert_eq!(store.get(&key(), GetRange::Suffix(2)).await.unwrap().bytes, "ld");
        assert_eq!(store.get(&key(), GetRange::All).await.unwrap().bytes, "new");
    }

    #[tokio::test]
    async fn an_upload_suffers_as_a_put_does() {
        for (fault, expected) in [
            (Fault::Drop, Some("")),
            (Fault::TruncatePut, Some("bo")),
            (Fault::Before, None),
            (Fault::After, None),
        ] {
            let store = Faulty::scripted(MemoryStore::new(), []);
            let mut upload = store.upload(&key(), CREATE).await.unwrap();
            store.inject(fault);
            let written = upload.write(Bytes::from_static(b"body")).await;
            assert_eq!(written.is_ok(), expected.is_some(), "{fault:?}");
            if let Some(expected) = expected {
                upload.finish().await.unwrap();
                assert_eq!(store.get(&key(), GetRange::All).await.unwrap().bytes, expected);
            }
        }
        let store = Faulty::scripted(MemoryStore::new(), []);
        let mut upload = store.upload(&key(), CREATE).await.unwrap();
        upload.write(Bytes::from_static(b"body")).await.unwrap();
        store.inject(Fault::Drop);
        upload.finish().await.unwrap();
        assert!(store.get(&key(), GetRange::All).await.unwrap_err().is_not_found());
    }

    #[tokio::test]
    async fn a_lost_answer_leaves_the_object_behind() {
        let store = Faulty::scripted(MemoryStore::new(), [Fault::Before, Fault::After]);
        let body = Bytes::from_static(b"x");
        store.put(&key(), body.clone(), CREATE).await.unwrap_err();
        assert!(store.inner().get(&key(), GetRange::All).await.unwrap_err().is_not_found());
        store.put(&key(), body.clone(), CREATE).await.unwrap_err();
        assert_eq!(store.get(&key(), GetRange::All).await.unwrap().bytes, body);
    }

    #[tokio::test]
    async fn a_fault_waits_for_a_call_it_can_befall() {
        let store = Faulty::scripted(MemoryStore::new(), [Fault::Truncate, Fault::Omit]);
        store.put(&key(), Bytes::from_static(b"body"), CREATE).await.unwrap();
        assert_eq!(store.get(&key(), GetRange::All).await.unwrap().bytes, "bo");
        assert!(store.list("", None, 10).await.unwrap().is_empty());
        assert_eq!(store.list("", None, 10).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn the_same_seed_gives_the_same_faults() {
        async fn outcomes(seed: u64) -> Vec<bool> {
            let store = Faulty::seeded(MemoryStore::new(), seed, 300);
            let mut outcomes = Vec::new();
            for _ in 0..100 {
                outcomes.push(store.delete(&key()).await.is_ok());
            }
            outcomes
        }
        assert_eq!(outcomes(7).await, outcomes(7).await);
        assert_ne!(outcomes(7).await, outcomes(8).await);
    }
}
