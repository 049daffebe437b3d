//! The control: Postgres' own receiver, on a slot of its own, writing what must be archived.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pgkeep_proto::Lsn;
use rustix::process::Signal;

use super::child::Child;
use super::postgres::Postgres;
use super::workdir::Workdir;

/// A running `pg_receivewal`. It reconnects by itself when the server was away.
#[derive(Debug)]
pub(crate) struct Control {
    name: String,
    directory: PathBuf,
    child: Child,
}

impl Control {
    /// Makes a slot `name` that keeps WAL from now on, and receives from it.
    pub(super) async fn start(server: &Postgres, workdir: &Workdir, name: &str) -> Self {
        let directory = workdir.subdirectory(name);
        server.sql(&format!("select pg_create_physical_replication_slot('{name}', true)")).await;
        let mut command = server.client("pg_receivewal");
        command.arg("--directory").arg(&directory).args(["--slot", name, "--synchronous"]);
        // Even a synchronous receiver says nothing of the end of a segment until this passes.
        command.arg("--status-interval=1").env("PGAPPNAME", name);
        let child = Child::spawn(name, command, &workdir.path().join(format!("{name}.log")));
        Self { name: name.to_owned(), directory, child }
    }

    /// Waits until everything before `end` has been received.
    pub(crate) async fn wait_received(&mut self, server: &Postgres, end: Lsn) {
        let flushed = format!(
            "select coalesce(max(flush_lsn), '0/0') from pg_stat_replication \
             where application_name = '{}'",
            self.name
        );
        let has_received = async || {
            let position: Lsn = server.value(&flushed).await.parse().unwrap();
            (position >= end).then_some(())
        };
        self.child.until(&format!("flush of {end}"), has_received).await;
    }

    /// Waits until everything before `end` has been received, and ends it.
    /// Gives the whole segments it holds, by name.
    pub(crate) async fn stop_at(
        mut self,
        server: &Postgres,
        end: Lsn,
    ) -> BTreeMap<String, PathBuf> {
        self.wait_received(server, end).await;
        self.child.signal(Signal::INT);
        let status = self.child.wait_exit().await;
        assert!(status.success(), "{} ended with {status}", self.name);
        self.segments()
    }

    /// The whole segments it holds, by name.
    pub(crate) fn segments(&self) -> BTreeMap<String, PathBuf> {
        fs::read_dir(&self.directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter_map(|path| {
                let name = path.file_name()?.to_str()?.to_owned();
                (name.len() == 24).then_some((name, path))
            })
            .collect()
    }

    /// Where it writes.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}
