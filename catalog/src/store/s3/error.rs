//! Every answer and every failure of S3, sorted by what can be done about it: nobody else judges.
//!
//! Invariants:
//! * `NotFound` is said only where the store named the key as what is missing: a bucket that is gone,
//!   a missing permission and a proxy's 404 are none;
//! * what may be another thing next time is `Unavailable`, and nothing else is.

use std::error::Error as StdError;
use std::{fmt, io};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use super::super::{ObjectKey, Refusal};
use crate::{Cause, Error};

/// A service's message longer than this is cut: it goes into a log line.
const MESSAGE_LENGTH_MAX: usize = 400;

/// What was tried, on which object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Act<'a> {
    /// As in "read".
    pub(super) verb: &'a str,
    /// The object; none for what concerns the bucket.
    pub(super) key: Option<&'a ObjectKey>,
    /// What stands for the object in messages when there is none.
    pub(super) place: &'a str,
}

impl<'a> Act<'a> {
    /// An act on one object.
    pub(super) fn on(verb: &'a str, key: &'a ObjectKey) -> Self {
        Self { verb, key: Some(key), place: key.as_str() }
    }

    /// An act on the bucket, or on what `place` says.
    pub(super) const fn at(verb: &'a str, place: &'a str) -> Self {
        Self { verb, key: None, place }
    }

    /// As it stands in messages: "read main/1/cluster".
    pub(super) fn text(&self) -> String {
        format!("{} {}", self.verb, self.place)
    }

    /// Sorts a failure of this act.
    pub(super) fn failed<E>(&self, error: SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let raw = error.raw_response();
        if let Some(raw) = raw {
            let answer = Answer::read(raw, &error);
            return self.judge(answer);
        }
        let what = self.text();
        let cause = error.into_source().unwrap_or_else(Into::into);
        let refusal = find::<CredentialsError>(&*cause)
            .and_then(judge_credentials)
            .or_else(|| find::<rustls::Error>(&*cause).and_then(judge_handshake));
        let source: Cause = Chain::of(&*cause).into();
        match refusal {
            Some(refusal) => Error::Refused { what, refusal, source },
            None => Error::Unavailable { what, source },
        }
    }

    fn judge(&self, answer: Answer) -> Error {
        let what = self.text();
        let code = answer.code.as_deref().unwrap_or_default();
        let refused = |refusal, answer: Answer| Error::Refused {
            what: self.text(),
            refusal,
            source: answer.into(),
        };
        match (answer.status, code) {
            (404, "NoSuchKey") if let Some(key) = self.key => Error::NotFound { key: key.clone() },
            (412, _) if let Some(key) = self.key => Error::AlreadyExists { key: key.clone() },
            (_, "NoSuchBucket") => refused(Refusal::NoBucket, answer),
            (_, "InvalidObjectState") => refused(Refusal::Archived, answer),
            (_, "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture") => {
                refused(Refusal::ClockSkew, answer)
            }
            (_, "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired") => {
                refused(Refusal::Expired, answer)
            }
            (
                _,
                "InvalidAccessKeyId"
                | "SignatureDoesNotMatch"
                | "InvalidToken"
                | "InvalidSecurity"
                | "NotSignedUp"
                | "UnrecognizedClientException",
            )
            | (401, _) => refused(Refusal::Credentials, answer),
            (
                _,
                "PermanentRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException"
                | "WrongRegion",
            )
            | (301, _) => refused(Refusal::Region, answer),
            (_, "QuotaExceeded" | "XMinioStorageFull" | "StorageFull") | (507, _) => {
                Error::Full { what, source: answer.into() }
            }
            // What was sent is not what came: it may come whole next time.
            (
                _,
                "BadDigest"
                | "InvalidDigest"
                | "XAmzContentSHA256Mismatch"
                | "XAmzContentChecksumMismatch"
                | "IncompleteBody"
                | "RequestTimeout"
                | "OperationAborted"
                | "ConditionalRequestConflict"
                | "SlowDown"
                | "Throttling"
                | "InternalError",
            ) => Error::Unavailable { what, source: answer.into() },
            (403, _) => Error::Denied { what, source: answer.into() },
            (501, _) => refused(Refusal::Rejected, answer),
            // An answer that cannot be read has a good status and no meaning; a 404 that does not
            // name what is missing may come from a proxy.
            (0..=399 | 404 | 408 | 409 | 425 | 429 | 499.., _) => {
                Error::Unavailable { what, source: answer.into() }
            }
            _ => refused(Refusal::Rejected, answer),
        }
    }
}

/// What a store answered instead of doing it.
#[derive(Debug)]
struct Answer {
    status: u16,
    code: Option<String>,
    message: Option<String>,
    region: Option<String>,
    request: Option<String>,
}

impl Answer {
    fn read<E: ProvideErrorMetadata>(raw: &HttpResponse, error: &SdkError<E>) -> Self {
        let header = |name| raw.headers().get(name).map(str::to_owned);
        Self {
            status: raw.status().as_u16(),
            code: error.code().map(str::to_owned),
            message: error.message().map(str::to_owned),
            region: header("x-amz-bucket-region"),
            request: header("x-amz-request-id"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.code, &self.message) {
            (Some(code), Some(message)) => {
                let message: String = message.chars().take(MESSAGE_LENGTH_MAX).collect();
                write!(f, "{code}: {message} (HTTP {}", self.status)?;
            }
            (Some(text), None) | (None, Some(text)) => {
                let text: String = text.chars().take(MESSAGE_LENGTH_MAX).collect();
                write!(f, "{text} (HTTP {}", self.status)?;
            }
            (None, None) => write!(f, "the store says no more (HTTP {}", self.status)?,
        }
        if let Some(region) = &self.region {
            write!(f, ", the bucket is in region {region}")?;
        }
        if let Some(request) = &self.request {
            write!(f, ", request {request}")?;
        }
        f.write_str(")")
    }
}

impl StdError for Answer {}

/// What all causes of a failure say, in one line: those of the SDK say little each.
#[derive(Debug)]
struct Chain(String);

impl Chain {
    fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut parts: Vec<String> = Vec::new();
        for cause in causes(error) {
            // Some say it in several lines.
            let text = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            if !parts.iter().any(|part| part.contains(&text)) {
                parts.push(text);
            }
        }
        Self(parts.join(": "))
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Chain {}

fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| match error.downcast_ref::<io::Error>() {
        // It names what it wraps as no source of its own.
        Some(io) => io.get_ref().map(|wrapped| wrapped as &(dyn StdError + 'static)),
        None => (*error).source(),
    })
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

fn judge_credentials(error: &CredentialsError) -> Option<Refusal> {
    match error {
        CredentialsError::CredentialsNotLoaded(_) => Some(Refusal::NoCredentials),
        CredentialsError::InvalidConfiguration(_) => Some(Refusal::Credentials),
        // The service that gives them failed: it may be back soon.
        _ => None,
    }
}

fn judge_handshake(error: &rustls::Error) -> Option<Refusal> {
    matches!(error, rustls::Error::InvalidCertificate(_)).then_some(Refusal::Certificate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(status: u16, code: &str) -> Error {
        let key: ObjectKey = "main/1/cluster".parse().unwrap();
        let code = (!code.is_empty()).then(|| code.to_owned());
        let answer = Answer { status, code, message: None, region: None, request: None };
        Act::on("read", &key).judge(answer)
    }

    fn refusal(status: u16, code: &str) -> Refusal {
        match judge(status, code) {
            Error::Refused { refusal, .. } => refusal,
            other => panic!("{status} {code} is {other:?}"),
        }
    }

    #[test]
    fn absence_is_believed_only_when_the_key_is_named() {
        assert!(judge(404, "NoSuchKey").is_not_found());
        assert_eq!(refusal(404, "NoSuchBucket"), Refusal::NoBucket);
        for (status, code) in [(404, ""), (404, "NoSuchUpload"), (403, ""), (403, "AccessDenied")] {
            assert!(!judge(status, code).is_not_found(), "{status} {code}");
        }
        assert!(matches!(judge(403, "AccessDenied"), Error::Denied { .. }));
    }

    #[test]
    fn a_taken_name_and_a_race_for_it_are_two_things() {
        assert!(judge(412, "PreconditionFailed").is_already_exists());
        assert!(judge(409, "ConditionalRequestConflict").is_retryable());
    }

    #[test]
    fn passing_trouble_is_repeated() {
        for (status, code) in [
            (500, "InternalError"),
            (502, ""),
            (503, "SlowDown"),
            (503, ""),
            (429, ""),
            (400, "RequestTimeout"),
            (400, "BadDigest"),
            (200, ""),
            (200, "InternalError"),
        ] {
            assert!(judge(status, code).is_retryable(), "{status} {code}");
        }
    }

    #[test]
    fn what_an_operator_must_mend_is_named() {
        assert_eq!(refusal(403, "RequestTimeTooSkewed"), Refusal::ClockSkew);
        assert_eq!(refusal(400, "ExpiredToken"), Refusal::Expired);
        assert_eq!(refusal(403, "SignatureDoesNotMatch"), Refusal::Credentials);
        assert_eq!(refusal(403, "InvalidAccessKeyId"), Refusal::Credentials);
        assert_eq!(refusal(301, "PermanentRedirect"), Refusal::Region);
        assert_eq!(refusal(400, "AuthorizationHeaderMalformed"), Refusal::Region);
        assert_eq!(refusal(403, "InvalidObjectState"), Refusal::Archived);
        assert_eq!(refusal(501, "NotImplemented"), Refusal::Rejected);
        assert_eq!(refusal(400, "InvalidStorageClass"), Refusal::Rejected);
        assert!(matches!(judge(507, ""), Error::Full { .. }));
    }

    #[test]
    fn an_answer_is_told_with_its_code_and_its_region() {
        let answer = Answer {
            status: 301,
            code: Some("PermanentRedirect".into()),
            message: Some("go there".into()),
            region: Some("eu-west-1".into()),
            request: None,
        };
        let text = "PermanentRedirect: go there (HTTP 301, the bucket is in region eu-west-1)";
        assert_eq!(answer.to_string(), text);
    }
}
