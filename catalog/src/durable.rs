//! Files that survive a power cut: the only place in the workspace that syncs or renames.
//!
//! A file comes into being as a temporary file that is written, synced, given its name, and made to
//! stay by a sync of its directory. Whoever sees the name sees the whole file.
//!
//! Invariants:
//! * a file made with [`Existing::Refuse`] never takes a name that is taken, however many try;
//! * on every error, and when a [`NewFile`] is dropped, the temporary file is gone. Only a crash
//!   leaves one behind, and [`remove_stale`] is for those.
//!
//! Nothing here may be called on a thread that must not block.
//! See `durable_rename` in Postgres' `src/backend/storage/file/fd.c`.

#![expect(clippy::disallowed_methods, reason = "this is the file that renames for all others")]

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use uuid::Uuid;

use crate::failpoint;

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// A file that has no name yet. Readable by its owner only, as the files of Postgres are.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    temporary: PathBuf,
    is_published: bool,
}

/// What becomes of a file that has the name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the new one fails with `AlreadyExists`.
    Refuse,
    /// The new one takes its place.
    Replace,
}

impl NewFile {
    /// Begins a file in `directory`, which must be on the file system of its later name.
    pub fn create_in(directory: &Path) -> io::Result<Self> {
        let temporary = directory.join(format!("{}.tmp", Uuid::new_v4().simple()));
        let file =
            OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temporary)?;
        Ok(Self { file, temporary, is_published: false })
    }

    /// Makes the file `bytes` long, with zeros at its end.
    pub fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    /// Syncs the file and gives it its name, for good. After `NotFound`, because the directory is
    /// missing, it may be tried again; not after a failed sync, which leaves the content in doubt.
    pub fn commit(&mut self, path: &Path, existing: Existing) -> io::Result<()> {
        if !self.is_published {
            self.file.sync_all()?;
            failpoint::hit(failpoint::BEFORE_RENAME);
            self.rename(path, existing)?;
        }
        sync_directory_of(path)
    }

    /// Gives the file its name without any sync, replacing what was there: for files that are
    /// fetched again after a crash, as those that Postgres asks `restore_command` for. Two syncs
    /// for each segment would make recovery wait for the disk and protect nothing.
    pub fn publish_unsynced(mut self, path: &Path) -> io::Result<()> {
        self.rename(path, Existing::Replace)
    }

    fn rename(&mut self, path: &Path, existing: Existing) -> io::Result<()> {
        match existing {
            Existing::Replace => fs::rename(&self.temporary, path)?,
            Existing::Refuse => rename_new(&self.temporary, path)?,
        }
        self.is_published = true;
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_published {
            // Nobody can be told, and a file that stays is found by `remove_stale`.
            drop(fs::remove_file(&self.temporary));
        }
    }
}

/// Renames, but never over another file. A plain rename would replace it silently.
fn rename_new(temporary: &Path, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
        // File systems that do not know the flag (NFS among them) still refuse a second link.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_new(temporary, path),
        renamed => Ok(renamed?),
    }
}

fn link_new(temporary: &Path, path: &Path) -> io::Result<()> {
    fs::hard_link(temporary, path)?;
    // The file has its name; that the other one stays until `remove_stale` is no failure.
    drop(fs::remove_file(temporary));
    Ok(())
}

/// Writes a new file beside which its temporary file lives; `AlreadyExists` if the name is taken.
pub fn create_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_whole(path, bytes, Existing::Refuse)
}

/// Writes a file in place of the one that has the name, if any: readers see the old or the new.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_whole(path, bytes, Existing::Replace)
}

fn write_whole(path: &Path, bytes: &[u8], existing: Existing) -> io::Result<()> {
    let mut file = NewFile::create_in(directory_of(path))?;
    file.write_all(bytes)?;
    file.commit(path, existing)
}

/// Makes a directory, or finds it made, and sees that it stays.
pub fn create_dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        // Another process may have made it a moment ago and not have synced it yet.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            if !fs::metadata(path)?.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
        }
        made => made?,
    }
    sync_directory_of(path)
}

/// Makes a directory and those above it that are missing, and sees that all of them stay.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    match create_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && path.parent().is_some() => {
            create_dir_all(directory_of(path))?;
            create_dir(path)
        }
        made => made,
    }
}

/// Removes a file for good; `NotFound` if there is none.
pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_directory_of(path)
}

/// Syncs the content and size of a file that was written elsewhere.
pub fn sync_file(file: &File) -> io::Result<()> {
    file.sync_all()
}

/// Syncs the names in a directory.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    sync_dir(directory_of(path))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// Removes temporary files in `directory` that no living writer can still own: those untouched for
/// longer than `age`.
///
/// Age is measured against a file made now, so that it is the file system's clock on both sides; a
/// file server's may differ from ours.
pub fn remove_stale(directory: &Path, age: Duration) -> io::Result<()> {
    let found: Vec<PathBuf> = fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "tmp"))
        .collect();
    if found.is_empty() {
        return Ok(());
    }
    let now = NewFile::create_in(directory)?.file.metadata()?.modified()?;
    for path in found {
        let touched = fs::metadata(&path).and_then(|metadata| metadata.modified());
        if touched.is_ok_and(|touched| now.duration_since(touched).is_ok_and(|old| old > age)) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_taken_name_is_refused_and_nothing_is_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("one");
        create_new(&path, b"first").unwrap();
        let error = create_new(&path, b"second").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(directory.path()), ["one"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, FILE_MODE);
    }

    #[test]
    fn a_file_system_without_the_rename_flag_refuses_a_taken_name_too() {
        let directory = tempfile::tempdir().unwrap();
        let [one, two, path] = ["one", "two", "path"].map(|name| directory.path().join(name));
        fs::write(&one, b"first").unwrap();
        fs::write(&two, b"second").unwrap();
        link_new(&one, &path).unwrap();
        assert_eq!(link_new(&two, &path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(directory.path()), ["path", "two"]);
    }

    #[test]
    fn replace_takes_the_place_of_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("one");
        replace(&path, b"first").unwrap();
        replace(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names(directory.path()), ["one"]);
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = NewFile::create_in(directory.path()).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn a_commit_into_a_missing_directory_can_be_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/one");
        let mut file = NewFile::create_in(directory.path()).unwrap();
        file.write_all(b"whole").unwrap();
        let error = file.commit(&path, Existing::Refuse).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        create_dir_all(path.parent().unwrap()).unwrap();
        file.commit(&path, Existing::Refuse).unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(names(directory.path()), ["a"]);
    }

    #[test]
    fn directories_are_made_as_far_as_they_are_missing() {
        let directory = tempfile::tempdir().unwrap();
        let deep = directory.path().join("a/b/c");
        create_dir_all(&deep).unwrap();
        create_dir_all(&deep).unwrap();
        assert_eq!(fs::metadata(&deep).unwrap().permissions().mode() & 0o777, DIRECTORY_MODE);
        fs::write(directory.path().join("file"), b"").unwrap();
        assert!(create_dir_all(&directory.path().join("file")).is_err());
        assert!(create_dir_all(&directory.path().join("file/below")).is_err());
    }

    #[test]
    fn only_old_temporary_files_are_stale() {
        let directory = tempfile::tempdir().unwrap();
        let old = directory.path().join("old.tmp");
        let day = Duration::from_secs(86_400);
        let written = File::create(&old).unwrap();
        written.set_modified(written.metadata().unwrap().modified().unwrap() - 2 * day).unwrap();
        fs::write(directory.path().join("young.tmp"), b"").unwrap();
        fs::write(directory.path().join("other"), b"").unwrap();
        remove_stale(directory.path(), day).unwrap();
        assert_eq!(names(directory.path()), ["other", "young.tmp"]);
    }
}
