//! A store that says it took what it dropped: nothing is lost while pgkeep runs, and it is told.

use std::sync::Arc;

use pgkeep_catalog::coverage::Coverage;

use crate::harness::{CountingStore, InProcess, Postgres, Workdir, wait_for};

#[tokio::test]
async fn a_piece_that_the_store_dropped_is_put_anew_although_it_was_acknowledged() {
    let workdir = Workdir::new("confirm");
    let server = Postgres::build(&workdir, "server").segment_size_mb(16).start().await;
    server.sql("create table moments (id int)").await;
    let store = Arc::new(CountingStore::default());
    let archiver = InProcess::start(&server, Arc::clone(&store) as _).await;
    archiver.wait_archived(server.flush_lsn().await).await;
    store.drop_next_piece();
    for id in 0..5 {
        server.sql(&format!("insert into moments values ({id})")).await;
        archiver.wait_archived(server.flush_lsn().await).await;
    }
    let end = server.flush_lsn().await;
    let is_whole = async || {
        let coverage = Coverage::read(&archiver.cluster).await.unwrap();
        let [only] = coverage.stretches() else { return None };
        (only.to >= end).then_some(())
    };
    wait_for("what was dropped to be there", is_whole).await;
    assert!(store.has_dropped(), "nothing was dropped");
    let names: Vec<_> = archiver.handle.alerts.all().into_iter().map(|alert| alert.name).collect();
    assert_eq!(names, ["store_lost_object"]);
    println!("{}", archiver.handle.alerts.all()[0].message);
    archiver.stop().await;
}
