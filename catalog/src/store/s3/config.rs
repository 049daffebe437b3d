//! Where a bucket is, and how objects are put there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::super::ObjectKey;

/// S3's own bounds: tags of an object, characters of a tag's name and value.
const TAGS_MAX: usize = 10;
const TAG_NAME_MAX: usize = 128;
const TAG_VALUE_MAX: usize = 256;

/// The tag that is ours.
pub(super) const TYPE_TAG: &str = "Type";

/// A hundred years: more is a slip of the pen that a compliance lock would make permanent.
const LOCK_DAYS_MAX: u32 = 36_500;

/// Classes whose objects cannot be read without being thawed.
const FROZEN_CLASSES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// A prefix in a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// What all keys begin with; empty or without a slash at its ends.
    pub prefix: String,
    /// Address of the service, when it is not Amazon's.
    pub endpoint: Option<String>,
    /// Region of the bucket; none: from the environment, the profile or the machine.
    pub region: Option<String>,
    /// Whether the bucket stands in the path of a request. None: where `endpoint` is set.
    pub force_path_style: Option<bool>,
    /// Certificates to trust besides the system's, as PEM.
    pub ca_file: Option<PathBuf>,
    /// Storage class of records and WAL.
    pub storage_class: Option<String>,
    /// Storage class of packs of backups.
    pub backup_storage_class: Option<String>,
    /// Tags of every object besides `Type`. An empty table: no tags at all, not even that.
    pub tags: Option<BTreeMap<String, String>>,
    /// How the store encrypts what is already sealed.
    pub server_side_encryption: Option<ServerSideEncryption>,
    /// The key for `aws:kms`.
    pub kms_key: Option<String>,
    /// Retention of everything that is never removed in normal work.
    pub lock: Option<ObjectLock>,
    /// How bytes are checked on their way.
    pub checksum: ChecksumMode,
}

/// How the store encrypts objects by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum ServerSideEncryption {
    /// With keys of the store.
    #[serde(rename = "AES256")]
    Aes256,
    /// With a key of AWS KMS.
    #[serde(rename = "aws:kms")]
    Kms,
}

/// Retention of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectLock {
    /// Who may lift it.
    pub mode: LockMode,
    /// Days from the moment of writing.
    pub days: u32,
}

/// Who may lift a retention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    /// Whoever has the permission for it.
    Governance,
    /// Nobody, not even the owner of the account.
    Compliance,
}

/// How bytes are checked on their way to the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChecksumMode {
    /// A CRC-32 is sent, and compared where the store returns one.
    #[default]
    Auto,
    /// As `Auto`, and a store that returns none has not stored the object.
    Crc32,
    /// None is sent: for stores that do not take it.
    None,
}

impl S3Config {
    /// Everything that is wrong with these settings, by the names they have in `[repository]`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.place_problem());
        problems.extend(self.endpoint_problem());
        problems.extend(class_problem("storage_class", self.storage_class.as_deref()));
        problems
            .extend(class_problem("backup_storage_class", self.backup_storage_class.as_deref()));
        if self.storage_class.as_deref().is_some_and(|class| FROZEN_CLASSES.contains(&class)) {
            problems.push(
                "repository.storage_class holds what must be readable at once; an archive class is \
                 only for repository.backup_storage_class"
                    .to_owned(),
            );
        }
        problems.extend(self.tags.iter().flat_map(tag_problems));
        match (self.server_side_encryption, &self.kms_key) {
            (Some(ServerSideEncryption::Kms), _) | (_, None) => {}
            _ => problems.push(
                "repository.kms_key is only for repository.server_side_encryption = \"aws:kms\""
                    .to_owned(),
            ),
        }
        if let Some(lock) = self.lock {
            if !(1..=LOCK_DAYS_MAX).contains(&lock.days) {
                problems
                    .push(format!("repository.object_lock_days is not in 1 to {LOCK_DAYS_MAX}"));
            }
            if self.checksum == ChecksumMode::None {
                problems.push(
                    "repository.object_lock needs a checksum with every object, and \
                     repository.checksum is \"none\""
                        .to_owned(),
                );
            }
        }
        problems
    }

    fn place_problem(&self) -> Option<String> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if !self.bucket.bytes().all(is_plain) {
            return Some(format!("repository.url: {:?} is not the name of a bucket", self.bucket));
        }
        let is_key =
            self.prefix.is_empty() || ObjectKey::check_prefix(&format!("{}/", self.prefix)).is_ok();
        (!is_key).then(|| {
            format!(
                "repository.url: the prefix {:?} has more than letters, digits and . _ - between \
                 its slashes",
                self.prefix
            )
        })
    }

    fn endpoint_problem(&self) -> Option<String> {
        let endpoint = self.endpoint.as_deref()?;
        let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        let Some(rest) = rest.filter(|rest| !rest.trim_matches('/').is_empty()) else {
            return Some("repository.endpoint is not http://HOST or https://HOST".to_owned());
        };
        // The value is not shown: it may hold a password.
        rest.contains('@').then(|| {
            "repository.endpoint holds credentials; give them in the environment or in a profile"
                .to_owned()
        })
    }
}

fn class_problem(field: &str, class: Option<&str>) -> Option<String> {
    let class = class?;
    let is_class = !class.is_empty()
        && class.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    (!is_class)
        .then(|| format!("repository.{field} {class:?} is no storage class, as STANDARD_IA is"))
}

fn tag_problems(tags: &BTreeMap<String, String>) -> Vec<String> {
    let mut problems = Vec::new();
    if tags.len() + 1 > TAGS_MAX {
        problems.push(format!("repository.tags has more than {} tags", TAGS_MAX - 1));
    }
    for (name, value) in tags {
        if name == TYPE_TAG {
            problems.push("repository.tags: Type is set by pgkeep".to_owned());
        }
        let is_short = (1..=TAG_NAME_MAX).contains(&name.chars().count())
            && value.chars().count() <= TAG_VALUE_MAX;
        let is_plain = |c: char| c.is_alphanumeric() || " +-=._:/@".contains(c);
        if !is_short || !name.chars().chain(value.chars()).all(is_plain) {
            problems.push(format!("repository.tags: {name:?} is not a tag that S3 takes"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> S3Config {
        S3Config { bucket: "keep".into(), prefix: "a/b".into(), ..S3Config::default() }
    }

    fn problem(config: &S3Config) -> String {
        config.problems().join("; ")
    }

    #[test]
    fn the_defaults_have_no_problem() {
        assert_eq!(problem(&good()), "");
    }

    #[test]
    fn a_lock_needs_a_checksum() {
        let lock = Some(ObjectLock { mode: LockMode::Governance, days: 7 });
        let locked = S3Config { lock, ..good() };
        assert_eq!(problem(&locked), "");
        let unchecked = S3Config { checksum: ChecksumMode::None, ..locked };
        assert!(problem(&unchecked).contains("object_lock"));
    }

    #[test]
    fn what_must_be_read_at_once_is_not_frozen() {
        let frozen = Some("DEEP_ARCHIVE".to_owned());
        let config = S3Config { storage_class: frozen.clone(), ..good() };
        assert!(problem(&config).contains("storage_class"));
        let config = S3Config { backup_storage_class: frozen, ..good() };
        assert_eq!(problem(&config), "");
    }

    #[test]
    fn a_password_in_the_endpoint_is_refused_and_not_shown() {
        let endpoint = Some("https://me:geheim@host".to_owned());
        let problem = problem(&S3Config { endpoint, ..good() });
        assert!(problem.contains("endpoint") && !problem.contains("geheim"), "{problem}");
    }

    #[test]
    fn our_own_tag_and_odd_tags_are_refused() {
        for (name, value) in [("Type", "x"), ("", "x"), ("a", "b&c"), ("a", "\n")] {
            let tags = Some(BTreeMap::from([(name.to_owned(), value.to_owned())]));
            assert!(problem(&S3Config { tags, ..good() }).contains("tags"), "{name}={value}");
        }
    }

    #[test]
    fn a_prefix_is_made_of_what_keys_are_made_of() {
        for prefix in ["a b", "../a", "ä"] {
            assert!(problem(&S3Config { prefix: prefix.into(), ..good() }).contains("prefix"));
        }
    }
}
