//! The Postgres that is installed here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Programs of one Postgres installation.
#[derive(Debug)]
pub(crate) struct Installation {
    directory: PathBuf,
    version: String,
}

impl Installation {
    /// The newest installation of this machine; `PGKEEP_TEST_PG_BIN` names another.
    ///
    /// Debian keeps the server's programs off `PATH`.
    pub(crate) fn newest() -> &'static Self {
        static NEWEST: LazyLock<Installation> = LazyLock::new(|| {
            std::env::var_os("PGKEEP_TEST_PG_BIN")
                .map(PathBuf::from)
                .or_else(newest_of_debian)
                .or_else(on_path)
                .map(Installation::at)
                .expect("Postgres is installed: try make setup")
        });
        &NEWEST
    }

    fn at(directory: PathBuf) -> Self {
        let output = Command::new(directory.join("postgres")).arg("--version").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let version = text
            .split_whitespace()
            .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
            .unwrap_or_else(|| panic!("postgres --version says {text:?}"));
        Self { directory, version: version.to_owned() }
    }

    /// The path of one of its programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Its version, as in `15.18`.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }
}

fn newest_of_debian() -> Option<PathBuf> {
    std::fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let major: u32 = path.file_name()?.to_str()?.parse().ok()?;
            holds_server(&path.join("bin")).then_some((major, path.join("bin")))
        })
        .max()
        .map(|(_, path)| path)
}

fn on_path() -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).find(|path| holds_server(path))
}

fn holds_server(directory: &Path) -> bool {
    ["postgres", "initdb"].iter().all(|program| directory.join(program).exists())
}
