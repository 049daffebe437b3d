//! Death in mid-stream, of either side: what was archived stays, what comes after joins it.

use std::fs;

use pgkeep_proto::Lsn;

use crate::harness::{Archive, Pgkeep, Postgres, StopMode, Workdir, wait_for};

/// WAL that must come before the next death.
const PROGRESS: u64 = 1 << 20;

#[tokio::test]
async fn a_killed_pgkeep_goes_on_where_the_repository_ends() {
    let workdir = Workdir::new("crash");
    let server = Postgres::build(&workdir, "server").segment_size_mb(16).start().await;
    server.pgbench(&["-i", "-s", "2", "-q"]).await;
    let control = server.control(&workdir, "control").await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    let archive = keep.archive().await;
    let size = archive.cluster().segment_size();

    let load = server.start_pgbench(&["-c", "4", "-T", "60", "-n"]);
    let mut ends = vec![wait_progress(&archive, Lsn::ZERO).await];
    for _ in 0..6 {
        keep.kill9().await;
        let end = archive.end().await;
        assert!(Some(&end) >= ends.last(), "the archive shrank: {end} after {ends:?}");
        ends.push(end);
        keep.start();
        wait_progress(&archive, end.advance(PROGRESS)).await;
    }
    load.kill9().await;

    let end = server.finish_segment().await;
    keep.wait_archived(end).await;
    let compared = archive.expect_equal(&control.stop_at(&server, end).await).await;
    let stretches = archive.stretches().await;
    assert_eq!(stretches.len(), 1, "there is a hole: {stretches:?}");
    let in_mid_segment = ends.iter().filter(|end| !size.is_boundary(**end)).count();
    assert!(compared >= 1 && in_mid_segment >= 3, "{compared} segments, killed at {ends:?}");
    let ends: Vec<_> = ends.iter().map(Lsn::to_string).collect();
    println!("killed at {ends:?}; {compared} segments equal, none is missing");
}

#[tokio::test]
async fn a_segment_that_did_not_land_when_its_followers_did_is_archived_after_the_crash() {
    let workdir = Workdir::new("crash");
    let server = Postgres::build(&workdir, "server").setting("wal_keep_size", "64MB").start().await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    server.pgbench(&["-i", "-s", "2", "-q"]).await;
    keep.wait_archived(server.finish_segment().await).await;
    keep.kill9().await;

    // Several segments are on their way at once, and a crash lets any of them land.
    let archive = keep.archive().await;
    let before = archive.stretches().await;
    let size = archive.cluster().segment_size();
    let stored = keep.objects("wal");
    let lost = &stored[stored.len() / 2];
    fs::remove_file(lost).unwrap();
    assert_eq!(archive.stretches().await.len(), 2);

    keep.start();
    let end = server.finish_segment().await;
    wait_progress(&archive, size.start_of(end)).await;
    keep.wait_archived(end).await;
    let after = archive.stretches().await;
    assert_eq!(after.len(), 1, "there is a hole: {after:?}");
    assert_eq!(after[0].from, before[0].from);
    let compared = archive.expect_equal(&server.complete_segments().await).await;
    println!("{} of {} was missing and came again; {compared} equal", lost.display(), stored.len());
}

#[tokio::test]
async fn a_killed_server_that_recovers_is_archived_without_a_gap() {
    let workdir = Workdir::new("crash");
    let mut server = Postgres::build(&workdir, "server").start().await;
    server.pgbench(&["-i", "-s", "1", "-q"]).await;
    let control = server.control(&workdir, "control").await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    let archive = keep.archive().await;

    let mut killed_at = Vec::new();
    for _ in 0..3 {
        let load = server.start_pgbench(&["-c", "2", "-T", "60", "-n"]);
        wait_progress(&archive, archive.end().await.advance(PROGRESS)).await;
        server.kill9().await;
        load.kill9().await;
        killed_at.push(archive.end().await.to_string());
        server.start().await;
    }

    let end = server.finish_segment().await;
    keep.wait_archived(end).await;
    let compared = archive.expect_equal(&control.stop_at(&server, end).await).await;
    let stretches = archive.stretches().await;
    assert_eq!(stretches.len(), 1, "there is a hole: {stretches:?}");
    assert!(compared >= 4, "only {compared} segments were compared");
    let status = keep.json(&["status"]).await;
    assert_eq!(status["clusters"][0]["alerts"], serde_json::json!([]), "the trouble is over");
    println!("the server died at {killed_at:?}; {compared} segments equal, none is missing");
}

#[tokio::test]
async fn a_pgkeep_that_is_told_to_stop_archives_everything_it_was_sent() {
    let workdir = Workdir::new("crash");
    let server = Postgres::build(&workdir, "server").start().await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    keep.wait_archived(server.flush_lsn().await).await;
    server.sql("create table moments as select generate_series(1, 1000) as id").await;
    let sent = server.flush_lsn().await;
    let asked = "select sent_lsn from pg_stat_replication where application_name = 'pgkeep'";
    let is_sent =
        async || (server.value(asked).await.parse::<Lsn>().unwrap() >= sent).then_some(());
    wait_for("everything to be sent", is_sent).await;

    assert!(keep.terminate().await.success());
    let end = keep.archive().await.end().await;
    assert!(end >= sent, "it was sent {sent} and left at {end}");
    let held = "select restart_lsn from pg_replication_slots where slot_name = 'pgkeep'";
    let released: Lsn = server.value(held).await.parse().unwrap();
    assert!(sent <= released && released <= end, "{sent} <= {released} <= {end}");
    println!(
        "told to stop with {sent} sent: archived up to {end}, and the server knows {released}"
    );
}

#[tokio::test]
async fn a_server_that_shuts_down_does_not_wait_for_the_ship_interval() {
    let workdir = Workdir::new("crash");
    let mut server = Postgres::build(&workdir, "server").start().await;
    let mut keep = Pgkeep::new(&workdir, "keep", &server);
    let config = fs::read_to_string(keep.config()).unwrap();
    keep.write_config(&config.replace("\"200ms\"", "\"1h\""));
    keep.verb(&["init"]).await.expect_success();
    keep.start();
    server.sql("create table moments (id int)").await;
    let sent = server.flush_lsn().await;
    let asked = "select coalesce(max(sent_lsn), '0/0') from pg_stat_replication \
                 where application_name = 'pgkeep'";
    let is_sent = async || (lsn(&server.value(asked).await) >= sent).then_some(());
    wait_for("everything to be sent", is_sent).await;

    server.stop(StopMode::Fast).await;
    let end = keep.archive().await.end().await;
    server.start().await;
    let checkpoint = lsn(&server.value("select checkpoint_lsn from pg_control_checkpoint()").await);
    assert!(sent <= checkpoint && checkpoint < end, "{sent} <= {checkpoint} < {end}");
    println!("the shutdown checkpoint at {checkpoint} was archived before the server ended");
}

/// Waits until the archive has passed `lsn`; where it ends then.
async fn wait_progress(archive: &Archive, lsn: Lsn) -> Lsn {
    let has_passed = async || Some(archive.end().await).filter(|end| *end > lsn);
    wait_for(&format!("the archive to pass {lsn}"), has_passed).await
}

fn lsn(text: &str) -> Lsn {
    text.parse().unwrap()
}
