//! How long is a commit in danger on an idle machine? From its return to the client until the server
//! has been told that it is in the repository.
//!
//! The server itself commits, waits and measures: no client's scheduling is in the figures. Commits
//! come at random moments, so that none profits from the rhythm of shipping.

use anyhow::Result;

use crate::figure::{Figure, percentile};
use crate::pgkeep::{Pgkeep, SHIP_INTERVAL_SECONDS};
use crate::place::Place;
use crate::server::{Server, wait_archived_sql};

const COMMITS: u32 = 60;

/// What the store may take on top of the interval.
const STORE_SECONDS: f64 = 0.5;

/// Measures.
pub(crate) fn measure(place: &Place) -> Result<Vec<Figure>> {
    let server = Server::start(place, "idle", 16)?;
    server.psql(&["create table commits (at timestamptz)"])?;
    let pgkeep = Pgkeep::init(&server)?;
    let _daemon = pgkeep.run()?;
    server.wait_archived(&server.wal_end()?)?;
    let samples = commit(&server)?;
    let at = |name, rank| Figure::of(name, "s", percentile(&samples, rank));
    Ok(vec![
        Figure::of("ship.interval", "s", SHIP_INTERVAL_SECONDS),
        at("commit to archived, p50", 0.5),
        at("commit to archived, p99", 0.99).claimed_below(SHIP_INTERVAL_SECONDS + STORE_SECONDS),
        at("commit to archived, max", 1.0),
    ])
}

/// Commits now and then; returns the seconds that each was in danger.
fn commit(server: &Server<'_>) -> Result<Vec<f64>> {
    let wait = wait_archived_sql("committed");
    let script = format!(
        "do $$ declare began timestamptz; committed pg_lsn; samples text := ''; begin
         for sample in 1..{COMMITS} loop
             perform pg_sleep(0.3 + 1.2 * random());
             insert into commits values (now());
             commit;
             began := clock_timestamp();
             committed := pg_current_wal_flush_lsn();
             {wait}
             samples := samples || ' ' || extract(epoch from clock_timestamp() - began);
         end loop;
         perform set_config('bench.samples', samples, false);
         end $$"
    );
    let on = "set synchronous_commit = on";
    let samples = server.psql(&[on, &script, "select current_setting('bench.samples')"])?;
    samples.split_whitespace().map(|sample| Ok(sample.parse()?)).collect()
}
