//! An archiver inside the test, on a store that the test chooses.

use std::sync::Arc;

use jiff::SignedDuration;
use pgkeep_archiver::{Archiver, ArchiverHandle, ShipConfig};
use pgkeep_catalog::sealed::Sealing;
use pgkeep_catalog::store::Store;
use pgkeep_catalog::{Cluster, ClusterRecord, Repository, SystemClock};
use pgkeep_proto::{Conninfo, Lsn, SegmentSize, SystemId, TimestampTz};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::postgres::Postgres;
use super::wait::wait_for;

/// A running archiver.
#[derive(Debug)]
pub(crate) struct InProcess {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) handle: ArchiverHandle,
    stop: CancellationToken,
    running: JoinHandle<pgkeep_archiver::Result<()>>,
}

impl InProcess {
    /// Registers `server` as `main` in a new repository in `store`, and archives it.
    pub(crate) async fn start(server: &Postgres, store: Arc<dyn Store>) -> Self {
        Repository::create_store(&store).await.unwrap();
        let repository = Repository::open_store(store, Sealing::default()).await.unwrap();
        let id = server.value("select system_identifier from pg_control_system()").await;
        let id = SystemId::new(id.parse().unwrap());
        let size = SegmentSize::from_setting(&server.value("show wal_segment_size").await).unwrap();
        let record = ClusterRecord::new(id, size, "test".to_owned(), TimestampTz::new(0));
        let name = "main".parse().unwrap();
        let cluster = Cluster::create(Arc::new(repository), name, record).await.unwrap();
        let cluster = Arc::new(cluster);
        let config =
            ShipConfig { interval: SignedDuration::from_millis(100), ..ShipConfig::default() };
        let conninfo = Conninfo::parse(&server.conninfo(), |_| None).unwrap();
        let (slot, clock) = ("pgkeep".to_owned(), Arc::new(SystemClock));
        let archiver = Archiver::new(Arc::clone(&cluster), conninfo, slot, config, clock);
        let (handle, stop) = (archiver.handle(), CancellationToken::new());
        let running = tokio::spawn(archiver.run(stop.clone()));
        Self { cluster, handle, stop, running }
    }

    /// Waits until everything before `end` is acknowledged.
    pub(crate) async fn wait_archived(&self, end: Lsn) {
        let is_archived = async || (self.handle.live.borrow().archived? >= end).then_some(());
        wait_for(&format!("everything before {end} to be archived"), is_archived).await;
    }

    /// Stops it in order.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}
