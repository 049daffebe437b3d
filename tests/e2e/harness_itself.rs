//! The harness proves that it stands: servers that answer, a control that receives.

use crate::harness::{Postgres, StopMode, Workdir};

#[tokio::test]
async fn a_server_answers_and_its_control_receives_what_it_wrote() {
    let workdir = Workdir::new("harness");
    let mut primary = Postgres::build(&workdir, "primary").start().await;
    let control = primary.control(&workdir, "control").await;

    primary.sql("create table moments as select generate_series(1, 1000) as id").await;
    assert_eq!(primary.value("select count(*) from moments").await, "1000");
    let end = primary.switch_wal().await;
    let segments = control.stop_at(&primary, end).await;
    assert!(!segments.is_empty(), "the control received no whole segment up to {end}");
    for (name, path) in &segments {
        let stored = std::fs::read(path).unwrap();
        let written = std::fs::read(primary.data().join("pg_wal").join(name)).unwrap();
        assert!(stored == written, "{name} differs between the control and the server");
    }

    primary.stop(StopMode::Fast).await;
    println!(
        "Postgres {} wrote up to {end}; the control holds {:?}, equal byte for byte",
        primary.version(),
        segments.keys().collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_killed_server_recovers_and_its_standby_can_be_promoted() {
    let workdir = Workdir::new("harness");
    let mut primary = Postgres::build(&workdir, "primary").segment_size_mb(16).tcp().start().await;
    primary.pgbench(&["-i", "-s", "1", "-q"]).await;
    primary.kill9().await;
    primary.start().await;
    assert_eq!(primary.value("select count(*) from pgbench_accounts").await, "100000");

    let mut standby = primary.standby(&workdir, "standby").await;
    primary.stop(StopMode::Fast).await;
    standby.promote().await;
    assert_eq!(standby.value("select count(*) from pgbench_accounts").await, "100000");
    let timeline = standby.value("select timeline_id from pg_control_checkpoint()").await;
    println!("killed and recovered; the standby went on as timeline {timeline}");
}
