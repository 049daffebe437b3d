//! What `pgkeep export` writes is restored by Postgres' own tools, by the commands of its README.

use std::fs;
use std::path::Path;

use crate::harness::{Ledger, Pgkeep, Postgres, StopMode, Workdir, run, wait_for};

/// See docs/errors.md.
const FAILURE: i32 = 2;
const REFUSED: i32 = 5;

#[tokio::test]
async fn stock_tools_restore_an_export_to_exactly_the_moment_that_was_asked_for() {
    let workdir = Workdir::new("export");
    let space = workdir.subdirectory("old space");
    let server = Postgres::build(&workdir, "server")
        .setting("track_commit_timestamp", "on")
        .setting("wal_keep_size", "1GB")
        .setting("archive_mode", "on")
        .setting("archive_command", "/bin/false")
        .start()
        .await;
    let start = server.flush_lsn().await;
    server.sql(&format!("create tablespace space location '{}'", space.display())).await;
    Ledger::create(&server).await;
    server.sql("create index there on ledger (payload) tablespace space").await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    keep.json(&["backup"]).await;
    for _ in 0..60 {
        server.sql("insert into ledger default values").await;
    }
    server.finish_segment().await;
    for _ in 0..20 {
        server.sql("insert into ledger default values").await;
    }
    keep.wait_archived(server.flush_lsn().await).await;
    let ledger = Ledger::read(&server, start).await;
    let rows: Vec<_> = ledger.ends.iter().filter(|end| end.has_rows).collect();
    let first = rows[30].lsn;

    for (number, (target, expected)) in [
        (format!("lsn:{first}"), ledger.rows_up_to(first)),
        (format!("lsn:{}", rows[70].lsn), ledger.rows_up_to(rows[70].lsn)),
        ("latest".to_owned(), ledger.rows()),
    ]
    .iter()
    .enumerate()
    {
        // A path that the shell and Postgres must not take apart.
        let directory = workdir.path().join(format!("it's 100% export {number}"));
        let told = export(&keep, &directory, &["--to", target]).await;
        assert!(told["segments"].as_u64().unwrap() >= 1, "{told}");
        let mut restored = Postgres::without_data(&workdir, &format!("restored-{number}"));
        let new_space = workdir.path().join(format!("space-{number}"));
        let commands = commands(&directory, restored.data(), &new_space);
        assert_eq!(commands.lines().count(), 8, "{commands}");
        run(server.shell(&commands)).await.expect_success();
        restored.recover().await;
        assert_eq!(&Ledger::rows_in(&restored).await, expected, "{target}");
        let place = "select pg_tablespace_location(oid) from pg_tablespace where spcname = 'space'";
        assert_eq!(restored.value(place).await, new_space.to_str().unwrap());
        assert_eq!(restored.value("show archive_mode").await, "off");
        restored.stop(StopMode::Immediate).await;
    }
    println!("3 exports restored by the commands of their README, each to its moment");
}

#[tokio::test]
async fn an_export_across_a_promotion_leaves_out_the_branch_that_was_left() {
    let workdir = Workdir::new("export");
    let primary = Postgres::build(&workdir, "primary").start().await;
    Ledger::create(&primary).await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &primary).await;
    keep.json(&["backup"]).await;
    primary.sql("insert into ledger (payload) values ('shared')").await;
    let mut standby = primary.standby(&workdir, "standby").await;
    let shared = primary.flush_lsn().await;
    let is_replayed = async || {
        let replayed = standby.value("select pg_last_wal_replay_lsn()").await;
        (replayed.parse::<pgkeep_proto::Lsn>().unwrap() >= shared).then_some(())
    };
    wait_for("the standby to catch up", is_replayed).await;
    standby.promote().await;
    for _ in 0..3 {
        primary.sql("insert into ledger (payload) values ('left')").await;
        primary.finish_segment().await;
    }
    keep.wait_archived(primary.flush_lsn().await).await;
    assert!(keep.terminate().await.success());
    keep.configure(&standby.conninfo());
    keep.start();
    standby.sql("insert into ledger (payload) values ('gone on with')").await;
    let second = pgkeep_proto::TimelineId::new(2).unwrap();
    let (archive, end) = (keep.archive().await, standby.flush_lsn().await);
    let is_archived = async || (archive.end_of(second).await >= end).then_some(());
    wait_for("timeline 2 to be archived", is_archived).await;

    let directory = workdir.path().join("export");
    export(&keep, &directory, &["--to", "latest"]).await;
    let mut restored = Postgres::without_data(&workdir, "restored");
    let commands = commands(&directory, restored.data(), Path::new("none"));
    run(standby.shell(&commands)).await.expect_success();
    restored.recover().await;
    assert_eq!(Ledger::rows_in(&restored).await, Ledger::rows_in(&standby).await);
    let writes = restored.value("select pg_walfile_name(pg_current_wal_lsn())").await;
    assert!(writes.starts_with("00000003"), "{writes}");
    assert!(keep.verb(&["verify", "--full"]).await.code == Some(0), "both timelines are sound");
    println!("restored from an export along timelines 1 and 2, writes on 3");
}

#[tokio::test]
async fn nothing_is_exported_over_something_or_to_a_moment_that_is_not_there() {
    let workdir = Workdir::new("export");
    let server = Postgres::build(&workdir, "server").start().await;
    let keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    keep.json(&["backup"]).await;
    let full = workdir.subdirectory("full");
    fs::write(full.join("precious"), "mine").unwrap();
    let verb = ["export", full.to_str().unwrap(), "--to", "latest"];
    keep.verb(&verb).await.expect_refusal(FAILURE);
    assert_eq!(fs::read_dir(&full).unwrap().count(), 1);
    let nowhere = workdir.path().join("nowhere");
    let verb = ["export", nowhere.to_str().unwrap(), "--to", "2031-01-01T00:00:00Z"];
    let error = keep.verb(&verb).await.expect_refusal(REFUSED);
    assert!(!nowhere.exists());
    println!("refused: {error}");
}

async fn export(keep: &Pgkeep, directory: &Path, arguments: &[&str]) -> serde_json::Value {
    keep.json(&[&["export", directory.to_str().unwrap()], arguments].concat()).await
}

/// The commands of the README, but for the start, with the places that it leaves open.
fn commands(directory: &Path, data: &Path, space: &Path) -> String {
    let readme = fs::read_to_string(directory.join("README.txt")).unwrap();
    let mut commands = String::new();
    for line in readme.lines().filter_map(|line| line.strip_prefix("    ")) {
        let line = line.replace("DATA", data.to_str().unwrap());
        let words = line.split("SPACE_");
        let places = words.enumerate().map(|(number, word)| match number {
            0 => word.to_owned(),
            _ => format!("{}{}", space.display(), word.trim_start_matches(char::is_numeric)),
        });
        let line: String = places.collect();
        if !line.starts_with("pg_ctl") {
            commands.push_str(&line);
            commands.push('\n');
        }
    }
    commands
}
