//! The program under test, with a configuration, a repository and perhaps a daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use pgkeep_proto::Lsn;
use rustix::process::Signal;
use serde_json::Value;

use super::account;
use super::archive::Archive;
use super::bucket::{ACCESS_KEY, Bucket, SECRET_KEY};
use super::child::Child;
use super::command::{Finished, run};
use super::postgres::Postgres;
use super::shared;
use super::workdir::Workdir;

/// One `pgkeep.toml` with a repository beside it, and the daemon while it runs.
#[derive(Debug)]
pub(crate) struct Pgkeep {
    program: PathBuf,
    directory: PathBuf,
    daemon: Option<Child>,
    variables: Vec<(String, String)>,
}

impl Pgkeep {
    /// Keeps `server` in a repository of its own, with the settings most tests want.
    pub(crate) fn new(workdir: &Workdir, name: &str, server: &Postgres) -> Self {
        let keep = Self {
            program: shared::runnable(Path::new(env!("CARGO_BIN_EXE_pgkeep"))),
            directory: workdir.subdirectory(name),
            daemon: None,
            variables: Vec::new(),
        };
        keep.configure(&server.conninfo());
        keep
    }

    /// Registers `server`, and archives it from now on.
    pub(crate) async fn archiving(workdir: &Workdir, name: &str, server: &Postgres) -> Self {
        let mut keep = Self::new(workdir, name, server);
        keep.verb(&["init"]).await.expect_success();
        keep.start();
        keep
    }

    /// Keeps `server` in `bucket`, below `keep`, with more lines of `[repository]`.
    pub(crate) fn in_bucket(
        workdir: &Workdir,
        name: &str,
        server: &Postgres,
        bucket: &Bucket,
        settings: &str,
    ) -> Self {
        let mut keep = Self::new(workdir, name, server);
        // Nothing that the user of this machine has set up shall count.
        keep.set("HOME", keep.directory.clone().to_str().unwrap());
        keep.set("AWS_ACCESS_KEY_ID", ACCESS_KEY);
        keep.set("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        keep.configure_repository(
            &server.conninfo(),
            &format!(
                "url = \"s3://{}/keep\"\nendpoint = \"{}\"\n{settings}",
                bucket.name(),
                bucket.endpoint()
            ),
        );
        keep
    }

    /// Sets a variable of the environment for everything that is run from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// Takes back what was set.
    pub(crate) fn unset(&mut self, name: &str) {
        self.variables.retain(|(set, _)| set != name);
    }

    /// What was set.
    pub(crate) fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// Writes a configuration whose cluster `main` is reached by `upstream`. As most repositories are,
    /// this one is encrypted: `init` makes the key files.
    pub(crate) fn configure(&self, upstream: &str) {
        let url = format!("url = \"file://{}\"", self.repository().display());
        self.configure_repository(upstream, &url);
    }

    fn configure_repository(&self, upstream: &str, repository: &str) {
        self.write_config(&format!(
            r#"[repository]
{repository}
encryption_key = "{key}"
recovery_key = "{recovery}"
compression = "lz4"

[cluster.main]
upstream = "{upstream}"
slot = "pgkeep"

[ship]
interval = "200ms"

[daemon]
state = "{state}"
"#,
            key = self.secret_source("daily.key"),
            recovery = self.secret_source("recovery.key"),
            state = self.state().display(),
        ));
    }

    /// Leaves the repository, which must not exist yet, without encryption.
    pub(crate) fn set_plain(&self) {
        let config = fs::read_to_string(self.config()).unwrap();
        let is_key =
            |line: &&str| line.starts_with("encryption_key") || line.starts_with("recovery");
        let rest: Vec<&str> = config.lines().filter(|line| !is_key(line)).collect();
        let plain = "[repository]\nencryption = \"off\"\n";
        self.write_config(&rest.join("\n").replace("[repository]\n", plain));
    }

    /// Encrypts the repository, which must not exist yet, with the secrets at these two sources.
    pub(crate) fn set_keys(&self, daily: &str, spare: Option<&str>) {
        let config = fs::read_to_string(self.config()).unwrap();
        let is_about_keys = |line: &&str| {
            ["encryption", "recovery_key"].iter().any(|field| line.starts_with(field))
        };
        let rest: Vec<&str> = config.lines().filter(|line| !is_about_keys(line)).collect();
        let spare = spare.map(|spare| format!("recovery_key = \"{spare}\"\n"));
        let keys = format!("encryption_key = \"{daily}\"\n{}", spare.unwrap_or_default());
        let config = rest.join("\n").replace("[repository]\n", &format!("[repository]\n{keys}"));
        self.write_config(&config);
    }

    /// The source that is the file `name` beside the configuration, which may not exist.
    pub(crate) fn secret_source(&self, name: &str) -> String {
        format!("file:{}", self.directory.join(name).display())
    }

    /// Writes a secret that only pgkeep may read. Gives its source.
    pub(crate) fn write_secret(&self, name: &str, text: &str) -> String {
        let path = self.directory.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        account::give(&path);
        self.secret_source(name)
    }

    /// Replaces the configuration.
    pub(crate) fn write_config(&self, text: &str) {
        fs::write(self.config(), text).unwrap();
    }

    /// Runs a verb to its end.
    pub(crate) async fn verb(&self, arguments: &[&str]) -> Finished {
        run(self.command(arguments)).await
    }

    /// Runs a verb with `--json`, which must succeed, and parses what it printed.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let mut command = self.command(arguments);
        command.arg("--json");
        let output = run(command).await.expect_success();
        serde_json::from_str(&output)
            .unwrap_or_else(|error| panic!("{arguments:?} printed no JSON: {error}\n{output}"))
    }

    /// The command line of a verb, for what needs more than its output.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = account::command(&self.program, &self.directory);
        command.arg("--config").arg(self.config()).args(arguments);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Restores into the data directory of `server`, with `--to` and whatever else is in `arguments`.
    pub(crate) async fn restore(&self, server: &Postgres, arguments: &[&str]) -> Value {
        let data = server.data().to_str().unwrap();
        self.json(&[&["restore", data], arguments].concat()).await
    }

    /// Starts the daemon beside the test.
    pub(crate) fn start(&mut self) {
        assert!(self.daemon.is_none(), "the daemon runs already");
        let log = self.directory.join("daemon.log");
        self.daemon = Some(Child::spawn("pgkeep run", self.command(&["run"]), &log));
    }

    /// Asks the daemon to stop; how it ended.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.daemon().signal(Signal::TERM);
        self.wait_exit().await
    }

    /// Waits for the end of a daemon that cannot go on; `log` tells why it could not.
    pub(crate) async fn wait_exit(&mut self) -> ExitStatus {
        let status = self.daemon().wait_exit().await;
        self.daemon = None;
        status
    }

    /// Kills the daemon.
    pub(crate) async fn kill9(&mut self) {
        self.daemon.take().expect("the daemon runs").kill9().await;
    }

    /// Waits until the daemon has archived everything before `end`.
    pub(crate) async fn wait_archived(&mut self, end: Lsn) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        let has_archived = async || (self.archived_lsn().await? >= end).then_some(());
        daemon.until(&format!("archiving everything before {end}"), has_archived).await;
        self.daemon = Some(daemon);
    }

    /// How far the repository reaches, by `status`; `None` while nothing is known.
    pub(crate) async fn archived_lsn(&self) -> Option<Lsn> {
        let status = self.json(&["status"]).await;
        Some(status["clusters"][0]["archived_lsn"].as_str()?.parse().unwrap())
    }

    /// The daemon.
    pub(crate) fn daemon(&mut self) -> &mut Child {
        self.daemon.as_mut().expect("the daemon runs")
    }

    /// The repository, without anything of ours between it and the test.
    pub(crate) async fn archive(&self) -> Archive {
        Archive::open(&self.repository(), &self.directory.join("daily.key")).await
    }

    /// The repository in `bucket`, in the same way.
    pub(crate) async fn archive_in(&self, bucket: &Bucket) -> Archive {
        Archive::open_store(bucket.repository("keep"), &self.directory.join("daily.key")).await
    }

    /// The files of all objects of one kind of the cluster `main`, in order of their names.
    pub(crate) fn objects(&self, kind: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut directories = vec![self.repository().join("main/0001").join(kind)];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() { directories.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        files
    }

    /// The directory that is the repository.
    pub(crate) fn repository(&self) -> PathBuf {
        self.directory.join("repository")
    }

    /// The state directory of its daemon.
    pub(crate) fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Its configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.directory.join("pgkeep.toml")
    }
}
