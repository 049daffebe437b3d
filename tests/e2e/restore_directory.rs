//! What is laid down: the files of the server and nothing else, in places that were free.

use std::fs;
use std::path::Path;

use crate::harness::{Ledger, Pgkeep, Postgres, StopMode, Workdir, run};

/// See docs/errors.md.
const FAILURE: i32 = 2;

#[tokio::test]
async fn a_directory_laid_down_is_what_postgres_own_tools_expect() {
    let workdir = Workdir::new("restore");
    // All of this would reach beyond the restored server.
    let server = Postgres::build(&workdir, "server")
        .setting("archive_mode", "on")
        .setting("archive_command", "/bin/true")
        .setting("synchronous_standby_names", "nobody")
        .setting("synchronous_commit", "local")
        .start()
        .await;
    server.sql("alter system set primary_conninfo = 'host=elsewhere'").await;
    server.sql("alter system set recovery_target_name = 'stale'").await;
    Ledger::create(&server).await;
    server.pgbench(&["-i", "-s", "1", "-q"]).await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    keep.json(&["backup"]).await;
    server.pgbench(&["-c", "2", "-t", "100", "-n"]).await;
    server.sql("insert into ledger default values").await;
    keep.wait_archived(server.flush_lsn().await).await;

    let mut restored = Postgres::without_data(&workdir, "restored");
    keep.restore(&restored, &["--to", "latest"]).await;
    // Settings are written behind the backup; all else must be as it was there.
    let mut verify = restored.client("pg_verifybackup");
    let own = ["postgresql.auto.conf", "recovery.signal"].map(|name| format!("--ignore={name}"));
    verify.args(["--no-parse-wal", "--exit-on-error"]).args(own).arg(restored.data());
    run(verify).await.expect_success();

    restored.recover().await;
    assert_eq!(Ledger::rows_in(&restored).await, Ledger::rows_in(&server).await);
    let settings = "select string_agg(name || '=' || setting, ' ' order by name) from pg_settings \
        where name in ('archive_mode', 'primary_conninfo', 'synchronous_standby_names', \
        'archive_command', 'recovery_target_name')";
    assert_eq!(
        restored.value(settings).await,
        "archive_command=(disabled) archive_mode=off primary_conninfo= recovery_target_name= \
         synchronous_standby_names="
    );
    restored.sql("create extension amcheck").await;
    let indexes = "select count(bt_index_check(c.oid, i.indisunique)) from pg_class c \
        join pg_index i on i.indexrelid = c.oid join pg_am a on a.oid = c.relam \
        where a.amname = 'btree' and c.relpersistence = 'p'";
    let checked: u32 = restored.value(indexes).await.parse().unwrap();
    assert!(checked > 100, "only {checked} indexes were checked");
    restored.stop(StopMode::Fast).await;
    let mut checksums = restored.client("pg_checksums");
    checksums.arg("--check").arg("--pgdata").arg(restored.data());
    let told = run(checksums).await.expect_success();
    assert!(told.contains("Bad checksums:  0"), "{told}");
    println!("pg_verifybackup agrees, {checked} indexes and all checksums are sound");
}

#[tokio::test]
async fn a_tablespace_goes_to_its_new_place_and_never_over_the_old_one() {
    let workdir = Workdir::new("restore");
    let (old, new) = (workdir.subdirectory("old space"), workdir.path().join("new=space"));
    let server = Postgres::build(&workdir, "server").start().await;
    server.sql(&format!("create tablespace space location '{}'", old.display())).await;
    Ledger::create(&server).await;
    server.sql("alter table ledger set tablespace space").await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    keep.json(&["backup"]).await;
    server.sql("insert into ledger select from generate_series(1, 1000)").await;
    keep.wait_archived(server.flush_lsn().await).await;

    let mut restored = Postgres::without_data(&workdir, "restored");
    let data = restored.data().to_str().unwrap().to_owned();
    let unmapped = keep.verb(&["restore", &data, "--to", "latest"]).await;
    let error = unmapped.expect_refusal(FAILURE);
    assert!(error.contains("old space"), "{error}");
    assert!(!restored.data().exists());
    let written = new.to_str().unwrap().replace('=', "\\=");
    let mapping = format!("{}={written}", old.display());
    keep.restore(&restored, &["--to", "latest", "--tablespace", &mapping]).await;
    restored.recover().await;
    assert_eq!(Ledger::rows_in(&restored).await, Ledger::rows_in(&server).await);
    let place = "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'space'";
    assert_eq!(restored.value(place).await, new.to_str().unwrap());
    // Both go on, each in its own place.
    for server in [&server, &restored] {
        server.sql("insert into ledger default values").await;
        server.sql("checkpoint").await;
    }
    println!("refused: {error}; mapped to {}, both servers go on", new.display());
}

#[tokio::test]
async fn nothing_is_restored_over_something() {
    let workdir = Workdir::new("restore");
    let server = Postgres::build(&workdir, "server").start().await;
    let keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    keep.json(&["backup"]).await;
    let full = workdir.subdirectory("full");
    fs::write(full.join("precious"), "mine").unwrap();
    let file = workdir.path().join("file");
    fs::write(&file, "mine").unwrap();
    let live = server.data().to_owned();
    for place in [&full, &file, &live, &live.join("base")] {
        let before = listing(place);
        let verb = ["restore", place.to_str().unwrap(), "--to", "latest"];
        let finished = keep.verb(&verb).await.expect_code(FAILURE);
        assert!(finished.stderr.starts_with("error: "), "{}", finished.stderr);
        assert_eq!(listing(place), before);
    }
    assert_eq!(server.value("select 1").await, "1");
    println!("4 places that hold something were refused and left as they are");
}

#[tokio::test]
async fn a_restore_that_was_killed_leaves_a_directory_that_postgres_does_not_start() {
    let workdir = Workdir::new("restore");
    let server = Postgres::build(&workdir, "server").start().await;
    let keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    keep.json(&["backup"]).await;
    let mut restored = Postgres::without_data(&workdir, "restored");
    let verb = ["restore", restored.data().to_str().unwrap(), "--to", "latest"];
    let mut killed = keep.command(&verb);
    killed.env("PGKEEP_FAILPOINT", "restore_before_control=kill");
    assert_eq!(run(killed).await.code, None, "it was not killed");
    let again = keep.verb(&verb).await.expect_refusal(FAILURE);
    assert!(restored.data().join("recovery.signal").exists(), "it was killed too early");
    restored.launch();
    assert!(!restored.wait_exit().await.success(), "half a directory was started");
    println!("{again}; and Postgres refuses it as well");
}

/// Names in a directory; of a file, its length.
fn listing(path: &Path) -> Vec<String> {
    if path.is_file() {
        return vec![fs::metadata(path).unwrap().len().to_string()];
    }
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
