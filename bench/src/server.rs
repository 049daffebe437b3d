//! A Postgres of our own, reached by a Unix socket only.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::place::{Place, run};

/// Nothing but what is measured writes WAL, and making the WAL that is measured is not measured.
const SETTINGS: &str = "\
listen_addresses = ''
fsync = off
synchronous_commit = off
min_wal_size = 1GB
max_wal_size = 100GB
checkpoint_timeout = 1h
autovacuum = off
statement_timeout = 10min
";

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Server<'a> {
    place: &'a Place,
    directory: PathBuf,
    postmaster: Child,
}

impl<'a> Server<'a> {
    /// Makes and starts a server with segments of so many MiB.
    pub(crate) fn start(place: &'a Place, name: &str, segment_mib: u32) -> Result<Self> {
        let directory = place.path(name);
        let size = format!("--wal-segsize={segment_mib}");
        let fixed = ["--auth=trust", "--username=postgres", "--no-locale", "--data-checksums"];
        run(place.postgres("initdb").args(fixed).arg(size).arg(&directory))?;
        let socket = format!("unix_socket_directories = '{}'\n", directory.display());
        fs::write(directory.join("postgresql.conf"), format!("{SETTINGS}{socket}"))?;
        let log = fs::File::create(directory.join("log"))?;
        let mut command = place.postgres("postgres");
        command.arg("-D").arg(&directory).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let postmaster = command.spawn().context("start postgres")?;
        let mut server = Self { place, directory, postmaster };
        while server.psql(&["select 1"]).is_err() {
            if server.postmaster.try_wait()?.is_some() {
                bail!("postgres: {}", fs::read_to_string(server.directory.join("log"))?);
            }
            sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// Where it was made.
    pub(crate) fn place(&self) -> &'a Place {
        self.place
    }

    /// How it is reached.
    pub(crate) fn conninfo(&self) -> String {
        format!("host={} user=postgres dbname=postgres", self.directory.display())
    }

    /// Runs statements, each a transaction of its own, and returns what the last one says.
    pub(crate) fn psql(&self, statements: &[&str]) -> Result<String> {
        let mut command = self.place.postgres("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d"]).arg(self.conninfo());
        for statement in statements {
            command.args(["-c", statement]);
        }
        let printed = run(&mut command)?;
        Ok(printed.lines().last().unwrap_or_default().to_owned())
    }

    /// Runs pgbench.
    pub(crate) fn pgbench(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.place.postgres("pgbench");
        run(command.args(arguments).arg(self.conninfo())).map(|_| ())
    }

    /// Waits until pgkeep has told the server that everything up to `lsn` is archived.
    pub(crate) fn wait_archived(&self, lsn: &str) -> Result<()> {
        let wait = format!("do $$ begin {} end $$", wait_archived_sql(&format!("'{lsn}'")));
        self.psql(&[&wait]).map(|_| ())
    }

    /// The file of a segment.
    pub(crate) fn wal_file(&self, segment: &str) -> PathBuf {
        self.directory.join("pg_wal").join(segment)
    }

    /// Where its WAL ends.
    pub(crate) fn wal_end(&self) -> Result<String> {
        self.psql(&["select pg_current_wal_flush_lsn()"])
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let mut stop = self.place.postgres("pg_ctl");
        stop.args(["stop", "-m", "immediate", "-D"]).arg(&self.directory);
        let stopped = run(&mut stop).and_then(|_| Ok(self.postmaster.wait()?));
        if let Err(error) = stopped.and_then(|_| Ok(fs::remove_dir_all(&self.directory)?)) {
            eprintln!("stop the server in {}: {error}", self.directory.display());
        }
    }
}

/// Statements of PL/pgSQL that wait until the server knows `lsn` as archived, looking every 5 ms.
pub(crate) fn wait_archived_sql(lsn: &str) -> String {
    format!(
        "while not exists (select from pg_stat_replication
             where application_name = 'pgkeep' and flush_lsn >= {lsn}) loop
         perform pg_sleep(0.005), pg_stat_clear_snapshot();
         end loop;"
    )
}
