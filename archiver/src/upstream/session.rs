//! A session of physical replication: commands and their typed answers.

use std::time::Duration;

use pgkeep_proto::replication::{
    BackendMessage, Command, HistoryFile, IdentifySystem, Row, SlotPosition,
};
use pgkeep_proto::{Conninfo, Lsn, SegmentSize, TimelineId};

use super::connection::Connection;
use super::login::{Purpose, log_in, role};
use crate::{Error, Result};

/// Oldest major version whose replication grammar is spoken.
const SERVER_MAJOR_MIN: u32 = 15;

/// How long a command that answers with rows may take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);

/// A logged-in walsender that waits for a command.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    user: String,
    server_version: String,
    server_major: u32,
}

impl Session {
    /// Connects and logs in.
    pub async fn open(conninfo: &Conninfo, purpose: Purpose) -> Result<Self> {
        let connection = log_in(conninfo, purpose).await?;
        let server_version = connection.setting("server_version").unwrap_or_default().to_owned();
        let digits: String = server_version.chars().take_while(char::is_ascii_digit).collect();
        match digits.parse() {
            Ok(server_major) if server_major >= SERVER_MAJOR_MIN => {
                Ok(Self { connection, user: role(conninfo), server_version, server_major })
            }
            _ => Err(Error::ServerVersion { version: server_version }),
        }
    }

    /// The server's version as it names itself, such as `15.18 (Debian 15.18-0+deb12u1)`.
    pub fn server_version(&self) -> &str {
        &self.server_version
    }

    /// The server's major version.
    pub const fn server_major(&self) -> u32 {
        self.server_major
    }

    /// Who the server is, on which timeline, how far.
    pub async fn identify_system(&mut self) -> Result<IdentifySystem> {
        Ok(IdentifySystem::read(&self.row(&Command::IdentifySystem).await?)?)
    }

    /// Size of its WAL segments.
    pub async fn segment_size(&mut self) -> Result<SegmentSize> {
        let row = self.row(&Command::Show("wal_segment_size")).await?;
        Ok(SegmentSize::from_setting(row.text(0)?)?)
    }

    /// Where a slot stands.
    pub async fn read_slot(&mut self, slot: &str) -> Result<SlotPosition> {
        Ok(SlotPosition::read(&self.row(&Command::ReadSlot(slot.to_owned())).await?)?)
    }

    /// Creates a slot that keeps WAL from now on.
    pub async fn create_slot(&mut self, slot: &str) -> Result<()> {
        self.rows(&Command::CreateSlot(slot.to_owned()).to_string()).await.map(|_| ())
    }

    /// Drops a slot.
    pub async fn drop_slot(&mut self, slot: &str) -> Result<()> {
        self.rows(&Command::DropSlot(slot.to_owned()).to_string()).await.map(|_| ())
    }

    /// The history file of a timeline after the first.
    pub async fn timeline_history(&mut self, timeline: TimelineId) -> Result<HistoryFile> {
        let row = self.row(&Command::TimelineHistory(timeline)).await?;
        Ok(HistoryFile::read(timeline, &row)?)
    }

    /// Starts streaming; `None` when the timeline holds nothing from there on. The connection that
    /// comes back is in the middle of a copy in both directions.
    pub async fn start_physical(
        mut self,
        slot: &str,
        start: Lsn,
        timeline: TimelineId,
    ) -> Result<Option<Connection>> {
        let command = Command::StartPhysical { slot: slot.to_owned(), start, timeline };
        self.connection.send_query(&command.to_string()).await?;
        loop {
            match self.deadline_receive().await? {
                BackendMessage::CopyBoth => return Ok(Some(self.connection)),
                BackendMessage::Error(error) => return Err(self.sort_error(error, Some(slot))),
                BackendMessage::ReadyForQuery => return Ok(None),
                _ => {}
            }
        }
    }

    /// Sends a base backup command; its answer is read from the connection.
    pub async fn start_base_backup(mut self, command: &str) -> Result<Connection> {
        self.connection.send_query(command).await?;
        Ok(self.connection)
    }

    /// Ends the session.
    pub async fn close(self) {
        self.connection.close().await;
    }

    async fn row(&mut self, command: &Command) -> Result<Row> {
        let mut rows = self.rows(&command.to_string()).await?;
        rows.pop().ok_or_else(|| {
            pgkeep_proto::Error::protocol(format!("{command} was answered without a row")).into()
        })
    }

    /// All rows of a command. The session stays usable after an error of the server.
    async fn rows(&mut self, command: &str) -> Result<Vec<Row>> {
        self.connection.send_query(command).await?;
        let (mut rows, mut failure) = (Vec::new(), None);
        loop {
            match self.deadline_receive().await? {
                BackendMessage::Row(row) => rows.push(row),
                BackendMessage::Error(error) => failure = Some(self.sort_error(error, None)),
                BackendMessage::ReadyForQuery => return failure.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }

    async fn deadline_receive(&mut self) -> Result<BackendMessage> {
        tokio::time::timeout(COMMAND_DEADLINE, self.connection.receive())
            .await
            .map_err(|_| Error::Silent { after: COMMAND_DEADLINE })?
    }

    fn sort_error(&self, error: pgkeep_proto::Error, slot: Option<&str>) -> Error {
        match (error.sqlstate(), slot) {
            (Some("55006"), slot) => {
                let slot = slot.unwrap_or_default().to_owned();
                Error::SlotInUse { slot, source: error }
            }
            _ => Error::refused(&self.user, error),
        }
    }
}
