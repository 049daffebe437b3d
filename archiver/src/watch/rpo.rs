//! How much would be lost if the server were lost now, in time.
//!
//! Each message of the server says "at this time my WAL reached this position". The newest such message
//! whose position is archived is the last moment of which nothing would be lost. A keepalive says only
//! how far the server has *sent*, so a message counts as reaching at least as far as any before it.

use std::collections::VecDeque;
use std::time::Duration;

use pgkeep_proto::{Lsn, TimestampTz};
use tokio::time::Instant;

/// Messages closer together than this are not remembered one by one.
const SPACING: Duration = Duration::from_millis(50);

/// Most messages remembered: what is beyond is as good as lost in the lag it describes.
const PENDING_MAX: usize = 4096;

/// A moment at which the server's WAL reached a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    reached: Lsn,
    server_clock: TimestampTz,
    arrived: Instant,
}

/// The last moment when everything was archived.
#[derive(Debug, Default)]
pub struct Rpo {
    /// Not yet archived, oldest first; positions and arrivals grow.
    pending: VecDeque<Mark>,
    reached: Lsn,
    archived: Lsn,
    caught_up: Option<Mark>,
}

impl Rpo {
    /// A message said that the server's WAL reached `lsn` at `server_clock`.
    pub fn server_reached(&mut self, now: Instant, lsn: Lsn, server_clock: TimestampTz) {
        self.reached = self.reached.max(lsn);
        let mark = Mark { reached: self.reached, server_clock, arrived: now };
        if mark.reached <= self.archived {
            self.pending.clear();
            self.caught_up = Some(mark);
            return;
        }
        let is_close = |last: &Mark| now.saturating_duration_since(last.arrived) < SPACING;
        if self.pending.back().is_none_or(|last| !is_close(last))
            && self.pending.len() < PENDING_MAX
        {
            self.pending.push_back(mark);
        }
    }

    /// Everything up to `lsn` is archived.
    pub fn archived_up_to(&mut self, lsn: Lsn) {
        self.archived = self.archived.max(lsn);
        while self.pending.front().is_some_and(|mark| mark.reached <= self.archived) {
            self.caught_up = self.pending.pop_front();
        }
    }

    /// The server's clock at the last moment when everything was archived.
    pub fn caught_up_at(&self) -> Option<TimestampTz> {
        self.caught_up.map(|mark| mark.server_clock)
    }

    /// When, by our monotonic clock, the message of that moment arrived.
    pub fn caught_up_arrival(&self) -> Option<Instant> {
        self.caught_up.map(|mark| mark.arrived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(second: i64) -> TimestampTz {
        TimestampTz::new(second * 1_000_000)
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_server_keeps_the_moment_fresh() {
        let (mut rpo, start) = (Rpo::default(), Instant::now());
        rpo.archived_up_to(Lsn::new(100));
        rpo.server_reached(start, Lsn::new(100), clock(1));
        rpo.server_reached(start + Duration::from_secs(1), Lsn::new(100), clock(2));
        assert_eq!(rpo.caught_up_at(), Some(clock(2)));
        assert_eq!(rpo.caught_up_arrival(), Some(start + Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_counts_only_when_its_wal_is_archived() {
        let (mut rpo, start) = (Rpo::default(), Instant::now());
        rpo.archived_up_to(Lsn::new(100));
        rpo.server_reached(start, Lsn::new(200), clock(1));
        rpo.server_reached(start + Duration::from_secs(1), Lsn::new(300), clock(2));
        assert_eq!(rpo.caught_up_at(), None);
        rpo.archived_up_to(Lsn::new(299));
        assert_eq!(rpo.caught_up_at(), Some(clock(1)));
        rpo.archived_up_to(Lsn::new(300));
        assert_eq!(rpo.caught_up_at(), Some(clock(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_keepalive_in_the_middle_of_a_backlog_does_not_look_like_caught_up() {
        let (mut rpo, start) = (Rpo::default(), Instant::now());
        rpo.server_reached(start, Lsn::new(1000), clock(1));
        rpo.archived_up_to(Lsn::new(200));
        // The server has sent up to 200 and has 1000.
        rpo.server_reached(start + Duration::from_secs(1), Lsn::new(200), clock(2));
        assert_eq!(rpo.caught_up_at(), None);
    }
}
