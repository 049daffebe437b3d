//! Damage in what a restore needs: it does not end in a promoted server, and can be gone on with.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::harness::{Ledger, Pgkeep, Postgres, StopMode, Workdir, run, wait_for};

/// See docs/errors.md.
const REFUSED: i32 = 5;
const DAMAGED: i32 = 6;
/// From here on Postgres does not take an exit code for the end of the archive.
const FAULT_MIN: i32 = 126;

#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip,
    Truncate,
    Delete,
    Swap,
}

const DAMAGES: [Damage; 4] = [Damage::Flip, Damage::Truncate, Damage::Delete, Damage::Swap];

#[tokio::test]
async fn a_damaged_segment_stops_recovery_and_a_repaired_one_lets_it_go_on() {
    let workdir = Workdir::new("restore");
    let archive = Damaged::make(&workdir).await;
    let mut restored = Postgres::without_data(&workdir, "restored");
    archive.keep.restore(&restored, &["--to", "latest"]).await;
    for damage in DAMAGES {
        let undo = archive.inflict(damage);
        let (name, data) = (archive.segment.as_str(), restored.data());
        let mut ask = archive.keep.command(&["archive-get", "--pin", name, "pg_wal/ASKED"]);
        ask.current_dir(data);
        let finished = run(ask).await;
        let code = finished.code;
        assert!(code.is_none_or(|code| code >= FAULT_MIN), "{damage:?}: {finished:?}");
        assert!(!data.join("pg_wal/ASKED").exists(), "{damage:?}");

        restored.launch();
        let status = restored.wait_exit().await;
        assert!(!status.success(), "{damage:?}: recovery ended with {status}");
        expect_unpromoted(&restored, &format!("{damage:?}"));
        assert!(restored.log().contains("FATAL:  could not restore file"), "{damage:?}");
        undo();
    }
    restored.recover().await;
    assert_eq!(Ledger::rows_in(&restored).await, archive.rows);
    restored.stop(StopMode::Immediate).await;
    println!(
        "{} was damaged in {} ways, recovery stopped each time; repaired, {} rows came back",
        archive.segment,
        DAMAGES.len(),
        archive.rows.len()
    );
}

#[tokio::test]
async fn a_restore_that_meets_a_damaged_segment_fails_without_a_promoted_server() {
    let workdir = Workdir::new("restore");
    let archive = Damaged::make(&workdir).await;
    let last = archive.last_commit.as_str();
    for damage in DAMAGES {
        for (number, target) in ["latest", last].into_iter().enumerate() {
            let undo = archive.inflict(damage);
            let restored = Postgres::without_data(&workdir, &format!("{damage:?}-{number}"));
            let data = restored.data().to_str().unwrap();
            let verb = ["restore", data, "--to", target, "--start"];
            let finished = archive.keep.verb(&verb).await;
            assert_ne!(finished.code, Some(0), "{damage:?}: {}", finished.stdout);
            assert!(finished.stderr.contains("error: "), "{damage:?}: {}", finished.stderr);
            assert!(!restored.data().join("postmaster.pid").exists(), "{damage:?}");
            if restored.data().exists() {
                expect_unpromoted(&restored, &format!("{damage:?} of {target}"));
            }
            println!("{damage:?}, {target}: {:?} {}", finished.code, first_line(&finished.stderr));
            undo();
        }
    }
}

#[tokio::test]
async fn latest_is_refused_when_the_end_of_what_was_archived_is_gone() {
    let workdir = Workdir::new("restore");
    let archive = Damaged::make(&workdir).await;
    let cluster = archive.keep.repository().join("main/0001");
    let mut removed = 0;
    for kind in ["wal", "pieces"] {
        for entry in fs::read_dir(cluster.join(kind).join("00000001")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap() >= archive.next.as_str() {
                fs::rename(&path, workdir.path().join(format!("removed-{removed}"))).unwrap();
                removed += 1;
            }
        }
    }
    assert!(removed >= 2, "only {removed} removed");
    let nowhere = workdir.path().join("nowhere");
    let verb = ["restore", nowhere.to_str().unwrap(), "--to", "latest"];
    let error = archive.keep.verb(&verb).await.expect_refusal(REFUSED);
    assert!(!nowhere.exists(), "{error}");
    println!("{error}");
}

#[tokio::test]
async fn a_damaged_backup_leaves_nothing_that_postgres_starts() {
    let workdir = Workdir::new("restore");
    let server = Postgres::build(&workdir, "server").start().await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    let backup = keep.json(&["backup"]).await["id"].as_str().unwrap().to_owned();
    assert!(keep.terminate().await.success());
    let backup = keep.repository().join("main/0001/backups").join(backup);
    let packs = fs::read_dir(backup.join("packs")).unwrap().map(|pack| pack.unwrap().path());
    let pack = packs.max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    for (number, object) in [&pack, &pack, &backup.join("manifest")].into_iter().enumerate() {
        let bytes = fs::read(object).unwrap();
        let middle = bytes.len() / 2;
        match number {
            1 => cut(object, middle),
            _ => flip(object, middle),
        }
        let mut restored = Postgres::without_data(&workdir, &format!("restored-{number}"));
        let data = restored.data().to_str().unwrap().to_owned();
        let finished = keep.verb(&["restore", &data, "--to", "latest"]).await;
        let error = finished.expect_refusal(DAMAGED);
        assert!(error.contains("backups/"), "{error}");
        assert!(!restored.data().join("global/pg_control").exists(), "{error}");
        restored.launch();
        assert!(!restored.wait_exit().await.success());
        println!("{error}");
        fs::write(object, bytes).unwrap();
    }
}

/// An archive in which one segment after the backup, and neither the first nor the last, is to be
/// damaged.
struct Damaged {
    keep: Pgkeep,
    segment: String,
    next: String,
    rows: Vec<String>,
    last_commit: String,
}

impl Damaged {
    async fn make(workdir: &Workdir) -> Self {
        // A server that pgkeep should not have let go would listen here.
        let server = Postgres::build(workdir, "server")
            .setting("unix_socket_directories", workdir.path().to_str().unwrap())
            .setting("listen_addresses", "")
            .start()
            .await;
        Ledger::create(&server).await;
        let mut keep = Pgkeep::archiving(workdir, "keep", &server).await;
        keep.json(&["backup"]).await;
        let mut segments = Vec::new();
        for _ in 0..5 {
            let sql =
                "insert into ledger (payload) select md5(g::text) from generate_series(1, 400) g";
            server.sql(sql).await;
            segments.push(server.value("select pg_walfile_name(pg_current_wal_lsn())").await);
            server.switch_wal().await;
        }
        server.sql("insert into ledger default values").await;
        let end = server.flush_lsn().await;
        keep.wait_archived(end).await;
        let status = keep.json(&["status"]).await;
        let last_commit = status["clusters"][0]["archived_commit_time"].as_str().unwrap();
        let last_commit = last_commit.to_owned();
        let [segment, next] = [segments[2].clone(), segments[3].clone()];
        let wal = keep.repository().join("main/0001/wal/00000001");
        let are_whole =
            async || [&segment, &next].iter().all(|name| wal.join(name).exists()).then_some(());
        wait_for("whole segments", are_whole).await;
        assert!(keep.terminate().await.success());
        let rows = Ledger::rows_in(&server).await;
        Self { keep, segment, next, rows, last_commit }
    }

    /// Damages the segment; what is returned repairs it.
    fn inflict(&self, damage: Damage) -> impl FnOnce() + use<> {
        let wal = self.keep.repository().join("main/0001/wal/00000001");
        let (path, next) = (wal.join(&self.segment), wal.join(&self.next));
        let pieces = self.keep.repository().join("main/0001/pieces/00000001").join(&self.segment);
        let away = self.keep.repository().with_extension("away");
        let (bytes, other) = (fs::read(&path).unwrap(), fs::read(&next).unwrap());
        match damage {
            Damage::Flip => flip(&path, bytes.len() / 2),
            Damage::Truncate => cut(&path, bytes.len() / 2),
            Damage::Delete => {
                fs::remove_file(&path).unwrap();
                // What it was made of is as good, and may be there still.
                let _ = fs::rename(&pieces, &away);
            }
            Damage::Swap => {
                write(&path, &other);
                write(&next, &bytes);
            }
        }
        move || {
            write(&path, &bytes);
            write(&next, &other);
            let _ = fs::rename(&away, &pieces);
        }
    }
}

/// Fails the test if the server may have become one of its own.
fn expect_unpromoted(restored: &Postgres, what: &str) {
    let signal = restored.data().join("recovery.signal");
    assert!(signal.exists(), "{what}: recovery has ended");
    let history = restored.data().join("pg_wal/00000002.history");
    assert!(!history.exists(), "{what}: there is a new timeline");
}

fn flip(path: &Path, at: usize) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let (mut byte, at) = ([0], u64::try_from(at).unwrap());
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn cut(path: &Path, length: usize) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(u64::try_from(length).unwrap()).unwrap();
}

/// Writes the file, which may have to be made for the account of the servers to read.
fn write(path: &PathBuf, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

fn first_line(text: &str) -> &str {
    text.lines().find(|line| line.starts_with("error: ")).unwrap_or_default()
}
