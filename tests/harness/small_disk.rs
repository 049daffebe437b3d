//! A disk that gets full.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::account;
use super::command::run;

const FILLER_CHUNK_SIZE: usize = 4096;

/// A file system in memory of a few megabytes. Declare it after the workdir: it goes first.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    /// Mounts one at `place`, a directory that does not exist yet. Only root may: `None` otherwise.
    pub(crate) async fn mount(place: &Path, size_mb: u32) -> Option<Self> {
        if !account::is_root() {
            return None;
        }
        fs::create_dir(place).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size_mb}m,mode=0777"), "tmpfs"]);
        mount.arg(place);
        run(mount).await.expect_success();
        Some(Self { place: place.to_owned() })
    }

    /// Takes what is left, to the last byte.
    pub(crate) fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.filler()).unwrap();
        loop {
            match file.write_all(&[7; FILLER_CHUNK_SIZE]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("fill {}: {error}", self.place.display()),
            }
        }
    }

    /// Gives it back.
    pub(crate) fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    /// No key begins with a dot, so a repository here does not see it.
    fn filler(&self) -> PathBuf {
        self.place.join(".filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process of a failed test may still have files open here.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.place).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            println!("still mounted: {}", self.place.display());
        }
    }
}
