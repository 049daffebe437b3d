//! AWS KMS: a key that never leaves it encrypts 32 random bytes, which then open a slot.
//!
//! Credentials, region and endpoint come from where the AWS tools take them; the region of an ARN wins.
//! Each call has a deadline.
//!
//! Invariant: without an answer of KMS nothing is opened and nothing is written; there is no other
//! way in. A KMS that does not answer is an error that may pass; one that refuses is one that does
//! not.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_kms::Client;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::repository_key::KEY_SIZE;
use super::{SlotName, encoded};
use crate::{Error, Result};

/// For one attempt, and for a call with all its attempts.
const ATTEMPT: Duration = Duration::from_secs(5);
const CALL: Duration = Duration::from_secs(20);
const ATTEMPTS_MAX: u32 = 4;

/// Longest name of a key, in bytes; as KMS has it.
const NAME_SIZE_MAX: usize = 2048;
/// Longest ciphertext, in bytes; as KMS has it.
const CIPHERTEXT_SIZE_MAX: usize = 6144;

/// The secret of a slot, as KMS encrypted it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KmsSecret {
    key: String,
    #[serde(with = "encoded")]
    secret: Vec<u8>,
}

/// What a ciphertext is bound to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) repository: Uuid,
    pub(super) epoch: u32,
    pub(super) slot: &'a SlotName,
}

impl KmsSecret {
    /// A new secret, encrypted by the key `id`.
    pub(super) async fn generate(id: &str, context: Context<'_>) -> Result<Self> {
        let mut plain = Zeroizing::new(vec![0; KEY_SIZE]);
        getrandom::fill(&mut plain).expect("the kernel has random numbers");
        let client = client(id).await;
        let mut request = client.encrypt().key_id(id).plaintext(Blob::new(plain.as_slice()));
        for (name, value) in context.pairs() {
            request = request.encryption_context(name, value);
        }
        let answer = Box::pin(request.send()).await.map_err(|error| refused(id, error))?;
        let secret = answer.ciphertext_blob.map(Blob::into_inner).unwrap_or_default();
        let made = Self { key: id.to_owned(), secret };
        match made.problem() {
            None => Ok(made),
            Some(what) => Err(Error::Secret { secret: format!("kms:{id}"), what }),
        }
    }

    /// The secret; none if the key `id` is not the one that encrypted it.
    pub(super) async fn decrypt(
        &self,
        id: &str,
        context: Context<'_>,
    ) -> Result<Option<Zeroizing<[u8; KEY_SIZE]>>> {
        let client = client(id).await;
        let ciphertext = Blob::new(self.secret.as_slice());
        let mut request = client.decrypt().key_id(id).ciphertext_blob(ciphertext);
        for (name, value) in context.pairs() {
            request = request.encryption_context(name, value);
        }
        let answer = match Box::pin(request.send()).await {
            Ok(answer) => answer,
            Err(error) if is_other_key(&error) => return Ok(None),
            Err(error) => return Err(refused(id, error)),
        };
        let plain = answer.plaintext.map(Blob::into_inner).unwrap_or_default();
        let plain = Zeroizing::new(plain);
        let mut secret = Zeroizing::new([0; KEY_SIZE]);
        if plain.len() != KEY_SIZE {
            return Ok(None);
        }
        secret.copy_from_slice(&plain);
        Ok(Some(secret))
    }

    /// What is wrong with one that somebody else wrote.
    pub(super) fn problem(&self) -> Option<String> {
        let is_name = !self.key.is_empty()
            && self.key.len() <= NAME_SIZE_MAX
            && self.key.bytes().all(|byte| byte.is_ascii_graphic());
        let is_ciphertext = (1..=CIPHERTEXT_SIZE_MAX).contains(&self.secret.len());
        match (is_name, is_ciphertext) {
            (true, true) => None,
            (false, _) => Some("it does not name a key of KMS".to_owned()),
            (_, false) => Some("it holds no ciphertext of KMS".to_owned()),
        }
    }

    /// The key that encrypted it, as the operator named it.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// What KMS made of it.
    pub(super) fn ciphertext(&self) -> &[u8] {
        &self.secret
    }
}

impl Context<'_> {
    fn pairs(&self) -> [(&'static str, String); 3] {
        [
            ("repository", self.repository.to_string()),
            ("epoch", self.epoch.to_string()),
            ("slot", self.slot.to_string()),
        ]
    }
}

async fn client(id: &str) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(ATTEMPT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(CALL)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX));
    if let Some(region) = region(id) {
        loader = loader.region(Region::new(region.to_owned()));
    }
    Client::new(&Box::pin(loader.load()).await)
}

/// The region in an ARN: `arn:aws:kms:eu-central-1:…`.
fn region(id: &str) -> Option<&str> {
    let mut parts = id.strip_prefix("arn:")?.split(':');
    parts.nth(2).filter(|region| !region.is_empty())
}

/// Whether KMS says that another key, or another context, belongs to the ciphertext.
fn is_other_key<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> bool {
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    matches!(code, Some("IncorrectKeyException" | "InvalidCiphertextException"))
}

fn refused<E, R>(id: &str, error: SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let service = error.as_service_error();
    let code = service.and_then(ProvideErrorMetadata::code);
    let may_pass = match (&error, code) {
        (SdkError::ConstructionFailure(_), _) => false,
        (SdkError::ServiceError(_), Some(code)) => {
            let passing = ["Throttl", "Timeout", "Unavailable", "Internal", "LimitExceeded"];
            passing.iter().any(|word| code.contains(word))
        }
        _ => true,
    };
    if may_pass {
        let what = format!("use the key {id} of AWS KMS, which gave no answer or none that counts");
        return Error::unavailable(what, error);
    }
    let said = service.and_then(ProvideErrorMetadata::message).unwrap_or_default();
    let what = match code {
        Some(code) => format!("AWS KMS refuses: {code}: {said}"),
        None => format!("AWS KMS cannot be asked: {}", cause(&error)),
    };
    Error::Secret {
        secret: format!("kms:{id}"),
        what: what.trim_end_matches([':', ' ']).to_owned(),
    }
}

/// The innermost cause, which is the one that says something.
fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_of_an_arn_is_found() {
        assert_eq!(region("arn:aws:kms:eu-central-1:111122223333:key/k"), Some("eu-central-1"));
        assert_eq!(region("alias/pgkeep"), None);
        assert_eq!(region("arn:aws:kms"), None);
    }

    #[test]
    fn what_no_kms_wrote_is_told() {
        let secret = |key: &str, length| KmsSecret { key: key.into(), secret: vec![0; length] };
        assert_eq!(secret("alias/pgkeep", 150).problem(), None);
        for wrong in [secret("", 1), secret("a\x1b[0m", 1), secret("k", 0), secret("k", 6145)] {
            assert!(wrong.problem().is_some(), "{wrong:?}");
        }
    }
}
