//! A cluster in a repository: who it is, and the handle through which everything of it is reached.
//!
//! One prefix is one lineage of one cluster: an *incarnation*. Its record is create-only. Incarnations
//! count from 1 without holes; the highest one is the living one.

use std::sync::Arc;

use bytes::Bytes;
use minicbor::{Decode, Encode};
use pgkeep_proto::{SegmentSize, SystemId, TimestampTz};
use uuid::Uuid;

use crate::cluster_name::ClusterName;
use crate::epoch::WriterEpoch;
use crate::layout::Layout;
use crate::repository::Repository;
use crate::sealed::{
    self, Header, Kind, Origin, Sealed, SealedObject, SealedUpload, Sealing, Span,
};
use crate::store::{ObjectKey, PutMode, Store};
use crate::{Error, Result};

/// What is known of a cluster from the day it was registered.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ClusterRecord {
    /// Identity that initdb gave it.
    #[n(0)]
    pub system_id: SystemId,
    /// Size of its WAL segments in bytes.
    #[n(1)]
    segment_bytes: u64,
    /// Version of the server, as it names itself.
    #[n(2)]
    pub server_version: String,
    /// Identity of this lineage: two clones of a cluster share the system id, never this.
    #[n(3)]
    lineage: [u8; 16],
    /// When it was registered.
    #[n(4)]
    pub created_at: TimestampTz,
}

impl ClusterRecord {
    /// A new lineage.
    pub fn new(
        system_id: SystemId,
        segment_size: SegmentSize,
        server_version: String,
        created_at: TimestampTz,
    ) -> Self {
        let lineage = *Uuid::new_v4().as_bytes();
        Self { system_id, segment_bytes: segment_size.bytes(), server_version, lineage, created_at }
    }

    /// Size of its WAL segments, if Postgres allows it.
    pub fn segment_size(&self) -> Option<SegmentSize> {
        SegmentSize::new(self.segment_bytes).ok()
    }

    /// Identity of this lineage.
    pub fn lineage(&self) -> Uuid {
        Uuid::from_bytes(self.lineage)
    }
}

/// One incarnation of one cluster, open for reading; writing takes a [`WriterEpoch`] besides.
#[derive(Clone, Debug)]
pub struct Cluster {
    repository: Arc<Repository>,
    name: ClusterName,
    incarnation: u32,
    layout: Layout,
    record: ClusterRecord,
    segment_size: SegmentSize,
}

impl Cluster {
    /// Registers a cluster that the repository does not know.
    pub async fn create(
        repository: Arc<Repository>,
        name: ClusterName,
        record: ClusterRecord,
    ) -> Result<Self> {
        Self::with_record(repository, name, 1, record)?.register().await
    }

    /// Opens the incarnation behind this one, for a server that took the place of this cluster's with
    /// an identity of its own. This one stays as it is, and readable.
    pub async fn next_incarnation(&self, record: ClusterRecord) -> Result<Self> {
        let repository = Arc::clone(&self.repository);
        let number = self.incarnation + 1;
        Self::with_record(repository, self.name.clone(), number, record)?.register().await
    }

    async fn register(self) -> Result<Self> {
        let cluster = self;
        let content = minicbor::to_vec(&cluster.record).unwrap_or_default();
        let key = cluster.layout.cluster();
        cluster.put(Kind::Cluster, key, WriterEpoch::NONE, PutMode::Create, content.into()).await?;
        Ok(cluster)
    }

    /// Opens the living incarnation of `name`.
    pub async fn open(repository: Arc<Repository>, name: ClusterName) -> Result<Self> {
        let mut living = None;
        for incarnation in 1.. {
            match record_of(&repository, &name, incarnation).await? {
                Some(object) => living = Some((incarnation, object)),
                None => break,
            }
        }
        let Some((incarnation, object)) = living else {
            return Err(Error::UnknownCluster {
                name: name.to_string(),
                location: repository.store().location(),
            });
        };
        let record = decode(object.key(), &object.read_all().await?)?;
        Self::with_record(repository, name, incarnation, record)
    }

    /// Opens one incarnation of `name`, the living one or an earlier one.
    pub async fn open_incarnation(
        repository: Arc<Repository>,
        name: ClusterName,
        incarnation: u32,
    ) -> Result<Self> {
        let Some(object) = record_of(&repository, &name, incarnation).await? else {
            return Err(Error::UnknownCluster {
                name: format!("{name} with an incarnation {incarnation}"),
                location: repository.store().location(),
            });
        };
        let record = decode(object.key(), &object.read_all().await?)?;
        Self::with_record(repository, name, incarnation, record)
    }

    fn with_record(
        repository: Arc<Repository>,
        name: ClusterName,
        incarnation: u32,
        record: ClusterRecord,
    ) -> Result<Self> {
        let layout = Layout::new(&name, incarnation);
        let segment_size = SegmentSize::new(record.segment_bytes)
            .map_err(|error| Error::Damaged { key: layout.cluster(), what: error.to_string() })?;
        Ok(Self { repository, name, incarnation, layout, record, segment_size })
    }

    /// Its name.
    pub fn name(&self) -> &ClusterName {
        &self.name
    }

    /// Which of its incarnations this is.
    pub fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// What was recorded when it was registered.
    pub fn record(&self) -> &ClusterRecord {
        &self.record
    }

    /// Size of its WAL segments.
    pub fn segment_size(&self) -> SegmentSize {
        self.segment_size
    }

    /// Where its objects are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The repository.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// The store below.
    pub fn store(&self) -> &Arc<dyn Store> {
        self.repository.store()
    }

    /// What a reader of one of its objects expects.
    pub fn origin(&self) -> Origin {
        origin(&self.repository, &self.name, self.incarnation)
    }

    /// Opens one of its objects, checking that it is what its place says.
    pub async fn open_object(&self, kind: Kind, key: &ObjectKey) -> Result<SealedObject> {
        SealedObject::open(self.store(), key, kind, &self.origin(), self.repository.keys()).await
    }

    /// The header of an object of this cluster.
    pub fn header(
        &self,
        kind: Kind,
        key: ObjectKey,
        epoch: WriterEpoch,
        span: Option<Span>,
    ) -> Header {
        Header::new(kind, key, &self.origin(), epoch.number(), span)
    }

    /// Stores a small object at once.
    pub async fn put(
        &self,
        kind: Kind,
        key: ObjectKey,
        epoch: WriterEpoch,
        mode: PutMode,
        content: Bytes,
    ) -> Result<Sealed> {
        let header = self.header(kind, key, epoch, None);
        let chunks = vec![content];
        sealed::write(
            Arc::clone(self.store()),
            header,
            mode,
            self.sealing().clone(),
            chunks,
            Vec::new(),
        )
        .await
    }

    /// Begins to store an object that is streamed.
    pub async fn upload(
        &self,
        kind: Kind,
        key: ObjectKey,
        epoch: WriterEpoch,
    ) -> Result<SealedUpload> {
        let header = self.header(kind, key, epoch, None);
        SealedUpload::create(self.store(), PutMode::Create, header, self.sealing()).await
    }

    /// How new objects are sealed.
    pub fn sealing(&self) -> &Sealing {
        self.repository.sealing()
    }
}

/// The record of an incarnation, if there is one.
async fn record_of(
    repository: &Repository,
    name: &ClusterName,
    incarnation: u32,
) -> Result<Option<SealedObject>> {
    let key = Layout::new(name, incarnation).cluster();
    let origin = origin(repository, name, incarnation);
    let (store, keys) = (repository.store(), repository.keys());
    match SealedObject::open(store, &key, Kind::Cluster, &origin, keys).await {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn origin(repository: &Repository, name: &ClusterName, incarnation: u32) -> Origin {
    Origin { repository: repository.uuid(), cluster: name.to_string(), incarnation }
}

/// Decodes the content of a small object, naming the object when it is not what it should be.
pub(crate) fn decode<'b, T: Decode<'b, ()>>(key: &ObjectKey, content: &'b [u8]) -> Result<T> {
    minicbor::decode(content)
        .map_err(|error| Error::Damaged { key: key.clone(), what: error.to_string() })
}
