//! A Postgres server that nobody but us can reach.
//!
//! It listens on a Unix socket in a directory of its own with mode 0700, so that everyone who gets
//! there may be trusted. Settings of the data directory that would reach beyond it, or that name
//! files a restored cluster does not have, are overridden on the command line, which wins over
//! every file.
//!
//! Invariants:
//! * the server is our child in a process group of its own: a Ctrl-C at the terminal is first ours;
//! * dropping a [`PrivateServer`] stops the server at once, as a crash would: nothing is lost;
//! * "ready" is what the server writes into `postmaster.pid`. The state in `pg_control` would not
//!   do, since a backup of a running primary begins with `in production`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::installation::run;
use super::log::ServerLog;
use super::{ClusterState, ControlData, Installation, ServerError};

/// Superuser of a cluster made by [`PrivateServer::create`].
pub const SUPERUSER: &str = "postgres";

/// Only a part of the socket's name, as the directory is the server's own.
const PORT: &str = "5432";

/// Whoever gets at the socket is trusted.
const HBA: &str = "local all all trust\nlocal replication all trust\n";

/// How often `postmaster.pid` and the log are looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

const CREATE_DEADLINE: Duration = Duration::from_secs(120);
const START_DEADLINE: Duration = Duration::from_secs(60);
/// A fast shutdown writes out all that recovery has left in memory.
const STOP_DEADLINE: Duration = Duration::from_secs(600);

/// A server on one data directory, running or not.
#[derive(Debug)]
pub struct PrivateServer {
    installation: Installation,
    data: PathBuf,
    directory: PathBuf,
    running: Option<Running>,
}

impl PrivateServer {
    /// A server for an existing data directory.
    ///
    /// Makes `directory` for the socket and the log. It must not exist, lest somebody else be
    /// waiting there, and be short: the path of a socket has at most 107 bytes.
    pub fn new(
        installation: Installation,
        data: PathBuf,
        directory: PathBuf,
    ) -> Result<Self, ServerError> {
        if geteuid().is_root() {
            return Err(ServerError::Root);
        }
        let made = DirBuilder::new().mode(0o700).create(&directory);
        match made.and_then(|()| fs::write(directory.join("pg_hba.conf"), HBA)) {
            Ok(()) => Ok(Self { installation, data, directory, running: None }),
            Err(source) => Err(ServerError::File { path: directory, source }),
        }
    }

    /// A server on a new cluster, made with `initdb`.
    pub async fn create(
        installation: Installation,
        data: PathBuf,
        directory: PathBuf,
    ) -> Result<Self, ServerError> {
        let server = Self::new(installation, data, directory)?;
        let mut command = server.installation.command("initdb");
        command.args(["-U", SUPERUSER, "-A", "trust", "--no-locale", "-E", "UTF8", "-D"]);
        command.arg(&server.data);
        run(command, CREATE_DEADLINE).await?;
        Ok(server)
    }

    /// Directory of the socket and the log; the port is 5432.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts the server with `settings` and waits until it takes connections.
    pub async fn start(&mut self, settings: &[(&str, &str)]) -> Result<(), ServerError> {
        match self.launch(settings, START_DEADLINE, |_| ()).await? {
            Watched::Ready => Ok(()),
            Watched::Exited(status) => Err(self.stopped(status).await),
        }
    }

    /// Starts the server for a recovery and waits for its end.
    ///
    /// `progress` gets the name of every WAL file that has been fetched. Hot standby is off: nobody
    /// is to read yet, and a target action of `pause` becomes a shutdown.
    pub async fn recover(
        &mut self,
        deadline: Duration,
        progress: impl FnMut(&str),
    ) -> Result<RecoveryEnd, ServerError> {
        let status = match self.launch(&[("hot_standby", "off")], deadline, progress).await? {
            Watched::Ready => return Ok(RecoveryEnd::Promoted),
            Watched::Exited(status) => status,
        };
        if !status.success() || self.state().await? != ClusterState::ShutDownInRecovery {
            return Err(self.stopped(status).await);
        }
        self.running = None;
        Ok(RecoveryEnd::ShutDown)
    }

    /// Stops the server in order; nothing happens if it is not running.
    pub async fn stop(&mut self) -> Result<(), ServerError> {
        let Some(running) = &mut self.running else { return Ok(()) };
        running.signal(Signal::INT);
        let status = match timeout(STOP_DEADLINE, running.child.wait()).await {
            Ok(Ok(status)) => status,
            Ok(Err(source)) => return Err(lost(source)),
            Err(_) => return Err(self.late("stop of", STOP_DEADLINE)),
        };
        if !status.success() {
            return Err(self.stopped(status).await);
        }
        self.running = None;
        Ok(())
    }

    /// Crashes the server and removes its data directory: what a disaster does.
    pub async fn destroy(&mut self) -> Result<(), ServerError> {
        if let Some(mut running) = self.running.take() {
            running.signal(Signal::QUIT);
            match timeout(STOP_DEADLINE, running.child.wait()).await {
                Ok(ended) => ended.map_err(lost)?,
                Err(_) => return Err(self.late("end of", STOP_DEADLINE)),
            };
        }
        let removed = tokio::fs::remove_dir_all(&self.data).await;
        removed.map_err(|source| ServerError::File { path: self.data.clone(), source })
    }

    /// Stops the server and starts it for everyone: with its own settings, on its own, with `log`
    /// for what it has to say before its settings send that elsewhere.
    pub async fn release(mut self, log: &Path) -> Result<(), ServerError> {
        self.stop().await?;
        let mut command = self.installation.command("pg_ctl");
        command.arg("-D").arg(&self.data).arg("-l").arg(log).args(["-s", "-w", "start"]);
        run(command, START_DEADLINE).await?;
        Ok(())
    }

    /// Runs SQL as [`SUPERUSER`] and returns the rows, columns separated by `|`.
    pub async fn psql(&self, sql: &str, deadline: Duration) -> Result<String, ServerError> {
        let arguments = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql];
        self.client("psql", &arguments, deadline).await
    }

    /// Runs a client program as [`SUPERUSER`] and returns what it printed.
    pub async fn client(
        &self,
        name: &str,
        arguments: &[&str],
        deadline: Duration,
    ) -> Result<String, ServerError> {
        let mut command = self.installation.command(name);
        command.env("PGHOST", &self.directory).env("PGPORT", PORT);
        command.env("PGUSER", SUPERUSER).env("PGDATABASE", "postgres").args(arguments);
        run(command, deadline).await
    }

    /// Starts the server and watches it until it is ready or has ended.
    async fn launch(
        &mut self,
        settings: &[(&str, &str)],
        deadline: Duration,
        progress: impl FnMut(&str),
    ) -> Result<Watched, ServerError> {
        let mut command = self.installation.command("postgres");
        command.arg("-D").arg(&self.data);
        self.keep_private(&mut command);
        for (name, value) in settings {
            set(&mut command, name, value);
        }
        let (log, output) = ServerLog::create(self.directory.join("postgres.log"))?;
        let spawned = command.process_group(0).stdout(Stdio::null()).stderr(output).spawn();
        let child = spawned.map_err(lost)?;
        let running = self.running.insert(Running { child, log });
        match timeout(deadline, running.watch(&self.data, progress)).await {
            Ok(watched) => watched,
            Err(_) => Err(self.late("start of", deadline)),
        }
    }

    /// What keeps the server to itself, and its log readable to us.
    fn keep_private(&self, command: &mut Command) {
        // A list of directories, in which a quoted one may contain a comma.
        let mut sockets = OsString::from("\"");
        sockets.push(&self.directory);
        sockets.push("\"");
        set(command, "data_directory", &self.data);
        set(command, "hba_file", self.directory.join("pg_hba.conf"));
        set(command, "unix_socket_directories", sockets);
        for (name, value) in [
            ("listen_addresses", ""),
            ("port", PORT),
            ("ssl", "off"),
            ("external_pid_file", ""),
            ("synchronous_standby_names", ""),
            ("logging_collector", "off"),
            ("log_destination", "stderr"),
            // Containers often have no /dev/shm, and the settings that said so may be left behind.
            ("dynamic_shared_memory_type", "mmap"),
            ("log_min_messages", "warning"),
            ("log_line_prefix", "%m [%p] "),
            ("lc_messages", "C"),
        ] {
            set(command, name, value);
        }
    }

    /// The server ended by itself; its log says why.
    async fn stopped(&mut self, status: ExitStatus) -> ServerError {
        let reason = match self.running.take() {
            Some(running) => running.log.reason().await,
            None => Ok("it was not running".to_owned()),
        };
        match reason {
            Ok(reason) => ServerError::Stopped { data: self.data.clone(), status, reason },
            Err(error) => error,
        }
    }

    /// Something took too long; what has been started goes away.
    fn late(&mut self, what: &'static str, deadline: Duration) -> ServerError {
        self.running = None;
        ServerError::Deadline {
            what: format!("{what} server on {}", self.data.display()),
            deadline,
        }
    }

    async fn state(&self) -> Result<ClusterState, ServerError> {
        Ok(ControlData::read(&self.installation, &self.data).await?.state)
    }
}

/// How a recovery ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecoveryEnd {
    /// On a new timeline; the server runs and takes connections.
    Promoted,
    /// At the target, as the target action demanded; the server does not run.
    ShutDown,
}

/// A server process and its log.
#[derive(Debug)]
struct Running {
    child: Child,
    log: ServerLog,
}

impl Running {
    /// Follows the log until the server is ready or has ended.
    async fn watch(
        &mut self,
        data: &Path,
        mut progress: impl FnMut(&str),
    ) -> Result<Watched, ServerError> {
        loop {
            // Asked before the log is read, so that the log holds all there will be.
            let exited = self.child.try_wait().map_err(lost)?;
            for name in self.log.read_new().await?.lines().filter_map(fetched) {
                progress(name);
            }
            if let Some(status) = exited {
                return Ok(Watched::Exited(status));
            }
            let lock = tokio::fs::read_to_string(data.join("postmaster.pid")).await;
            if self.child.id().is_some_and(|pid| is_ready(&lock.unwrap_or_default(), pid)) {
                return Ok(Watched::Ready);
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Signals the server, unless it has ended and been waited for.
    fn signal(&self, signal: Signal) {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        // A failure means that the process is gone, which whoever waits for it will see.
        let _ = pid.map(|pid| kill_process(pid, signal));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Not SIGKILL: an immediate shutdown takes the server's own children with it.
        self.signal(Signal::QUIT);
    }
}

/// What became of a start.
enum Watched {
    Ready,
    Exited(ExitStatus),
}

fn lost(source: io::Error) -> ServerError {
    ServerError::Run { program: PathBuf::from("postgres"), source }
}

/// Sets a setting on the command line of a server.
fn set(command: &mut Command, name: &str, value: impl AsRef<OsStr>) {
    let mut setting = OsString::from(name);
    setting.push("=");
    setting.push(value);
    command.arg("-c").arg(setting);
}

/// Whether `postmaster.pid` says that the server `pid` takes connections: the process stands in
/// its first line, the status in its eighth.
fn is_ready(lock: &str, pid: u32) -> bool {
    let mut lines = lock.lines();
    lines.next().is_some_and(|line| line.trim() == pid.to_string())
        && lines.nth(6).is_some_and(|line| line.trim() == "ready")
}

/// The name in `LOG:  restored log file "000000010000000000000002" from archive`.
fn fetched(line: &str) -> Option<&str> {
    line.split_once("restored log file \"")?.1.split_once('"').map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_server_is_ready_and_only_when_it_says_so() {
        let lock = |status: &str| format!("42\n/data\n1795354982\n5432\n/run\n\n 1 2\n{status}\n");
        assert!(is_ready(&lock("ready   "), 42));
        assert!(!is_ready(&lock("ready   "), 4));
        assert!(!is_ready(&lock("standby "), 42));
        assert!(!is_ready(&lock("starting"), 42));
        assert!(!is_ready("42\n", 42));
        assert!(!is_ready("", 42));
    }

    #[test]
    fn fetched_files_are_seen_in_the_log() {
        let line =
            "2026-11-22 13:36:02 UTC [7] LOG:  restored log file \"00000002.history\" from archive";
        assert_eq!(fetched(line), Some("00000002.history"));
        assert_eq!(fetched("2026-11-22 13:36:02 UTC [7] LOG:  redo starts at 0/2000028"), None);
    }
}
