//! From an address to a store with everything around it: the one place where decorators are composed.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use super::doctor::{Finding, Verdict};
use super::{
    AzureConfig, CloudStore, GoogleConfig, Limit, LimitConfig, LocalStore, Retry, S3Config,
    S3Store, Store, Unconditional,
};
use crate::{Result, SystemClock};

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreLocation {
    /// A directory.
    Directory(PathBuf),
    /// A prefix in a bucket of S3, or of what speaks its protocol.
    S3(S3Config),
    /// A prefix in a container of Azure Blob Storage.
    Azure(AzureConfig),
    /// A prefix in a bucket of Google Cloud Storage.
    Google(GoogleConfig),
}

/// Whether a store that is not there is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMissing {
    /// A directory is made; a bucket never is.
    Create,
    /// It is an error.
    Fail,
}

/// What is said of the use of a store, besides where it is.
#[derive(Clone, Debug, Default)]
pub struct StoreUse {
    /// How fast it may be used.
    pub limit: LimitConfig,
    /// Whether it keeps conditions.
    pub conditional_put: ConditionalPut,
}

/// Whether a store refuses to create a name that is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConditionalPut {
    /// It must; whoever writes finds out first.
    #[default]
    Required,
    /// It is known not to. A name is looked up before it is created, and one pgkeep alone may write.
    Absent,
}

impl ConditionalPut {
    /// What of the doctor's `findings` weighs otherwise, since the operator knows about it.
    pub fn judge(self, findings: &mut [Finding]) {
        let found = findings.iter_mut().find(|finding| finding.name == "conditional put");
        let (Self::Absent, Some(finding)) = (self, found) else { return };
        if finding.verdict == Verdict::Bad {
            finding.verdict = Verdict::Warning;
            finding.advice = "make sure that a single pgkeep writes: the configuration says so";
        } else if finding.verdict == Verdict::Good {
            finding.verdict = Verdict::Warning;
            finding.meaning = "repository.conditional_put = \"absent\" gives that away";
            finding.advice = "take it out of the configuration";
        }
    }
}

/// A store with everything around it, and what its kind can do besides.
#[derive(Clone, Debug)]
pub struct OpenStore {
    /// What everybody uses.
    pub store: Arc<dyn Store>,
    /// The bucket below, for its upkeep and for questions about it; none if it is no bucket of S3.
    pub s3: Option<S3Store>,
}

/// Opens the store at `location`, to be used without limit and with conditions.
pub async fn open(location: &StoreLocation, if_missing: IfMissing) -> Result<Arc<dyn Store>> {
    connect(location, if_missing, &StoreUse::default()).await.map(|open| open.store)
}

/// Opens the store at `location`, for who may also ask what only its kind can do.
pub async fn connect(
    location: &StoreLocation,
    if_missing: IfMissing,
    used: &StoreUse,
) -> Result<OpenStore> {
    let (store, s3) = match location {
        StoreLocation::Directory(path) => {
            let store = match if_missing {
                IfMissing::Create => LocalStore::create(path)?,
                IfMissing::Fail => LocalStore::open(path)?,
            };
            (around(store, used), None)
        }
        StoreLocation::S3(config) => {
            let s3 = S3Store::connect(config.clone()).await?;
            (around(s3.clone(), used), Some(s3))
        }
        StoreLocation::Azure(config) => (around(CloudStore::azure(config)?, used), None),
        StoreLocation::Google(config) => (around(CloudStore::google(config)?, used), None),
    };
    Ok(OpenStore { store, s3 })
}

/// Puts around `store` what its use wants. The limit is outermost: a deadline of [`Retry`] is for the
/// store's answer and not for waiting one's turn.
fn around(store: impl Store + 'static, used: &StoreUse) -> Arc<dyn Store> {
    let store: Arc<dyn Store> = match used.conditional_put {
        ConditionalPut::Required => Arc::new(Retry::new(store)),
        ConditionalPut::Absent => Arc::new(Retry::new(Unconditional::new(store))),
    };
    if used.limit.is_on() {
        Arc::new(Limit::new(store, used.limit.clone(), Arc::new(SystemClock)))
    } else {
        store
    }
}

#[cfg(test)]
mod tests {
    use super::super::doctor::{StoreFacts, examine};
    use super::super::{Fault, Faulty, MemoryStore};
    use super::*;

    #[tokio::test]
    async fn what_the_operator_knows_weighs_otherwise() {
        for (fault, expected) in [
            (Some(Fault::IgnoreCondition), [Verdict::Bad, Verdict::Warning]),
            (None, [Verdict::Good, Verdict::Warning]),
        ] {
            for (said, expected) in
                [ConditionalPut::Required, ConditionalPut::Absent].into_iter().zip(expected)
            {
                let store = match fault {
                    Some(fault) => Faulty::always(MemoryStore::new(), fault),
                    None => Faulty::scripted(MemoryStore::new(), []),
                };
                let mut findings = examine(&store, &StoreFacts::default()).await;
                said.judge(&mut findings);
                let found = findings.iter().find(|finding| finding.name == "conditional put");
                assert_eq!(found.unwrap().verdict, expected, "{fault:?} {said:?}");
            }
        }
    }
}
