//! The repository as a stranger sees it who has nothing else: no daemon, no server.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgkeep_catalog::coverage::{Coverage, Stretch};
use pgkeep_catalog::key::SecretSource;
use pgkeep_catalog::sealed::Kind;
use pgkeep_catalog::segment::ArchivedSegment;
use pgkeep_catalog::store::{Store, StoreExt as _};
use pgkeep_catalog::{Cluster, Repository, RepositoryConfig};
use pgkeep_proto::{Lsn, SegmentName, TimelineId};

/// The cluster `main` of a repository.
#[derive(Debug)]
pub(crate) struct Archive {
    cluster: Cluster,
}

impl Archive {
    /// Opens the repository in `directory` with a copy of the key in `key`, or without one where there
    /// is no such file.
    pub(crate) async fn open(directory: &Path, key: &Path) -> Self {
        let mut config = RepositoryConfig::plain(format!("file://{}", directory.display()));
        // Ours, since pgkeep takes no secret from a file of somebody else.
        let mut own = tempfile::NamedTempFile::new().unwrap();
        if key.exists() && directory.join("keys").exists() {
            own.write_all(&fs::read(key).unwrap()).unwrap();
            config.encryption = None;
            config.encryption_key = Some(SecretSource::File(own.path().to_owned()));
        }
        let repository = Arc::new(Repository::open(&config).await.unwrap());
        Self { cluster: Cluster::open(repository, "main".parse().unwrap()).await.unwrap() }
    }

    /// Opens the repository in `store` with a copy of the key in `key`.
    pub(crate) async fn open_store(store: Arc<dyn Store>, key: &Path) -> Self {
        let mut own = tempfile::NamedTempFile::new().unwrap();
        own.write_all(&fs::read(key).unwrap()).unwrap();
        let mut config = RepositoryConfig::plain("file:///".to_owned());
        config.encryption = None;
        config.encryption_key = Some(SecretSource::File(own.path().to_owned()));
        let repository = Arc::new(Repository::open_in(store, &config).await.unwrap());
        Self { cluster: Cluster::open(repository, "main".parse().unwrap()).await.unwrap() }
    }

    /// What is archived at this moment.
    pub(crate) async fn stretches(&self) -> Vec<Stretch> {
        Coverage::read(&self.cluster).await.unwrap().stretches().to_vec()
    }

    /// Where the last stretch of the first timeline ends; zero when nothing is archived.
    pub(crate) async fn end(&self) -> Lsn {
        self.end_of(TimelineId::FIRST).await
    }

    /// Where the last stretch of `timeline` ends; zero when nothing of it is archived.
    pub(crate) async fn end_of(&self, timeline: TimelineId) -> Lsn {
        let coverage = Coverage::read(&self.cluster).await.unwrap();
        coverage.last_of(timeline).map_or(Lsn::ZERO, |stretch| stretch.to)
    }

    /// Fails the test unless each of these files is archived, byte for byte. Gives their number.
    pub(crate) async fn expect_equal(&self, files: &BTreeMap<String, PathBuf>) -> usize {
        for (name, path) in files {
            let segment: SegmentName = name.parse().unwrap();
            let archived = ArchivedSegment::open(&self.cluster, segment).await.unwrap();
            let archived = archived.unwrap_or_else(|| panic!("{name} is not archived"));
            let end = archived.to();
            assert!(archived.is_complete(&self.cluster), "{name} is archived only up to {end}");
            let bytes = archived.read_all().await.unwrap();
            let expected = fs::read(path).unwrap();
            assert!(bytes.len() == expected.len(), "{name} is archived with another length");
            if let Some(at) = bytes.iter().zip(&expected).position(|(ours, theirs)| ours != theirs)
            {
                panic!("{name} differs from {} at byte {at}", path.display());
            }
        }
        files.len()
    }

    /// Fails the test unless every object that holds WAL can be read to its end. Their number.
    pub(crate) async fn expect_sound(&self) -> usize {
        let layout = self.cluster.layout();
        let mut sound = 0;
        for (kind, prefix) in [(Kind::Segment, layout.segments()), (Kind::Piece, layout.pieces())] {
            for listed in self.cluster.store().list_all(&prefix).await.unwrap() {
                let object = self.cluster.open_object(kind, &listed.key).await.unwrap();
                object.read_all().await.unwrap();
                sound += 1;
            }
        }
        sound
    }

    /// The cluster, for what is asked of it only once.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}
