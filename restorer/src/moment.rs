//! Times as people and Postgres write them.
//!
//! ISO 8601 and RFC 3339, Postgres' own output (`2026-11-22 11:17:33.9+00`), a zone in brackets
//! (`2026-11-22T12:17[Europe/Berlin]`), `now`, `now - 10min`.
//!
//! Invariant: a local time that no clock or two clocks show is refused, with both readings.

use jiff::civil::DateTime;
use jiff::fmt::temporal::{DateTimeParser, Pieces};
use jiff::tz::{AmbiguousOffset, Disambiguation, Offset, OffsetConflict, TimeZone};
use jiff::{Span, Timestamp};

/// Offset and zone must agree, and neither is chosen for the caller.
static ZONED: DateTimeParser = DateTimeParser::new()
    .offset_conflict(OffsetConflict::Reject)
    .disambiguation(Disambiguation::Reject);

/// Why a text is no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MomentError {
    /// Nothing like a time.
    #[error("{text:?} is not a time: {why}")]
    NotATime {
        /// What was written.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody said where the clock hangs.
    #[error("time {text:?} has no time zone")]
    NoZone {
        /// What was written.
        text: String,
    },
    /// The clock was set forward over it.
    #[error("local time {text:?} does not exist; meant may be {first} or {second}")]
    Skipped {
        /// What was written.
        text: String,
        /// With the offset before the change.
        first: String,
        /// With the offset after the change.
        second: String,
    },
    /// The clock was set back over it.
    #[error("local time {text:?} exists twice: {first} and {second}")]
    Twice {
        /// What was written.
        text: String,
        /// The earlier one.
        first: String,
        /// The later one.
        second: String,
    },
}

impl MomentError {
    /// What an operator may do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotATime { .. } => {
                Some("write it as 2026-11-22T11:17:33Z; a restore point is written name:…")
            }
            Self::NoZone { .. } => Some("add Z or an offset such as +01:00, or use --time-zone"),
            Self::Skipped { .. } | Self::Twice { .. } => Some("write the offset that is meant"),
        }
    }
}

/// Whether `text` is relative to now, or tries to be.
pub(crate) fn is_relative(text: &str) -> bool {
    text.strip_prefix("now").is_some_and(|rest| {
        rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_whitespace() || "+-".contains(c))
    })
}

/// Reads a moment. What has no zone is in `time_zone`, if there is one.
pub(crate) fn parse(
    text: &str,
    time_zone: Option<&TimeZone>,
    now: Timestamp,
) -> Result<Timestamp, MomentError> {
    if is_relative(text) {
        return relative(text, time_zone, now);
    }
    // The server's log writes the zone as a word; of those words only this one is unmistakable.
    let written = text.strip_suffix(" UTC").map(|rest| format!("{rest}Z"));
    let written = written.as_deref().unwrap_or(text);
    let pieces = Pieces::parse(written).map_err(|error| not_a_time(text, &error))?;
    let Some(time) = pieces.time() else {
        return Err(MomentError::NotATime {
            text: text.to_owned(),
            why: "it has no time of day".to_owned(),
        });
    };
    let local = DateTime::from_parts(pieces.date(), time);
    let zone = pieces.to_time_zone().map_err(|error| not_a_time(text, &error))?;
    match (pieces.to_numeric_offset(), zone) {
        (Some(offset), None) => {
            offset.to_timestamp(local).map_err(|error| not_a_time(text, &error))
        }
        (Some(_), Some(_)) => {
            let zoned = ZONED.parse_zoned(written).map_err(|error| not_a_time(text, &error))?;
            Ok(zoned.timestamp())
        }
        (None, Some(zone)) => on_clock(text, local, &zone),
        (None, None) => match time_zone {
            Some(zone) => on_clock(text, local, zone),
            None => Err(MomentError::NoZone { text: text.to_owned() }),
        },
    }
}

/// `now`, or `now - SPAN`; a day is a day of the zone, which may have 23 or 25 hours.
fn relative(
    text: &str,
    time_zone: Option<&TimeZone>,
    now: Timestamp,
) -> Result<Timestamp, MomentError> {
    let rest = text.strip_prefix("now").unwrap_or_default().trim_start();
    if rest.is_empty() {
        return Ok(now);
    }
    let wrong = |why: &str| MomentError::NotATime { text: text.to_owned(), why: why.to_owned() };
    let span = rest.strip_prefix('-').ok_or_else(|| wrong("now may only be followed by - SPAN"))?;
    let span: Span = span.trim().parse().map_err(|error| not_a_time(text, &error))?;
    if span.is_negative() {
        return Err(wrong("the span is negative"));
    }
    let zone = time_zone.cloned().unwrap_or(TimeZone::UTC);
    let then = now.to_zoned(zone).checked_sub(span).map_err(|error| not_a_time(text, &error))?;
    Ok(then.timestamp())
}

/// The moment at which a clock in `zone` shows `local`.
fn on_clock(text: &str, local: DateTime, zone: &TimeZone) -> Result<Timestamp, MomentError> {
    let at = |offset: Offset| format!("{local}{}", offset_text(offset));
    let text = text.to_owned();
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => {
            offset.to_timestamp(local).map_err(|error| not_a_time(&text, &error))
        }
        AmbiguousOffset::Gap { before, after } => {
            Err(MomentError::Skipped { text, first: at(before), second: at(after) })
        }
        AmbiguousOffset::Fold { before, after } => {
            Err(MomentError::Twice { text, first: at(before), second: at(after) })
        }
    }
}

/// The offset so that it can be typed in again: `+01:00`, with seconds where a zone had them.
fn offset_text(offset: Offset) -> String {
    let seconds = offset.seconds();
    let (sign, size) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs());
    let text = format!("{sign}{:02}:{:02}", size / 3600, size / 60 % 60);
    if size % 60 == 0 { text } else { format!("{text}:{:02}", size % 60) }
}

fn not_a_time(text: &str, error: &jiff::Error) -> MomentError {
    MomentError::NotATime { text: text.to_owned(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T12:00:00.123456Z".parse().unwrap()
    }

    fn read(text: &str) -> String {
        parse(text, None, now()).unwrap().to_string()
    }

    fn in_berlin(text: &str) -> Result<Timestamp, MomentError> {
        parse(text, Some(&TimeZone::get("Europe/Berlin").unwrap()), now())
    }

    #[test]
    fn offsets_are_read_as_postgres_and_rfc_3339_write_them() {
        for (text, expected) in [
            ("2026-11-22 11:17:33.9+00", "2026-11-22T11:17:33.9Z"),
            ("2026-11-22 11:17:33.123456+05:30", "2026-11-22T05:47:33.123456Z"),
            ("2026-11-22 11:17:33-03", "2026-11-22T14:17:33Z"),
            ("2026-11-22T11:17:33Z", "2026-11-22T11:17:33Z"),
            ("2026-11-22T11:17:33.000001+01:00", "2026-11-22T10:17:33.000001Z"),
            ("2026-11-22 11:17:33.042 UTC", "2026-11-22T11:17:33.042Z"),
            ("2026-11-22T11:17[Europe/Berlin]", "2026-11-22T10:17:00Z"),
            ("2026-10-25T02:30+01:00[Europe/Berlin]", "2026-10-25T01:30:00Z"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn now_goes_back_by_a_span() {
        assert_eq!(read("now"), "2026-11-22T12:00:00.123456Z");
        assert_eq!(read("now - 10min"), "2026-11-22T11:50:00.123456Z");
        assert_eq!(read("now -1h30m"), "2026-11-22T10:30:00.123456Z");
        assert_eq!(read("now - 2 days"), "2026-11-20T12:00:00.123456Z");
        for text in ["now + 1h", "now -", "now - -1h", "now 1h", "now - soon"] {
            assert!(parse(text, None, now()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_without_a_zone_needs_one_to_be_named() {
        let error = parse("2026-11-22 11:17:33", None, now()).unwrap_err();
        assert_eq!(error, MomentError::NoZone { text: "2026-11-22 11:17:33".to_owned() });
        let moment = in_berlin("2026-11-22 11:17:33").unwrap();
        assert_eq!(moment.to_string(), "2026-11-22T10:17:33Z");
    }

    #[test]
    fn a_local_time_that_exists_twice_is_refused_with_both_instants() {
        for error in [
            in_berlin("2026-10-25 02:30").unwrap_err(),
            parse("2026-10-25T02:30[Europe/Berlin]", None, now()).unwrap_err(),
        ] {
            let MomentError::Twice { first, second, .. } = &error else { panic!("{error}") };
            assert_eq!(read(first), "2026-10-25T00:30:00Z");
            assert_eq!(read(second), "2026-10-25T01:30:00Z");
        }
    }

    #[test]
    fn a_local_time_that_does_not_exist_is_refused_with_both_readings() {
        let error = in_berlin("2026-03-29 02:30").unwrap_err();
        let MomentError::Skipped { first, second, .. } = &error else { panic!("{error}") };
        assert_eq!(read(first), "2026-03-29T01:30:00Z");
        assert_eq!(read(second), "2026-03-29T00:30:00Z");
    }

    #[test]
    fn an_offset_that_the_zone_never_had_is_refused() {
        assert!(parse("2026-11-22T11:17+05:00[Europe/Berlin]", None, now()).is_err());
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "x", "2026-11-22", "25:00", "2026-02-30 11:00Z", "2026-11-22 11:00 CET"] {
            assert!(parse(text, None, now()).is_err(), "{text}");
        }
    }
}
