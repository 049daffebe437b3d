//! Base backups: complete under load, or failed and said to be.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use pgkeep_catalog::backup::{BLOCK_SIZE, BackupId, Entry, EntryKind, ManifestReader};
use pgkeep_catalog::sealed::{FRAME_SIZE, Kind, SealedObject};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Archive, Child, Pgkeep, Postgres, Workdir, run, wait_for};

const FAILURE: i32 = 2;

/// The fields of an entry of `list --json`.
const FIELDS: [&str; 18] = [
    "id",
    "uuid",
    "cluster",
    "type",
    "status",
    "parent",
    "timeline",
    "start_lsn",
    "stop_lsn",
    "started_at",
    "completed_at",
    "size_bytes",
    "stored_bytes",
    "retention_until",
    "pinned",
    "verified_at",
    "drilled_at",
    "error",
];

#[tokio::test]
async fn a_backup_under_load_is_what_postgres_says_it_sent() {
    let workdir = Workdir::new("backup");
    let server = Postgres::build(&workdir, "server").start().await;
    let space = workdir.subdirectory("space");
    server.sql(&format!("create tablespace space location '{}'", space.display())).await;
    server.pgbench(&["-i", "-s", "6", "-q"]).await;
    let tables = (0..200).map(|number| {
        let place = if number % 2 == 0 { "" } else { "tablespace space" };
        format!("create table small_{number} {place} as select {number} as id;")
    });
    server.sql(&tables.collect::<String>()).await;
    let keep = Pgkeep::archiving(&workdir, "keep", &server).await;

    let mut load = server.start_pgbench(&["-c", "2", "-T", "60", "-n"]);
    let taken = keep.json(&["backup"]).await;
    assert!(load.exit_status().is_none(), "the load ended before the backup");
    load.kill9().await;
    assert_eq!(taken["ok"], true, "{taken}");

    let listed = listed(&keep).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(names(&listed[0]), FIELDS.into_iter().map(str::to_owned).collect());
    assert_eq!(listed[0]["status"], "completed");
    for (name, value) in listed[0].as_object().unwrap() {
        assert_eq!(&taken[name], value, "backup and list differ in {name}");
    }
    let id: BackupId = taken["id"].as_str().unwrap().parse().unwrap();
    let laid_down = workdir.subdirectory("laid_down");
    let files = lay_down(&keep.archive().await, &id, &laid_down).await;
    let mut verify = server.client("pg_verifybackup");
    verify.arg("--no-parse-wal").arg(&laid_down);
    run(verify).await.expect_success();
    assert!(files > 1100, "only {files} files");
    println!("{id}: {files} files, {} bytes, as pg_verifybackup expects them", taken["size_bytes"]);
}

#[tokio::test]
async fn a_backup_without_a_daemon_says_that_its_wal_is_not_archived() {
    let workdir = Workdir::new("backup");
    let server = Postgres::build(&workdir, "server").start().await;
    let mut keep = Pgkeep::new(&workdir, "keep", &server);
    keep.verb(&["init"]).await.expect_success();

    let failed = keep.verb(&["backup", "--wait", "2s"]).await.expect_code(FAILURE);
    assert!(failed.stderr.contains("error: WAL up to "), "{}", failed.stderr);
    assert!(failed.stderr.contains("hint: is `pgkeep run` alive"), "{}", failed.stderr);
    expect_failed(&keep, "not archived").await;

    keep.start();
    let taken = keep.json(&["backup"]).await;
    let statuses: Vec<_> = listed(&keep).await.iter().map(|row| row["status"].clone()).collect();
    assert_eq!(statuses, ["failed", "completed"]);
    println!("failed without a daemon; with it {} completed", taken["id"]);
}

#[tokio::test]
async fn an_interrupted_backup_is_listed_as_failed_and_ends_on_the_server_too() {
    let workdir = Workdir::new("backup");
    let server = Postgres::build(&workdir, "server").start().await;
    server.pgbench(&["-i", "-s", "20", "-q"]).await;
    let keep = Pgkeep::archiving(&workdir, "keep", &server).await;

    let log = workdir.path().join("backup.log");
    let mut backup = Child::spawn("pgkeep backup", keep.command(&["backup"]), &log);
    let phase = "select phase from pg_stat_progress_basebackup where backup_streamed > 0";
    let is_streaming = async || server.sql(phase).await.pop();
    let phase = backup.until("streaming files", is_streaming).await;
    // It stands still while it is looked at, so it cannot be through before the signal.
    backup.signal(Signal::STOP);
    assert_eq!(phase, ["streaming database files"]);
    backup.signal(Signal::INT);
    backup.signal(Signal::CONT);
    let status = backup.wait_exit().await;
    assert_eq!(status.code(), Some(FAILURE), "{}", backup.log());
    assert!(backup.log().contains("error: cancelled"), "{}", backup.log());

    let ended = "select count(*) from pg_stat_activity where application_name = 'pgkeep_backup'";
    let is_ended = async || (server.value(ended).await == "0").then_some(());
    wait_for("the server to end the backup", is_ended).await;
    expect_failed(&keep, "cancelled").await;
    let manifests = keep.objects("backups");
    assert!(!manifests.iter().any(|path| path.ends_with("manifest")), "{manifests:?}");
    println!("interrupted while streaming; {} objects are left, no manifest", manifests.len());
}

/// Fails the test unless there is one backup and it failed for this reason.
async fn expect_failed(keep: &Pgkeep, reason: &str) {
    let listed = listed(keep).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0]["status"], "failed");
    assert!(listed[0]["error"].as_str().unwrap().contains(reason), "{}", listed[0]);
    let status = keep.json(&["status"]).await;
    assert_eq!(status["clusters"][0]["last_backup"]["ok"], false, "{status}");
}

async fn listed(keep: &Pgkeep) -> Vec<Value> {
    keep.json(&["list"]).await["backups"].as_array().unwrap().clone()
}

fn names(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap().keys().cloned().collect()
}

/// Puts the files of a backup where its manifest says, without the restorer. Gives their number.
async fn lay_down(archive: &Archive, id: &BackupId, data: &Path) -> usize {
    let cluster = archive.cluster();
    let mut manifest = ManifestReader::open(cluster, id).await.unwrap();
    assert_eq!(manifest.summary().tablespaces.len(), 1);
    assert!(manifest.summary().packs > 1, "all of it fits into one pack");
    let mut packs = Vec::new();
    for number in 0..manifest.summary().packs {
        let key = cluster.layout().pack(id, number);
        packs.push(cluster.open_object(Kind::BackupPack, &key).await.unwrap());
    }
    let mut files = 0;
    while let Some(entry) = manifest.next().await.unwrap() {
        let path = data.join(entry.path.to_string());
        match &entry.kind {
            EntryKind::Directory => fs::create_dir_all(&path).unwrap(),
            EntryKind::File { .. } => {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, content(&packs, &entry).await).unwrap();
                files += 1;
            }
        }
    }
    let key = cluster.layout().postgres_manifest(id);
    let written = cluster.open_object(Kind::PostgresManifest, &key).await.unwrap();
    fs::write(data.join("backup_manifest"), written.read_all().await.unwrap()).unwrap();
    files
}

async fn content(packs: &[SealedObject], entry: &Entry) -> Vec<u8> {
    let EntryKind::File { size, runs, .. } = &entry.kind else { return Vec::new() };
    let mut content = Vec::new();
    for run in runs {
        assert_eq!(run.first_block * BLOCK_SIZE as u64, content.len() as u64, "{}", entry.path);
        let start = u64::from(run.frame) * FRAME_SIZE as u64
            + u64::from(run.block_in_frame) * BLOCK_SIZE as u64;
        let pack = &packs[usize::try_from(run.pack).unwrap()];
        let end = start + run.count * BLOCK_SIZE as u64;
        content.extend(pack.read(start..end).await.unwrap());
    }
    let (size, padded) = (usize::try_from(*size).unwrap(), content.len());
    assert!(padded.wrapping_sub(size) < BLOCK_SIZE, "{}: {padded} for {size}", entry.path);
    assert!(
        content[size..].iter().all(|byte| *byte == 0),
        "{} is not filled with zeros",
        entry.path
    );
    content.truncate(size);
    content
}
