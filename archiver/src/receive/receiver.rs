//! Takes the messages of a running stream and says what to do: a state machine without a socket.
//!
//! Invariants: WAL is handed on in order, without a hole and without an overlap, from the first byte
//! after the start; what the server is told comes from [`Progress`] alone; a server that is asked every
//! second and stays silent for [`PEER_TIMEOUT`] is given up.

use std::time::Duration;

use bytes::Bytes;
use pgkeep_proto::Lsn;
use pgkeep_proto::replication::{ReplicationMessage, StatusUpdate};
use tokio::time::Instant;

use super::StatusPacer;
use super::status::Due;
use crate::Error;
use crate::progress::Progress;
use crate::watch::Rpo;

/// How long a server may stay silent although it is asked every second.
const PEER_TIMEOUT: Duration = Duration::from_secs(30);

/// What happens to a stream.
#[derive(Debug)]
pub enum Event {
    /// The server sent something.
    Message(ReplicationMessage),
    /// Everything up to here is in the repository.
    Archived(Lsn),
    /// The server is not listened to for lack of room: its silence proves nothing.
    Deaf,
    /// Time has passed.
    Tick,
}

/// What is to be done about it, in order.
#[derive(Debug)]
pub enum Effect {
    /// Hand this WAL to the shipper.
    Append(Bytes),
    /// Tell the server.
    Send(StatusUpdate),
    /// Ship what there is, without waiting for the interval.
    ShipNow,
    /// Give up this connection.
    Fail(Error),
}

/// One stream.
#[derive(Debug)]
pub struct Receiver {
    progress: Progress,
    pacer: StatusPacer,
    rpo: Rpo,
    heard_at: Instant,
}

impl Receiver {
    /// A stream that begins at `start`, from a server whose WAL reaches `server_end`.
    pub fn new(now: Instant, start: Lsn, server_end: Lsn, rpo: Rpo) -> Self {
        let progress = Progress::starting(start, server_end);
        Self { progress, pacer: StatusPacer::new(now), rpo, heard_at: now }
    }

    /// How far it has come.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The last moment when everything was archived.
    pub fn rpo(&self) -> &Rpo {
        &self.rpo
    }

    /// Keeps what is known of that moment for the next stream.
    pub fn into_rpo(self) -> Rpo {
        self.rpo
    }

    /// Takes an event.
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Message(message) => {
                self.heard_at = now;
                self.take(now, message, &mut effects);
            }
            Event::Archived(lsn) => {
                self.progress.archived_up_to(lsn);
                self.rpo.archived_up_to(lsn);
            }
            Event::Tick if now >= self.heard_at + PEER_TIMEOUT => {
                effects.push(Effect::Fail(Error::Silent { after: PEER_TIMEOUT }));
            }
            Event::Tick => {}
            Event::Deaf => self.heard_at = now,
        }
        let archived = self.progress.archived();
        let due = self.pacer.due(now, archived);
        if due != Due::NotYet {
            self.pacer.told(now, archived, due);
            effects.push(Effect::Send(self.progress.report(due == Due::TellAndAsk)));
        }
        effects
    }

    /// When to tick if nothing happens before.
    pub fn next_at(&self) -> Instant {
        self.pacer.next_at().min(self.heard_at + PEER_TIMEOUT)
    }

    fn take(&mut self, now: Instant, message: ReplicationMessage, effects: &mut Vec<Effect>) {
        match message {
            ReplicationMessage::XLogData { start, server_end, sent_at, data } => {
                let expected = self.progress.received();
                if start != expected {
                    effects.push(Effect::Fail(Error::OutOfOrder { expected, found: start }));
                    return;
                }
                let end = start.advance(data.len() as u64);
                self.progress.received_up_to(end);
                self.progress.server_reached(server_end);
                self.rpo.server_reached(now, self.progress.server_end(), sent_at);
                effects.push(Effect::Append(data));
            }
            ReplicationMessage::Keepalive { server_end, sent_at, reply_requested } => {
                self.progress.server_reached(server_end);
                self.rpo.server_reached(now, self.progress.server_end(), sent_at);
                if reply_requested {
                    self.pacer.want();
                    // A server that asks although we have all it has may be shutting down, and waits
                    // until its last byte is durable.
                    let has_all = server_end == self.progress.received();
                    if has_all && self.progress.archived() < server_end {
                        effects.push(Effect::ShipNow);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgkeep_proto::TimestampTz;

    fn wal(start: u64, length: usize) -> Event {
        Event::Message(ReplicationMessage::XLogData {
            start: Lsn::new(start),
            server_end: Lsn::new(start + length as u64),
            sent_at: TimestampTz::new(0),
            data: Bytes::from(vec![7; length]),
        })
    }

    fn receiver(now: Instant) -> Receiver {
        Receiver::new(now, Lsn::new(1000), Lsn::new(1000), Rpo::default())
    }

    #[tokio::test(start_paused = true)]
    async fn flush_follows_the_archive_and_never_what_was_received() {
        let now = Instant::now();
        let mut receiver = receiver(now);
        let told = |effects: Vec<Effect>| {
            effects.into_iter().find_map(|effect| match effect {
                Effect::Send(update) => Some(update.flush),
                _ => None,
            })
        };
        assert_eq!(told(receiver.step(now, wal(1000, 500))), Some(Lsn::new(1000)));
        assert_eq!(told(receiver.step(now, wal(1500, 500))), None);
        let effects = receiver.step(now, Event::Archived(Lsn::new(1700)));
        assert_eq!(told(effects), Some(Lsn::new(1700)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hole_or_an_overlap_ends_the_stream_and_hands_nothing_on() {
        for start in [999, 1001, 0, u64::MAX - 10] {
            let now = Instant::now();
            let effects = receiver(now).step(now, wal(start, 5));
            let is_append = |effect: &Effect| matches!(effect, Effect::Append(_));
            assert!(!effects.iter().any(is_append), "{start}");
            let is_failure = |e: &Effect| matches!(e, Effect::Fail(Error::OutOfOrder { .. }));
            assert!(effects.iter().any(is_failure), "{start}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_stays_silent_is_given_up() {
        let now = Instant::now();
        let mut receiver = receiver(now);
        receiver.step(now, wal(1000, 5));
        assert!(receiver.next_at() <= now + PEER_TIMEOUT);
        let effects = receiver.step(now + PEER_TIMEOUT, Event::Tick);
        assert!(effects.iter().any(|e| matches!(e, Effect::Fail(Error::Silent { .. }))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_not_listened_to_is_not_called_silent() {
        let now = Instant::now();
        let mut receiver = receiver(now);
        receiver.step(now + PEER_TIMEOUT, Event::Deaf);
        let effects = receiver.step(now + PEER_TIMEOUT, Event::Tick);
        assert!(!effects.iter().any(|e| matches!(e, Effect::Fail(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_waits_for_its_last_byte_gets_it_shipped_at_once() {
        let now = Instant::now();
        let mut receiver = receiver(now);
        receiver.step(now, wal(1000, 5));
        let keepalive = |server_end| {
            Event::Message(ReplicationMessage::Keepalive {
                server_end: Lsn::new(server_end),
                sent_at: TimestampTz::new(0),
                reply_requested: true,
            })
        };
        let ships = |effects: Vec<Effect>| effects.iter().any(|e| matches!(e, Effect::ShipNow));
        assert!(ships(receiver.step(now, keepalive(1005))));
        receiver.step(now, Event::Archived(Lsn::new(1005)));
        assert!(!ships(receiver.step(now, keepalive(1005))));
    }
}
