//! The pgkeep that is measured, with a directory repository of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::place::{Place, run};
use crate::server::Server;

/// The default, which the claim about latency is made of.
pub(crate) const SHIP_INTERVAL_SECONDS: f64 = 1.0;

/// A configuration and an empty repository. Dropping it removes both.
#[derive(Debug)]
pub(crate) struct Pgkeep<'a> {
    place: &'a Place,
    directory: PathBuf,
}

impl<'a> Pgkeep<'a> {
    /// Registers `server`. A slot `pgkeep` that is there already is used.
    pub(crate) fn init(server: &Server<'a>) -> Result<Self> {
        let place = server.place();
        let directory = place.make_directory("keep")?;
        let config = format!(
            "[repository]\nurl = \"file://{}/repository\"\nencryption = \"off\"\n\
             [cluster.main]\nupstream = \"{}\"\n[ship]\ninterval = \"{SHIP_INTERVAL_SECONDS}s\"\n",
            directory.display(),
            server.conninfo()
        );
        fs::write(directory.join("pgkeep.toml"), config)?;
        let pgkeep = Self { place, directory };
        run(pgkeep.command("init").stdin(Stdio::null()))?;
        Ok(pgkeep)
    }

    /// A verb of it.
    pub(crate) fn command(&self, verb: &str) -> Command {
        let mut command = self.place.command(self.place.pgkeep());
        command.arg("--config").arg(self.directory.join("pgkeep.toml")).arg(verb);
        command
    }

    /// Starts the daemon.
    pub(crate) fn run(&self) -> Result<Daemon> {
        let log = fs::File::create(self.directory.join("log"))?;
        let child = self.command("run").stderr(log).spawn().context("start pgkeep")?;
        Ok(Daemon(child))
    }
}

impl Drop for Pgkeep<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("{}: {error}", self.directory.display());
        }
    }
}

/// A running daemon. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Daemon(Child);

impl Daemon {
    /// The most memory it has ever had resident.
    pub(crate) fn memory_mib(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|text| text.split_whitespace().next()).context("find VmHWM")?;
        Ok(kib.parse::<f64>()? / 1024.0)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("stop pgkeep: {error}");
        }
    }
}
