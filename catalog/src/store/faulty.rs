//! Breaks a store on purpose, in ways that can be repeated exactly.
//!
//! Faults come from a script, each waiting for the first call it can befall, or from a seed, which
//! gives the same faults for the same calls every time.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

use super::{GetRange, Listed, Object, ObjectKey, PutOptions, Store, Upload};
use crate::{Error, Result};

/// One way in which a store fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done.
    Before,
    /// It is done, and the answer is lost.
    After,
    /// A read brings half of its bytes.
    Truncate,
    /// A read brings one wrong bit.
    Flip,
    /// A listing leaves out its first key.
    Omit,
}

const ANY: &[Fault] = &[Fault::Before, Fault::After];
const GET: &[Fault] = &[Fault::Before, Fault::After, Fault::Truncate, Fault::Flip];
const LIST: &[Fault] = &[Fault::Before, Fault::After, Fault::Omit];

/// A store with faults.
#[derive(Debug)]
pub struct Faulty<S> {
    inner: S,
    plan: Mutex<Plan>,
}

#[derive(Debug)]
struct Plan {
    script: VecDeque<Fault>,
    rate_per_mille: u64,
    state: u64,
}

impl<S: Store> Faulty<S> {
    /// Fails by `script`, and is sound when it has been played.
    pub fn scripted(inner: S, script: impl IntoIterator<Item = Fault>) -> Self {
        let plan = Plan { script: script.into_iter().collect(), rate_per_mille: 0, state: 0 };
        Self { inner, plan: Mutex::new(plan) }
    }

    /// Fails at random in `rate_per_mille` of a thousand calls.
    pub fn seeded(inner: S, seed: u64, rate_per_mille: u64) -> Self {
        let plan = Plan { script: VecDeque::new(), rate_per_mille, state: seed };
        Self { inner, plan: Mutex::new(plan) }
    }

    /// Appends a fault to the script.
    pub fn inject(&self, fault: Fault) {
        self.plan().script.push_back(fault);
    }

    /// The store behind the faults.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `act` with the fault that is its turn, if any; says which one the answer must suffer.
    async fn befall<T>(
        &self,
        possible: &[Fault],
        act: impl Future<Output = Result<T>> + Send,
    ) -> Result<(T, Option<Fault>)> {
        let fault = self.plan().next(possible);
        if fault == Some(Fault::Before) {
            return Err(injected("the request was lost"));
        }
        let done = act.await?;
        if fault == Some(Fault::After) {
            return Err(injected("the answer was lost"));
        }
        Ok((done, fault))
    }
}

impl Plan {
    fn next(&mut self, possible: &[Fault]) -> Option<Fault> {
        if self.script.front().is_some_and(|fault| possible.contains(fault)) {
            return self.script.pop_front();
        }
        if self.random() % 1000 >= self.rate_per_mille {
            return None;
        }
        let chosen = usize::try_from(self.random()).unwrap_or(usize::MAX) % possible.len();
        possible.get(chosen).copied()
    }

    /// Sebastiano Vigna's SplitMix64.
    const fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
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

#[async_trait]
impl<S: Store> Store for Faulty<S> {
    async fn put(&self, key: &ObjectKey, body: Bytes, how: PutOptions) -> Result<()> {
        self.befall(ANY, self.inner.put(key, body, how)).await.map(|((), _)| ())
    }

    async fn upload(&self, key: &ObjectKey, how: PutOptions) -> Result<Box<dyn Upload>> {
        self.befall(ANY, self.inner.upload(key, how)).await.map(|(upload, _)| upload)
    }

    async fn get(&self, key: &ObjectKey, range: GetRange) -> Result<Object> {
        let (mut object, fault) = self.befall(GET, self.inner.get(key, range)).await?;
        match fault {
            Some(Fault::Truncate) => object.bytes.truncate(object.bytes.len() / 2),
            Some(Fault::Flip) => object.bytes = flip(&object.bytes),
            _ => {}
        }
        Ok(object)
    }

    async fn head(&self, key: &ObjectKey) -> Result<u64> {
        self.befall(ANY, self.inner.head(key)).await.map(|(size, _)| size)
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<Listed>> {
        let (mut page, fault) = self.befall(LIST, self.inner.list(prefix, after, limit)).await?;
        if fault == Some(Fault::Omit) && !page.is_empty() {
            page.remove(0);
        }
        Ok(page)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.befall(ANY, self.inner.delete(key)).await.map(|((), _)| ())
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{MemoryStore, ObjectClass, conformance};
    use super::*;

    const CREATE: PutOptions = PutOptions::create(ObjectClass::Record);

    fn key() -> ObjectKey {
        "main/1/cluster".parse().unwrap()
    }

    #[tokio::test]
    async fn without_faults_the_contract_is_kept() {
        conformance::check(Arc::new(Faulty::seeded(MemoryStore::new(), 1, 0))).await;
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
