//! Writes what a plan needs as plain files, from which Postgres' own tools restore without us.
//!
//! ```text
//! DIR/wal/                 segments from the backup's start up to the end, histories
//! DIR/tablespaces/<oid>/   tablespaces; base/pg_tblspc has links to them
//! DIR/base/                the base backup as Postgres lays it out; global/pg_control last
//! DIR/recovery.settings    to be appended to postgresql.auto.conf
//! DIR/README.txt           the commands; written last: with it the export is complete
//! ```
//!
//! Invariants:
//! * `wal/` holds what a pinned `archive-get` would answer, byte for byte: WAL of a timeline only up
//!   to where the path leaves it, and zeros behind the end, so that a recovery cannot overrun its
//!   target even without the settings;
//! * everything is synced, and nothing of it is a secret or asks for one.

use std::fs::File;
use std::path::{Path, PathBuf};

use pgkeep_catalog::backup::Tablespace;
use pgkeep_catalog::history::Histories;
use pgkeep_catalog::{Cluster, durable};
use pgkeep_proto::{SegmentName, WalFileName};
use tokio::sync::watch;

use crate::archive_get::{Fetched, archive_get};
use crate::blocking::blocking;
use crate::data_dir::{DataDir, check_empty, resolve};
use crate::plan::RestorePlan;
use crate::restore_command::shell_word;
use crate::unpack::Unpacker;
use crate::{
    Error, Pin, RecoverySettings, RestoreCommand, Result, TablespaceMapping, TargetAction,
};

/// An export that is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Where it is, as an absolute path.
    pub directory: PathBuf,
    /// Segments in `wal/`.
    pub segments: u64,
}

/// Exports what `plan` needs into `directory`, which must be absent or empty, telling the bytes done.
pub async fn export(
    cluster: &Cluster,
    plan: &RestorePlan,
    directory: &Path,
    asked: &str,
    bytes_done: &watch::Sender<u64>,
) -> Result<Exported> {
    let root = resolve(directory)?;
    check_empty(&root)?;
    let spaces = places(&plan.summary.tablespaces, &root);
    let mappings: Vec<_> = spaces.iter().map(|(_, mapping)| mapping.clone()).collect();
    let data = DataDir::check(&root.join("base"), &plan.summary.tablespaces, &mappings)?;
    let wal = root.join("wal");
    let settings = RecoverySettings {
        asked: asked.to_owned(),
        restore_command: RestoreCommand::copy(&wal)?,
        stop: plan.stop.start,
        timeline: plan.timeline,
        action: TargetAction::Promote,
    };
    let data = {
        let wal = wal.clone();
        blocking(move || {
            data.create()?;
            durable::create_dir_all(&wal).map_err(|e| Error::file("create", wal, e))?;
            Ok::<_, Error>(data)
        })
        .await?
    };
    let segments = export_wal(cluster, plan, &wal, bytes_done).await?;
    let unpacker = Unpacker::new(cluster, &plan.backup, &data, bytes_done);
    let control = Box::pin(unpacker.run()).await?;
    let data = blocking(move || data.link_tablespaces().map(|()| data)).await?;
    control.commit().await?;
    let readme = readme(plan, asked, &root, data.root(), &spaces)?;
    let (settings, place) = (settings.to_string(), root.clone());
    blocking(move || {
        for (name, text) in [("recovery.settings", settings), ("README.txt", readme)] {
            let path = place.join(name);
            durable::create_new(&path, text.as_bytes())
                .map_err(|e| Error::file("write", path, e))?;
        }
        Ok::<_, Error>(())
    })
    .await?;
    Ok(Exported { directory: root, segments })
}

/// Each tablespace, and where in the export it goes.
fn places(tablespaces: &[Tablespace], root: &Path) -> Vec<(u32, TablespaceMapping)> {
    let outside = tablespaces.iter().filter(|space| Path::new(&space.location).is_absolute());
    let mapping = |Tablespace { oid, location }: &Tablespace| {
        let new = root.join("tablespaces").join(oid.to_string());
        (*oid, TablespaceMapping { old: PathBuf::from(location), new })
    };
    outside.map(mapping).collect()
}

/// Writes every segment on the path of the plan, and every history there is: a server looks at those
/// of other timelines before it gives one a number of its own.
async fn export_wal(
    cluster: &Cluster,
    plan: &RestorePlan,
    wal: &Path,
    bytes_done: &watch::Sender<u64>,
) -> Result<u64> {
    let pin = Pin::new(cluster, plan.path.clone(), plan.end);
    let mut files: Vec<WalFileName> = Vec::new();
    let histories = Histories::read(cluster).await?;
    files.extend(histories.timelines().map(WalFileName::History));
    let size = cluster.segment_size();
    for leg in &plan.path.legs {
        let mut at = size.start_of(leg.begin.max(plan.wal_from));
        let end = leg.end.unwrap_or(plan.end).min(plan.end);
        while at < end {
            files.push(WalFileName::Segment(SegmentName::containing(leg.timeline, at, size)));
            at = size.end_of(at);
        }
    }
    let mut segments = 0;
    for name in files {
        let path = wal.join(name.to_string());
        let fetched = Box::pin(archive_get(cluster, Some(&pin), name, &path)).await?;
        match (name, fetched) {
            (WalFileName::Segment(name), Fetched::Absent) => {
                let (timeline, from, to) = (name.timeline(), plan.wal_from, plan.end);
                return Err(Error::WalMissing { timeline, from, to });
            }
            (WalFileName::History(timeline), Fetched::Absent) => {
                return Err(Error::HistoryMissing { timeline });
            }
            (WalFileName::Segment(_), Fetched::Done) => {
                segments += 1;
                bytes_done.send_modify(|done| *done += size.bytes());
            }
            _ => {}
        }
        blocking(move || {
            let synced = File::open(&path).and_then(|file| durable::sync_file(&file));
            synced.map_err(|e| Error::file("sync", path, e))
        })
        .await?;
    }
    let wal = wal.to_owned();
    blocking(move || durable::sync_dir(&wal).map_err(|e| Error::file("sync", wal, e))).await?;
    Ok(segments)
}

/// What somebody needs to know who finds this directory and nothing else.
fn readme(
    plan: &RestorePlan,
    asked: &str,
    root: &Path,
    data: &Path,
    spaces: &[(u32, TablespaceMapping)],
) -> Result<String> {
    let (major, backup) = (plan.summary.server_major, &plan.backup);
    let (stop, timeline) = (plan.stop.start, plan.timeline.get());
    let asked = asked.escape_debug();
    let (base, settings) = (shell_word(data)?, shell_word(&root.join("recovery.settings"))?);
    let mut commands = vec![
        format!("pg_verifybackup --no-parse-wal {base}"),
        format!("cp -a {base} DATA"),
        "chmod 700 DATA".to_owned(),
    ];
    for (oid, TablespaceMapping { old, new }) in spaces {
        let new = shell_word(new)?;
        commands.push(format!("cp -a {new} SPACE_{oid}  # it was at {}", old.display()));
        commands.push(format!("ln -sfn SPACE_{oid} DATA/pg_tblspc/{oid}"));
    }
    commands.extend([
        format!("cat {settings} >> DATA/postgresql.auto.conf"),
        "rm -f DATA/standby.signal".to_owned(),
        "touch DATA/recovery.signal".to_owned(),
        "pg_ctl -D DATA start".to_owned(),
    ]);
    let commands: String = commands.iter().map(|command| format!("    {command}\n")).collect();
    let words = match spaces {
        [] => "DATA for the new data directory",
        _ => "DATA for the new data directory, and SPACE_… for the new places of tablespaces",
    };
    Ok(format!(
        "A base backup of a Postgres {major} cluster and the WAL behind it, as plain files.\n\n\
         asked for   {asked}\n\
         backup      {backup}\n\
         reaches     the record at {stop}, timeline {timeline}\n\n\
         Nothing but Postgres {major} is needed to restore it. As the user that runs Postgres, with\n\
         {words},\n\
         all of them absolute paths:\n\n\
         {commands}\n\
         If the backup came without postgresql.conf, pg_hba.conf or pg_ident.conf, as on Debian, put\n\
         those of the old server into DATA first.\n\n\
         recovery.settings has restore_command, which copies from wal/ beside it: if you move this\n\
         directory, write the new path there. It sets recovery_target_lsn, recovery_target_timeline\n\
         and recovery_target_action = 'promote', and turns off what would reach beyond the restored\n\
         server: archiving, standbys, the old primary.\n\n\
         The last segment in wal/ is filled up with zeros behind the end, so that recovery cannot go\n\
         any further.\n"
    ))
}
