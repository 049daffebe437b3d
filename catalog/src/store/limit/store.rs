//! Keeps the use of a store below rates of requests and bytes.
//!
//! Place: outside [`Retry`](crate::store::Retry), whose deadline is for the store's answer and not for
//! waiting here. What it repeats is not counted; it is seldom, and has pauses of its own.
//!
//! Who waits: blocks of base backups, and reads. WAL, records and passing objects never do: a backup
//! must not delay them, since what they wait is what would be lost. They are counted, so a backup
//! yields to them, but by no more than ten seconds, so that it goes on in the busiest hour.
//!
//! Fair: who comes first goes first. A rate is an average: one object, or one part of an upload, goes
//! at the speed of the line, and the next one waits accordingly longer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::bucket::Bucket;
use super::config::{LimitConfig, Rates};
use crate::store::{GetRange, Listed, Object, ObjectClass, ObjectKey, PutOptions, Store, Upload};
use crate::{Clock, Result};

/// The longest sleep: by then another window may have begun.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// A store whose use is limited.
#[derive(Debug)]
pub struct Limit<S> {
    inner: S,
    meter: Arc<Meter>,
}

/// What is counted, by the store and by its uploads.
#[derive(Debug)]
struct Meter {
    config: LimitConfig,
    clock: Arc<dyn Clock>,
    buckets: Mutex<Buckets>,
    upload_queue: Semaphore,
    download_queue: Semaphore,
}

#[derive(Debug)]
struct Buckets {
    requests: Bucket,
    upload: Bucket,
    download: Bucket,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug)]
enum Direction {
    Upload,
    Download,
}

impl<S: Store> Limit<S> {
    /// Uses `inner` as fast as `config` allows by the time of `clock`.
    pub fn new(inner: S, config: LimitConfig, clock: Arc<dyn Clock>) -> Self {
        let buckets =
            Buckets { requests: Bucket::new(), upload: Bucket::new(), download: Bucket::new() };
        let meter = Meter {
            config,
            clock,
            buckets: Mutex::new(buckets),
            upload_queue: Semaphore::new(1),
            download_queue: Semaphore::new(1),
        };
        Self { inner, meter: Arc::new(meter) }
    }
}

impl Meter {
    /// Waits for the turn of whoever must, and counts a request.
    async fn enter(&self, direction: Direction) {
        let queue = match direction {
            Direction::Upload => &self.upload_queue,
            Direction::Download => &self.download_queue,
        };
        // Whoever sleeps here keeps those behind in their order. It is never closed.
        let _turn = queue.acquire().await;
        while let Some(wait) = self.wait(direction) {
            sleep(wait.min(SLEEP_MAX)).await;
        }
        let (rates, now) = (self.rates(), Instant::now());
        self.buckets().requests.take(rates.requests, 1, now);
    }

    /// Counts a request that does not wait.
    fn pass(&self, upload: usize) {
        let (rates, now) = (self.rates(), Instant::now());
        let mut buckets = self.buckets();
        buckets.requests.take_unhindered(rates.requests, 1, now);
        buckets.upload.take_unhindered(rates.upload, upload as u64, now);
    }

    /// Counts bytes of somebody who waited.
    fn count(&self, direction: Direction, bytes: usize) {
        let (rates, now) = (self.rates(), Instant::now());
        let mut buckets = self.buckets();
        match direction {
            Direction::Upload => buckets.upload.take(rates.upload, bytes as u64, now),
            Direction::Download => buckets.download.take(rates.download, bytes as u64, now),
        }
    }

    fn wait(&self, direction: Direction) -> Option<Duration> {
        let (rates, now) = (self.rates(), Instant::now());
        let mut buckets = self.buckets();
        let requests = buckets.requests.wait(rates.requests, now);
        let bytes = match direction {
            Direction::Upload => buckets.upload.wait(rates.upload, now),
            Direction::Download => buckets.download.wait(rates.download, now),
        };
        requests.max(bytes)
    }

    fn rates(&self) -> Rates {
        self.config.rates_at(self.clock.now())
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl<S: Store> Store for Limit<S> {
    async fn put(&self, key: &ObjectKey, body: Bytes, how: PutOptions) -> Result<()> {
        if how.class == ObjectClass::Backup {
            self.meter.enter(Direction::Upload).await;
            self.meter.count(Direction::Upload, body.len());
        } else {
            self.meter.pass(body.len());
        }
        self.inner.put(key, body, how).await
    }

    async fn upload(&self, key: &ObjectKey, how: PutOptions) -> Result<Box<dyn Upload>> {
        if how.class == ObjectClass::Backup {
            self.meter.enter(Direction::Upload).await;
        } else {
            self.meter.pass(0);
        }
        let inner = self.inner.upload(key, how).await?;
        Ok(Box::new(LimitedUpload { inner, class: how.class, meter: Arc::clone(&self.meter) }))
    }

    async fn get(&self, key: &ObjectKey, range: GetRange) -> Result<Object> {
        self.meter.enter(Direction::Download).await;
        let object = self.inner.get(key, range).await?;
        self.meter.count(Direction::Download, object.bytes.len());
        Ok(object)
    }

    async fn head(&self, key: &ObjectKey) -> Result<u64> {
        self.meter.pass(0);
        self.inner.head(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<Listed>> {
        self.meter.pass(0);
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.meter.pass(0);
        self.inner.delete(key).await
    }

    fn location(&self) -> String {
        self.inner.location()
    }
}

/// An upload whose bytes are counted as they are written.
#[derive(Debug)]
struct LimitedUpload {
    inner: Box<dyn Upload>,
    class: ObjectClass,
    meter: Arc<Meter>,
}

#[async_trait]
impl Upload for LimitedUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if self.class == ObjectClass::Backup {
            self.meter.enter(Direction::Upload).await;
            self.meter.count(Direction::Upload, bytes.len());
        } else {
            self.meter.pass(bytes.len());
        }
        self.inner.write(bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        self.inner.finish().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;
    use crate::store::ByteSize;
    use crate::store::{MemoryStore, conformance};

    const MIB: usize = 1 << 20;

    fn limited(config: LimitConfig) -> (Limit<MemoryStore>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        (Limit::new(MemoryStore::new(), config, clock.clone()), clock)
    }

    fn upload_limit(mib: u64) -> LimitConfig {
        let upload = Some(ByteSize::new(mib << 20));
        LimitConfig { upload, ..LimitConfig::default() }
    }

    async fn put(store: &dyn Store, name: &str, size: usize, class: ObjectClass) {
        let how = PutOptions::overwrite(class);
        store.put(&name.parse().unwrap(), vec![0; size].into(), how).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn limited_store_keeps_the_contract() {
        let requests = Some(1000);
        let config = LimitConfig { requests, ..upload_limit(50) };
        conformance::check(Arc::new(limited(config).0)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn backups_go_at_the_rate_they_are_given() {
        let (store, _) = limited(upload_limit(4));
        let begun = Instant::now();
        for _ in 0..10 {
            put(&store, "backup", 4 * MIB, ObjectClass::Backup).await;
        }
        // One second fits into the bucket, and the last one is paid by whoever comes next.
        let seconds = begun.elapsed().as_secs_f64();
        assert!((7.9..9.1).contains(&seconds), "40 MiB at 4 MiB/s took {seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn parts_of_an_upload_are_limited_too() {
        let (store, _) = limited(upload_limit(1));
        let begun = Instant::now();
        let how = PutOptions::create(ObjectClass::Backup);
        let mut upload = store.upload(&"pack".parse().unwrap(), how).await.unwrap();
        for _ in 0..20 {
            upload.write(vec![0; MIB / 2].into()).await.unwrap();
        }
        upload.finish().await.unwrap();
        let seconds = begun.elapsed().as_secs_f64();
        assert!((8.0..10.0).contains(&seconds), "10 MiB at 1 MiB/s took {seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn wal_never_waits_and_a_backup_yields_to_it() {
        let (store, _) = limited(upload_limit(1));
        let store = Arc::new(store);
        put(&*store, "backup", 60 * MIB, ObjectClass::Backup).await;
        let begun = Instant::now();
        for _ in 0..100 {
            put(&*store, "wal", MIB, ObjectClass::Wal).await;
        }
        assert_eq!(begun.elapsed(), Duration::ZERO, "WAL waited for a backup");
        put(&*store, "backup", 1, ObjectClass::Backup).await;
        let seconds = begun.elapsed().as_secs();
        assert!((55..75).contains(&seconds), "the backup waited {seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_and_reads_have_limits_of_their_own() {
        let download = Some(ByteSize::new(1 << 20));
        let config = LimitConfig { requests: Some(10), download, ..LimitConfig::default() };
        let (store, _) = limited(config);
        put(&store, "small", 1, ObjectClass::Wal).await;
        put(&store, "large", 4 * MIB, ObjectClass::Wal).await;
        let begun = Instant::now();
        let get = async |name: &str| {
            store.get(&name.parse().unwrap(), GetRange::All).await.unwrap();
        };
        for _ in 0..50 {
            get("small").await;
        }
        let seconds = begun.elapsed().as_secs_f64();
        assert!((3.5..5.5).contains(&seconds), "50 requests at 10/s took {seconds} s");
        let begun = Instant::now();
        get("large").await;
        get("small").await;
        let seconds = begun.elapsed().as_secs_f64();
        assert!((2.5..4.5).contains(&seconds), "4 MiB at 1 MiB/s took {seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn another_window_begins_while_somebody_waits() {
        let mut config = upload_limit(1);
        config.time_zone = Some("UTC".to_owned());
        config.windows = serde_json::from_str(r#"[{"from": "01:00", "to": "02:00"}]"#).unwrap();
        let (store, clock) = limited(config);
        put(&store, "backup", 3600 * MIB / 100, ObjectClass::Backup).await;
        put(&store, "backup", 3600 * MIB / 100, ObjectClass::Backup).await;
        clock.advance(jiff::SignedDuration::from_mins(61));
        let begun = Instant::now();
        put(&store, "backup", MIB, ObjectClass::Backup).await;
        assert_eq!(begun.elapsed(), Duration::ZERO, "nothing is limited from 1 to 2");
    }
}
