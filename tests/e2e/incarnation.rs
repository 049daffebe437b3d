//! Servers that took the place of another: a new identity, a clone, a restored one.

use pgkeep_proto::TimelineId;

use crate::harness::{Archive, Ledger, Pgkeep, Postgres, StopMode, Workdir, wait_for};

const FOREIGN: i32 = 10;

#[tokio::test]
async fn a_new_system_identifier_goes_on_as_a_new_incarnation_and_both_are_restored() {
    let workdir = Workdir::new("incarnation");
    let mut old = Postgres::build(&workdir, "old").start().await;
    Ledger::create(&old).await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &old).await;
    keep.json(&["backup"]).await;
    insert(&old, "old").await;
    keep.wait_archived(old.flush_lsn().await).await;
    let same = keep.json(&["upgrade"]).await;
    assert_eq!((&same["upgraded"], &same["format"]), (&false.into(), &1.into()));
    let expected = Ledger::rows_in(&old).await;
    assert!(keep.terminate().await.success());
    old.stop(StopMode::Fast).await;

    let new = Postgres::build(&workdir, "new").own_system_id().start().await;
    Ledger::create(&new).await;
    insert(&new, "new").await;
    keep.configure(&new.conninfo());
    for verb in [&["run"][..], &["init"], &["init", "--continue"], &["backup"]] {
        let error = keep.verb(verb).await.expect_refusal(FOREIGN);
        assert!(error.contains("system identifier"), "{error}");
    }
    let done = keep.json(&["upgrade"]).await;
    assert_eq!((&done["incarnation"], &done["previous_incarnation"]), (&2.into(), &1.into()));
    assert_eq!(keep.json(&["upgrade"]).await["upgraded"], false);
    keep.start();
    keep.json(&["backup"]).await;
    insert(&new, "newer").await;
    keep.wait_archived(new.flush_lsn().await).await;

    for (incarnation, backups) in [("1", 1), ("2", 1)] {
        let list = keep.json(&["list", "--incarnation", incarnation]).await;
        assert_eq!(list["backups"].as_array().unwrap().len(), backups);
        let status = keep.json(&["status", "--incarnation", incarnation]).await;
        assert_eq!(status["clusters"][0]["incarnation"].to_string(), incarnation);
    }
    for (name, arguments, expected) in [
        ("before", &["--to", "latest", "--incarnation", "1"][..], expected),
        ("after", &["--to", "latest"], Ledger::rows_in(&new).await),
    ] {
        let mut restored = Postgres::without_data(&workdir, name);
        keep.restore(&restored, arguments).await;
        restored.recover().await;
        assert_eq!(Ledger::rows_in(&restored).await, expected, "{name}");
    }
    println!("refused four times, then incarnation 2; each came back with its own rows");
}

#[tokio::test]
async fn of_two_clones_of_one_backup_the_second_is_refused_before_its_first_byte() {
    let workdir = Workdir::new("incarnation");
    let server = Postgres::build(&workdir, "server").start().await;
    Ledger::create(&server).await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    keep.json(&["backup"]).await;
    insert(&server, "shared").await;
    keep.wait_archived(server.finish_segment().await).await;
    assert!(keep.terminate().await.success());
    drop(server);

    let mut clones = Vec::new();
    for name in ["one", "two"] {
        let mut clone = Postgres::without_data(&workdir, name);
        keep.restore(&clone, &["--to", "latest"]).await;
        clone.recover().await;
        insert(&clone, name).await;
        clone.finish_segment().await;
        clones.push(clone);
    }
    keep.configure(&clones[0].conninfo());
    keep.start();
    let archive = keep.archive().await;
    wait_archived(&archive, &clones[0], 2).await;
    assert!(keep.terminate().await.success());
    let before = archive.stretches().await;
    keep.configure(&clones[1].conninfo());
    let error = keep.verb(&["run"]).await.expect_refusal(FOREIGN);
    assert_eq!(archive.stretches().await, before, "the clone added something");
    println!("{error}");
}

#[tokio::test]
async fn a_restored_server_that_left_the_archived_history_goes_on_only_when_its_owner_says_so() {
    let workdir = Workdir::new("incarnation");
    let mut primary = Postgres::build(&workdir, "primary").start().await;
    Ledger::create(&primary).await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &primary).await;
    keep.json(&["backup"]).await;
    insert(&primary, "kept").await;
    keep.wait_archived(primary.finish_segment().await).await;
    primary.stop(StopMode::Fast).await;
    // Promoted by mistake, and archived.
    let mut mistake = Postgres::without_data(&workdir, "mistake");
    assert!(keep.terminate().await.success());
    keep.restore(&mistake, &["--to", "latest"]).await;
    mistake.recover().await;
    insert(&mistake, "mistaken").await;
    keep.configure(&mistake.conninfo());
    keep.start();
    let archive = keep.archive().await;
    wait_archived(&archive, &mistake, 2).await;
    assert!(keep.terminate().await.success());
    mistake.stop(StopMode::Immediate).await;

    let mut restored = Postgres::without_data(&workdir, "restored");
    keep.restore(&restored, &["--to", "latest", "--timeline", "1"]).await;
    restored.recover().await;
    insert(&restored, "right").await;
    keep.configure(&restored.conninfo());
    let histories = keep.objects("history").len();
    for _ in 0..2 {
        let error = keep.verb(&["run"]).await.expect_refusal(FOREIGN);
        assert!(error.contains("timeline 2"), "{error}");
    }
    assert_eq!(keep.objects("history").len(), histories, "a refused server left its history");

    keep.verb(&["init", "--continue"]).await.expect_success();
    keep.start();
    wait_archived(&archive, &restored, 3).await;
    let expected = Ledger::rows_in(&restored).await;
    let mut again = Postgres::without_data(&workdir, "again");
    keep.restore(&again, &["--to", "latest"]).await;
    again.recover().await;
    assert_eq!(Ledger::rows_in(&again).await, expected);
    assert!(!expected.iter().any(|row| row.contains("mistaken")));
    println!("refused twice, adopted once, and restored with {} rows", expected.len());
}

/// Waits until all that `server` has written on `timeline` is archived.
async fn wait_archived(archive: &Archive, server: &Postgres, timeline: u32) {
    let end = server.flush_lsn().await;
    let timeline = TimelineId::new(timeline).unwrap();
    let is_archived = async || (archive.end_of(timeline).await >= end).then_some(());
    wait_for(&format!("timeline {} to be archived up to {end}", timeline.get()), is_archived).await;
}

async fn insert(server: &Postgres, payload: &str) {
    let sql =
        format!("insert into ledger (payload) select '{payload}' from generate_series(1, 100)");
    server.sql(&sql).await;
}
