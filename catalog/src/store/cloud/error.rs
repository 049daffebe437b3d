//! What a failure of the service means.
//!
//! The crate sorts by HTTP status alone: every 409 becomes `AlreadyExists` and every 404 `NotFound`.
//! But only one code of Azure's 409 says that the object is there, and a container that is missing is
//! a 404 like an object that is missing. Both would be taken for facts, so the code in the answer's
//! body decides. Status and body are read from the error's text: its type is not public.
//!
//! An answer that is not understood is `Unavailable`, which says nothing about whether it was done.

use object_store::Error as CloudError;

use crate::store::ObjectKey;
use crate::{Error, Result};

/// What stands before the status in the crate's text of an error.
const STATUS_MARK: &str = "status code: ";

/// What was asked for, so that a failure can be told and judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// As in "write".
    pub(super) act: &'static str,
    /// The object, if it was about one.
    pub(super) key: Option<&'a ObjectKey>,
    /// Where, for messages.
    pub(super) location: &'a str,
}

impl Asked<'_> {
    fn what(&self) -> String {
        match self.key {
            Some(key) => format!("{} {key}", self.act),
            None => format!("{} {}", self.act, self.location),
        }
    }

    /// The service's result in our words.
    pub(super) fn sort<T>(&self, result: object_store::Result<T>) -> Result<T> {
        result.map_err(|error| self.sort_error(error))
    }

    /// The service's failure in our words.
    pub(super) fn sort_error(&self, error: CloudError) -> Error {
        let text = chain(&error);
        let status = status(&text);
        let says = |codes: &[&str]| codes.iter().any(|code| text.contains(code));
        match (status, self.key) {
            (Some(404), _)
                if says(&["ContainerNotFound", "NoSuchBucket", "bucket does not exist"]) =>
            {
                Error::NoBucket { location: self.location.to_owned() }
            }
            (Some(404), Some(key)) => Error::NotFound { key: key.clone() },
            // Google says 412 and nothing else; Azure's 412 also speaks of leases.
            (Some(409), Some(key)) if says(&["BlobAlreadyExists"]) => taken(key),
            (Some(412), Some(key)) if !says(&["Lease"]) => taken(key),
            // A signature that may only create says so when there is something to overwrite.
            (Some(403), Some(key)) if says(&["UnauthorizedBlobOverwrite"]) => taken(key),
            // Policies and leases: what they forbid stays forbidden.
            (Some(409), _) if says(&["Immutab", "Lease"]) => self.denied(error),
            (Some(401 | 403 | 412), _) => self.denied(error),
            (Some(408 | 409 | 429), _) => Error::unavailable(self.what(), error),
            (Some(code @ 400..500), _) => Error::Invalid {
                what: format!(
                    "{} refuses to {}: {code}, {}",
                    self.location,
                    self.what(),
                    code_of(&text)
                ),
            },
            (None, Some(key)) if matches!(error, CloudError::NotFound { .. }) => {
                Error::NotFound { key: key.clone() }
            }
            (None, _)
                if matches!(
                    error,
                    CloudError::NotSupported { .. } | CloudError::NotImplemented { .. }
                ) =>
            {
                Error::Invalid { what: format!("{} cannot {}", self.location, self.what()) }
            }
            _ => Error::unavailable(self.what(), error),
        }
    }

    /// No answer came in time.
    pub(super) fn late(&self, elapsed: tokio::time::error::Elapsed) -> Error {
        Error::unavailable(self.what(), elapsed)
    }

    fn denied(&self, error: CloudError) -> Error {
        Error::Denied { what: self.what(), source: error.into() }
    }
}

fn taken(key: &ObjectKey) -> Error {
    Error::AlreadyExists { key: key.clone() }
}

/// Whether the crate has sent the request more than once: an earlier one may have been done.
pub(super) fn was_repeated(error: &CloudError) -> bool {
    chain(error).contains(" retries, max_retries")
}

/// Whether the range that was asked for lies behind the end of the object.
pub(super) fn is_behind_the_end(error: &CloudError) -> bool {
    let text = chain(error);
    // A server may also answer as if nothing were wrong; the crate then notices.
    status(&text) == Some(416) || text.contains("Wanted range starting at")
}

/// Whether some parts of an upload are not there any more: Azure forgets them when another upload to
/// the same name ends.
pub(super) fn parts_are_gone(error: &CloudError) -> bool {
    chain(error).contains("InvalidBlockList")
}

/// The texts of the error and all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once(STATUS_MARK)?;
    rest.get(..3)?.parse().ok()
}

/// The code that Azure and Google put into the body of an answer.
fn code_of(text: &str) -> &str {
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    code.map_or("without a reason", |(code, _)| code)
}
