//! A repository without space left: nothing is acknowledged, nothing half-written, nothing lost.

use pgkeep_proto::Lsn;

use crate::harness::{Pgkeep, Postgres, SmallDisk, Workdir, wait_for};

const DISK_SIZE_MB: u32 = 48;

#[tokio::test]
async fn a_full_disk_stops_the_acknowledgement_and_nothing_else() {
    let workdir = Workdir::new("full_disk");
    let server = Postgres::build(&workdir, "server").start().await;
    server.pgbench(&["-i", "-s", "1", "-q"]).await;
    let mut keep = Pgkeep::new(&workdir, "keep", &server);
    let Some(disk) = SmallDisk::mount(&keep.repository(), DISK_SIZE_MB).await else {
        println!("skipped: only root may mount a small disk");
        return;
    };
    let control = server.control(&workdir, "control").await;
    keep.verb(&["init"]).await.expect_success();
    keep.start();
    keep.wait_archived(server.flush_lsn().await).await;
    let archive = keep.archive().await;

    disk.fill();
    server.pgbench(&["-c", "2", "-t", "500", "-n"]).await;
    server.finish_segment().await;
    let is_told = async || {
        let status = keep.json(&["status"]).await;
        let alerts = status["clusters"][0]["alerts"].as_array()?.clone();
        alerts.into_iter().find(|alert| alert["message"].to_string().contains("no space"))
    };
    let alert = wait_for("an alert about the full disk", is_told).await;
    let (told, covered, written) =
        (told(&server).await, archive.end().await, server.flush_lsn().await);
    assert!(told <= covered, "the server was told {told}, the repository ends at {covered}");
    assert!(covered < written, "nothing was stopped: {covered} of {written}");
    assert!(keep.daemon().exit_status().is_none(), "the daemon gave up");
    let sound = archive.expect_sound().await;

    disk.free();
    let end = server.finish_segment().await;
    keep.wait_archived(end).await;
    let compared = archive.expect_equal(&control.stop_at(&server, end).await).await;
    assert_eq!(archive.stretches().await.len(), 1, "there is a hole");
    assert!(compared >= 2, "only {compared} segments were compared");
    let status = keep.json(&["status"]).await;
    assert_eq!(status["clusters"][0]["alerts"], serde_json::json!([]), "the trouble is over");
    println!(
        "stood at {covered} of {written} with {sound} sound objects, told as {alert}; \
         then {compared} segments equal"
    );
}

/// What the server keeps for us from: it moves with what it is told.
async fn told(server: &Postgres) -> Lsn {
    let ask = "select restart_lsn from pg_replication_slots where slot_name = 'pgkeep'";
    server.value(ask).await.parse().unwrap()
}
