//! What is archived is what the server wrote, byte for byte, and never less than it was told.

use pgkeep_proto::Lsn;

use crate::harness::{Pgkeep, Postgres, Workdir, wait_for};

const SAMPLES_MIN: usize = 50;

#[tokio::test]
async fn segments_of_1_mb_equal_those_of_pg_receivewal() {
    segments_equal_those_of_pg_receivewal(1, 10).await;
}

#[tokio::test]
async fn segments_of_16_mb_equal_those_of_pg_receivewal() {
    segments_equal_those_of_pg_receivewal(16, 4).await;
}

async fn segments_equal_those_of_pg_receivewal(segment_size_mb: u32, segments_min: usize) {
    let workdir = Workdir::new("stream");
    let server = Postgres::build(&workdir, "server").segment_size_mb(segment_size_mb).start().await;
    server.pgbench(&["-i", "-s", "2", "-q"]).await;
    let control = server.control(&workdir, "control").await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;

    let mut load = server.start_pgbench(&["-c", "4", "-T", "4", "-n"]);
    for round in 0..3 {
        server.switch_wal().await;
        let big = format!(
            "create table big_{round} as select g, md5(g::text) t from generate_series(1, 40000) g"
        );
        server.sql(&big).await;
        // One record that is longer than a small segment.
        server.sql("select pg_logical_emit_message(false, 'tests', repeat('wal ', 700000))").await;
    }
    assert!(load.wait_exit().await.success(), "pgbench failed: {}", load.log());

    let end = server.finish_segment().await;
    keep.wait_archived(end).await;
    let files = control.stop_at(&server, end).await;
    let archive = keep.archive().await;
    let compared = archive.expect_equal(&files).await;
    assert!(compared >= segments_min, "only {compared} segments were compared");
    assert_eq!(
        archive.stretches().await.len(),
        1,
        "there is a hole: {:?}",
        archive.stretches().await
    );
    println!("{compared} segments of {segment_size_mb} MB up to {end} equal byte for byte");
}

#[tokio::test]
async fn one_insert_on_an_idle_server_is_archived_long_before_its_segment_is_full() {
    let workdir = Workdir::new("stream");
    let server = Postgres::build(&workdir, "server").segment_size_mb(16).start().await;
    server.sql("create table moments (id int)").await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    keep.wait_archived(server.flush_lsn().await).await;
    let before = keep.archive().await.end().await;

    server.sql("insert into moments values (1)").await;
    let committed = server.flush_lsn().await;
    keep.wait_archived(committed).await;

    let archive = keep.archive().await;
    let (end, size) = (archive.end().await, archive.cluster().segment_size());
    assert!(before < committed && committed <= end, "{before} < {committed} <= {end}");
    assert_eq!(size.start_of(before), size.start_of(end), "the segment was not full");
    println!(
        "a commit at {committed} was archived with only {} bytes of its segment",
        end.since(size.start_of(end))
    );
}

#[tokio::test]
async fn the_server_is_never_told_more_than_a_stranger_finds_in_the_repository() {
    let workdir = Workdir::new("stream");
    let server = Postgres::build(&workdir, "server").start().await;
    server.pgbench(&["-i", "-s", "1", "-q"]).await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    keep.wait_archived(server.flush_lsn().await).await;
    let archive = keep.archive().await;

    let mut load = server.start_pgbench(&["-c", "2", "-T", "5", "-n", "-R", "300"]);
    let first = told(&server).await;
    let (mut samples, mut last) = (0, first);
    while load.exit_status().is_none() {
        let flushed = told(&server).await;
        // Asked after the server: what it was told before must be there by now.
        let covered = archive.end().await;
        assert!(
            flushed <= covered,
            "the server was told {flushed}, the repository ends at {covered}"
        );
        (samples, last) = (samples + 1, flushed);
    }
    assert!(samples >= SAMPLES_MIN, "only {samples} samples");
    assert!(last > first, "nothing moved: {first}..{last}");
    println!("{samples} samples while flush went from {first} to {last}: always covered");
}

#[tokio::test]
async fn the_time_of_the_last_archived_commit_is_that_of_the_server_to_the_microsecond() {
    let workdir = Workdir::new("stream");
    let server =
        Postgres::build(&workdir, "server").setting("track_commit_timestamp", "on").start().await;
    server.sql("create table moments (id int)").await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;

    let mut times = Vec::new();
    for id in 0..5 {
        server.sql(&format!("insert into moments values ({id})")).await;
        times.push(expect_commit_time(&server, &mut keep).await);
    }
    times.dedup();
    assert_eq!(times.len(), 5, "each commit has a time of its own: {times:?}");

    // Segments without a commit, and a daemon that has seen none itself.
    for _ in 0..2 {
        server.sql("select pg_logical_emit_message(false, 'tests', 'no commit')").await;
        server.switch_wal().await;
    }
    keep.wait_archived(server.flush_lsn().await).await;
    assert!(keep.terminate().await.success());
    keep.start();
    assert_eq!(Some(&expect_commit_time(&server, &mut keep).await), times.last());
    println!("commit times agreed: {times:?}, the last one after a restart too");
}

/// Waits for everything to be archived, and compares the time of the last commit.
async fn expect_commit_time(server: &Postgres, keep: &mut Pgkeep) -> String {
    let committed = server
        .value(
            "select to_char(timestamp at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') \
             from pg_last_committed_xact()",
        )
        .await;
    keep.wait_archived(server.flush_lsn().await).await;
    let status = keep.json(&["status"]).await;
    assert_eq!(status["clusters"][0]["archived_commit_time"].as_str(), Some(&*committed));
    committed
}

/// What the server believes to be durable with us; waits until it was told anything at all.
async fn told(server: &Postgres) -> Lsn {
    let ask = "select flush_lsn from pg_stat_replication \
               where application_name = 'pgkeep' and flush_lsn is not null";
    let flushed = async || Some(server.sql(ask).await.first()?.first()?.parse().unwrap());
    wait_for("a flush position of pgkeep", flushed).await
}
