//! What all tests of this machine share, and how they agree on who makes it.
//!
//! Tests run as many processes at once; a lock file lets one of them make what the others use.
//! Nothing is visible under its final name before it is whole.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::account;

/// A path under which the account of the servers may run `program`.
///
/// When that account is not ours it may be unable to enter the build directory, so it gets a
/// copy. A program that still runs is not disturbed: the copy is replaced, not rewritten.
pub(crate) fn runnable(program: &Path) -> PathBuf {
    if !account::is_root() {
        return program.to_owned();
    }
    let directory = directory("programs");
    let name = program.to_string_lossy().replace('/', "-");
    let copy = directory.join(name.trim_start_matches('-'));
    let _lock = lock(&directory, &name);
    let source = fs::metadata(program).unwrap();
    let is_current = fs::metadata(&copy).is_ok_and(|copied| {
        copied.len() == source.len() && copied.modified().unwrap() == source.modified().unwrap()
    });
    if !is_current {
        let partial = copy.with_extension("partial");
        fs::copy(program, &partial).unwrap();
        fs::set_permissions(&partial, Permissions::from_mode(0o755)).unwrap();
        let file = File::options().write(true).open(&partial).unwrap();
        file.set_modified(source.modified().unwrap()).unwrap();
        drop(file);
        fs::rename(&partial, &copy).unwrap();
    }
    copy
}

/// A directory that stays from run to run and that anybody may read.
pub(crate) fn directory(name: &str) -> PathBuf {
    let root = std::env::temp_dir().join(format!("pgkeep-tests-{}", account::our_uid()));
    let path = root.join(name);
    fs::create_dir_all(&path).unwrap();
    // Anybody may make a directory of this name; what we run must not come from somebody else's.
    let owner = fs::metadata(&root).unwrap().uid();
    assert!(owner == account::our_uid(), "{} belongs to user {owner}", root.display());
    for directory in [&root, &path] {
        fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
    }
    path
}

/// Holds the lock `name` of a shared directory until the file is dropped.
pub(crate) fn lock(directory: &Path, name: &str) -> File {
    let file = File::create(directory.join(format!("{name}.lock"))).unwrap();
    file.lock().unwrap();
    file
}
