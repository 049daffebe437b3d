//! Where it is measured: a directory in memory, because the speed of disks varies by the minute.
//!
//! Postgres refuses root, so everything that is measured runs as the user `postgres` when we are
//! root, and as ourselves otherwise.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// A fixed name: two runs at once would measure each other, and what a killed run left is found.
const NAME: &str = "pgkeep-bench";

const SERVER_USER: &str = "postgres";

/// A directory for one run. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Place {
    directory: PathBuf,
    postgres_bin: PathBuf,
    uid: u32,
    gid: u32,
}

impl Place {
    /// Makes the directory, with a copy of the release binary of pgkeep in it.
    pub(crate) fn create() -> Result<Self> {
        let pgkeep = std::env::current_exe()?.with_file_name("pgkeep");
        let is_release = !cfg!(debug_assertions) && pgkeep.exists();
        ensure!(is_release, "no release build of pgkeep beside this program: use `make bench`");
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let (directory, postgres_bin, (uid, gid)) = (parent.join(NAME), postgres_bin()?, user()?);
        ensure!(!directory.exists(), "{} exists: remove it", directory.display());
        let place = Self { directory, postgres_bin, uid, gid };
        place.make_directory("")?;
        // The user `postgres` may not reach where cargo builds.
        fs::copy(pgkeep, place.pgkeep()).context("copy pgkeep")?;
        Ok(place)
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Makes a directory in it.
    pub(crate) fn make_directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        chown(&path, Some(self.uid), Some(self.gid))?;
        Ok(path)
    }

    /// The program that is measured.
    pub(crate) fn pgkeep(&self) -> PathBuf {
        self.path("pgkeep")
    }

    /// One of Postgres' programs.
    pub(crate) fn postgres(&self, program: &str) -> Command {
        self.command(self.postgres_bin.join(program))
    }

    /// A command that works here. It is started as it is, so that nothing else is measured with it.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.uid(self.uid).gid(self.gid).current_dir(&self.directory);
        command.env("LC_ALL", "C").env("TZ", "UTC");
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("{} is left: {error}", self.directory.display());
        }
    }
}

/// Runs a command to its end and returns what it prints.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", errors.trim_end());
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Processor time that our children have taken, of those that have ended.
pub(crate) fn cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    // `cutime` and `cstime`, in hundredths of a second; see proc(5).
    let ticks = fields.skip(13).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

/// User and group that everything runs as.
fn user() -> Result<(u32, u32)> {
    let ourselves = fs::metadata("/proc/self")?;
    if ourselves.uid() != 0 {
        return Ok((ourselves.uid(), ourselves.gid()));
    }
    let passwd = fs::read_to_string("/etc/passwd")?;
    let ids = passwd.lines().find_map(|line| {
        let mut fields = line.strip_prefix(SERVER_USER)?.strip_prefix(':')?.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    ids.with_context(|| format!("there is no user {SERVER_USER:?}"))
}

/// Where Postgres' programs are. Debian keeps those of the server off `PATH`.
fn postgres_bin() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(version);
    let debian = newest.map(|path| path.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = debian.into_iter().chain(std::env::split_paths(&path));
    places.find(|place| place.join("initdb").exists()).context("Postgres is not installed")
}
