//! What travels inside the copy of a running physical stream.
//!
//! All positions are ends: the byte after the last one. See "Streaming Replication Protocol" in
//! Postgres' documentation.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::{Error, Lsn, Result, TimestampTz};

/// A message of the server inside the copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicationMessage {
    /// A run of WAL.
    XLogData {
        /// Where `data` begins.
        start: Lsn,
        /// How far the server's own WAL reaches: not the end of this message.
        server_end: Lsn,
        /// The server's clock.
        sent_at: TimestampTz,
        /// The WAL.
        data: Bytes,
    },
    /// A sign of life.
    Keepalive {
        /// How far the server has sent.
        server_end: Lsn,
        /// The server's clock.
        sent_at: TimestampTz,
        /// Whether an answer is wanted at once.
        reply_requested: bool,
    },
}

impl ReplicationMessage {
    /// Reads the payload of one CopyData message.
    pub fn decode(mut payload: Bytes) -> Result<Self> {
        let short = |_| Error::protocol("a replication message ends early");
        match payload.try_get_u8().map_err(short)? {
            b'w' => Ok(Self::XLogData {
                start: Lsn::new(payload.try_get_u64().map_err(short)?),
                server_end: Lsn::new(payload.try_get_u64().map_err(short)?),
                sent_at: TimestampTz::new(payload.try_get_i64().map_err(short)?),
                data: payload,
            }),
            b'k' => Ok(Self::Keepalive {
                server_end: Lsn::new(payload.try_get_u64().map_err(short)?),
                sent_at: TimestampTz::new(payload.try_get_i64().map_err(short)?),
                reply_requested: payload.try_get_u8().map_err(short)? != 0,
            }),
            tag => Err(Error::protocol(format!("unknown replication message {tag:#04X}"))),
        }
    }
}

/// How far we have come, told to the server: standby status update.
///
/// The server believes `flush` unseen and removes WAL by it, so whoever builds one must have it durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusUpdate {
    /// What `synchronous_commit = remote_write` waits for.
    pub write: Lsn,
    /// What `synchronous_commit = on` waits for, and what the slot keeps WAL from.
    pub flush: Lsn,
    /// What `synchronous_commit = remote_apply` waits for.
    pub apply: Lsn,
    /// Whether the server is to answer with a keepalive.
    pub reply_requested: bool,
}

impl StatusUpdate {
    /// Writes the payload of one CopyData message.
    pub fn encode(&self, clock: TimestampTz, buffer: &mut BytesMut) {
        buffer.put_u8(b'r');
        buffer.put_u64(self.write.get());
        buffer.put_u64(self.flush.get());
        buffer.put_u64(self.apply.get());
        buffer.put_i64(clock.get());
        buffer.put_u8(self.reply_requested.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wal_is_handed_on_without_its_header() {
        let mut payload = BytesMut::new();
        payload.put_u8(b'w');
        payload.put_u64(16);
        payload.put_u64(99);
        payload.put_i64(-5);
        payload.put_slice(b"wal");
        let decoded = ReplicationMessage::decode(payload.freeze()).unwrap();
        let expected = ReplicationMessage::XLogData {
            start: Lsn::new(16),
            server_end: Lsn::new(99),
            sent_at: TimestampTz::new(-5),
            data: Bytes::from_static(b"wal"),
        };
        assert_eq!(decoded, expected);
    }

    #[test]
    fn a_status_update_has_34_bytes() {
        let mut buffer = BytesMut::new();
        let at = Lsn::new(7);
        let update = StatusUpdate { write: at, flush: at, apply: at, reply_requested: true };
        update.encode(TimestampTz::new(0), &mut buffer);
        assert_eq!((buffer.len(), buffer[0], buffer[33]), (34, b'r', 1));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = ReplicationMessage::decode(Bytes::from(bytes));
        }
    }
}
