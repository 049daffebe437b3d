//! What a bucket needs besides reading and writing: uploads that nobody will complete are aborted,
//! and a doctor is told how the bucket is set up.
//!
//! Ages are counted by the store's own clock: its `Date` against its own times.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::{BoxError, ProvideErrorMetadata as _};
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use aws_sdk_s3::types::{BucketVersioningStatus, ObjectLockConfiguration, ObjectLockEnabled};
use jiff::Timestamp;

use super::super::Refusal;
use super::S3Store;
use super::error::Act;
use super::upload::Leftover;
use crate::{Error, Result};

/// What S3 answers about a bucket that was made without locks.
const NO_LOCK: &str = "ObjectLockConfigurationNotFoundError";

/// How a bucket is set up; `None` where the store does not say, or not to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketFacts {
    /// Whether what is overwritten or removed is kept as an older version.
    pub versioning: Option<bool>,
    /// Whether objects can be locked.
    pub lock_enabled: Option<bool>,
    /// The lock that every object gets by itself, as in `COMPLIANCE for 30 days`.
    pub default_retention: Option<String>,
    /// The time by the store's clock.
    pub server_date: Option<Timestamp>,
    /// Uploads under our prefix that are not complete.
    pub stale_uploads: Option<usize>,
}

impl S3Store {
    /// How the bucket is set up. Fails only when the bucket cannot be asked at all.
    pub async fn bucket_facts(&self) -> Result<BucketFacts> {
        let bucket = &self.config.bucket;
        let act = Act::at("ask for versions of", bucket);
        let answer = self.client.get_bucket_versioning().bucket(bucket).send().await;
        let versioning = said(answer.map_err(|error| act.failed(error)))?
            .map(|answer| answer.status() == Some(&BucketVersioningStatus::Enabled));
        let (lock_enabled, default_retention) = self.lock_facts().await?;
        let pending = said(self.pending_uploads().await)?;
        Ok(BucketFacts {
            versioning,
            lock_enabled,
            default_retention,
            server_date: pending.as_ref().and_then(|(date, _)| *date),
            stale_uploads: pending.map(|(_, uploads)| uploads.len()),
        })
    }

    async fn lock_facts(&self) -> Result<(Option<bool>, Option<String>)> {
        let bucket = &self.config.bucket;
        let answer = self.client.get_object_lock_configuration().bucket(bucket).send().await;
        if answer.as_ref().is_err_and(|error| error.code() == Some(NO_LOCK)) {
            return Ok((Some(false), None));
        }
        let act = Act::at("ask for locks of", bucket);
        let Some(answer) = said(answer.map_err(|error| act.failed(error)))? else {
            return Ok((None, None));
        };
        let lock = answer.object_lock_configuration();
        let enabled = lock.and_then(ObjectLockConfiguration::object_lock_enabled);
        let rule = lock.and_then(ObjectLockConfiguration::rule);
        let default = rule.and_then(|rule| rule.default_retention()).map(|default| {
            let mode = default.mode().map_or("retention", |mode| mode.as_str());
            match (default.days(), default.years()) {
                (Some(days), _) => format!("{mode} for {days} days"),
                (None, Some(years)) => format!("{mode} for {years} years"),
                (None, None) => mode.to_owned(),
            }
        });
        Ok((Some(enabled == Some(&ObjectLockEnabled::Enabled)), default))
    }

    /// Aborts uploads under our prefix that were begun longer ago than `age`. How many there were.
    ///
    /// Uploads of a process that died are kept, and paid for, until somebody aborts them.
    pub async fn abort_stale_uploads(&self, age: Duration) -> Result<usize> {
        let (date, uploads) = self.pending_uploads().await?;
        let Some(date) = date else {
            let what = format!("look for abandoned uploads in {}", self.config.bucket);
            return Err(Error::unavailable(what, "the store does not say what time it is"));
        };
        let mut aborted = 0;
        for (left, begun) in uploads {
            let is_stale = begun.is_some_and(|begun| {
                u64::try_from(date.as_second() - begun).is_ok_and(|passed| passed >= age.as_secs())
            });
            if is_stale {
                self.abort(&left).await?;
                tracing::info!(key = %left.key, "aborted an upload that nobody completed");
                aborted += 1;
            }
        }
        Ok(aborted)
    }

    /// Aborts what uploads of this process left over. What fails is left to
    /// [`abort_stale_uploads`](Self::abort_stale_uploads).
    pub(super) async fn abort_leftovers(&self) {
        for left in self.leftovers.take() {
            if let Err(error) = self.abort(&left).await {
                tracing::warn!(key = %left.key, %error, "cannot abort an upload; it costs space until the store is asked again");
            }
        }
    }

    /// Aborts one upload; one that is gone is aborted.
    async fn abort(&self, left: &Leftover) -> Result<()> {
        let request = self.client.abort_multipart_upload().bucket(&self.config.bucket);
        match request.key(&left.key).upload_id(&left.id).send().await {
            Err(error) if error.as_service_error().is_some_and(|e| e.is_no_such_upload()) => Ok(()),
            Err(error) => Err(Act::at("abort an upload of", &left.key).failed(error)),
            Ok(_) => Ok(()),
        }
    }

    /// Uploads under our prefix that are not complete, with when they were begun, in seconds since
    /// 1970; and the time by the store's clock.
    async fn pending_uploads(&self) -> Result<(Option<Timestamp>, Vec<(Leftover, Option<i64>)>)> {
        let bucket = &self.config.bucket;
        let act = Act::at("look for abandoned uploads in", bucket);
        let seen = DateSeen::default();
        let mut uploads = Vec::new();
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            let answer = self
                .client
                .list_multipart_uploads()
                .bucket(bucket)
                .prefix(self.full(""))
                .set_key_marker(key_marker.clone())
                .set_upload_id_marker(id_marker.clone())
                .customize()
                .interceptor(seen.clone())
                .send()
                .await
                .map_err(|error| act.failed(error))?;
            for upload in answer.uploads() {
                if let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) {
                    let left = Leftover { key: key.to_owned(), id: id.to_owned() };
                    uploads.push((left, upload.initiated().map(DateTime::secs)));
                }
            }
            let next = answer.next_key_marker().map(str::to_owned);
            let next_id = answer.next_upload_id_marker().map(str::to_owned);
            let is_stuck = (&next, &next_id) == (&key_marker, &id_marker);
            if answer.is_truncated() != Some(true) || next.is_none() || is_stuck {
                return Ok((seen.date(), uploads));
            }
            (key_marker, id_marker) = (next, next_id);
        }
    }
}

/// None where the store does not know the question, or does not answer it to us.
fn said<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::Denied { .. } | Error::Refused { refusal: Refusal::Rejected, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Notes the `Date` of every answer.
#[derive(Clone, Debug, Default)]
struct DateSeen(Arc<Mutex<Option<Timestamp>>>);

impl DateSeen {
    fn date(&self) -> Option<Timestamp> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for DateSeen {
    fn name(&self) -> &'static str {
        "pgkeep_date_seen"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        let date = date.and_then(|date| Timestamp::from_second(date.secs()).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}
