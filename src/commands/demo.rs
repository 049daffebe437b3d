//! `pgkeep demo`: a tour of one minute on a throw-away cluster. Every command it shows is run.
//!
//! A database under load loses a table; a while later the whole server is destroyed. What the demo
//! brings back is compared with what the table held in the moment before it was dropped, which the
//! dropping transaction itself wrote down under its lock.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use pgkeep_catalog::durable;
use pgkeep_restorer::server::{Installation, PrivateServer};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::cli::DemoArgs;
use crate::exit::Exit;
use crate::output::{self, Format};
use crate::privilege::{self, USER_DEFAULT, User};

/// Scale of the pgbench database: about 150 MB.
const SCALE: &str = "10";
const LOAD_SECONDS: &str = "5";
const DEADLINE: Duration = Duration::from_secs(120);
const PORT: &str = "5432";

/// Holds every transaction of pgbench; its sums agree with the accounts at every moment.
const CONTENT: &str = "select count(*) || ' rows, checksum ' || \
    coalesce(md5(string_agg(h::text, '|' order by h::text)), 'none') from pgbench_history h";

/// Runs the demo; as root, hands it over to the user that runs Postgres.
pub(super) fn run(
    arguments: &DemoArgs,
    format: Format,
    runtime: &dyn Fn() -> anyhow::Result<tokio::runtime::Runtime>,
) -> anyhow::Result<Exit> {
    let directory = match &arguments.directory {
        Some(directory) => directory.clone(),
        None => make_directory()?,
    };
    if privilege::is_root() {
        return hand_over(&directory);
    }
    let done = runtime()?.block_on(async {
        let tour = Tour::begin(arguments, format, &directory).await?;
        Box::pin(tour.run()).await
    });
    if arguments.keep {
        eprintln!("kept: {}", directory.display());
    } else {
        std::fs::remove_dir_all(&directory)
            .with_context(|| format!("remove {}", directory.display()))?;
    }
    done.map(|()| Exit::Success)
}

/// A directory of our own with a short path, as the path of a socket must be.
fn make_directory() -> anyhow::Result<PathBuf> {
    let directory = std::env::temp_dir().join(format!("pgkeep-demo-{}", std::process::id()));
    durable::create_dir(&directory).with_context(|| format!("create {}", directory.display()))?;
    Ok(directory)
}

/// Postgres refuses root, and a program below /root cannot be run by anybody else: a copy of ours goes
/// on as the user `postgres`.
fn hand_over(directory: &Path) -> anyhow::Result<Exit> {
    let user = User::find(USER_DEFAULT)?;
    let program = directory.join("pgkeep");
    std::fs::copy(std::env::current_exe()?, &program).context("copy pgkeep")?;
    user.own(directory)?;
    user.own(&program)?;
    let extra = [std::ffi::OsStr::new("--directory"), directory.as_os_str()];
    let failed = user.exec(&program, directory, &extra);
    drop(std::fs::remove_dir_all(directory));
    Err(failed.into())
}

/// The demo on its way.
struct Tour {
    format: Format,
    directory: PathBuf,
    program: PathBuf,
    installation: Installation,
    server: PrivateServer,
    started: Instant,
}

/// What was lost, and what is to come back.
struct Disaster {
    /// The moment before, by the server's clock.
    before: String,
    /// What the table held.
    content: String,
}

impl Tour {
    async fn begin(arguments: &DemoArgs, format: Format, directory: &Path) -> anyhow::Result<Self> {
        let started = Instant::now();
        let installation = Installation::newest(arguments.pg_bin.as_deref()).await?;
        let (data, socket) = (directory.join("data"), directory.join("private"));
        let server = PrivateServer::create(installation.clone(), data.clone(), socket).await?;
        // What is restored starts with the settings of what was backed up.
        let settings =
            format!("listen_addresses = ''\nunix_socket_directories = '{}'\n", directory.display());
        append(&data.join("postgresql.conf"), &settings)?;
        let directory = directory.to_owned();
        let program = privilege::program()?;
        Ok(Self { format, directory, program, installation, server, started })
    }

    async fn run(mut self) -> anyhow::Result<()> {
        self.say("A throw-away cluster, with pgbench's tables in it.");
        self.server.start(&[]).await?;
        self.client("pgbench", &["-q", "-i", "-s", SCALE]).await?;
        self.write_config()?;

        self.say(
            "pgkeep: an encrypted repository; register the cluster, stream WAL, take a backup.",
        );
        self.pgkeep(&["init"]).await?;
        let daemon = self.daemon()?;
        self.pgkeep(&["backup"]).await?;

        self.say("Load: pgbench with 4 clients, and in the middle of it a DROP TABLE.");
        let load = ["-n", "-c", "4", "-T", LOAD_SECONDS];
        let (loaded, disaster) = tokio::join!(self.client("pgbench", &load), self.drop_table());
        let disaster = disaster?;
        // Its clients fail when their table is gone: that is what happens to applications too.
        drop(loaded);
        self.say(&format!(
            "pgbench_history is gone. Just before {} it held {}.",
            disaster.before, disaster.content
        ));

        self.say("Nobody notices at first; other work goes on. Then the server is destroyed.");
        let work = "update pgbench_tellers set tbalance = tbalance + 1";
        self.server.psql(work, DEADLINE).await?;
        let rpo_seconds = self.measure_rpo().await?;
        self.destroy(daemon).await?;

        self.say("Restore to the moment before the DROP TABLE, from the repository alone.");
        let restored = self.directory.join("restored");
        let began = Instant::now();
        let moment = disaster.before.clone();
        let path = restored.to_str().context("the path of the demo is UTF-8")?.to_owned();
        self.pgkeep(&["restore", "--to", &moment, &path, "--start"]).await?;
        let rto_seconds = began.elapsed().as_secs_f64();
        let judged = self.compare(&disaster).await;
        self.stop_restored(&restored).await?;
        let (content, sums_agree) = judged?;
        ensure!(content == disaster.content, "came back with {content}");
        ensure!(sums_agree, "the sums of accounts and history differ");
        self.conclude(&disaster, rpo_seconds, rto_seconds);
        Ok(())
    }

    fn say(&self, text: &str) {
        if self.format == Format::Text {
            println!("\n[{:>4.1} s] {text}", self.started.elapsed().as_secs_f64());
        }
    }

    async fn client(&self, name: &str, arguments: &[&str]) -> anyhow::Result<String> {
        Ok(self.server.client(name, arguments, DEADLINE).await?)
    }

    fn write_config(&self) -> anyhow::Result<()> {
        let config = format!(
            "[repository]\nurl = \"file://{directory}/repository\"\n\
             encryption_key = \"file:{directory}/key\"\n\
             recovery_key = \"file:{directory}/recovery.key\"\n\n\
             [cluster.demo]\nupstream = \"host={} port={PORT} user=postgres\"\n",
            self.server.directory().display(),
            directory = self.directory.display(),
        );
        Ok(std::fs::write(self.config(), config)?)
    }

    fn config(&self) -> PathBuf {
        self.directory.join("pgkeep.toml")
    }

    fn command(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.config()).args(verb).kill_on_drop(true);
        command
    }

    /// Runs a verb, showing it and what it prints.
    async fn pgkeep(&self, verb: &[&str]) -> anyhow::Result<()> {
        let output = self.command(verb).output().await.context("run pgkeep")?;
        if self.format == Format::Text {
            println!("  $ pgkeep {}", verb.join(" "));
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                println!("    {line}");
            }
        }
        if !output.status.success() {
            bail!("pgkeep {}: {}", verb.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    fn daemon(&self) -> anyhow::Result<Child> {
        let log = std::fs::File::create(self.directory.join("pgkeep.log"))?;
        let daemon = self.command(&["run"]).stderr(log).spawn().context("run pgkeep")?;
        if self.format == Format::Text {
            println!("  $ pgkeep run &");
        }
        Ok(daemon)
    }

    /// Drops the table under load. The lock makes that the content read is the content lost, and that
    /// everything in it was committed before the moment read after it.
    async fn drop_table(&self) -> anyhow::Result<Disaster> {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let sql = format!(
            "begin; lock table pgbench_history in access exclusive mode; {CONTENT}; \
             select clock_timestamp() at time zone 'UTC' || 'Z'; \
             drop table pgbench_history; commit"
        );
        let output = self.server.psql(&sql, DEADLINE).await?;
        let mut lines = output.lines();
        match (lines.next(), lines.next()) {
            (Some(content), Some(before)) => {
                Ok(Disaster { before: before.to_owned(), content: content.to_owned() })
            }
            _ => bail!("the dropping transaction said {output:?}"),
        }
    }

    /// What would be lost if the server were lost now, as pgkeep measures it; the worst of five.
    async fn measure_rpo(&self) -> anyhow::Result<f64> {
        let mut worst: f64 = 0.0;
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let output = self.command(&["status", "--json"]).output().await?;
            let status: Value = serde_json::from_slice(&output.stdout)?;
            let rpo = status.pointer("/clusters/0/rpo_seconds").and_then(Value::as_f64);
            worst = worst.max(rpo.context("pgkeep does not know the RPO")?);
        }
        Ok(worst)
    }

    /// Crashes the server, removes its data, and stops the daemon, which has nothing left to do.
    async fn destroy(&mut self, mut daemon: Child) -> anyhow::Result<()> {
        self.server.destroy().await?;
        let pid = daemon.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let ended =
            tokio::time::timeout(DEADLINE, daemon.wait()).await.context("stop pgkeep")??;
        ensure!(ended.success(), "pgkeep run ended with {ended}");
        if self.format == Format::Text {
            println!("  crashed, and {} is removed", self.directory.join("data").display());
        }
        Ok(())
    }

    /// What came back, and whether the accounts agree with it.
    async fn compare(&self, disaster: &Disaster) -> anyhow::Result<(String, bool)> {
        let content = self.query_restored(CONTENT).await?;
        let sums = "select (select sum(abalance) from pgbench_accounts) = \
            (select sum(delta) from pgbench_history)";
        let sums_agree = self.query_restored(sums).await? == "t";
        self.say(&format!("The table is back: {content}."));
        let verdict = if content == disaster.content { "the same" } else { "NOT THE SAME" };
        if self.format == Format::Text {
            println!("  compared with the moment before it was dropped: {verdict}");
            println!("  sum of all accounts = sum of all history: {sums_agree}");
        }
        Ok((content, sums_agree))
    }

    async fn query_restored(&self, sql: &str) -> anyhow::Result<String> {
        let output = Command::new(self.installation.program("psql"))
            .args(["-X", "-A", "-t", "-U", "postgres", "-p", PORT, "-d", "postgres", "-c", sql])
            .arg("-h")
            .arg(&self.directory)
            .output()
            .await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    async fn stop_restored(&self, restored: &Path) -> anyhow::Result<()> {
        let mut command = Command::new(self.installation.program("pg_ctl"));
        command.args(["-s", "-w", "-m", "immediate", "stop", "-D"]).arg(restored);
        let stopped = command.status().await.context("stop the restored server")?;
        ensure!(stopped.success(), "the restored server did not stop: {stopped}");
        Ok(())
    }

    fn conclude(&self, disaster: &Disaster, rpo_seconds: f64, rto_seconds: f64) {
        let total = self.started.elapsed().as_secs_f64();
        let value = json!({
            "ok": true,
            "restored_to": disaster.before,
            "content": disaster.content,
            "rpo_seconds": rpo_seconds,
            "restore_seconds": rto_seconds,
            "total_seconds": total,
        });
        let text = format!(
            "\nMeasured: RPO {rpo_seconds:.1} s (worst of five, under the daemon's own eyes), \
             restored and open after {rto_seconds:.1} s, all in {total:.0} s."
        );
        output::result(self.format, &value, &text);
    }
}

fn append(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().append(true).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
