//! Carries out a plan: from the repository to a data directory, and to a running Postgres.
//!
//! The order of acts makes that nothing can be mistaken for what it is not: judge the places, lay
//! the files down, pin, settings, links, and `pg_control` last. A directory left behind by a
//! failure cannot start.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pgkeep_catalog::{Cluster, failpoint};
use rustix::process::geteuid;
use tokio::sync::watch;
use uuid::Uuid;

use crate::blocking::blocking;
use crate::data_dir::DataDir;
use crate::plan::RestorePlan;
use crate::server::{Installation, PrivateServer, RecoveryEnd, ServerError};
use crate::unpack::Unpacker;
use crate::{
    Error, Pin, Reached, RecoverySettings, RestoreCommand, Result, TablespaceMapping, TargetAction,
};

/// Restores one cluster.
#[derive(Clone, Debug)]
pub struct Restorer {
    cluster: Cluster,
}

/// Where a restore goes, and what the server is to do there.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// The data directory: absent or empty.
    pub directory: PathBuf,
    /// New places of tablespaces.
    pub tablespaces: Vec<TablespaceMapping>,
    /// What was asked for, in words.
    pub asked: String,
    /// How WAL is fetched.
    pub restore_command: RestoreCommand,
    /// What happens when the target is reached.
    pub action: TargetAction,
}

/// A data directory that is complete and synced, and waits for a Postgres to recover it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The data directory, as an absolute path.
    pub directory: PathBuf,
    /// Files of the configuration that the backup did not have and that were written.
    pub configuration_written: Vec<&'static str>,
    /// What happens when the target is reached.
    pub action: TargetAction,
}

/// How a restored server is started.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// Directory of Postgres' programs, if not where they usually are.
    pub bin: Option<PathBuf>,
    /// Time for the recovery.
    pub deadline: Duration,
}

impl Restorer {
    /// A restorer of `cluster`.
    pub const fn new(cluster: Cluster) -> Self {
        Self { cluster }
    }

    /// Restores what `plan` says, telling how many bytes are done.
    pub async fn run(
        &self,
        plan: &RestorePlan,
        options: RestoreOptions,
        bytes_done: &watch::Sender<u64>,
    ) -> Result<Restored> {
        if geteuid().is_root() {
            return Err(ServerError::Root.into());
        }
        let RestoreOptions { directory, tablespaces, asked, restore_command, action } = options;
        let settings = RecoverySettings {
            asked,
            restore_command,
            stop: plan.stop.start,
            timeline: plan.timeline,
            action,
        };
        let old = plan.summary.tablespaces.clone();
        let data = blocking(move || {
            let data = DataDir::check(&directory, &old, &tablespaces)?;
            data.create()?;
            Ok::<_, Error>(data)
        })
        .await?;
        let control =
            Box::pin(Unpacker::new(&self.cluster, &plan.backup, &data, bytes_done).run()).await?;
        let pin = Pin::new(&self.cluster, plan.path.clone(), plan.end);
        let restored = blocking(move || {
            pin.write(data.root())?;
            let configuration_written = settings.write(data.root())?;
            data.link_tablespaces()?;
            let directory = data.root().to_owned();
            Ok::<_, Error>(Restored { directory, configuration_written, action })
        })
        .await?;
        failpoint::hit(failpoint::RESTORE_BEFORE_CONTROL);
        control.commit().await?;
        Ok(restored)
    }

    /// Recovers a restored directory where nobody else can reach it, checks where it came to, and
    /// lets it go: as a server of its own with its own settings, unless it is to be shut down.
    ///
    /// `progress` gets the name of every WAL file that has been fetched.
    pub async fn start(
        &self,
        plan: &RestorePlan,
        restored: &Restored,
        options: StartOptions,
        progress: impl FnMut(&str),
    ) -> Result<Reached> {
        let installation =
            Installation::find(plan.summary.server_major, options.bin.as_deref()).await?;
        let private = PrivateDirectory::new();
        let directory = private.0.clone();
        let mut server = PrivateServer::new(installation, restored.directory.clone(), directory)?;
        let log = restored.directory.join("pgkeep-start.log");
        let end = server.recover(options.deadline, progress).await;
        // Why it did not come to its end matters more than a log that could not be kept.
        let kept = private.keep_log(&log);
        let end = end?;
        kept?;
        let reached = Reached::judge(&private.read_log()?, plan)?;
        // Paused for us means shut down; the server that is let go pauses at the same place.
        if end == RecoveryEnd::Promoted || restored.action == TargetAction::Pause {
            server.release(&log).await?;
        }
        Ok(reached)
    }
}

/// A place for the socket and the log of a private server, until it has done its work. Its path is
/// short, as that of a socket must be.
#[derive(Debug)]
struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    fn new() -> Self {
        let name = format!("pgkeep-{:.12}", Uuid::new_v4().simple().to_string());
        Self(env::temp_dir().join(name))
    }

    /// Keeps what the server said: the private directory goes.
    fn keep_log(&self, to: &Path) -> Result<()> {
        let log = self.0.join("postgres.log");
        fs::copy(&log, to).map(|_| ()).map_err(|e| Error::file("write", to, e))
    }

    fn read_log(&self) -> Result<String> {
        let path: &Path = &self.0.join("postgres.log");
        let log = fs::read(path).map_err(|e| Error::file("read", path, e))?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // It lies among other temporary files, and whoever sweeps them takes it as well.
        drop(fs::remove_dir_all(&self.0));
    }
}
