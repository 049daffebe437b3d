//! A promotion: the new timeline is followed from its fork, the tail of the old one is kept.

use std::fs;

use pgkeep_catalog::history;
use pgkeep_proto::{Lsn, SegmentName, TimelineHistory, TimelineId};

use crate::harness::{Archive, Pgkeep, Postgres, Workdir, wait_for};

#[tokio::test]
async fn a_promoted_standby_is_archived_from_its_fork_and_the_old_tail_is_kept() {
    let workdir = Workdir::new("promotion");
    let primary =
        Postgres::build(&workdir, "primary").setting("wal_keep_size", "64MB").start().await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &primary).await;
    primary.sql("create table moments (id int)").await;
    let mut standby = primary.standby(&workdir, "standby").await;
    wait_replayed(&standby, primary.flush_lsn().await).await;
    standby.promote().await;

    // The old primary does not know, and goes on beyond the fork.
    for _ in 0..3 {
        primary.sql("insert into moments select generate_series(1, 1000)").await;
        primary.finish_segment().await;
    }
    keep.wait_archived(primary.flush_lsn().await).await;
    assert!(keep.terminate().await.success());
    let archive = keep.archive().await;
    let old_end = archive.end().await;
    let (second, file) =
        (TimelineId::new(2).unwrap(), standby.data().join("pg_wal/00000002.history"));
    let file = fs::read(file).unwrap();
    let history = TimelineHistory::parse(second, &file).unwrap();
    let fork = history.switch_out_of(TimelineId::FIRST).unwrap();
    assert!(old_end > fork, "the old primary wrote up to {old_end}, the fork is at {fork}");

    keep.configure(&standby.conninfo());
    keep.start();
    let mut compared = 0;
    for round in 0..2 {
        standby.sql("insert into moments select generate_series(1, 1000)").await;
        let end = standby.finish_segment().await;
        wait_archived(&archive, second, end).await;
        compared = archive.expect_equal(&standby.complete_segments().await).await;
        let stretches = archive.stretches().await;
        assert_eq!(stretches.len(), 2, "one stretch of each timeline: {stretches:?}");
        assert_eq!(stretches[0].to, old_end, "the old tail is neither cut nor gone on with");
        assert_eq!(stretches[1].from, archive.cluster().segment_size().start_of(fork));
        assert!(keep.terminate().await.success(), "round {round}");
        keep.start();
    }
    assert!(compared >= 2, "only {compared} segments of timeline 2 were compared");
    assert_eq!(history::fetch(archive.cluster(), second).await.unwrap(), file);
    wait_archived(&archive, second, standby.flush_lsn().await).await;
    let status = keep.json(&["status"]).await;
    assert_eq!(status["clusters"][0]["timeline"], 2);
    assert_eq!(status["clusters"][0]["gaps"], serde_json::json!([]));
    println!(
        "forked at {fork}, old tail up to {old_end} kept; {compared} segments of timeline 2 equal"
    );
}

#[tokio::test]
async fn a_standby_that_is_promoted_while_it_is_archived_is_followed() {
    let workdir = Workdir::new("promotion");
    let primary = Postgres::build(&workdir, "primary").start().await;
    let mut standby = primary.standby(&workdir, "standby").await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &standby).await;
    primary.sql("create table moments (id int)").await;
    primary.finish_segment().await;
    let archive = keep.archive().await;
    let (first, second) = (TimelineId::FIRST, TimelineId::new(2).unwrap());
    wait_archived(&archive, first, primary.flush_lsn().await).await;

    standby.promote().await;
    standby.sql("insert into moments values (1)").await;
    let end = standby.finish_segment().await;
    wait_archived(&archive, second, end).await;
    let compared = archive.expect_equal(&standby.complete_segments().await).await;
    assert!(compared >= 1, "no segment of timeline 2 was compared");
    assert!(keep.daemon().exit_status().is_none());
    let log = keep.daemon().log();
    assert!(!log.contains("WARN"), "it was taken for trouble:\n{log}");
    println!("followed from {} on; {compared} segments equal", archive.end_of(first).await);
}

#[tokio::test]
async fn the_segment_of_the_fork_is_archived_after_a_crash_even_if_later_ones_are() {
    let workdir = Workdir::new("promotion");
    let primary =
        Postgres::build(&workdir, "primary").setting("wal_keep_size", "64MB").start().await;
    let mut standby = primary.standby(&workdir, "standby").await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &standby).await;
    primary.sql("create table moments (id int)").await;
    let archive = keep.archive().await;
    wait_archived(&archive, TimelineId::FIRST, primary.flush_lsn().await).await;
    standby.promote().await;
    for _ in 0..3 {
        standby.sql("insert into moments values (1)").await;
        standby.finish_segment().await;
    }
    let second = TimelineId::new(2).unwrap();
    wait_archived(&archive, second, standby.flush_lsn().await).await;
    let is_whole = async || {
        let wholes = keep.objects("wal/00000002");
        (wholes.len() >= 3).then_some(())
    };
    wait_for("three whole segments", is_whole).await;
    keep.kill9().await;

    let fork = archive.stretches().await[1].from;
    let size = archive.cluster().segment_size();
    let name = SegmentName::containing(second, fork, size).to_string();
    for object in keep.objects("wal/00000002").iter().chain(&keep.objects("pieces/00000002")) {
        if object.to_str().unwrap().contains(&name) {
            fs::remove_file(object).unwrap();
        }
    }
    assert!(archive.stretches().await[1].from > fork, "{name} is gone");
    keep.start();
    let is_back = async || (archive.stretches().await[1].from == fork).then_some(());
    wait_for(&format!("{name} to come again"), is_back).await;
    println!("{name} came again");
}

#[tokio::test]
async fn an_old_primary_is_refused_after_the_archive_went_on_with_the_new_one() {
    let workdir = Workdir::new("promotion");
    let primary =
        Postgres::build(&workdir, "primary").setting("wal_keep_size", "64MB").start().await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &primary).await;
    let mut standby = primary.standby(&workdir, "standby").await;
    keep.wait_archived(primary.flush_lsn().await).await;
    assert!(keep.terminate().await.success());
    wait_replayed(&standby, primary.flush_lsn().await).await;
    standby.promote().await;
    keep.configure(&standby.conninfo());
    keep.start();
    let archive = keep.archive().await;
    standby.sql("create table moments (id int)").await;
    let end = standby.finish_segment().await;
    wait_archived(&archive, TimelineId::new(2).unwrap(), end).await;
    assert!(keep.terminate().await.success());
    let before = archive.stretches().await;

    keep.configure(&primary.conninfo());
    primary.sql("create table lost (id int)").await;
    primary.finish_segment().await;
    let refused = keep.verb(&["run"]).await.expect_code(10);
    assert_eq!(archive.stretches().await, before, "nothing was added");
    println!("refused: {}", refused.stderr.lines().rev().nth(1).unwrap_or_default());
}

async fn wait_replayed(standby: &Postgres, lsn: Lsn) {
    let is_replayed = async || {
        let replayed = standby.value("select pg_last_wal_replay_lsn()").await;
        (replayed.parse::<Lsn>().unwrap() >= lsn).then_some(())
    };
    wait_for("the standby to catch up", is_replayed).await;
}

async fn wait_archived(archive: &Archive, timeline: TimelineId, lsn: Lsn) {
    let is_archived = async || (archive.end_of(timeline).await >= lsn).then_some(());
    wait_for(&format!("timeline {timeline} to be archived up to {lsn}"), is_archived).await;
}
