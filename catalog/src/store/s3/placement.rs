//! What kind of object gets which storage class, tags, encryption and lock.
//!
//! Invariant: an object that is rewritten or removed in normal work is never locked, and never put
//! into a class that costs for days it will not see.

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{ObjectLockMode, ServerSideEncryption as Encryption, StorageClass};
use jiff::Timestamp;

use super::super::ObjectClass;
use super::config::{LockMode, S3Config, ServerSideEncryption, TYPE_TAG};

const SECONDS_OF_DAY: i64 = 86_400;

/// The settings of one object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placement {
    pub(super) storage_class: Option<StorageClass>,
    /// As in a query: `Type=wal&RetentionYears=7`.
    pub(super) tagging: Option<String>,
    pub(super) encryption: Option<Encryption>,
    pub(super) kms_key: Option<String>,
    pub(super) lock_mode: Option<ObjectLockMode>,
    pub(super) retain_until: Option<DateTime>,
}

impl Placement {
    /// The settings of an object of `class` that is written at `now`.
    pub(super) fn of(class: ObjectClass, config: &S3Config, now: Timestamp) -> Self {
        let storage_class = match class {
            ObjectClass::Passing => None,
            ObjectClass::Record | ObjectClass::Wal => config.storage_class.as_deref(),
            ObjectClass::Backup => {
                config.backup_storage_class.as_deref().or(config.storage_class.as_deref())
            }
        };
        let lock = config.lock.filter(|_| class != ObjectClass::Passing);
        Self {
            storage_class: storage_class.map(StorageClass::from),
            tagging: tagging(class, config),
            encryption: config.server_side_encryption.map(|encryption| match encryption {
                ServerSideEncryption::Aes256 => Encryption::Aes256,
                ServerSideEncryption::Kms => Encryption::AwsKms,
            }),
            kms_key: config.kms_key.clone(),
            lock_mode: lock.map(|lock| match lock.mode {
                LockMode::Governance => ObjectLockMode::Governance,
                LockMode::Compliance => ObjectLockMode::Compliance,
            }),
            retain_until: lock.map(|lock| {
                let days = i64::from(lock.days);
                DateTime::from_secs(now.as_second() + days * SECONDS_OF_DAY)
            }),
        }
    }
}

fn tagging(class: ObjectClass, config: &S3Config) -> Option<String> {
    let own = config.tags.as_ref();
    if own.is_some_and(|tags| tags.is_empty()) {
        return None;
    }
    let name = match class {
        ObjectClass::Passing => "passing",
        ObjectClass::Record => "record",
        ObjectClass::Wal => "wal",
        ObjectClass::Backup => "backup",
    };
    let mut text = format!("{TYPE_TAG}={name}");
    for (name, value) in own.into_iter().flatten() {
        text.push('&');
        escape(name, &mut text);
        text.push('=');
        escape(value, &mut text);
    }
    Some(text)
}

/// Writes `text` as it stands in a query: what is not unreserved becomes `%XX`.
fn escape(text: &str, escaped: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::config::ObjectLock;
    use super::*;

    fn config() -> S3Config {
        S3Config {
            storage_class: Some("STANDARD_IA".into()),
            backup_storage_class: Some("GLACIER_IR".into()),
            tags: Some(BTreeMap::from([("Retention Years".into(), "7+".into())])),
            lock: Some(ObjectLock { mode: LockMode::Compliance, days: 2 }),
            ..S3Config::default()
        }
    }

    #[test]
    fn what_passes_is_neither_locked_nor_in_a_class_of_its_own() {
        let placed = Placement::of(ObjectClass::Passing, &config(), Timestamp::UNIX_EPOCH);
        assert_eq!(
            (placed.storage_class, placed.lock_mode, placed.retain_until),
            (None, None, None)
        );
        assert_eq!(placed.tagging.unwrap(), "Type=passing&Retention%20Years=7%2B");
    }

    #[test]
    fn a_backup_has_its_own_class_and_everything_that_stays_is_locked() {
        let placed = |class| Placement::of(class, &config(), Timestamp::UNIX_EPOCH);
        assert_eq!(placed(ObjectClass::Backup).storage_class, Some(StorageClass::GlacierIr));
        for class in [ObjectClass::Wal, ObjectClass::Record] {
            assert_eq!(placed(class).storage_class, Some(StorageClass::StandardIa));
        }
        for class in [ObjectClass::Wal, ObjectClass::Record, ObjectClass::Backup] {
            assert_eq!(placed(class).lock_mode, Some(ObjectLockMode::Compliance));
            assert_eq!(placed(class).retain_until, Some(DateTime::from_secs(172_800)));
        }
    }

    #[test]
    fn an_empty_table_means_no_tags_at_all() {
        let config = S3Config { tags: Some(BTreeMap::new()), ..S3Config::default() };
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(Placement::of(ObjectClass::Wal, &config, now).tagging, None);
        let config = S3Config::default();
        let placed = Placement::of(ObjectClass::Wal, &config, now);
        assert_eq!(placed.tagging.unwrap(), "Type=wal");
    }
}
