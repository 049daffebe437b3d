//! What a verification has found so far; also what it needs to go on where it was stopped.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::cluster_tally::ClusterTally;

const FORMAT: u32 = 1;

/// A state that is older was left behind too long ago: what it calls sound may have changed.
const AGE_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The object, or where one should be.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
    /// What cannot be restored because of it, in words.
    pub lost: String,
}

/// How many objects were looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Objects.
    pub checked: u64,
    /// Their stored bytes, whether all of them were read or only the ends.
    pub bytes: u64,
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How much was looked at.
    #[serde(flatten)]
    pub totals: Totals,
    /// Objects that are damaged, or do not belong where they are.
    pub damaged: Vec<Finding>,
    /// Objects that should be there and are not.
    pub missing: Vec<Finding>,
    /// What could not be read, so that nothing is known of it.
    pub unchecked: Vec<Finding>,
}

/// What is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// Every byte, not only the ends of objects.
    pub full: bool,
    /// One cluster; none for all.
    pub cluster: Option<String>,
}

/// A verification on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyState {
    format: u32,
    repository: Uuid,
    scope: Scope,
    begun_at: Timestamp,
    /// The last object that was looked at.
    pub(super) after: Option<String>,
    pub(super) report: Report,
    pub(super) clusters: BTreeMap<String, ClusterTally>,
}

impl Report {
    /// Whether everything was looked at and is sound.
    pub const fn is_ok(&self) -> bool {
        !self.is_damaged() && self.unchecked.is_empty()
    }

    /// Whether something is damaged or missing.
    pub const fn is_damaged(&self) -> bool {
        !self.damaged.is_empty() || !self.missing.is_empty()
    }

    pub(super) fn add_missing(&mut self, finding: Finding) {
        if !self.missing.iter().any(|known| known.key == finding.key) {
            self.missing.push(finding);
        }
    }

    pub(super) fn add_damaged(&mut self, finding: Finding) {
        if !self.damaged.iter().any(|known| known.key == finding.key) {
            self.damaged.push(finding);
        }
    }
}

impl VerifyState {
    /// At the beginning.
    pub fn new(repository: Uuid, scope: Scope, now: Timestamp) -> Self {
        Self {
            format: FORMAT,
            repository,
            scope,
            begun_at: now,
            after: None,
            report: Report::default(),
            clusters: BTreeMap::new(),
        }
    }

    /// Whether a verification of `scope` may go on from here.
    pub fn continues(&self, repository: Uuid, scope: &Scope, now: Timestamp) -> bool {
        let age = now.duration_since(self.begun_at);
        self.format == FORMAT
            && self.repository == repository
            && self.scope == *scope
            && SignedDuration::ZERO <= age
            && age < AGE_MAX
    }

    /// What is verified.
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// How much has been looked at.
    pub const fn totals(&self) -> Totals {
        self.report.totals
    }

    /// The last object that was looked at.
    pub fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }
}
