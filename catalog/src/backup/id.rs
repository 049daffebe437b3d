//! The id of a backup: `20261122T020000Z-full`. Ids sort by time.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::cluster_name::ClusterName;
use crate::{Error, Result};

const FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// How a backup relates to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupType {
    /// Stands alone.
    Full,
}

/// Names a backup within its cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupId {
    at: Timestamp,
    kind: BackupType,
}

impl BackupId {
    /// The id for a backup that starts `now`, later than every one there is: a clock that went back
    /// must not sort a new backup before an old one.
    pub fn next(now: Timestamp, newest: Option<&Self>, kind: BackupType) -> Self {
        let second = |t: Timestamp| Timestamp::from_second(t.as_second()).unwrap_or(t);
        let after = newest.and_then(|id| id.at.checked_add(SignedDuration::from_secs(1)).ok());
        Self { at: after.map_or(second(now), |after| after.max(second(now))), kind }
    }

    /// Full, or resting on others.
    pub fn backup_type(&self) -> BackupType {
        self.kind
    }

    /// An identity for other catalogs, derived from the cluster and the id, so that a rebuilt catalog
    /// has the same rows.
    pub fn uuid(&self, repository: Uuid, cluster: &ClusterName) -> Uuid {
        Uuid::new_v5(&repository, format!("{cluster}/{self}").as_bytes())
    }
}

impl fmt::Display for BackupType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
        }
    }
}

impl FromStr for BackupType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "full" => Ok(Self::Full),
            _ => {
                Err(Error::Invalid { what: format!("backup type {text:?}: only full exists yet") })
            }
        }
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.at.strftime(FORMAT), self.kind)
    }
}

impl FromStr for BackupId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::Invalid { what: format!("{text:?} is not the id of a backup") };
        let (at, kind) = text.split_once('-').ok_or_else(wrong)?;
        let civil = jiff::civil::DateTime::strptime(FORMAT, at).map_err(|_| wrong())?;
        let at = civil.to_zoned(TimeZone::UTC).map_err(|_| wrong())?.timestamp();
        let id = Self { at, kind: kind.parse()? };
        // One spelling each: an id is a key component.
        if id.to_string() == text { Ok(id) } else { Err(wrong()) }
    }
}

impl Serialize for BackupId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_even_when_the_clock_goes_back() {
        let now: Timestamp = "2026-11-22T02:00:00.9Z".parse().unwrap();
        let first = BackupId::next(now, None, BackupType::Full);
        assert_eq!(first.to_string(), "20261122T020000Z-full");
        let same_second = BackupId::next(now, Some(&first), BackupType::Full);
        assert_eq!(same_second.to_string(), "20261122T020001Z-full");
        let back = BackupId::next(
            now - SignedDuration::from_hours(1),
            Some(&same_second),
            BackupType::Full,
        );
        assert!(back > same_second && back.to_string() > same_second.to_string());
    }

    #[test]
    fn an_id_has_one_spelling() {
        assert!("20261122T020000Z-full".parse::<BackupId>().is_ok());
        for text in
            ["", "20261122T020000Z", "20261322T020000Z-full", "20261122T020000Z-half", "../x-full"]
        {
            assert!(text.parse::<BackupId>().is_err(), "{text}");
        }
    }
}
