//! Walks a directory tree in the byte order of keys.
//!
//! A directory sorts as if its name ended in `/`: `a-b` comes before `a/x`, because `-` is below
//! `/`, although the directory `a` comes before the file `a-b`.
//!
//! The walk reads only directories that hold keys after the wanted one, and stops at the limit.

use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;

use super::key::is_component;
use super::{Listed, ObjectKey};

/// Up to `limit` keys under `prefix`, in byte order, strictly after `after`.
pub(super) fn walk(
    root: &Path,
    prefix: &str,
    after: Option<&ObjectKey>,
    limit: usize,
) -> io::Result<Vec<Listed>> {
    let after = after.map_or("", ObjectKey::as_str);
    let mut walk = Walk { root, after, limit, found: Vec::new() };
    walk.directory(prefix)?;
    Ok(walk.found)
}

struct Walk<'a> {
    root: &'a Path,
    after: &'a str,
    limit: usize,
    found: Vec<Listed>,
}

impl Walk<'_> {
    /// Walks the directory whose keys all begin with `prefix`.
    fn directory(&mut self, prefix: &str) -> io::Result<()> {
        if self.is_passed(prefix) {
            return Ok(());
        }
        let entries = match fs::read_dir(self.root.join(prefix)) {
            Ok(entries) => entries,
            Err(e) if is_absence(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(name(&entry?)?.map(|name| format!("{prefix}{name}")));
        }
        names.sort_unstable();
        for name in names {
            if self.found.len() >= self.limit {
                break;
            }
            if name.ends_with('/') {
                self.directory(&name)?;
            } else {
                self.file(&name)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, name: &str) -> io::Result<()> {
        // A path that is too long for a key was not written by us.
        let Ok(key) = name.parse::<ObjectKey>() else { return Ok(()) };
        if key.as_str() <= self.after {
            return Ok(());
        }
        match fs::metadata(self.root.join(name)) {
            Ok(metadata) => self.found.push(Listed { key, size: metadata.len() }),
            // Deleted while it was being listed.
            Err(e) if is_absence(&e) => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Whether no key that begins with `prefix` comes after the wanted one.
    fn is_passed(&self, prefix: &str) -> bool {
        prefix < self.after && !self.after.starts_with(prefix)
    }
}

/// The name of an entry as it sorts among keys; none for what cannot be part of a key.
fn name(entry: &DirEntry) -> io::Result<Option<String>> {
    let Some(name) = entry.file_name().into_string().ok().filter(|name| is_component(name)) else {
        return Ok(None);
    };
    let mut kind = entry.file_type()?;
    if kind.is_symlink() {
        // An operator may have moved a part of the repository to another disk.
        match fs::metadata(entry.path()) {
            Ok(metadata) => kind = metadata.file_type(),
            Err(e) if is_absence(&e) => return Ok(None),
            Err(e) => return Err(e),
        }
    }
    Ok(if kind.is_dir() { Some(name + "/") } else { kind.is_file().then_some(name) })
}

/// Whether nothing has that path. A path through a file leads to no object either.
pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    fn tree(keys: impl IntoIterator<Item = String>) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for key in keys {
            let path = root.path().join(key);
            // A key below another key cannot exist in a directory; the first one wins.
            if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.is_dir() {
                fs::write(path, b"x").unwrap();
            }
        }
        root
    }

    fn keys(listed: Vec<Listed>) -> Vec<String> {
        listed.into_iter().map(|listed| listed.key.to_string()).collect()
    }

    #[test]
    fn order_is_that_of_whole_keys() {
        let root = tree(["a/x", "a-b", "a.b", "ab", "a0/y", "B"].map(str::to_owned));
        let listed = walk(root.path(), "", None, 100).unwrap();
        assert_eq!(keys(listed), ["B", "a-b", "a.b", "a/x", "a0/y", "ab"]);
    }

    #[test]
    fn a_directory_that_is_not_needed_is_not_read() {
        let root = tree(["a/x", "b/x", "c/x"].map(str::to_owned));
        let closed = |name: &str| {
            // Whoever reads the directory meets the loop, and fails even as root.
            let path = root.path().join(name).join("loop");
            std::os::unix::fs::symlink(&path, &path).unwrap();
        };
        closed("a");
        closed("c");
        let after: ObjectKey = "a0".parse().unwrap();
        assert_eq!(keys(walk(root.path(), "", Some(&after), 1).unwrap()), ["b/x"]);
        assert!(walk(root.path(), "", None, 100).is_err());
    }

    proptest! {
        #[test]
        fn paging_finds_every_key_in_order(
            wanted in btree_set("[a0.-]{0,2}[ab0]/?[ab0-]{1,2}", 1..20),
            limit in 1_usize..5,
        ) {
            let root = tree(wanted.into_iter().filter(|key| key.parse::<ObjectKey>().is_ok()));
            let whole = walk(root.path(), "", None, 1000).unwrap();
            prop_assert!(whole.is_sorted_by(|a, b| a.key < b.key));
            let mut paged: Vec<Listed> = Vec::new();
            loop {
                let after = paged.last().map(|listed| listed.key.clone());
                let page = walk(root.path(), "", after.as_ref(), limit).unwrap();
                let is_last = page.len() < limit;
                paged.extend(page);
                if is_last {
                    break;
                }
            }
            prop_assert_eq!(paged, whole);
        }
    }
}
