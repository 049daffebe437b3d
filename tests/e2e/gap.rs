//! WAL that is lost before it was archived: recorded, told, and never skipped in silence.

use pgkeep_proto::{Lsn, SegmentName, TimelineId};
use serde_json::Value;

use crate::harness::{Pgkeep, Postgres, Workdir, wait_for};

#[tokio::test]
async fn a_slot_that_the_server_gave_up_leaves_one_gap_that_is_recorded() {
    let workdir = Workdir::new("gap");
    let server = server_that_keeps_little(&workdir).await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    let lost_from = stop_when_archived(&mut keep, &server).await;

    let status = "select wal_status from pg_replication_slots where slot_name = 'pgkeep'";
    let is_lost = async || {
        write_and_forget(&server).await;
        (server.value(status).await == "lost").then_some(())
    };
    wait_for("the slot to be lost", is_lost).await;
    expect_one_gap(&mut keep, &server, lost_from).await;
}

#[tokio::test]
async fn a_slot_that_somebody_dropped_leaves_one_gap_that_is_recorded() {
    let workdir = Workdir::new("gap");
    let server = server_that_keeps_little(&workdir).await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    let lost_from = stop_when_archived(&mut keep, &server).await;

    // Its walsender may need a moment to notice that we have gone.
    let active = "select active from pg_replication_slots where slot_name = 'pgkeep'";
    let is_released = async || (server.value(active).await == "f").then_some(());
    wait_for("the slot to be released", is_released).await;
    server.sql("select pg_drop_replication_slot('pgkeep')").await;
    expect_one_gap(&mut keep, &server, lost_from).await;
}

/// Waits until the WAL behind `lost_from` is gone, and sees what pgkeep makes of it.
async fn expect_one_gap(keep: &mut Pgkeep, server: &Postgres, lost_from: Lsn) {
    let archive = keep.archive().await;
    let size = archive.cluster().segment_size();
    let missing = SegmentName::containing(TimelineId::FIRST, lost_from, size).to_string();
    let file = server.data().join("pg_wal").join(missing);
    let is_removed = async || {
        write_and_forget(server).await;
        (!file.exists()).then_some(())
    };
    wait_for("the server to remove WAL", is_removed).await;
    let redo = server.value("select redo_lsn from pg_control_checkpoint()").await;
    let there_again = size.start_of(redo.parse().unwrap());

    keep.start();
    keep.wait_archived(server.flush_lsn().await).await;
    let expected = [(lost_from.to_string(), there_again.to_string())];
    assert_eq!(gaps(keep).await, expected);
    let stretches = archive.stretches().await;
    assert_eq!(stretches.len(), 2, "{stretches:?}");
    assert_eq!((stretches[0].to, stretches[1].from), (lost_from, there_again));

    server.sql("create table behind_the_gap ()").await;
    keep.wait_archived(server.finish_segment().await).await;
    let mut files = server.complete_segments().await;
    files.retain(|name, _| segment_start(name, size) >= there_again);
    let compared = archive.expect_equal(&files).await;
    assert!(compared >= 1, "no segment behind the gap was compared");

    assert!(keep.terminate().await.success());
    assert_eq!(gaps(keep).await, expected, "the repository alone says the same");
    keep.start();
    server.sql("drop table behind_the_gap").await;
    keep.wait_archived(server.flush_lsn().await).await;
    assert_eq!(gaps(keep).await, expected, "a restart adds nothing");
    assert_eq!(archive.stretches().await.len(), 2);
    println!(
        "lost {}..{}, recorded once; {compared} segments behind it equal",
        expected[0].0, expected[0].1
    );
}

/// The gaps that `status` tells, each with its alert.
async fn gaps(keep: &Pgkeep) -> Vec<(String, String)> {
    let status = keep.json(&["status"]).await;
    let cluster = &status["clusters"][0];
    let alerts = cluster["alerts"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let gaps = cluster["gaps"].as_array().unwrap();
    for gap in gaps {
        let range = format!("{}..{}", text(&gap["from_lsn"]), text(&gap["to_lsn"]));
        let is_told =
            |alert: &Value| alert["name"] == "gap" && text(&alert["message"]).contains(&range);
        assert!(alerts.iter().any(is_told), "no alert for {range}: {alerts:?}");
    }
    gaps.iter().map(|gap| (text(&gap["from_lsn"]), text(&gap["to_lsn"]))).collect()
}

async fn server_that_keeps_little(workdir: &Workdir) -> Postgres {
    Postgres::build(workdir, "server")
        .setting("max_slot_wal_keep_size", "2MB")
        .setting("min_wal_size", "2MB")
        .setting("max_wal_size", "2MB")
        .start()
        .await
}

/// Stops the daemon when it has archived everything; where the archive ends then.
async fn stop_when_archived(keep: &mut Pgkeep, server: &Postgres) -> Lsn {
    server.sql("create table moments as select generate_series(1, 1000) as id").await;
    keep.wait_archived(server.flush_lsn().await).await;
    assert!(keep.terminate().await.success());
    keep.archive().await.end().await
}

/// Fills two segments, and lets a checkpoint remove what nothing keeps.
async fn write_and_forget(server: &Postgres) {
    for _ in 0..2 {
        server.sql("select pg_logical_emit_message(false, 'tests', repeat('x', 500000))").await;
        server.switch_wal().await;
    }
    server.sql("checkpoint").await;
}

fn segment_start(name: &str, size: pgkeep_proto::SegmentSize) -> Lsn {
    name.parse::<SegmentName>().unwrap().start(size).unwrap()
}
