//! A restore to a time brings back exactly what was committed up to it, in the order of WAL.

use std::hash::{BuildHasher as _, RandomState};

use jiff::{SignedDuration, Timestamp};

use crate::harness::{Ledger, Pgkeep, Postgres, StopMode, Workdir, XactEnd};

const MICROSECOND: SignedDuration = SignedDuration::from_micros(1);
/// Targets at the very time of a commit; as many again lie beside one.
const EXACT: usize = 11;

#[tokio::test]
async fn twenty_random_commit_times_give_exactly_the_rows_committed_up_to_them() {
    let workdir = Workdir::new("restore");
    let server = Postgres::build(&workdir, "server")
        .setting("track_commit_timestamp", "on")
        .setting("wal_keep_size", "1GB")
        .start()
        .await;
    let start = server.flush_lsn().await;
    Ledger::create(&server).await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    let first = keep.json(&["backup"]).await["id"].clone();
    assert!(Ledger::load(&workdir, &server, 150).wait_exit().await.success());
    // Under load, so that commits lie around every step of the second backup.
    let mut load = Ledger::load(&workdir, &server, 400);
    let second = keep.json(&["backup"]).await["id"].clone();
    assert!(load.wait_exit().await.success(), "{}", load.log());
    assert!(Ledger::load(&workdir, &server, 150).wait_exit().await.success());
    keep.wait_archived(server.flush_lsn().await).await;

    let ledger = Ledger::read(&server, start).await;
    let (targets, inversions) = targets(&ledger.ends);
    let mut restored_from = [0, 0];
    for (number, at) in targets.iter().enumerate() {
        let mut restored = Postgres::without_data(&workdir, &format!("restored-{number}"));
        let told = keep.restore(&restored, &["--to", &at.to_string()]).await;
        restored.recover().await;
        let rows = Ledger::rows_in(&restored).await;
        let expected = ledger.rows_at(*at);
        assert!(rows == expected, "{at}: {}", difference(&rows, &expected));
        restored.stop(StopMode::Immediate).await;
        let backup = &told["plan"]["backup"];
        restored_from[usize::from(*backup == second)] += 1;
        assert!(*backup == first || *backup == second, "{told}");
        std::fs::remove_dir_all(restored.data()).unwrap();
    }
    assert!(targets.len() >= 20, "only {} targets", targets.len());
    assert!(restored_from.iter().all(|count| *count >= 3), "one backup is hardly used");
    println!(
        "{} rows of {} transactions, {inversions} commits out of order; {} moments restored \
         exactly, {restored_from:?} of them from either backup",
        ledger.rows().len(),
        ledger.ends.len(),
        targets.len(),
    );
}

/// Times of random commits, moments beside random commits, and those of commits that are out of
/// order, whose number is given too.
fn targets(ends: &[XactEnd]) -> (Vec<Timestamp>, usize) {
    let commits: Vec<&XactEnd> = ends.iter().filter(|end| end.has_rows).collect();
    let mut targets = Vec::new();
    for number in 0..EXACT {
        // One out of each part, so that neither end and neither backup is left out.
        let part = commits.len() / EXACT;
        targets.push(commits[number * part + random(part)].at);
        let at = commits[number * part + random(part)].at;
        targets.push(match number % 3 {
            0 => at + MICROSECOND,
            1 => at - MICROSECOND,
            _ => at + MICROSECOND * i32::try_from(1 + random(500)).unwrap(),
        });
    }
    let out_of_order = ends.windows(2).filter(|pair| pair[1].at < pair[0].at);
    let times: Vec<_> = out_of_order.map(|pair| pair[1].at).collect();
    targets.extend(times.iter().take(3));
    let last = commits.last().expect("something was committed").at;
    (targets.into_iter().map(|at| at.min(last)).collect(), times.len())
}

fn random(below: usize) -> usize {
    let number = RandomState::new().hash_one(below);
    usize::try_from(number % u64::try_from(below).unwrap()).unwrap()
}

fn difference(rows: &[String], expected: &[String]) -> String {
    let missing: Vec<_> = expected.iter().filter(|row| !rows.contains(row)).take(5).collect();
    let extra: Vec<_> = rows.iter().filter(|row| !expected.contains(row)).take(5).collect();
    format!(
        "{} rows instead of {}: missing {missing:?}, extra {extra:?}",
        rows.len(),
        expected.len()
    )
}
