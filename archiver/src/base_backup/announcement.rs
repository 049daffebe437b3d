//! What the server says before and after the copy of a base backup.
//!
//! See "BASE_BACKUP" in Postgres' documentation of the replication protocol.

use pgkeep_catalog::backup::Tablespace;
use pgkeep_proto::replication::{BackendMessage, Row};
use pgkeep_proto::{Lsn, TimelineId};

use crate::upstream::Connection;
use crate::{Error, Result};

/// What the server says before the first byte.
#[derive(Debug)]
pub(super) struct Announced {
    pub(super) start_lsn: Lsn,
    pub(super) timeline: TimelineId,
    pub(super) tablespaces: Vec<Tablespace>,
    /// An estimate.
    pub(super) size_bytes: u64,
}

/// The two result sets before the copy: where it starts, and the tablespaces.
pub(super) async fn read_announcement(connection: &mut Connection) -> Result<Announced> {
    let mut result_set = 0;
    let mut start: Option<(Lsn, TimelineId)> = None;
    let (mut tablespaces, mut size_kib) = (Vec::new(), 0u64);
    loop {
        match connection.receive().await? {
            BackendMessage::RowDescription => result_set += 1,
            BackendMessage::Row(row) if result_set == 1 => start = Some(read_position(&row)?),
            BackendMessage::Row(row) => {
                let kib = row.text_or_null(2)?.and_then(|text| text.parse::<u64>().ok());
                size_kib = size_kib.saturating_add(kib.unwrap_or(0));
                if let (Some(oid), Some(location)) = (row.text_or_null(0)?, row.text_or_null(1)?) {
                    let oid = oid.parse().map_err(|_| {
                        pgkeep_proto::Error::protocol(format!("tablespace {oid:?}"))
                    })?;
                    tablespaces.push(Tablespace { oid, location: location.to_owned() });
                }
            }
            BackendMessage::CopyOut => break,
            BackendMessage::Error(error) => return Err(Error::Postgres(error)),
            _ => {}
        }
    }
    let (start_lsn, timeline) = start
        .ok_or_else(|| pgkeep_proto::Error::protocol("a base backup without a start position"))?;
    Ok(Announced { start_lsn, timeline, tablespaces, size_bytes: size_kib.saturating_mul(1024) })
}

/// The result set after the copy: where it ends. A failed page check comes only now, as an error after
/// all data was sent.
pub(super) async fn read_end(connection: &mut Connection) -> Result<Lsn> {
    let mut end = None;
    loop {
        match connection.receive().await? {
            BackendMessage::Row(row) => end = Some(read_position(&row)?.0),
            BackendMessage::Error(error) if error.sqlstate() == Some("XX001") => {
                return Err(Error::BackupDamaged(error));
            }
            BackendMessage::Error(error) => return Err(Error::Postgres(error)),
            BackendMessage::ReadyForQuery => break,
            _ => {}
        }
    }
    end.ok_or_else(|| pgkeep_proto::Error::protocol("a base backup without an end position").into())
}

fn read_position(row: &Row) -> Result<(Lsn, TimelineId)> {
    Ok((row.text(0)?.parse()?, TimelineId::from_decimal(row.text(1)?)?))
}
