//! Targets that cannot be reached: refused before anything is touched, with moments that can be.

use pgkeep_proto::{Lsn, SegmentName, TimelineId};

use crate::harness::{Ledger, Pgkeep, Postgres, StopMode, Workdir, wait_for};

/// See docs/errors.md.
const REFUSED: i32 = 5;

const NOW: &str = "select to_char(clock_timestamp() at time zone 'UTC', \
    'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";

#[tokio::test]
async fn what_has_no_plan_is_refused_with_moments_that_have_one() {
    let workdir = Workdir::new("restore");
    let server = Postgres::build(&workdir, "server").start().await;
    Ledger::create(&server).await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    keep.wait_archived(server.flush_lsn().await).await;
    refused(&keep, &workdir, &["latest"]).await;

    let early = server.value(NOW).await;
    let early_lsn = server.flush_lsn().await;
    // Committed after that moment, and in the backup.
    insert(&server).await;
    keep.json(&["backup"]).await;
    server.sql("select pg_create_restore_point('known')").await;
    insert(&server).await;
    keep.wait_archived(server.flush_lsn().await).await;
    for target in [
        early.as_str(),
        "2001-01-01T00:00:00Z",
        "now - 1h",
        &format!("lsn:{early_lsn}"),
        "2100-01-01 00:00:00+00",
        "lsn:FF/0",
    ] {
        let error = refused(&keep, &workdir, &[target]).await;
        expect_reachable(&keep, &workdir, &error, 1).await;
    }

    let error = refused(&keep, &workdir, &["name:unknown"]).await;
    assert!(error.contains("known"), "{error}");
    let error = refused(&keep, &workdir, &["1234"]).await;
    assert!(error.contains("xid:1234") && error.contains("name:1234"), "{error}");
    let error = refused(&keep, &workdir, &["2026-11-22 11:17:33"]).await;
    assert!(error.contains("zone"), "{error}");
    let berlin = ["2026-10-25 02:30", "--time-zone", "Europe/Berlin"];
    let error = refused(&keep, &workdir, &berlin).await;
    assert!(error.contains("+02") && error.contains("+01"), "{error}");
    for arguments in [
        &["2026-03-29 02:30", "--time-zone", "Europe/Berlin"][..],
        &["2026-02-30 11:00Z"],
        &["xid:7"],
        &["lsn:here"],
        &["latest", "--timeline", "7"],
    ] {
        refused(&keep, &workdir, arguments).await;
    }
    println!("16 targets refused; the moments that were named instead can be reached");
}

#[tokio::test]
async fn a_target_in_a_gap_is_refused_and_both_of_its_sides_come_back() {
    let workdir = Workdir::new("restore");
    let server = Postgres::build(&workdir, "server")
        .setting("min_wal_size", "2MB")
        .setting("max_wal_size", "2MB")
        .start()
        .await;
    Ledger::create(&server).await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    keep.json(&["backup"]).await;
    insert(&server).await;
    let rows_before = Ledger::rows_in(&server).await;
    keep.wait_archived(server.flush_lsn().await).await;
    assert!(keep.terminate().await.success());
    let status = keep.json(&["status"]).await;
    let before = status["clusters"][0]["archived_commit_time"].as_str().unwrap().to_owned();

    let (time, lsn) = lose_wal(&server, keep.archive().await.end().await).await;
    keep.start();
    keep.wait_archived(server.flush_lsn().await).await;
    let lost = [time.clone(), format!("lsn:{lsn}")];
    for target in &lost {
        let error = refused(&keep, &workdir, &[target]).await;
        expect_reachable(&keep, &workdir, &error, 1).await;
    }
    // There is something behind the gap, and no backup from which it can be reached.
    refused(&keep, &workdir, &["latest"]).await;
    keep.json(&["backup"]).await;
    insert(&server).await;
    keep.wait_archived(server.flush_lsn().await).await;
    for target in &lost {
        let error = refused(&keep, &workdir, &[target]).await;
        assert!(error.contains("gap"), "{error}");
        expect_reachable(&keep, &workdir, &error, 2).await;
    }

    let rows_after = Ledger::rows_in(&server).await;
    assert!(rows_before.len() < rows_after.len());
    for (name, target, rows) in
        [("before", before.as_str(), &rows_before), ("after", "latest", &rows_after)]
    {
        let mut restored = Postgres::without_data(&workdir, name);
        keep.restore(&restored, &["--to", target]).await;
        restored.recover().await;
        assert_eq!(&Ledger::rows_in(&restored).await, rows, "{target}");
        restored.stop(StopMode::Immediate).await;
    }
    println!(
        "{time} and {lsn} are lost and refused; {} rows came back before them, {} behind",
        rows_before.len(),
        rows_after.len()
    );
}

/// Asks for a restore to `arguments`, which must be refused and leave no directory. The error.
async fn refused(keep: &Pgkeep, workdir: &Workdir, arguments: &[&str]) -> String {
    let directory = workdir.path().join("nowhere");
    let verb = ["restore", directory.to_str().unwrap(), "--to"];
    let finished = keep.verb(&[&verb, arguments].concat()).await;
    let error = finished.expect_refusal(REFUSED);
    assert!(!directory.exists(), "{error}: and yet the directory was made");
    error
}

/// Plans a restore to each moment that `error` names, of which there must be so many.
async fn expect_reachable(keep: &Pgkeep, workdir: &Workdir, error: &str, count: usize) {
    let directory = workdir.path().join("nowhere");
    // `2026-11-22T11:17:33.000000Z (lsn:0/3000158)`, or the position alone.
    let words: Vec<&str> = error.split(|c: char| c.is_whitespace() || "(),".contains(c)).collect();
    let target = words[1];
    let moments: Vec<_> = words[2..].iter().filter(|word| word.starts_with("lsn:")).collect();
    assert_eq!(moments.len(), count, "{error}");
    let times = words[2..].iter().filter(|word| word.ends_with('Z') && word.contains('T'));
    let times: Vec<_> = times.collect();
    assert!(target.starts_with("lsn:") || times.len() == count, "no times in {error}");
    for moment in moments.into_iter().chain(times) {
        let verb = ["restore", directory.to_str().unwrap(), "--to", moment, "--dry-run"];
        keep.verb(&verb).await.expect_success();
    }
}

/// Lets the server remove the WAL behind `from`: a moment and a position in what is lost.
async fn lose_wal(server: &Postgres, from: Lsn) -> (String, Lsn) {
    let active = "select active from pg_replication_slots where slot_name = 'pgkeep'";
    let is_released = async || (server.value(active).await == "f").then_some(());
    wait_for("the slot to be released", is_released).await;
    server.sql("select pg_drop_replication_slot('pgkeep')").await;
    // Behind the segment in which the archive ends, all of which is lost.
    server.switch_wal().await;
    insert(server).await;
    let lost = (server.value(NOW).await, server.flush_lsn().await);
    let size = pgkeep_proto::SegmentSize::new(1 << 20).unwrap();
    let segment = SegmentName::containing(TimelineId::FIRST, lost.1, size).to_string();
    let file = server.data().join("pg_wal").join(segment);
    let is_removed = async || {
        server.switch_wal().await;
        insert(server).await;
        server.sql("checkpoint").await;
        (!file.exists()).then_some(())
    };
    wait_for("the server to remove WAL", is_removed).await;
    assert!(from < lost.1);
    lost
}

async fn insert(server: &Postgres) {
    for _ in 0..3 {
        server.sql("insert into ledger default values").await;
    }
}
