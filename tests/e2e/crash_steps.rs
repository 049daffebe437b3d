//! Death at each step between the socket and the repository: a failpoint kills where it is named.

use pgkeep_catalog::failpoint;

use crate::harness::{Pgkeep, Postgres, Workdir, run};

/// Every step of the way of WAL; some come more than once in a life, so each is died at twice.
const STEPS: [&str; 5] = [
    failpoint::BEFORE_RENAME,
    failpoint::SHIP_BEFORE_PUT,
    failpoint::SHIP_AFTER_PUT,
    failpoint::BEFORE_STATUS,
    failpoint::BEFORE_WHOLE,
];
const LIVES: usize = 2;

#[tokio::test]
async fn a_death_at_any_step_of_shipping_loses_nothing() {
    let workdir = Workdir::new("crash_steps");
    let server = Postgres::build(&workdir, "server").start().await;
    server.pgbench(&["-i", "-s", "1", "-q"]).await;
    let control = server.control(&workdir, "control").await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    let archive = keep.archive().await;
    keep.wait_archived(server.flush_lsn().await).await;
    assert!(keep.terminate().await.success());

    // Slow enough for pieces: only a segment that is finished in pieces is made whole.
    let load = server.start_pgbench(&["-c", "2", "-T", "100", "-n", "-R", "400"]);
    let mut deaths = 0;
    for step in STEPS {
        for _ in 0..LIVES {
            let mut command = keep.command(&["run"]);
            command.env("PGKEEP_FAILPOINT", format!("{step}=kill"));
            let died = run(command).await;
            assert_eq!(died.code, None, "it did not die at {step}:\n{}", died.stderr);
            let stretches = archive.stretches().await;
            assert!(stretches.len() <= 2, "more than one hole after {step}: {stretches:?}");
            deaths += 1;
        }
    }
    load.kill9().await;

    keep.start();
    let end = server.finish_segment().await;
    keep.wait_archived(end).await;
    let compared = archive.expect_equal(&control.stop_at(&server, end).await).await;
    assert_eq!(archive.stretches().await.len(), 1, "there is a hole");
    assert!(compared >= 2, "only {compared} segments were compared");
    println!("{deaths} deaths at {} steps; {compared} segments equal", STEPS.len());
}

#[tokio::test]
async fn a_backup_that_dies_before_its_manifest_is_none_and_the_next_one_is() {
    let workdir = Workdir::new("crash_steps");
    let server = Postgres::build(&workdir, "server").start().await;
    let keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    let mut command = keep.command(&["backup"]);
    command.env("PGKEEP_FAILPOINT", format!("{}=kill", failpoint::BACKUP_BEFORE_MANIFEST));
    assert_eq!(run(command).await.code, None, "it did not die");
    keep.verb(&["restore", "--to", "latest", "nowhere"]).await.expect_refusal(5);

    let taken = keep.json(&["backup"]).await;
    let listed = keep.json(&["list"]).await;
    let rows = listed["backups"].as_array().unwrap();
    let statuses: Vec<_> = rows.iter().map(|row| row["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["failed", "completed"]);
    assert!(rows[0]["error"].as_str().unwrap().contains("interrupted"), "{}", rows[0]);
    println!("{} is no backup, {} is", rows[0]["id"], taken["id"]);
}
