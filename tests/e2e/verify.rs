//! `pgkeep verify` names what is damaged, missing or foreign, and only that.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Pgkeep, Postgres, Workdir};

/// See docs/errors.md.
const UNSOUND: i32 = 3;
const UNCHECKED: i32 = 4;

#[tokio::test]
async fn whatever_is_done_to_an_object_that_a_server_filled_is_named() {
    let workdir = Workdir::new("verify");
    let server = Postgres::build(&workdir, "server").start().await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    server.pgbench(&["-i", "-s", "1", "-q"]).await;
    keep.json(&["backup"]).await;
    server.pgbench(&["-c", "2", "-t", "500", "-n"]).await;
    keep.wait_archived(server.finish_segment().await).await;

    // While the daemon goes on, too.
    for verb in [&["verify"][..], &["verify", "--full"]] {
        let sound = keep.json(verb).await;
        assert_eq!(sound["ok"], true, "{sound}");
    }
    assert!(keep.terminate().await.success());
    let count = keep.json(&["verify", "--full"]).await["checked"].as_u64().unwrap();

    let mut named = 0;
    for kind in ["backups", "wal", "pieces", "cluster", "epoch", "heartbeat"] {
        let objects = keep.objects(kind);
        let single = keep.repository().join("main/0001").join(kind);
        let mut victims: Vec<PathBuf> =
            objects.iter().step_by(objects.len() / 4 + 1).cloned().collect();
        if single.is_file() {
            victims.push(single);
        }
        assert!(!victims.is_empty(), "{kind}");
        for victim in victims {
            for harm in [flip, truncate, replace_by_other] {
                let before = fs::read(&victim).unwrap();
                harm(&victim, &keep);
                expect_named(&keep, &victim, "damaged").await;
                fs::write(&victim, before).unwrap();
                named += 1;
            }
        }
    }

    // What several objects say together.
    let wholes = keep.objects("wal");
    let (one, other) = (&wholes[1], &wholes[2]);
    swap(one, other);
    expect_named(&keep, one, "damaged").await;
    expect_named(&keep, other, "damaged").await;
    swap(one, other);
    let pack = keep.objects("backups").into_iter().find(|path| is_pack(path)).unwrap();
    let away = workdir.path().join("away");
    for (victim, list) in [(&pack, "missing"), (&keep.objects("epoch")[0], "missing")] {
        fs::rename(victim, &away).unwrap();
        expect_named(&keep, victim, list).await;
        fs::rename(&away, victim).unwrap();
    }
    let stray = keep.repository().join("main/0001/wal/stray");
    fs::copy(one, &stray).unwrap();
    expect_named(&keep, &stray, "damaged").await;
    fs::remove_file(&stray).unwrap();

    // A segment that is only whole, with WAL on both sides.
    let name = one.file_name().unwrap().to_str().unwrap();
    let pieces = keep.repository().join("main/0001/pieces/00000001").join(name);
    if pieces.exists() {
        fs::remove_dir_all(pieces).unwrap();
    }
    fs::rename(one, &away).unwrap();
    let found = expect_named(&keep, one, "missing").await;
    assert!(found.to_string().contains("moments after"), "{found}");
    fs::rename(&away, one).unwrap();
    let sound = keep.json(&["verify", "--full"]).await;
    assert_eq!(sound["ok"], true, "everything was put back: {sound}");
    println!("{named} harms among {count} objects named, and what is missing or strange");
}

#[tokio::test]
async fn what_the_inventory_knows_is_missed_when_it_is_taken_away() {
    let workdir = Workdir::new("verify");
    let server = Postgres::build(&workdir, "server").start().await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    for round in 0..2 {
        if round > 0 {
            keep.start();
        }
        keep.wait_archived(server.finish_segment().await).await;
        assert!(keep.terminate().await.success());
    }
    keep.verb(&["verify", "--full"]).await.expect_success();
    let pages = keep.objects("inventory");
    let (oldest, newest) = (pages.first().unwrap(), pages.last().unwrap());
    assert_ne!(oldest, newest);
    let segment = keep.objects("wal").pop().unwrap();
    let pieces = keep.repository().join("main/0001/pieces/00000001");
    let pieces = pieces.join(segment.file_name().unwrap());
    if pieces.exists() {
        fs::remove_dir_all(pieces).unwrap();
    }
    let away = workdir.path().join("away");
    for victim in [oldest, newest, &segment] {
        fs::rename(victim, &away).unwrap();
        expect_named(&keep, victim, "missing").await;
        fs::rename(&away, victim).unwrap();
    }
    // Without the heartbeat, the witness of this machine is the last one that knows.
    let heartbeat = keep.repository().join("main/0001/heartbeat");
    if heartbeat.exists() {
        fs::remove_file(heartbeat).unwrap();
    }
    fs::remove_file(newest).unwrap();
    let told = expect_named(&keep, newest, "missing").await;
    fs::remove_file(keep.state().join("main.head")).unwrap();
    keep.verb(&["verify", "--full"]).await.expect_success();
    println!("{}", told["missing"]);
}

#[tokio::test]
async fn what_cannot_be_read_is_neither_damaged_nor_sound() {
    let workdir = Workdir::new("verify");
    let server = Postgres::build(&workdir, "server").start().await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    server.switch_wal().await;
    keep.wait_archived(server.finish_segment().await).await;
    assert!(keep.terminate().await.success());
    let victim = keep.objects("wal").pop().unwrap();
    fs::set_permissions(&victim, Permissions::from_mode(0o000)).unwrap();
    let finished = keep.verb(&["verify", "--json"]).await.expect_code(UNCHECKED);
    let told: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(told["damaged"], Value::Array(vec![]), "{told}");
    assert_eq!(told["missing"], Value::Array(vec![]), "{told}");
    assert_eq!(told["unchecked"][0]["key"], key_of(&keep, &victim), "{told}");
    fs::set_permissions(&victim, Permissions::from_mode(0o600)).unwrap();
    keep.verb(&["verify"]).await.expect_success();
    println!("unchecked: {}", told["unchecked"]);
}

/// Fails the test unless `verify --full` ends with 3 and names this object in the list. The report.
async fn expect_named(keep: &Pgkeep, victim: &Path, list: &str) -> Value {
    let finished = keep.verb(&["verify", "--full", "--json"]).await.expect_code(UNSOUND);
    let told: Value = serde_json::from_str(&finished.stdout).unwrap();
    let key = key_of(keep, victim);
    let is_named = told[list].as_array().unwrap().iter().any(|finding| finding["key"] == *key);
    assert!(is_named, "{key} is not in {list}: {told}");
    told
}

fn key_of(keep: &Pgkeep, path: &Path) -> String {
    path.strip_prefix(keep.repository()).unwrap().to_str().unwrap().to_owned()
}

fn is_pack(path: &Path) -> bool {
    path.parent().is_some_and(|parent| parent.ends_with("packs"))
}

fn flip(path: &Path, _: &Pgkeep) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let at = file.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn truncate(path: &Path, _: &Pgkeep) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
}

/// Puts another sound object of the same repository there.
fn replace_by_other(path: &Path, keep: &Pgkeep) {
    let objects = keep.objects("wal").into_iter().chain(keep.objects("backups"));
    let other = objects.into_iter().find(|other| other != path).unwrap();
    fs::write(path, fs::read(other).unwrap()).unwrap();
}

fn swap(one: &Path, other: &Path) {
    let (first, second) = (fs::read(one).unwrap(), fs::read(other).unwrap());
    fs::write(one, second).unwrap();
    fs::write(other, first).unwrap();
}
