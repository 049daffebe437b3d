//! Each kind of target ends where it says: `latest`, a position, a restore point.

use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Ledger, Pgkeep, Postgres, StopMode, Workdir};

/// See docs/errors.md.
const REFUSED: i32 = 5;

const ACTIONS: [&str; 3] = ["promote", "pause", "shutdown"];

#[tokio::test]
async fn a_restore_ends_after_the_record_or_the_restore_point_that_was_asked_for() {
    let workdir = Workdir::new("restore");
    let server = Postgres::build(&workdir, "server")
        .setting("track_commit_timestamp", "on")
        .setting("wal_keep_size", "1GB")
        .start()
        .await;
    let start = server.flush_lsn().await;
    Ledger::create(&server).await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    keep.json(&["backup"]).await;
    let mut at_point = Vec::new();
    for name in ["once", "twice", "twice"] {
        insert(&server, 20).await;
        at_point.push(Ledger::rows_in(&server).await);
        server.sql(&format!("select pg_create_restore_point('{name}')")).await;
    }
    insert(&server, 20).await;
    keep.wait_archived(server.flush_lsn().await).await;
    let ledger = Ledger::read(&server, start).await;

    let commit = ledger.ends.iter().filter(|end| end.has_rows).nth(30).unwrap().lsn;
    let before = ledger.rows_up_to(commit);
    let cases = [
        ("latest".to_owned(), ledger.rows()),
        // Inclusive: the commit that begins exactly there is in.
        (format!("lsn:{commit}"), before.clone()),
        // Inside of a record, the next one is meant, which is no commit here.
        (commit.advance(1).to_string(), before),
        ("name:once".to_owned(), at_point[0].clone()),
        ("once".to_owned(), at_point[0].clone()),
    ];
    for (number, (target, expected)) in cases.iter().enumerate() {
        let rows = restored_rows(&keep, &workdir, &format!("restored-{number}"), target).await;
        assert_eq!(&rows, expected, "{target}");
    }

    let nowhere = workdir.path().join("nowhere");
    let arguments = ["restore", "--to", "name:twice", nowhere.to_str().unwrap()];
    let error = keep.verb(&arguments).await.expect_refusal(REFUSED);
    let positions: Vec<&str> =
        error.split("lsn:").skip(1).filter_map(|rest| rest.split_whitespace().next()).collect();
    assert_eq!(positions.len(), 2, "{error}");
    for (number, position) in positions.iter().enumerate() {
        let (name, target) = (format!("twice-{number}"), format!("lsn:{position}"));
        let rows = restored_rows(&keep, &workdir, &name, &target).await;
        assert_eq!(rows, at_point[number + 1], "{target}");
    }
    println!("{} targets restored exactly; of two equal names each by its position", cases.len());
}

#[tokio::test]
async fn an_unfinished_segment_comes_back_from_its_pieces_after_pgkeep_was_killed() {
    let workdir = Workdir::new("restore");
    let server = Postgres::build(&workdir, "server").segment_size_mb(16).start().await;
    Ledger::create(&server).await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    keep.json(&["backup"]).await;
    for _ in 0..3 {
        insert(&server, 5).await;
        keep.wait_archived(server.flush_lsn().await).await;
        keep.kill9().await;
        keep.start();
    }
    insert(&server, 1).await;
    keep.wait_archived(server.flush_lsn().await).await;
    keep.kill9().await;
    let segment = server.value("select pg_walfile_name(pg_current_wal_lsn())").await;
    let cluster = keep.repository().join("main/0001");
    assert!(!cluster.join("wal/00000001").join(&segment).exists(), "{segment} is whole");
    let pieces = std::fs::read_dir(cluster.join("pieces/00000001").join(&segment).join("0"));
    let pieces = pieces.unwrap().count();
    assert!(pieces >= 3, "only {pieces} pieces");

    let expected = Ledger::rows_in(&server).await;
    assert_eq!(expected.len(), 16);
    assert_eq!(restored_rows(&keep, &workdir, "restored", "latest").await, expected);
    println!("{} rows came back out of {pieces} pieces of {segment}", expected.len());
}

#[tokio::test]
async fn a_started_server_tells_what_it_reached_and_does_what_it_was_told() {
    let workdir = Workdir::new("restore");
    let servers = ACTIONS.map(|action| Postgres::without_data(&workdir, action));
    // Pgkeep starts them with the settings of the one that was backed up.
    let sockets = ACTIONS.map(|action| workdir.path().join(action).display().to_string());
    let server = Postgres::build(&workdir, "server")
        .setting("track_commit_timestamp", "on")
        .setting("unix_socket_directories", &sockets.join(","))
        .setting("listen_addresses", "")
        .setting("wal_keep_size", "1GB")
        .start()
        .await;
    let start = server.flush_lsn().await;
    Ledger::create(&server).await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    keep.json(&["backup"]).await;
    insert(&server, 30).await;
    keep.wait_archived(server.flush_lsn().await).await;
    let ledger = Ledger::read(&server, start).await;
    let last = ledger.ends.iter().filter(|end| end.has_rows).nth(20).unwrap();
    let expected = ledger.rows_up_to(last.lsn);

    for (action, restored) in ACTIONS.iter().zip(&servers) {
        let target = last.at.to_string();
        let _released = Released(restored);
        let arguments = ["--to", &target, "--start", "--action", action];
        let told = keep.restore(restored, &arguments).await;
        let reached = &told["reached"];
        assert_eq!(reached["lsn"], last.lsn.to_string(), "{told}");
        assert_eq!(time(&reached["last_commit"]["time"]), last.at, "{told}");
        assert_eq!(reached["timeline"], if *action == "promote" { 2 } else { 1 }, "{told}");
        let is_running = restored.data().join("postmaster.pid").exists();
        assert_eq!(is_running, *action != "shutdown");
        if is_running {
            assert_eq!(Ledger::rows_in(restored).await, expected);
        }
        assert_eq!(restored.data().join("recovery.signal").exists(), *action != "promote");
    }
    println!("promoted, paused and shut down at {} with {} rows", last.lsn, expected.len());
}

/// A server that pgkeep started and let go: a daemon that nobody else stops.
struct Released<'a>(&'a Postgres);

impl Drop for Released<'_> {
    fn drop(&mut self) {
        let mut stop = self.0.client("pg_ctl");
        stop.args(["stop", "-s", "-m", "immediate", "-D"]).arg(self.0.data());
        stop.stderr(Stdio::null());
        // Fails for the one that was shut down.
        let _ = stop.status();
    }
}

async fn restored_rows(keep: &Pgkeep, workdir: &Workdir, name: &str, target: &str) -> Vec<String> {
    let mut restored = Postgres::without_data(workdir, name);
    keep.restore(&restored, &["--to", target]).await;
    restored.recover().await;
    let rows = Ledger::rows_in(&restored).await;
    restored.stop(StopMode::Immediate).await;
    rows
}

/// One transaction each.
async fn insert(server: &Postgres, count: u32) {
    for _ in 0..count {
        server.sql("insert into ledger default values").await;
    }
}

fn time(value: &Value) -> jiff::Timestamp {
    value.as_str().unwrap().parse().unwrap()
}
