//! What a bucket says of itself, where its protocol has words for it.
//!
//! A store that can be asked fills this in; what it cannot or may not tell stays unknown, and is
//! reported as that.

use jiff::{SignedDuration, Timestamp};

use super::finding::{Finding, Verdict};

/// Beyond this signatures are refused soon: the limit of S3 is 15 minutes.
const SKEW_BAD: SignedDuration = SignedDuration::from_mins(5);

/// Beyond this times in records begin to puzzle people.
const SKEW_WARNING: SignedDuration = SignedDuration::from_secs(30);

/// What a bucket says of itself. Nothing is known by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreFacts {
    /// Whether overwritten and removed objects are kept as versions.
    pub versioning: Option<bool>,
    /// Whether objects can be locked against removal.
    pub lock_enabled: Option<bool>,
    /// The lock that every object gets by itself, in words such as `GOVERNANCE 30 days`.
    pub default_retention: Option<String>,
    /// The time of the server, as it was when [`Self::asked_at`] was taken.
    pub server_date: Option<Timestamp>,
    /// Our time when the server told its own.
    pub asked_at: Option<Timestamp>,
    /// Uploads that were begun a day ago or earlier and never ended; they cost space.
    pub stale_uploads: Option<u64>,
}

impl StoreFacts {
    /// What follows from them.
    pub(super) fn findings(&self) -> Vec<Finding> {
        vec![self.clock(), self.versioning(), self.retention(), self.uploads()]
    }

    fn clock(&self) -> Finding {
        let (Some(theirs), Some(ours)) = (self.server_date, self.asked_at) else {
            return Finding::unknown("clock", "this store's time cannot be asked");
        };
        let skew = ours.duration_since(theirs);
        let seen = format!("this machine and the store differ by {:#}", skew.abs());
        match skew.abs() {
            skew if skew >= SKEW_BAD => Finding::new("clock", Verdict::Bad, seen)
                .meaning("requests are signed with the time, and are refused when it is wrong")
                .advice("set the clock of this machine, and keep it right with NTP"),
            skew if skew >= SKEW_WARNING => Finding::new("clock", Verdict::Warning, seen)
                .meaning("times in records will be off by that much")
                .advice("keep the clock of this machine right with NTP"),
            _ => Finding::new("clock", Verdict::Good, seen),
        }
    }

    fn versioning(&self) -> Finding {
        let name = "versioning";
        match self.versioning {
            None => Finding::unknown(name, "this store cannot be asked whether it keeps versions"),
            Some(true) => Finding::new(name, Verdict::Good, "old versions are kept".to_owned())
                .meaning("what is overwritten or removed by mistake or malice can be brought back"),
            Some(false) => Finding::new(name, Verdict::Warning, "no versions are kept".to_owned())
                .meaning("whoever has these credentials can destroy the repository for good")
                .advice("turn on versioning, or give removal to other credentials"),
        }
    }

    fn retention(&self) -> Finding {
        let name = "retention";
        match (&self.default_retention, self.lock_enabled) {
            (Some(retention), _) => {
                Finding::new(name, Verdict::Bad, format!("every object is locked: {retention}"))
                    .meaning(
                        "pieces, epochs and the heartbeat are rewritten or removed in normal work; \
                         locked, they pile up and cannot be freed",
                    )
                    .advice("remove the bucket's default retention; lock by kind of object instead")
            }
            (None, Some(true)) => {
                Finding::new(name, Verdict::Good, "objects can be locked one by one".to_owned())
            }
            (None, Some(false)) => {
                Finding::new(name, Verdict::Good, "nothing is locked by itself".to_owned())
                    .meaning("objects cannot be locked either: the bucket was made without that")
            }
            (None, None) => Finding::unknown(name, "this store cannot be asked about locks"),
        }
    }

    fn uploads(&self) -> Finding {
        let name = "unfinished uploads";
        match self.stale_uploads {
            None => Finding::unknown(name, "this store cannot be asked about them"),
            Some(0) => Finding::new(name, Verdict::Good, "none is older than a day".to_owned()),
            Some(count) => {
                Finding::new(name, Verdict::Warning, format!("{count} are older than a day"))
                    .meaning("they are invisible, and are paid for")
                    .advice("add a lifecycle rule that aborts unfinished uploads after two days")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(facts: &StoreFacts, name: &str) -> Verdict {
        let findings = facts.findings();
        findings.iter().find(|finding| finding.name == name).unwrap().verdict
    }

    #[test]
    fn what_cannot_be_asked_is_unknown_and_not_good() {
        let nothing = StoreFacts::default();
        assert!(nothing.findings().iter().all(|finding| finding.verdict == Verdict::Unknown));
    }

    #[test]
    fn a_lock_on_everything_is_bad() {
        let default_retention = Some("GOVERNANCE 30 days".to_owned());
        let facts = StoreFacts { default_retention, ..StoreFacts::default() };
        assert_eq!(verdict(&facts, "retention"), Verdict::Bad);
    }

    #[test]
    fn a_clock_is_judged_by_how_wrong_it_is() {
        let theirs = Timestamp::UNIX_EPOCH;
        for (seconds, expected) in
            [(2, Verdict::Good), (-60, Verdict::Warning), (600, Verdict::Bad), (-600, Verdict::Bad)]
        {
            let ours = theirs + SignedDuration::from_secs(seconds);
            let facts = StoreFacts {
                server_date: Some(theirs),
                asked_at: Some(ours),
                ..StoreFacts::default()
            };
            assert_eq!(verdict(&facts, "clock"), expected, "{seconds}");
        }
    }
}
