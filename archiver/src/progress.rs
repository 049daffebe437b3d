//! How far WAL has come, and what the server may be told about it.
//!
//! ```text
//! apply <= flush <= durable <= received <= server end
//! ```
//!
//! Every position only grows within a stream. This is the one place where that is asserted: the server
//! believes `flush` unseen and removes WAL by it, so a wrong one is silent loss.
//!
//! `durable` is what is archived in the repository, counted from the stream's start and never beyond
//! what this stream has received; so a reported flush is never zero and never a stranger's.

use pgkeep_proto::Lsn;
use pgkeep_proto::replication::StatusUpdate;

/// Positions of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    server_end: Lsn,
    received: Lsn,
    durable: Lsn,
}

impl Progress {
    /// A stream that begins at `start`, from a server whose WAL reaches `server_end`.
    pub fn starting(start: Lsn, server_end: Lsn) -> Self {
        Self { server_end: server_end.max(start), received: start, durable: start }
    }

    /// The server's WAL reaches `lsn`.
    pub fn server_reached(&mut self, lsn: Lsn) {
        self.server_end = self.server_end.max(lsn);
    }

    /// Everything up to `lsn` was received.
    pub fn received_up_to(&mut self, lsn: Lsn) {
        assert!(lsn >= self.received, "received went back from {} to {lsn}", self.received);
        self.received = lsn;
        self.server_end = self.server_end.max(lsn);
    }

    /// Everything up to `lsn` is in the repository.
    pub fn archived_up_to(&mut self, lsn: Lsn) {
        assert!(lsn >= self.durable, "archived went back from {} to {lsn}", self.durable);
        assert!(lsn <= self.received, "archived {lsn} without having received it: {self:?}");
        self.durable = lsn;
    }

    /// End of the server's WAL as far as we know.
    pub const fn server_end(&self) -> Lsn {
        self.server_end
    }

    /// End of what was received.
    pub const fn received(&self) -> Lsn {
        self.received
    }

    /// End of what is in the repository.
    pub const fn archived(&self) -> Lsn {
        self.durable
    }

    /// What the server may be told. Without a spool all three positions are the archived one: what
    /// `remote_write` and `remote_apply` wait for is then as safe as what `on` waits for, and none hangs.
    pub fn report(&self, reply_requested: bool) -> StatusUpdate {
        let durable = self.durable;
        assert!(durable > Lsn::ZERO, "a flush position of zero would make the slot keep nothing");
        assert!(durable <= self.received && self.received <= self.server_end, "{self:?}");
        StatusUpdate { write: durable, flush: durable, apply: durable, reply_requested }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lsn(position: u64) -> Lsn {
        Lsn::new(position)
    }

    #[test]
    fn what_is_reported_is_what_is_archived() {
        let mut progress = Progress::starting(lsn(100), lsn(500));
        progress.received_up_to(lsn(300));
        assert_eq!(progress.report(false).flush, lsn(100));
        progress.archived_up_to(lsn(200));
        let update = progress.report(true);
        assert_eq!((update.write, update.flush, update.apply), (lsn(200), lsn(200), lsn(200)));
    }

    #[test]
    #[should_panic(expected = "without having received it")]
    fn archived_beyond_received_stops_the_stream() {
        Progress::starting(lsn(100), lsn(500)).archived_up_to(lsn(101));
    }

    #[test]
    #[should_panic(expected = "went back")]
    fn a_position_that_goes_back_stops_the_stream() {
        let mut progress = Progress::starting(lsn(100), lsn(500));
        progress.received_up_to(lsn(99));
    }
}
