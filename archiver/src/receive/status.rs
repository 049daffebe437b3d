//! When the server is told how far we are.
//!
//! By timer once a second, asking for an answer: that keeps `wal_sender_timeout` away and tells us the
//! server's position when nothing happens. At once when a position has moved or an answer is wanted, but
//! the same words at most every 50 ms: a server that shuts down asks as fast as we answer (285,000
//! keepalives in 8 seconds were seen).

use std::time::Duration;

use pgkeep_proto::Lsn;
use tokio::time::Instant;

/// Between two status updates when nothing happens.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Between two status updates that say the same.
const REPEAT_INTERVAL: Duration = Duration::from_millis(50);

/// Whether an update is due, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing to say yet.
    NotYet,
    /// Tell the position.
    Tell,
    /// Tell the position and ask for an answer.
    TellAndAsk,
}

/// Paces the status updates of one stream.
#[derive(Debug)]
pub(super) struct StatusPacer {
    last_at: Instant,
    last_told: Lsn,
    asked_at: Instant,
    is_wanted: bool,
}

impl StatusPacer {
    /// A stream on which nothing was told yet: the first update is due at once.
    pub(super) fn new(now: Instant) -> Self {
        Self { last_at: now, last_told: Lsn::ZERO, asked_at: now, is_wanted: true }
    }

    /// The server wants an answer.
    pub(super) fn want(&mut self) {
        self.is_wanted = true;
    }

    /// What is due at `now`, with everything up to `archived` durable.
    pub(super) fn due(&self, now: Instant, archived: Lsn) -> Due {
        if now >= self.asked_at + STATUS_INTERVAL {
            Due::TellAndAsk
        } else if archived > self.last_told || (self.is_wanted && now >= self.repeat_at()) {
            Due::Tell
        } else {
            Due::NotYet
        }
    }

    /// An update was sent.
    pub(super) fn told(&mut self, now: Instant, archived: Lsn, due: Due) {
        self.last_at = now;
        self.last_told = archived;
        self.is_wanted = false;
        if due == Due::TellAndAsk {
            self.asked_at = now;
        }
    }

    /// When to look again if nothing happens before.
    pub(super) fn next_at(&self) -> Instant {
        let ask_at = self.asked_at + STATUS_INTERVAL;
        if self.is_wanted { self.repeat_at().min(ask_at) } else { ask_at }
    }

    fn repeat_at(&self) -> Instant {
        self.last_at + REPEAT_INTERVAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_same_words_are_not_repeated_faster_than_every_50_ms() {
        let start = Instant::now();
        let mut pacer = StatusPacer::new(start);
        let archived = Lsn::new(9);
        let mut told = 0;
        for millisecond in 0..1000 {
            let now = start + Duration::from_millis(millisecond);
            pacer.want();
            let due = pacer.due(now, archived);
            if due != Due::NotYet {
                told += 1;
                pacer.told(now, archived, due);
            }
        }
        assert!((15..=21).contains(&told), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_position_that_moved_is_told_at_once() {
        let start = Instant::now();
        let mut pacer = StatusPacer::new(start);
        pacer.told(start, Lsn::new(9), Due::Tell);
        assert_eq!(pacer.due(start, Lsn::new(9)), Due::NotYet);
        assert_eq!(pacer.due(start, Lsn::new(10)), Due::Tell);
        assert_eq!(pacer.due(start + STATUS_INTERVAL, Lsn::new(9)), Due::TellAndAsk);
    }
}
