//! The data directory that is going to be, and the places of its tablespaces.
//!
//! Judged before anything is written: every place must be absent or an empty directory of our own,
//! and none may lie in another. So nothing that somebody still needs can be overwritten, and no
//! link that somebody else made can be followed.
//!
//! Invariant: a path of a backup becomes a path below one of these places, and links to the
//! tablespaces come last, so that nothing is ever written through a link.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use pgkeep_catalog::backup::Tablespace;
use pgkeep_catalog::durable;
use pgkeep_proto::base_backup::BackupPath;
use rustix::process::geteuid;

use crate::{Error, Result, TablespaceMapping};

const TABLESPACES: &str = "pg_tblspc";

/// A data directory to restore into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir {
    root: PathBuf,
    tablespaces: Vec<(u32, PathBuf)>,
}

impl DataDir {
    /// Judges `directory` and the places to which `mappings` send the tablespaces of a backup.
    /// Touches nothing.
    pub fn check(
        directory: &Path,
        tablespaces: &[Tablespace],
        mappings: &[TablespaceMapping],
    ) -> Result<Self> {
        for mapping in mappings {
            if !tablespaces.iter().any(|tablespace| Path::new(&tablespace.location) == mapping.old)
            {
                return Err(Error::NoTablespace { location: mapping.old.clone() });
            }
        }
        let root = resolve(directory)?;
        let mut places = Vec::new();
        for Tablespace { oid, location } in tablespaces {
            let old = Path::new(location);
            // One that lies in `pg_tblspc` itself belongs to the data directory.
            if old.is_absolute() {
                let mapping = mappings.iter().find(|mapping| mapping.old == old);
                places.push((*oid, resolve(mapping.map_or(old, |mapping| &mapping.new))?));
            }
        }
        let data = Self { root, tablespaces: places };
        data.check_places()?;
        Ok(data)
    }

    fn check_places(&self) -> Result<()> {
        let places: Vec<_> = self.places().collect();
        for (at, place) in places.iter().enumerate() {
            check_empty(place)?;
            for (_, other) in places.iter().enumerate().filter(|(other, _)| *other != at) {
                if place.starts_with(other) {
                    let (inner, outer) = (place.to_path_buf(), other.to_path_buf());
                    return Err(Error::Nested { inner, outer });
                }
            }
        }
        Ok(())
    }

    /// Makes the directories, readable by their owner only.
    pub(crate) fn create(&self) -> Result<()> {
        for place in self.places() {
            durable::create_dir_all(place)
                .and_then(|()| fs::set_permissions(place, Permissions::from_mode(0o700)))
                .map_err(|e| Error::file("create", place, e))?;
        }
        Ok(())
    }

    /// The data directory itself, as an absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The data directory and the places of its tablespaces.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Path> {
        let tablespaces = self.tablespaces.iter().map(|(_, place)| place.as_path());
        std::iter::once(self.root.as_path()).chain(tablespaces)
    }

    /// Where something of a backup goes.
    pub(crate) fn locate(&self, path: &BackupPath) -> PathBuf {
        self.locate_in_tablespace(path.as_path()).unwrap_or_else(|| self.root.join(path.as_path()))
    }

    fn locate_in_tablespace(&self, path: &Path) -> Option<PathBuf> {
        let mut components = path.strip_prefix(TABLESPACES).ok()?.components();
        let name = components.next()?.as_os_str().to_str()?;
        let (_, place) = self.tablespaces.iter().find(|(oid, _)| oid.to_string() == name)?;
        Some(place.join(components.as_path()))
    }

    /// Makes the links to the tablespaces.
    pub(crate) fn link_tablespaces(&self) -> Result<()> {
        let directory = self.root.join(TABLESPACES);
        for (oid, place) in &self.tablespaces {
            let link = directory.join(oid.to_string());
            symlink(place, &link).map_err(|e| Error::file("create", link, e))?;
        }
        durable::sync_dir(&directory).map_err(|e| Error::file("sync", directory, e))
    }
}

/// The absolute path without links, as far as it exists.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf> {
    fn existing(path: &Path) -> io::Result<PathBuf> {
        match (path.canonicalize(), path.parent(), path.file_name()) {
            (Err(e), Some(parent), Some(name)) if e.kind() == io::ErrorKind::NotFound => {
                Ok(existing(parent)?.join(name))
            }
            (resolved, ..) => resolved,
        }
    }
    let resolved = std::path::absolute(path).and_then(|path| existing(&path));
    resolved.map_err(|e| Error::file("find", path, e))
}

/// Refuses a place that holds something, or is somebody else's.
pub(crate) fn check_empty(path: &Path) -> Result<()> {
    let mut entries = match fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|e| Error::file("read", path, e))?,
    };
    if entries.next().is_some() {
        return Err(Error::NotEmpty { path: path.to_owned() });
    }
    let owner = fs::metadata(path).map_err(|e| Error::file("read", path, e))?.uid();
    if owner != geteuid().as_raw() {
        return Err(Error::NotOwned { path: path.to_owned(), owner });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tablespaces(location: &Path) -> Vec<Tablespace> {
        vec![Tablespace { oid: 16_384, location: location.to_str().unwrap().to_owned() }]
    }

    #[test]
    fn what_is_there_is_refused_and_untouched() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("data");
        assert!(DataDir::check(&root, &[], &[]).is_ok());
        assert!(!root.exists());
        fs::create_dir(&root).unwrap();
        assert!(DataDir::check(&root, &[], &[]).is_ok());
        fs::write(root.join("lost+found"), b"").unwrap();
        assert!(matches!(DataDir::check(&root, &[], &[]), Err(Error::NotEmpty { .. })));
        let file = root.join("lost+found");
        assert!(matches!(DataDir::check(&file, &[], &[]), Err(Error::File { .. })));
    }

    #[test]
    fn a_tablespace_in_use_or_within_the_data_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (root, old) = (directory.path().join("data"), directory.path().join("old"));
        fs::create_dir_all(old.join("PG_15_202209061")).unwrap();
        let refused = DataDir::check(&root, &tablespaces(&old), &[]);
        assert!(matches!(refused, Err(Error::NotEmpty { .. })));
        let mapped = |new: &Path| {
            let mapping = TablespaceMapping { old: old.clone(), new: new.to_owned() };
            DataDir::check(&root, &tablespaces(&old), &[mapping])
        };
        assert!(mapped(&directory.path().join("new")).is_ok());
        for nested in [root.clone(), root.join("ts"), directory.path().join("data/../data/ts")] {
            let refused = mapped(&nested);
            assert!(refused.is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_link_does_not_hide_that_places_are_nested() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("data");
        fs::create_dir(&root).unwrap();
        symlink(&root, directory.path().join("link")).unwrap();
        let location = directory.path().join("link/ts");
        let refused = DataDir::check(&root, &tablespaces(&location), &[]);
        assert!(matches!(refused, Err(Error::Nested { .. })), "{refused:?}");
    }

    #[test]
    fn a_mapping_must_name_a_tablespace_of_the_backup() {
        let mapping = "/other=/new".parse().unwrap();
        let refused =
            DataDir::check(Path::new("/absent"), &tablespaces(Path::new("/old")), &[mapping]);
        assert!(matches!(refused, Err(Error::NoTablespace { .. })));
    }

    #[test]
    fn paths_of_a_tablespace_go_to_its_place() {
        let places = tablespaces(Path::new("/absent/ts"));
        let data = DataDir::check(Path::new("/absent/data"), &places, &[]).unwrap();
        let locate = |path: &str| data.locate(&BackupPath::new(path).unwrap());
        assert_eq!(locate("pg_tblspc/16384/PG_15/5/1"), Path::new("/absent/ts/PG_15/5/1"));
        assert_eq!(locate("pg_tblspc/16384"), Path::new("/absent/ts/"));
        assert_eq!(locate("pg_tblspc/16385/x"), Path::new("/absent/data/pg_tblspc/16385/x"));
        assert_eq!(locate("base/5/1"), Path::new("/absent/data/base/5/1"));
    }
}
