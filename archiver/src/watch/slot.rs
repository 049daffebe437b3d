//! The replication slot as the server sees it: what it keeps, and how near it is to being lost.
//!
//! Needs an ordinary SQL connection, which the replication role may not have; then the slot is unknown
//! and archiving goes on. See `pg_replication_slots` in Postgres' documentation.

use std::time::Duration;

use pgkeep_catalog::dial::dial;
use pgkeep_catalog::status::SlotStatus;
use pgkeep_proto::Conninfo;
use tokio::sync::watch;
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;

use crate::upstream::{Purpose, role};

const INTERVAL: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(10);

const QUERY: &str = "select wal_status, \
    (pg_current_wal_lsn() - restart_lsn)::bigint, safe_wal_size \
    from pg_replication_slots where slot_name = $1 and not pg_is_in_recovery()";

/// Asks the server about the slot from time to time.
///
/// In: nothing. Out: the slot's state. Stops when told to; never fails.
#[derive(Debug)]
pub struct SlotWatch {
    /// The server.
    pub conninfo: Conninfo,
    /// The slot's name.
    pub slot: String,
    /// Where its state goes; `None` while it is unknown.
    pub state: watch::Sender<Option<SlotStatus>>,
}

impl SlotWatch {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let stopped = tokio::select! {
                () = stop.cancelled() => Ok(()),
                result = self.follow() => result,
            };
            if let Err(error) = stopped {
                tracing::debug!(error = %error, "slot cannot be watched");
            }
            self.state.send_replace(None);
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    /// Watches over one connection until it breaks.
    async fn follow(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut config = tokio_postgres::Config::new();
        config.user(role(&self.conninfo)).application_name(Purpose::Sql.application_name());
        config.dbname(self.conninfo.database.as_deref().unwrap_or("postgres"));
        if let Some(password) = &self.conninfo.password {
            config.password(password);
        }
        let stream = dial(&self.conninfo).await?;
        let (client, connection) =
            tokio::time::timeout(DEADLINE, config.connect_raw(stream, NoTls)).await??;
        let query = async {
            loop {
                let row = tokio::time::timeout(DEADLINE, client.query_opt(QUERY, &[&self.slot]))
                    .await??;
                self.state.send_replace(row.map(|row| SlotStatus {
                    name: self.slot.clone(),
                    wal_status: row.get(0),
                    retained_bytes: row.get(1),
                    safe_bytes: row.get(2),
                }));
                tokio::time::sleep(INTERVAL).await;
            }
        };
        tokio::select! {
            result = query => result,
            result = connection => Ok(result?),
        }
    }
}
