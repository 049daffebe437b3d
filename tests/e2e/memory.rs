//! Memory is bounded, whatever there is to archive.

use std::fs;

use crate::harness::{Pgkeep, Postgres, Workdir};

/// `docs/config.md`, `ship.in_flight_max`: parts in flight, times their size, and 64 MiB.
const MEMORY_MIB_MAX: u64 = 4 * 16 + 64;

#[tokio::test]
async fn a_backlog_is_archived_in_the_memory_that_is_promised() {
    let workdir = Workdir::new("memory");
    let server = Postgres::build(&workdir, "server").segment_size_mb(16).start().await;
    let mut keep = Pgkeep::new(&workdir, "keep", &server);
    keep.verb(&["init"]).await.expect_success();
    let before = server.flush_lsn().await;
    server.sql("create table lines (id bigint, line text)").await;
    // It hardly compresses, so that parts are as large as they get.
    let insert = "insert into lines select i, md5(random()::text) || md5(random()::text)
                  from generate_series(1, 400000) i";
    for _ in 0..5 {
        server.sql(insert).await;
    }
    let end = server.finish_segment().await;
    assert!(end.since(before) > 200 << 20, "only {} bytes to archive", end.since(before));

    keep.start();
    keep.wait_archived(end).await;
    let status = fs::read_to_string(format!("/proc/{}/status", keep.daemon().pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{} MiB archived in {} MiB", end.since(before) >> 20, peak >> 10);
    assert!(peak >> 10 <= MEMORY_MIB_MAX, "{} MiB of memory", peak >> 10);
}
