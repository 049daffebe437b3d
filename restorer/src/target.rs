//! What a restore is asked for: a moment, a position, a name, or the end of what there is.
//!
//! Written `time:…`, `lsn:…`, `name:…`, or bare where only one reading is possible. Targets are
//! inclusive, as Postgres' are; see `recovery_target_*` in its documentation.
//!
//! Invariant: what is ambiguous is refused with its readings and never guessed.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pgkeep_proto::{Lsn, TimestampTz};
use serde::{Serialize, Serializer};

use crate::moment::{self, MomentError};

/// `MAXFNAMELEN` of Postgres less one: the longest name of a restore point, in bytes.
const NAME_LENGTH_MAX: usize = 63;

/// Where a restore shall end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecoveryTarget {
    /// The last record that can be reached.
    Latest,
    /// Before the first commit or abort, in the order of WAL, that is later.
    Time {
        /// The moment.
        at: TimestampTz,
        /// How it was written.
        asked: String,
    },
    /// After the first record that begins there or behind.
    Lsn(Lsn),
    /// After the restore point of that name.
    Name(String),
}

/// Why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// More than one reading.
    #[error("target {text:?} may be meant as {readings}")]
    TwoReadings {
        /// What was written.
        text: String,
        /// The readings with their prefixes, as in "`xid:7` or `name:7`".
        readings: String,
    },
    /// A kind of target that exists in Postgres and not here.
    #[error("targets of the form {form} are not supported yet")]
    NotYet {
        /// The form, as in "xid:".
        form: &'static str,
    },
    /// Not a position.
    #[error("target {text:?} is not a log sequence number such as 0/16B3740")]
    Lsn {
        /// What was written.
        text: String,
    },
    /// Not a name that a restore point can have.
    #[error("{text:?} is not a name of 1 to {NAME_LENGTH_MAX} bytes")]
    Name {
        /// What was written.
        text: String,
    },
    /// Not a moment.
    #[error(transparent)]
    Moment(#[from] MomentError),
}

impl TargetError {
    /// What an operator may do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::TwoReadings { .. } => Some("write the prefix of the reading that is meant"),
            Self::NotYet { .. } => Some("use time:, lsn:, name: or latest"),
            Self::Lsn { .. } => Some("write it as Postgres does, in two parts: lsn:0/16B3740"),
            Self::Name { .. } => None,
            Self::Moment(error) => error.hint(),
        }
    }
}

impl RecoveryTarget {
    /// Reads a target. Times without a zone are in `time_zone`, if there is one; `now` is what
    /// `now` means.
    pub fn parse(
        text: &str,
        time_zone: Option<&TimeZone>,
        now: Timestamp,
    ) -> Result<Self, TargetError> {
        let text = text.trim();
        match text.split_once(':') {
            Some(("time", rest)) => Self::time(rest.trim(), time_zone, now),
            Some(("lsn", rest)) => Self::lsn(rest.trim()),
            Some(("name", rest)) => Self::name(rest),
            Some(("xid", _)) => Err(TargetError::NotYet { form: "xid:" }),
            _ => Self::parse_bare(text, time_zone, now),
        }
    }

    /// A bare word is a name only if it can be nothing else; what begins with a digit is never one,
    /// so that a mistyped time is not looked for among the names.
    fn parse_bare(
        text: &str,
        time_zone: Option<&TimeZone>,
        now: Timestamp,
    ) -> Result<Self, TargetError> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if text == "immediate" {
            return Err(TargetError::NotYet { form: "immediate" });
        }
        if let Ok(lsn) = text.parse() {
            return Ok(Self::Lsn(lsn));
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            let readings = format!("`xid:{text}` or `name:{text}`");
            return Err(TargetError::TwoReadings { text: text.to_owned(), readings });
        }
        if moment::is_relative(text) || text.starts_with(|c: char| c.is_ascii_digit()) {
            return Self::time(text, time_zone, now);
        }
        Self::name(text)
    }

    fn time(text: &str, time_zone: Option<&TimeZone>, now: Timestamp) -> Result<Self, TargetError> {
        let at = TimestampTz::from_timestamp(moment::parse(text, time_zone, now)?);
        Ok(Self::Time { at, asked: text.to_owned() })
    }

    fn lsn(text: &str) -> Result<Self, TargetError> {
        text.parse().map(Self::Lsn).map_err(|_| TargetError::Lsn { text: text.to_owned() })
    }

    fn name(text: &str) -> Result<Self, TargetError> {
        if (1..=NAME_LENGTH_MAX).contains(&text.len()) {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(TargetError::Name { text: text.to_owned() })
        }
    }
}

impl fmt::Display for RecoveryTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Time { at, .. } => write!(f, "time:{at}"),
            Self::Lsn(lsn) => write!(f, "lsn:{lsn}"),
            Self::Name(name) => write!(f, "name:{name}"),
        }
    }
}

impl Serialize for RecoveryTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RecoveryTarget, TargetError> {
        RecoveryTarget::parse(text, None, "2026-11-22T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_bare_value_with_one_reading_is_taken() {
        assert_eq!(parse("latest").unwrap(), RecoveryTarget::Latest);
        let lsn = RecoveryTarget::Lsn("A0/16B3740".parse().unwrap());
        assert_eq!(parse("A0/16B3740").unwrap(), lsn);
        assert_eq!(parse("lsn:A0/16B3740").unwrap(), lsn);
        assert_eq!(parse("before_v2").unwrap(), RecoveryTarget::Name("before_v2".to_owned()));
        assert_eq!(parse("name:latest").unwrap(), RecoveryTarget::Name("latest".to_owned()));
        assert_eq!(parse("name:time:x").unwrap(), RecoveryTarget::Name("time:x".to_owned()));
        assert_eq!(parse("nowhere").unwrap(), RecoveryTarget::Name("nowhere".to_owned()));
        for text in ["2026-11-22 11:17:33.9+00", "time:2026-11-22T11:17:33.900Z"] {
            assert_eq!(parse(text).unwrap().to_string(), "time:2026-11-22T11:17:33.900000Z");
        }
        assert_eq!(parse("now - 10min").unwrap().to_string(), "time:2026-11-22T11:50:00.000000Z");
    }

    #[test]
    fn a_bare_number_is_refused_with_both_readings() {
        let error = parse("1234").unwrap_err();
        assert!(error.to_string().contains("`xid:1234` or `name:1234`"), "{error}");
    }

    #[test]
    fn a_mistyped_time_is_not_taken_for_a_name() {
        for text in ["2026-13-22 11:00:00Z", "11:00", "2026-11-22", "2026-11-22 11:00"] {
            assert!(matches!(parse(text), Err(TargetError::Moment(_))), "{text}");
        }
    }

    #[test]
    fn what_does_not_exist_yet_is_refused_by_name() {
        assert_eq!(parse("xid:7"), Err(TargetError::NotYet { form: "xid:" }));
        assert_eq!(parse("immediate"), Err(TargetError::NotYet { form: "immediate" }));
        assert!(parse("").is_err() && parse("name:").is_err() && parse("lsn:7").is_err());
        assert!(parse(&"x".repeat(64)).is_err());
    }
}
