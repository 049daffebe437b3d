//! Two archivers of one cluster: the younger one goes on, the older one stops.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Pgkeep, Postgres, Workdir};

const FOREIGN: i32 = 10;

#[tokio::test]
async fn an_archiver_that_was_halted_and_taken_over_stops_when_it_wakes() {
    let workdir = Workdir::new("epoch");
    let server = Postgres::build(&workdir, "server").start().await;
    server.sql("create table moments (id int, filler text)").await;
    let control = server.control(&workdir, "control").await;
    let mut first = Pgkeep::archiving(&workdir, "first", &server).await;
    insert(&server).await;
    first.wait_archived(server.flush_lsn().await).await;
    insert(&server).await;
    first.daemon().signal(Signal::STOP);

    // The same repository, with a slot and a state directory of its own.
    let mut second = Pgkeep::new(&workdir, "second", &server);
    let shared = fs::read_to_string(first.config()).unwrap();
    let state = |keep: &Pgkeep| keep.state().display().to_string();
    let own = shared.replace("slot = \"pgkeep\"", "slot = \"second\"");
    second.write_config(&own.replace(&state(&first), &state(&second)));
    second.verb(&["init"]).await.expect_success();
    second.start();
    insert(&server).await;
    second.wait_archived(server.flush_lsn().await).await;

    first.daemon().signal(Signal::CONT);
    insert(&server).await;
    let log = first.state().parent().unwrap().join("daemon.log");
    let status = first.wait_exit().await;
    assert_eq!(status.code(), Some(FOREIGN), "{status}");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("another writer has taken over"), "{log}");

    let told = first.json(&["status"]).await;
    let alert = &told["clusters"][0]["alerts"][0];
    assert_eq!(alert["name"], "stopped", "{told}");
    assert!(alert["message"].as_str().unwrap().contains("taken over"), "{alert}");

    insert(&server).await;
    let end = server.finish_segment().await;
    second.wait_archived(end).await;
    assert!(second.terminate().await.success());
    let files = control.stop_at(&server, end).await;
    let compared = first.archive().await.expect_equal(&files).await;
    assert!(compared >= 4, "only {compared} segments");
    println!("{compared} segments equal; {}", log.lines().last().unwrap_or_default());
}

/// Writes more than a segment.
async fn insert(server: &Postgres) {
    server
        .sql(
            "insert into moments select g, repeat(md5(g::text), 4) from generate_series(1, 8000) g",
        )
        .await;
}
