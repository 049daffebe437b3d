//! Repeats what may succeed later.
//!
//! Place: right around a store that talks to a disk or a network. Together with the archiver's
//! reconnect loop it is the only one that acts on [`Error::is_retryable`].
//!
//! Invariants:
//! * no request outlives the deadline, repetitions and waiting included;
//! * a `Create` whose first answer was lost is not reported as a conflict with itself: when a
//!   repetition finds the key taken, the content decides.
//!
//! Parts of an upload are not repeated, because their bytes are no longer here; beginning one is. Each
//! has a deadline all the same: a store that never answers must not hold its writer for ever.

use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::warn;

use super::{GetRange, Listed, Object, ObjectKey, PutOptions, Store, Upload};
use crate::{Error, Result};

/// How long a part of an upload may take: the largest one over the slowest line that is of any use.
const PART_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// A store that is asked again when its answer may change.
#[derive(Debug)]
pub struct Retry<S> {
    inner: S,
    policy: RetryPolicy,
}

/// How patiently to repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The first wait; each later one is twice as long. Up to as much again is added at random, so
    /// that many writers do not come back at the same moment.
    pub delay_min: Duration,
    /// No wait grows beyond this, but for what is added at random.
    pub delay_max: Duration,
    /// When to give up, counted from the request.
    pub deadline: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            // A disk or a front end that hiccups is back within this.
            delay_min: Duration::from_millis(100),
            // Often enough to notice that a store is back, seldom enough not to keep it down.
            delay_max: Duration::from_secs(5),
            // Longer than such a hiccup; after it the caller should know.
            deadline: Duration::from_secs(20),
        }
    }
}

impl<S: Store> Retry<S> {
    /// Repeats what fails in `inner`, as patiently as [`RetryPolicy::default`].
    pub fn new(inner: S) -> Self {
        Self::with_policy(inner, RetryPolicy::default())
    }

    /// Repeats what fails in `inner`.
    pub const fn with_policy(inner: S, policy: RetryPolicy) -> Self {
        Self { inner, policy }
    }

    /// Calls `attempt` with its number, from 1, until it succeeds, fails for good, or time is up.
    async fn repeat<T, F: Future<Output = Result<T>>>(
        &self,
        act: &'static str,
        on: &str,
        mut attempt: impl FnMut(u32) -> F,
    ) -> Result<T> {
        let deadline = Instant::now() + self.policy.deadline;
        let mut delays = ExponentialBuilder::new()
            .with_min_delay(self.policy.delay_min)
            .with_max_delay(self.policy.delay_max)
            .without_max_times()
            .with_jitter()
            .build();
        let mut number = 1;
        loop {
            let error = match timeout_at(deadline, attempt(number)).await {
                Ok(Err(error)) if error.is_retryable() => error,
                Ok(outcome) => return outcome,
                Err(elapsed) => return Err(Error::unavailable(format!("{act} {on}"), elapsed)),
            };
            let delay = delays.next().unwrap_or(self.policy.delay_max);
            if Instant::now() + delay >= deadline {
                return Err(error);
            }
            warn!(
                act,
                on,
                attempt = number,
                ?delay,
                %error,
                cause = std::error::Error::source(&error),
                "store failed, trying again"
            );
            sleep(delay).await;
            number += 1;
        }
    }

    async fn put_again(
        &self,
        number: u32,
        key: &ObjectKey,
        body: &Bytes,
        how: PutOptions,
    ) -> Result<()> {
        let error = match self.inner.put(key, body.clone(), how).await {
            Err(e) if e.is_already_exists() && number > 1 => e,
            outcome => return outcome,
        };
        // An earlier attempt of ours may have put it there.
        let found = self.get_whole(key, &GetRange::All).await?;
        if found.bytes == *body { Ok(()) } else { Err(error) }
    }

    async fn get_whole(&self, key: &ObjectKey, range: &GetRange) -> Result<Object> {
        let object = self.inner.get(key, range.clone()).await?;
        let wanted = range.within(object.size);
        if object.bytes.len() as u64 == wanted.end - wanted.start {
            return Ok(object);
        }
        Err(Error::unavailable(format!("read {key}"), "the answer was cut short"))
    }
}

#[async_trait]
impl<S: Store> Store for Retry<S> {
    async fn put(&self, key: &ObjectKey, body: Bytes, how: PutOptions) -> Result<()> {
        self.repeat("write", key.as_str(), |number| self.put_again(number, key, &body, how)).await
    }

    async fn upload(&self, key: &ObjectKey, how: PutOptions) -> Result<Box<dyn Upload>> {
        let begin = self.repeat("begin to write", key.as_str(), |_| self.inner.upload(key, how));
        Ok(Box::new(TimedUpload { inner: begin.await?, key: key.clone() }))
    }

    async fn get(&self, key: &ObjectKey, range: GetRange) -> Result<Object> {
        self.repeat("read", key.as_str(), |_| self.get_whole(key, &range)).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<u64> {
        self.repeat("look for", key.as_str(), |_| self.inner.head(key)).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<Listed>> {
        self.repeat("list", prefix, |_| self.inner.list(prefix, after, limit)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.repeat("remove", key.as_str(), |_| self.inner.delete(key)).await
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}

/// An upload whose parts do not wait for ever.
#[derive(Debug)]
struct TimedUpload {
    inner: Box<dyn Upload>,
    key: ObjectKey,
}

#[async_trait]
impl Upload for TimedUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        in_time(&self.key, self.inner.write(bytes)).await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        in_time(&self.key, self.inner.finish()).await
    }
}

async fn in_time(key: &ObjectKey, act: impl Future<Output = Result<()>>) -> Result<()> {
    let late = |elapsed| Error::unavailable(format!("write a part of {key}"), elapsed);
    timeout(PART_DEADLINE, act).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Fault, Faulty, MemoryStore, ObjectClass, conformance};
    use super::*;

    const CREATE: PutOptions = PutOptions::create(ObjectClass::Record);
    const OVERWRITE: PutOptions = PutOptions::overwrite(ObjectClass::Record);

    fn key() -> ObjectKey {
        "main/1/cluster".parse().unwrap()
    }

    fn after(faults: &[Fault]) -> Retry<Faulty<MemoryStore>> {
        let faulty = Faulty::scripted(MemoryStore::new(), faults.iter().copied());
        Retry::new(faulty)
    }

    #[tokio::test]
    async fn retry_keeps_the_contract() {
        conformance::check(Arc::new(after(&[]))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn passing_failures_are_not_seen() {
        let store = after(&[Fault::Before, Fault::After, Fault::Before]);
        store.put(&key(), Bytes::from_static(b"x"), OVERWRITE).await.unwrap();
        let store = after(&[Fault::Before; 3]);
        assert!(store.list("", None, 10).await.unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_create_whose_answer_was_lost_succeeds() {
        let store = after(&[Fault::After]);
        store.put(&key(), Bytes::from_static(b"x"), CREATE).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_elses_object_is_no_success() {
        let store = after(&[]);
        store.put(&key(), Bytes::from_static(b"theirs"), CREATE).await.unwrap();
        store.inner.inject(Fault::Before);
        let error = store.put(&key(), Bytes::from_static(b"ours"), CREATE).await;
        assert!(error.unwrap_err().is_already_exists());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_cut_short_is_asked_for_again() {
        let store = after(&[Fault::Truncate]);
        store.put(&key(), Bytes::from_static(b"whole"), CREATE).await.unwrap();
        assert_eq!(store.get(&key(), GetRange::All).await.unwrap().bytes, "whole");
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_at_the_deadline() {
        let begun = Instant::now();
        let error = after(&[Fault::Before; 1000]).delete(&key()).await.unwrap_err();
        assert!(error.is_retryable());
        let deadline = RetryPolicy::default().deadline;
        assert!(begun.elapsed() <= deadline && begun.elapsed() > deadline / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn facts_are_not_asked_twice() {
        let begun = Instant::now();
        assert!(after(&[]).get(&key(), GetRange::All).await.unwrap_err().is_not_found());
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
