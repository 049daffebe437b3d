//! A restore across a promotion: rows of the branch that was left do not come back, unless asked for.

use pgkeep_proto::TimelineId;
use serde_json::Value;

use crate::harness::{Archive, Ledger, Pgkeep, Postgres, StopMode, Workdir, wait_for};

#[tokio::test]
async fn rows_written_on_the_old_timeline_behind_a_fork_come_back_only_on_that_timeline() {
    let workdir = Workdir::new("restore");
    let primary = Postgres::build(&workdir, "primary").start().await;
    Ledger::create(&primary).await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &primary).await;
    keep.json(&["backup"]).await;
    insert(&primary, "shared").await;
    let mut standby = primary.standby(&workdir, "standby").await;
    let shared = primary.flush_lsn().await;
    let is_replayed = async || {
        let replayed = standby.value("select pg_last_wal_replay_lsn()").await;
        (replayed.parse::<pgkeep_proto::Lsn>().unwrap() >= shared).then_some(())
    };
    wait_for("the standby to catch up", is_replayed).await;
    standby.promote().await;

    // In the segment of the fork, and in segments behind it.
    for _ in 0..3 {
        insert(&primary, "left").await;
        primary.finish_segment().await;
    }
    keep.wait_archived(primary.flush_lsn().await).await;
    assert!(keep.terminate().await.success());
    keep.configure(&standby.conninfo());
    keep.start();
    insert(&standby, "gone on with").await;
    let archive = keep.archive().await;
    wait_archived(&archive, &standby).await;

    let (old, new) = (Ledger::rows_in(&primary).await, Ledger::rows_in(&standby).await);
    for (name, arguments, expected) in [
        ("latest", &["--to", "latest"][..], &new),
        ("old", &["--to", "latest", "--timeline", "1"], &old),
        ("new", &["--to", "latest", "--timeline", "2"], &new),
    ] {
        let mut restored = Postgres::without_data(&workdir, name);
        let told = keep.restore(&restored, arguments).await;
        restored.recover().await;
        assert_eq!(&Ledger::rows_in(&restored).await, expected, "{name}: {told}");
        // Higher than every timeline known, on whichever the server was.
        let writes = restored.value("select pg_walfile_name(pg_current_wal_lsn())").await;
        assert!(writes.starts_with("00000003"), "{name} writes {writes}");
        restored.stop(StopMode::Immediate).await;
    }
    assert_eq!(count(&new, "left"), 0);
    println!(
        "{} rows left behind, {} gone on with; each came back on its own timeline",
        count(&old, "left"),
        count(&new, "gone on with")
    );
}

#[tokio::test]
async fn a_restored_server_is_archived_on_and_restored_again() {
    let workdir = Workdir::new("restore");
    let primary = Postgres::build(&workdir, "primary").start().await;
    Ledger::create(&primary).await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &primary).await;
    keep.json(&["backup"]).await;
    insert(&primary, "kept").await;
    let target = primary.flush_lsn().await;
    primary.sql("select pg_create_restore_point('here')").await;
    insert(&primary, "undone").await;
    keep.wait_archived(primary.finish_segment().await).await;
    assert!(keep.terminate().await.success());
    drop(primary);

    let mut restored = Postgres::without_data(&workdir, "restored");
    keep.restore(&restored, &["--to", "name:here"]).await;
    restored.recover().await;
    insert(&restored, "new").await;
    let expected = Ledger::rows_in(&restored).await;
    assert_eq!(count(&expected, "undone"), 0);
    keep.configure(&restored.conninfo());
    keep.start();
    wait_archived(&keep.archive().await, &restored).await;

    let mut again = Postgres::without_data(&workdir, "again");
    let told: Value = keep.restore(&again, &["--to", "latest"]).await;
    again.recover().await;
    assert_eq!(Ledger::rows_in(&again).await, expected, "{told}");
    println!("restored to {target}, gone on with, and restored again: {} rows", expected.len());
}

/// Waits until all that `server` has written on timeline 2 is archived.
async fn wait_archived(archive: &Archive, server: &Postgres) {
    let end = server.flush_lsn().await;
    let is_archived =
        async || (archive.end_of(TimelineId::new(2).unwrap()).await >= end).then_some(());
    wait_for(&format!("timeline 2 to be archived up to {end}"), is_archived).await;
}

async fn insert(server: &Postgres, payload: &str) {
    let sql =
        format!("insert into ledger (payload) select '{payload}' from generate_series(1, 100)");
    server.sql(&sql).await;
}

fn count(rows: &[String], payload: &str) -> usize {
    rows.iter().filter(|row| row.contains(payload)).count()
}
