//! A Postgres server of a test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use pgkeep_proto::Lsn;
use rustix::process::Signal;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::account;
use super::child::Child;
use super::command::run;
use super::control::Control;
use super::installation::Installation;
use super::postgres_builder::PostgresBuilder;
use super::wait::wait_for;
use super::workdir::Workdir;

/// One server: its data directory, its socket directory, its log, and its process while it runs.
///
/// Where it listens is said on its command line and not in its files: a restored directory or a
/// clone runs as it is, and none of them meets another.
#[derive(Debug)]
pub(crate) struct Postgres {
    name: String,
    directory: PathBuf,
    pub(super) data: PathBuf,
    pub(super) port: u16,
    pub(super) is_on_tcp: bool,
    child: Option<Child>,
    variables: Vec<(String, String)>,
}

/// How a server is asked to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StopMode {
    /// Waits for clients.
    Smart,
    /// Throws clients out and writes a shutdown checkpoint.
    Fast,
    /// Leaves recovery to the next start.
    Immediate,
}

impl Postgres {
    /// A new server `name` in `workdir`, still to be described.
    pub(crate) fn build(workdir: &Workdir, name: &str) -> PostgresBuilder {
        PostgresBuilder::new(Self::without_data(workdir, name))
    }

    /// A server `name` whose data directory is still to be made, by a restore perhaps.
    pub(crate) fn without_data(workdir: &Workdir, name: &str) -> Self {
        let directory = workdir.subdirectory(name);
        let data = directory.join("data");
        let (port, is_on_tcp, variables) = (5432, false, Vec::new());
        Self { name: name.to_owned(), data, directory, port, is_on_tcp, child: None, variables }
    }

    /// The same server with variables in its environment, which its `restore_command` inherits.
    pub(crate) fn with_variables(mut self, variables: &[(String, String)]) -> Self {
        self.variables = variables.to_vec();
        self
    }

    /// Starts it and waits until it answers.
    pub(crate) async fn start(&mut self) {
        self.launch();
        self.wait_ready().await;
    }

    /// Starts it and waits until its recovery has ended and it accepts writes.
    pub(crate) async fn recover(&mut self) {
        self.start().await;
        let mut child = self.child.take().expect("the server was started");
        let in_recovery = "select pg_is_in_recovery()";
        let is_promoted = async || (self.value(in_recovery).await == "f").then_some(());
        child.until("the end of recovery", is_promoted).await;
        self.child = Some(child);
    }

    /// Starts it without waiting for anything.
    pub(crate) fn launch(&mut self) {
        let mut command =
            account::command(&Installation::newest().program("postgres"), &self.directory);
        let listen = if self.is_on_tcp { "127.0.0.1" } else { "" };
        command.arg("-D").arg(&self.data);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        for setting in [
            format!("unix_socket_directories={}", self.directory.display()),
            format!("listen_addresses={listen}"),
            format!("port={}", self.port),
            "logging_collector=off".to_owned(),
            // No test cuts the power; a killed process loses nothing that it has written.
            "fsync=off".to_owned(),
            // A killed server leaves its shared memory behind; here it goes with its directory.
            "dynamic_shared_memory_type=mmap".to_owned(),
        ] {
            command.arg("-c").arg(setting);
        }
        assert!(self.child.is_none(), "{} runs already", self.name);
        self.child = Some(Child::spawn(&self.name, command, &self.log_path()));
    }

    /// Waits until it answers queries, be it in recovery.
    pub(crate) async fn wait_ready(&mut self) {
        let lock_file = self.data.join("postmaster.pid");
        let child = self.child.as_mut().expect("the server was started");
        let pid = child.pid().to_string();
        // The file of an earlier life names another process.
        let is_ready = async || {
            let text = fs::read_to_string(&lock_file).unwrap_or_default();
            let mut lines = text.lines();
            let is_ours = lines.next() == Some(&pid);
            (is_ours && lines.any(|line| line.trim_end() == "ready")).then_some(())
        };
        child.until("readiness", is_ready).await;
    }

    /// Waits for the end of a server that cannot go on; `log` tells why it could not.
    pub(crate) async fn wait_exit(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server was started");
        child.wait_exit().await
    }

    /// Stops it and waits for its end.
    pub(crate) async fn stop(&mut self, mode: StopMode) {
        let child = self.child.as_ref().expect("the server runs");
        child.signal(match mode {
            StopMode::Smart => Signal::TERM,
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        });
        let status = self.wait_exit().await;
        assert!(status.success(), "{} stopped with {status}", self.name);
    }

    /// Stops it and starts it again.
    pub(crate) async fn restart(&mut self) {
        self.stop(StopMode::Fast).await;
        self.start().await;
    }

    /// Kills the postmaster, and waits until its backends have noticed and gone.
    pub(crate) async fn kill9(&mut self) {
        self.child.take().expect("the server runs").kill9().await;
        // A new postmaster refuses to start while one of them still uses the directory.
        wait_for("the backends to end", async || (!self.is_in_use()).then_some(())).await;
    }

    /// Ends its recovery and waits until it accepts writes.
    pub(crate) async fn promote(&mut self) {
        assert_eq!(self.value("select pg_promote()").await, "t", "{} was promoted", self.name);
    }

    /// A standby cloned from this server. It streams, and answers queries.
    pub(crate) async fn standby(&self, workdir: &Workdir, name: &str) -> Self {
        let mut standby = Self::without_data(workdir, name);
        let mut command = self.client("pg_basebackup");
        command.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--pgdata"]);
        command.arg(&standby.data);
        run(command).await.expect_success();
        standby.start().await;
        standby
    }

    /// A receiver on a slot of its own, as a control of what must be archived.
    pub(crate) async fn control(&self, workdir: &Workdir, name: &str) -> Control {
        Control::start(self, workdir, name).await
    }

    /// Runs SQL; the rows of its results as text, a null as the empty string.
    pub(crate) async fn sql(&self, sql: &str) -> Vec<Vec<String>> {
        let messages = self
            .connect()
            .await
            .simple_query(sql)
            .await
            .unwrap_or_else(|error| panic!("{}: {sql}: {error:?}", self.name));
        messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(
                    (0..row.len())
                        .map(|column| row.get(column).unwrap_or_default().to_owned())
                        .collect(),
                ),
                _ => None,
            })
            .collect()
    }

    /// The only value that a query gives.
    pub(crate) async fn value(&self, sql: &str) -> String {
        let rows = self.sql(sql).await;
        assert!(rows.len() == 1 && rows[0].len() == 1, "not one value: {sql}: {rows:?}");
        rows[0][0].clone()
    }

    /// How far its WAL is on its disk.
    pub(crate) async fn flush_lsn(&self) -> Lsn {
        self.value("select pg_current_wal_flush_lsn()").await.parse().unwrap()
    }

    /// Ends the current segment; the position after its last record.
    pub(crate) async fn switch_wal(&self) -> Lsn {
        self.value("select pg_switch_wal()").await.parse().unwrap()
    }

    /// Ends the current segment and begins the next; the end of its WAL then.
    pub(crate) async fn finish_segment(&self) -> Lsn {
        self.switch_wal().await;
        self.sql("select pg_logical_emit_message(true, 'tests', 'behind the switch')").await;
        self.flush_lsn().await
    }

    /// The segments of its timeline that are complete on its disk, by name.
    pub(crate) async fn complete_segments(&self) -> BTreeMap<String, PathBuf> {
        let current = self.value("select pg_walfile_name(pg_current_wal_flush_lsn())").await;
        let is_complete = |name: &str| {
            name.len() == current.len() && name[..8] == current[..8] && name < current.as_str()
        };
        fs::read_dir(self.data.join("pg_wal"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
            .filter(|(name, _)| is_complete(name))
            .collect()
    }

    /// A session, for what must outlive one statement.
    pub(crate) async fn connect(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.conninfo(), NoTls)
            .await
            .unwrap_or_else(|error| panic!("connect to {}: {error:?}", self.name));
        tokio::spawn(async {
            // The server was stopped under the session: the test sees that where it matters.
            let _ = connection.await;
        });
        client
    }

    /// Runs psql; its output, unaligned and without headers.
    pub(crate) async fn psql(&self, sql: &str) -> String {
        let mut command = self.client("psql");
        command.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        run(command).await.expect_success()
    }

    /// Runs pgbench to its end.
    pub(crate) async fn pgbench(&self, arguments: &[&str]) -> String {
        let mut command = self.client("pgbench");
        command.args(arguments);
        run(command).await.expect_success()
    }

    /// Starts pgbench beside the test.
    pub(crate) fn start_pgbench(&self, arguments: &[&str]) -> Child {
        let mut command = self.client("pgbench");
        command.args(arguments);
        Child::spawn("pgbench", command, &self.directory.join("pgbench.log"))
    }

    /// A client program of this installation, told how to reach the server.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command =
            account::command(&Installation::newest().program(program), &self.directory);
        command.env("PGHOST", &self.directory).env("PGPORT", self.port.to_string());
        command.env("PGUSER", "postgres").env("PGDATABASE", "postgres");
        command
    }

    /// A script for the shell, with the programs of this installation at hand.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = account::command(Path::new("/bin/sh"), &self.directory);
        let programs = Installation::newest().program("postgres");
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", programs.parent().unwrap().display()));
        command.args(["-e", "-c", script]);
        command
    }

    /// Where a client program of this installation is.
    pub(crate) fn client_path(&self, program: &str) -> PathBuf {
        Installation::newest().program(program)
    }

    /// Connection string over its Unix socket, where everybody is trusted.
    pub(crate) fn conninfo(&self) -> String {
        format!("host={} port={} user=postgres", self.directory.display(), self.port)
    }

    /// Connection string over TCP without a user: roles log in with SCRAM-SHA-256 there.
    pub(crate) fn conninfo_tcp(&self) -> String {
        assert!(self.is_on_tcp, "{} was built without tcp()", self.name);
        format!("host=127.0.0.1 port={}", self.port)
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Its version, as in `15.18`.
    pub(crate) fn version(&self) -> &'static str {
        Installation::newest().version()
    }

    /// All it has logged, by all its lives.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap()).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("postgres.log")
    }

    /// Whether a process works in the data directory; each process of a server does.
    fn is_in_use(&self) -> bool {
        let data = fs::canonicalize(&self.data).unwrap();
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(Result::ok)
            .any(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|place| place == data))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Unlike a kill, this lets it give its shared memory back. Dropping the child waits.
        if let Some(child) = &mut self.child
            && child.exit_status().is_none()
        {
            child.signal(Signal::QUIT);
        }
    }
}
