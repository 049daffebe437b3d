//! An encrypted repository: who has a secret reads it, and nobody else learns anything.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Ledger, Pgkeep, Postgres, Workdir, run};

/// See docs/errors.md.
const REFUSED: i32 = 5;
const KEY: i32 = 13;
const FAULT: i32 = 200;

const PASSPHRASE: &str = "seven wild horses, and a stable";
/// A value in a table: it must not be found in the repository.
const MARK: &str = "the-mark-that-nobody-may-read";

#[tokio::test]
async fn the_recovery_passphrase_alone_brings_everything_back() {
    let workdir = Workdir::new("keys");
    // The passphrase is stretched for each segment that recovery asks for: a few large ones.
    let mut server = Postgres::build(&workdir, "server").segment_size_mb(16).start().await;
    Ledger::create(&server).await;
    let mut keep = Pgkeep::new(&workdir, "keep", &server);
    let daily = keep.secret_source("daily.key");
    let spare = keep.write_secret("spare", &format!("{PASSPHRASE}\n"));
    keep.set_keys(&daily, Some(&spare));
    let made = keep.json(&["init"]).await;
    let key_file = file_of(&daily);
    assert_eq!(made["keys_generated"], serde_json::json!([key_file]));
    assert_eq!(fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
    let key = fs::read_to_string(&key_file).unwrap();

    keep.start();
    server.sql(&format!("create table marks as select '{MARK}' as mark")).await;
    server.sql("insert into ledger select from generate_series(1, 500)").await;
    let mut printed = keep.verb(&["backup"]).await.expect_success();
    server.sql("insert into ledger select from generate_series(1, 500)").await;
    keep.wait_archived(server.flush_lsn().await).await;
    let rows = Ledger::rows_in(&server).await;
    for verb in [&["status"][..], &["list"], &["key", "list"], &["key", "check"]] {
        printed.push_str(&keep.verb(verb).await.expect_success());
    }
    let command_line = format!("/proc/{}/cmdline", keep.daemon().pid());
    printed.push_str(&fs::read_to_string(command_line).unwrap());
    keep.kill9().await;
    server.kill9().await;

    // The host is lost, and with it the key.
    fs::remove_file(&key_file).unwrap();
    assert!(keep.verb(&["status"]).await.expect_refusal(KEY).contains("daily.key"));
    keep.set_keys(&spare, None);
    let mut restored = Postgres::without_data(&workdir, "restored");
    keep.restore(&restored, &["--to", "latest"]).await;
    let secrets = [key.trim().trim_start_matches("PGKEEP-KEY-1:"), PASSPHRASE];
    assert_eq!(files_with(restored.data(), &secrets), Vec::<PathBuf>::new());
    restored.recover().await;
    assert_eq!(Ledger::rows_in(&restored).await, rows);
    assert_eq!(restored.value("select mark from marks").await, MARK);

    printed.push_str(&fs::read_to_string(workdir.path().join("keep/daemon.log")).unwrap());
    printed.push_str(&restored.log());
    assert!(secrets.iter().all(|secret| !printed.contains(secret)), "{printed}");
    let hidden = [secrets.as_slice(), &[MARK]].concat();
    assert_eq!(files_with(&keep.repository(), &hidden), Vec::<PathBuf>::new());
    assert!(!files_with(restored.data(), &[MARK]).is_empty(), "the search finds nothing at all");
    println!(
        "1000 rows came back with the passphrase; {} bytes of output are clean",
        printed.len()
    );
}

#[tokio::test]
async fn a_wrong_key_is_told_at_once_by_every_verb() {
    let workdir = Workdir::new("keys");
    let server = Postgres::build(&workdir, "server").start().await;
    let keep = encrypted(&workdir, &server).await;
    let spare = keep.secret_source("spare.key");
    let other = keep.secret_source("other.key");
    keep.verb(&["key", "generate", "other.key"]).await.expect_success();
    keep.set_keys(&other, Some(&spare));
    for verb in [
        &["status"][..],
        &["list"],
        &["backup"],
        &["run"],
        &["init"],
        &["restore", "--to", "latest", "nowhere"],
        &["key", "add", "more", "--secret", "env:HOME"],
    ] {
        let error = keep.verb(verb).await.expect_refusal(KEY);
        assert!(error.contains("other.key") && error.contains("does not open"), "{error}");
    }
    let get = ["archive-get", "000000010000000000000001", "there"];
    keep.verb(&get).await.expect_refusal(FAULT);
    let listed = keep.json(&["key", "list"]).await;
    assert_eq!(listed["slots"][1]["opened_by"], serde_json::json!(["recovery_key"]));
    keep.verb(&["key", "check"]).await.expect_code(KEY);
    let plain = fs::read_to_string(keep.config()).unwrap();
    keep.write_config(
        &plain.replace(&format!("encryption_key = \"{other}\""), "encryption = \"off\""),
    );
    assert!(keep.verb(&["status"]).await.expect_refusal(KEY).contains("names no key"));

    keep.set_keys("env:PGKEEP_TEST_SECRET", None);
    assert!(keep.verb(&["status"]).await.expect_refusal(KEY).contains("is not set"));
    let mut status = keep.command(&["status"]);
    let key = fs::read_to_string(file_of(&keep.secret_source("daily.key"))).unwrap();
    status.env("PGKEEP_TEST_SECRET", key.trim());
    run(status).await.expect_success();
    println!("7 verbs refused the wrong key, archive-get with {FAULT}");
}

#[tokio::test]
async fn a_secret_that_others_may_read_is_refused_and_so_is_a_missing_recovery_key() {
    let workdir = Workdir::new("keys");
    let server = Postgres::build(&workdir, "server").start().await;
    let keep = Pgkeep::new(&workdir, "keep", &server);
    let daily = keep.secret_source("daily.key");
    keep.set_keys(&daily, None);
    let error = keep.verb(&["init"]).await.expect_refusal(REFUSED);
    assert!(error.contains("recovery_key"), "{error}");
    assert!(!file_of(&daily).exists() && !keep.repository().join("repository").exists());

    let short = keep.write_secret("short", "hunter2hunt");
    keep.set_keys(&daily, Some(&short));
    let error = keep.verb(&["init"]).await.expect_refusal(KEY);
    assert!(error.contains("12 characters") && !error.contains("hunter2"), "{error}");
    assert!(!keep.repository().join("keys").exists(), "no slot without its recovery slot");

    let spare = keep.write_secret("spare", PASSPHRASE);
    keep.set_keys(&daily, Some(&spare));
    fs::set_permissions(file_of(&spare), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(keep.verb(&["init"]).await.expect_refusal(KEY).contains("0640"));
    fs::set_permissions(file_of(&spare), fs::Permissions::from_mode(0o600)).unwrap();
    keep.verb(&["init"]).await.expect_success();
    fs::set_permissions(file_of(&daily), fs::Permissions::from_mode(0o604)).unwrap();
    assert!(keep.verb(&["status"]).await.expect_refusal(KEY).contains("0604"));
    println!("4 secrets refused, then taken");
}

#[tokio::test]
async fn two_that_create_one_repository_at_once_share_one_key() {
    let workdir = Workdir::new("keys");
    let server = Postgres::build(&workdir, "server").start().await;
    let keep = Pgkeep::new(&workdir, "keep", &server);
    let daily = keep.secret_source("daily.key");
    let spare = keep.secret_source("spare.key");
    keep.set_keys(&daily, Some(&spare));
    let mut config = fs::read_to_string(keep.config()).unwrap();
    for name in ["one", "two", "three"] {
        let upstream = server.conninfo();
        config.push_str(&format!(
            "\n[cluster.{name}]\nupstream = \"{upstream}\"\nslot = \"{name}\"\n"
        ));
    }
    keep.write_config(&config);
    let init = async |name| keep.verb(&["init", "--cluster", name]).await;
    let (one, two, three) = tokio::join!(init("one"), init("two"), init("three"));
    let codes = [one, two, three].map(|finished| finished.code);
    assert!(codes.contains(&Some(0)), "{codes:?}");
    for name in ["one", "two", "three"] {
        keep.verb(&["init", "--cluster", name]).await.expect_success();
        keep.verb(&["status", "--cluster", name]).await.expect_success();
    }
    let checked = keep.json(&["key", "check"]).await;
    let opened: Vec<&Value> = checked["secrets"].as_array().unwrap().iter().collect();
    assert!(opened.len() == 2 && opened.iter().all(|secret| secret["opens"] == true), "{checked}");
    assert_eq!(fs::read_dir(keep.repository().join("keys/0001")).unwrap().count(), 2);
    println!("three at once ended with {codes:?}, and share one key");
}

#[tokio::test]
async fn what_was_sealed_before_and_after_a_revocation_comes_back_with_the_new_key() {
    let workdir = Workdir::new("keys");
    let server = Postgres::build(&workdir, "server").start().await;
    Ledger::create(&server).await;
    let mut keep = encrypted(&workdir, &server).await;
    let (daily, spare) = (keep.secret_source("daily.key"), keep.secret_source("spare.key"));
    let [new, laptop] = ["new.key", "laptop.key"].map(|name| keep.secret_source(name));
    keep.start();
    server.sql("insert into ledger select from generate_series(1, 300)").await;
    keep.json(&["backup"]).await;
    keep.wait_archived(server.finish_segment().await).await;

    for (name, file) in [("encryption-2", "new.key"), ("laptop", "laptop.key")] {
        keep.verb(&["key", "generate", file]).await.expect_success();
        let source = keep.secret_source(file);
        keep.json(&["key", "add", name, "--secret", &source]).await;
    }
    let refused = keep.verb(&["key", "revoke", "encryption"]).await.expect_refusal(REFUSED);
    assert!(refused.contains("to be revoked"), "{refused}");
    keep.set_keys(&new, Some(&spare));
    let revoked = keep.json(&["key", "revoke", "encryption"]).await;
    assert_eq!((&revoked["exposed_epoch"], &revoked["epoch"]), (&1.into(), &2.into()));
    assert_eq!(revoked["left_behind"], serde_json::json!(["encryption-2", "laptop"]));

    assert!(keep.terminate().await.success());
    keep.start();
    server.sql("insert into ledger select from generate_series(1, 300)").await;
    keep.wait_archived(server.finish_segment().await).await;
    assert!(keep.terminate().await.success());
    let rows = Ledger::rows_in(&server).await;

    for old in [&daily, &laptop] {
        keep.set_keys(old, None);
        keep.verb(&["status"]).await.expect_refusal(KEY);
    }
    for (open, name) in [(&new, "by_new"), (&spare, "by_spare")] {
        keep.set_keys(open, None);
        let mut restored = Postgres::without_data(&workdir, name);
        keep.restore(&restored, &["--to", "latest"]).await;
        restored.recover().await;
        assert_eq!(Ledger::rows_in(&restored).await, rows);
    }
    println!("600 rows over two key epochs came back with each of two secrets");
}

/// A repository with two key files, which `init` makes.
async fn encrypted(workdir: &Workdir, server: &Postgres) -> Pgkeep {
    let keep = Pgkeep::new(workdir, "keep", server);
    let [daily, spare] = ["daily.key", "spare.key"].map(|name| keep.secret_source(name));
    keep.set_keys(&daily, Some(&spare));
    run(keep.command(&["init"])).await.expect_success();
    keep
}

fn file_of(source: &str) -> PathBuf {
    PathBuf::from(source.strip_prefix("file:").unwrap())
}

/// Files below `directory` that hold one of `texts`.
fn files_with(directory: &Path, texts: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, texts));
        } else if let Ok(bytes) = fs::read(&path) {
            let holds = |text: &&str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
            if texts.iter().any(holds) {
                found.push(path);
            }
        }
    }
    found
}
