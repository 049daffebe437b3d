//! What can go wrong with a repository and what is stored in it.

use std::io;

use crate::store::doctor::Conditions;
use crate::store::{ObjectKey, Refusal};

/// Result of working with a repository.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The cause of a failure, as the store or the operating system gave it.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A fact that an operator or a caller can act on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store answered, and the answer is that there is no such object.
    #[error("{key} does not exist")]
    NotFound {
        /// What was asked for.
        key: ObjectKey,
    },
    /// A create-only write found an object under its name.
    #[error("{key} already exists")]
    AlreadyExists {
        /// The name that is taken.
        key: ObjectKey,
    },
    /// Permissions do not allow the operation.
    #[error("not permitted to {what}")]
    Denied {
        /// What was tried, as in "write wal/00000001/…".
        what: String,
        /// Why it failed.
        source: Cause,
    },
    /// A store on a network refuses, for a reason that trying again does not change.
    #[error("failed to {what}: {refusal}")]
    Refused {
        /// What was tried.
        what: String,
        /// The reason.
        refusal: Refusal,
        /// What the store said.
        source: Cause,
    },
    /// No space or no quota is left.
    #[error("no space left to {what}")]
    Full {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: Cause,
    },
    /// The store did not do it, or did not say whether it did.
    #[error("failed to {what}")]
    Unavailable {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: Cause,
    },
    /// An object whose bytes are not those that were written.
    #[error("{key} is damaged: {what}")]
    Damaged {
        /// The object.
        key: ObjectKey,
        /// What contradicts what.
        what: String,
    },
    /// A sound object that belongs elsewhere: another name, kind, cluster or repository.
    #[error("{key} holds an object that does not belong there: {what}")]
    Foreign {
        /// Where it was found.
        key: ObjectKey,
        /// What it says of itself.
        what: String,
    },
    /// The name is taken by an object with other content.
    #[error("{key} is already stored with other content: {what}")]
    Conflict {
        /// The name.
        key: ObjectKey,
        /// How the two differ.
        what: String,
    },
    /// A younger writer of the same kind has claimed the cluster.
    #[error("another writer has taken over: it claimed epoch {newer}, ours is {own}")]
    Superseded {
        /// Our epoch.
        own: u64,
        /// A higher one that was claimed since.
        newer: u64,
    },
    /// An object that is not encrypted, in a repository that is.
    #[error("{key} is not encrypted, and everything in this repository must be")]
    Unencrypted {
        /// The object.
        key: ObjectKey,
    },
    /// Something that is encrypted, and no key to open it.
    #[error("{what} is encrypted, and the configuration names no key")]
    NoKey {
        /// What cannot be opened.
        what: String,
    },
    /// A key that does not open the repository.
    #[error("{secret} does not open the repository at {location}")]
    WrongKey {
        /// Where the key came from, as in `file:/etc/pgkeep/key`; never the key itself.
        secret: String,
        /// The store.
        location: String,
    },
    /// A key that opens what was sealed before it was revoked, and nothing since.
    #[error("{secret} fits only {slot} at {location}, and was revoked since")]
    RevokedKey {
        /// Where the key came from; never the key itself.
        secret: String,
        /// The slot that it opens, with its epoch.
        slot: String,
        /// The store.
        location: String,
    },
    /// A step that would leave a repository without a safe way in. Nothing was changed by it.
    #[error("{what}")]
    KeyRefused {
        /// What stands against it.
        what: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// An object of a key epoch whose key is not there.
    #[error("{key} was sealed in key epoch {epoch}, whose key is not in this repository")]
    KeyEpochMissing {
        /// The object.
        key: ObjectKey,
        /// The epoch.
        epoch: u32,
    },
    /// A secret that cannot be had or must not be used as it is.
    #[error("secret {secret} cannot be used: {what}")]
    Secret {
        /// Where it should come from; never the secret itself.
        secret: String,
        /// What is wrong with it.
        what: String,
    },
    /// A format that this version does not write, or does not know at all.
    #[error("{location} has format {format}; this version has format {supported}")]
    OtherFormat {
        /// What was read.
        location: String,
        /// Its format.
        format: u32,
        /// The format of this version.
        supported: u32,
    },
    /// A store without a repository in it.
    #[error("there is no repository at {location}")]
    NoRepository {
        /// The store.
        location: String,
    },
    /// A bucket or container that is not there.
    #[error("there is no bucket or container at {location}")]
    NoBucket {
        /// The store.
        location: String,
    },
    /// A store that overwrites a name that it should refuse, always or when writers meet.
    #[error("the store at {location} ignores conditions: {seen}")]
    ConditionsIgnored {
        /// The store.
        location: String,
        /// What it did.
        seen: Conditions,
    },
    /// A repository that does not have the cluster.
    #[error("the repository at {location} has no cluster named {name}")]
    UnknownCluster {
        /// The name that was asked for.
        name: String,
        /// The store.
        location: String,
    },
    /// A name or value that the repository cannot take.
    #[error("{what}")]
    Invalid {
        /// What is wrong with which value.
        what: String,
    },
}

impl Error {
    /// Sorts a failure of the operating system by what can be done about it.
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        let what = what.into();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { what, source: source.into() }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { what, source: source.into() }
            }
            _ => Self::Unavailable { what, source: source.into() },
        }
    }

    /// A store that did not do what it was asked.
    pub fn unavailable(what: impl Into<String>, source: impl Into<Cause>) -> Self {
        Self::Unavailable { what: what.into(), source: source.into() }
    }

    /// An object whose bytes are not those that were written.
    pub fn damaged(key: &ObjectKey, what: impl Into<String>) -> Self {
        Self::Damaged { key: key.clone(), what: what.into() }
    }

    /// Whether the same request may succeed later. The only place that decides this.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Unavailable { .. })
    }

    /// Whether an operator can mend it from outside while a daemon waits: rights, credentials, a
    /// bucket that is gone. Asking again at once is of no use.
    pub const fn is_curable(&self) -> bool {
        match self {
            Self::Denied { .. } => true,
            Self::Refused { refusal, .. } => refusal.is_curable(),
            _ => false,
        }
    }

    /// Whether the store said that the object does not exist.
    pub const fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether a create-only write lost to an object that was there.
    pub const fn is_already_exists(&self) -> bool {
        matches!(self, Self::AlreadyExists { .. })
    }

    /// What an operator may do about it.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Denied { .. } => Some(
                "check what the user that runs pgkeep may do in the directory, or its credentials in \
                 the bucket (docs/stores.md)",
            ),
            Self::Refused { refusal, .. } => Some(refusal.hint()),
            Self::Full { .. } => Some("free space or raise the quota"),
            Self::Damaged { .. } => {
                Some("look at the disk below, do not delete the object, and take a new full backup")
            }
            Self::Foreign { .. } => Some(
                "the object was copied or moved; each repository and cluster needs its own prefix",
            ),
            Self::Conflict { .. } => Some(
                "another server writes to the same cluster of the repository; stop one of them",
            ),
            Self::Superseded { .. } => Some(
                "only one `pgkeep run` may archive a cluster; if the other one should not, stop it and \
                 start this one again",
            ),
            Self::OtherFormat { format, supported, .. } if *format > *supported => {
                Some("install the version that wrote it, or a later one")
            }
            Self::OtherFormat { .. } => {
                Some("it was written before the first release; begin a new repository")
            }
            Self::Unencrypted { .. } => Some(
                "somebody put it there who has no key; do not trust it, and find out who can write there",
            ),
            Self::NoKey { .. } => {
                Some("name a key in repository.encryption_key; the recovery key will do")
            }
            Self::WrongKey { .. } => {
                Some("check repository.encryption_key; `pgkeep key list` names the slots there are")
            }
            Self::RevokedKey { .. } => {
                Some("use a secret of the newest key epoch; `pgkeep key list` names its slots")
            }
            Self::KeyRefused { hint, .. } => Some(hint),
            Self::Secret { .. } => Some(
                "a secret file belongs to the user that runs pgkeep, with mode 0600; \
                 docs/keys.md says what a secret may be",
            ),
            Self::KeyEpochMissing { .. } => {
                Some("`pgkeep key check` tells which key epochs there are and which can be opened")
            }
            Self::NoRepository { .. } => {
                Some("check repository.url, or create the repository with `pgkeep init`")
            }
            Self::NoBucket { .. } => Some(
                "check repository.url; pgkeep makes no buckets, so make it where it is missing",
            ),
            Self::ConditionsIgnored { .. } => Some(
                "two writers would overwrite each other unnoticed: use another store; if a single \
                 pgkeep writes for sure, say repository.conditional_put = \"absent\"",
            ),
            Self::UnknownCluster { .. } => {
                Some("check the name, or register the cluster with `pgkeep init`")
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(kind: io::ErrorKind) -> Error {
        Error::io("write wal/1", kind.into())
    }

    #[test]
    fn failures_of_the_system_are_sorted_by_what_helps() {
        assert!(matches!(sorted(io::ErrorKind::StorageFull), Error::Full { .. }));
        assert!(matches!(sorted(io::ErrorKind::QuotaExceeded), Error::Full { .. }));
        assert!(matches!(sorted(io::ErrorKind::PermissionDenied), Error::Denied { .. }));
        assert!(matches!(sorted(io::ErrorKind::TimedOut), Error::Unavailable { .. }));
    }

    #[test]
    fn only_passing_trouble_is_retried() {
        assert!(sorted(io::ErrorKind::StorageFull).is_retryable());
        assert!(sorted(io::ErrorKind::TimedOut).is_retryable());
        assert!(!sorted(io::ErrorKind::PermissionDenied).is_retryable());
        let key: ObjectKey = "repository".parse().unwrap();
        assert!(!Error::NotFound { key: key.clone() }.is_retryable());
        assert!(!Error::damaged(&key, "crc32 differs").is_retryable());
    }

    #[test]
    fn message_says_what_failed_and_leaves_the_cause_to_the_source() {
        let error = sorted(io::ErrorKind::StorageFull);
        assert_eq!(error.to_string(), "no space left to write wal/1");
        assert!(std::error::Error::source(&error).is_some());
    }
}
