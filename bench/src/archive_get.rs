//! How long does a recovering server wait for one segment, beside `cp` of the same file? The start of
//! the process, which `restore_command` pays for each segment, is in both.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, ensure};

use crate::figure::Figure;
use crate::pgkeep::Pgkeep;
use crate::place::{Place, run};
use crate::server::Server;

const ROUNDS: usize = 21;
const RATIO_MAX: f64 = 3.0;

/// Measures.
pub(crate) fn measure(place: &Place) -> Result<Vec<Figure>> {
    let server = Server::start(place, "archived", 16)?;
    server.pgbench(&["-q", "-i", "-s", "10"])?;
    let pgkeep = Pgkeep::init(&server)?;
    let segment = make_segment(&server)?;
    let daemon = pgkeep.run()?;
    server.wait_archived(&server.wal_end()?)?;
    drop(daemon);
    let original = server.wal_file(&segment);
    let (copied, fetched) = (place.path("copied"), place.path("fetched"));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(milliseconds(pgkeep.command("archive-get").arg(&segment).arg(&fetched))?);
        theirs.push(milliseconds(place.command("cp").arg(&original).arg(&copied))?);
        ensure!(fs::read(&fetched)? == fs::read(&copied)?, "archive-get fetched something else");
        fs::remove_file(&fetched)?;
        fs::remove_file(&copied)?;
    }
    let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    Ok(vec![
        Figure::median("pgkeep archive-get, 16 MiB", "ms", &ours),
        Figure::median("cp, 16 MiB", "ms", &theirs),
        Figure::median("archive-get / cp, by pair", "", &ratios).claimed_below(RATIO_MAX),
    ])
}

/// Fills a segment with WAL of pgbench; returns its name. It is archived in one piece, because the
/// stream begins before it and finds all of it there.
fn make_segment(server: &Server<'_>) -> Result<String> {
    let next = "select pg_walfile_name(pg_current_wal_lsn() + (16 << 20))";
    let segment = server.psql(&["checkpoint", next])?;
    let is_full = format!("select pg_walfile_name(pg_current_wal_flush_lsn() - 1) > '{segment}'");
    while server.psql(&[&is_full])? == "f" {
        server.pgbench(&["-n", "-c", "4", "-t", "1000"])?;
    }
    Ok(segment)
}

fn milliseconds(command: &mut Command) -> Result<f64> {
    let began = Instant::now();
    run(command)?;
    Ok(began.elapsed().as_secs_f64() * 1000.0)
}
