//! How fast is a backlog received, beside `pg_receivewal`? What it does less: it neither compresses
//! nor checks records nor computes digests.
//!
//! Both read the same WAL from copies of one slot, alternately, each beginning with nothing. pgkeep is
//! done when the server has been told that the end is archived, `pg_receivewal` when it has ended.

use std::fs;
use std::time::Instant;

use anyhow::Result;

use crate::figure::Figure;
use crate::pgkeep::Pgkeep;
use crate::place::{Place, cpu_seconds, run};
use crate::server::Server;

const BACKLOG_BYTES: u64 = 1 << 30;
const ROUNDS: usize = 3;
const MEMORY_MIB_MAX: f64 = 150.0;

/// What it took to receive the backlog once.
#[derive(Clone, Copy, Debug)]
struct Cost {
    seconds: f64,
    cpu_seconds: f64,
}

/// What writes the WAL.
#[derive(Clone, Copy, Debug)]
enum Load {
    /// Updates of random rows right after a checkpoint: mostly images of pages that compress well.
    Pgbench,
    /// Rows of hash text, which hardly compress.
    HashText,
}

/// Measures.
pub(crate) fn measure(place: &Place) -> Result<Vec<Figure>> {
    let server = loaded_server(place, 16)?;
    let mut figures = compare(&server, "pgbench", Load::Pgbench)?;
    figures.extend(compare(&server, "hash text", Load::HashText)?);
    drop(server);
    let server = loaded_server(place, 64)?;
    let end = make_backlog(&server, Load::Pgbench)?;
    let (_, memory) = receive_by_pgkeep(&server, &end)?;
    figures.push(memory_figure("segments of 64 MiB", &[memory]));
    Ok(figures)
}

fn loaded_server(place: &Place, segment_mib: u32) -> Result<Server<'_>> {
    let server = Server::start(place, "busy", segment_mib)?;
    server.pgbench(&["-q", "-i", "-s", "50"])?;
    server.psql(&["create table lines (id bigint, line text)"])?;
    Ok(server)
}

fn compare(server: &Server<'_>, name: &str, load: Load) -> Result<Vec<Figure>> {
    let end = make_backlog(server, load)?;
    let (mut ours, mut theirs, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (cost, mib) = receive_by_pgkeep(server, &end)?;
        ours.push(cost);
        memory.push(mib);
        theirs.push(receive_by_peer(server, &end)?);
    }
    let pairs = ours.iter().zip(&theirs);
    let ratios: Vec<f64> = pairs.map(|(ours, theirs)| ours.seconds / theirs.seconds).collect();
    let figure = |what: &str, costs: &[Cost], part: fn(&Cost) -> f64| {
        let samples: Vec<f64> = costs.iter().map(part).collect();
        Figure::median(format!("{name}: {what}"), "s", &samples)
    };
    Ok(vec![
        figure("pgkeep", &ours, |cost| cost.seconds),
        figure("pg_receivewal", &theirs, |cost| cost.seconds),
        Figure::median(format!("{name}: pgkeep / pg_receivewal, by pair"), "", &ratios),
        figure("processor time of pgkeep", &ours, |cost| cost.cpu_seconds),
        figure("processor time of pg_receivewal", &theirs, |cost| cost.cpu_seconds),
        memory_figure(name, &memory),
    ])
}

fn memory_figure(name: &str, samples: &[f64]) -> Figure {
    let what = format!("{name}: peak memory of pgkeep");
    Figure::median(what, "MiB", samples).claimed_below(MEMORY_MIB_MAX)
}

/// Leaves so much WAL behind the slot `origin`; returns where it ends, which is the end of a segment.
fn make_backlog(server: &Server<'_>, load: Load) -> Result<String> {
    server.psql(&[
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots",
        "select pg_switch_wal()",
        "checkpoint",
        "select pg_create_physical_replication_slot('origin', true)",
    ])?;
    let size = "select (pg_current_wal_lsn() - restart_lsn)::bigint from pg_replication_slots";
    while server.psql(&[size])?.parse::<u64>()? < BACKLOG_BYTES {
        match load {
            Load::Pgbench => {
                server.psql(&["checkpoint"])?;
                server.pgbench(&["-n", "-c", "4", "-t", "5000"])?;
            }
            Load::HashText => {
                let insert =
                    "insert into lines select i, md5(random()::text) || md5(random()::text)
                    from generate_series(1, 200000) i";
                server.psql(&[insert, "truncate lines"])?;
            }
        }
    }
    // In one session, before the server adds something of its own behind the switch.
    server.psql(&["select pg_switch_wal()", "select pg_current_wal_flush_lsn()"])
}

/// What it took, and the most MiB of memory.
fn receive_by_pgkeep(server: &Server<'_>, end: &str) -> Result<(Cost, f64)> {
    server.psql(&["select pg_copy_physical_replication_slot('origin', 'pgkeep')"])?;
    let pgkeep = Pgkeep::init(server)?;
    let began = Instant::now();
    let daemon = pgkeep.run()?;
    server.wait_archived(end)?;
    let seconds = began.elapsed().as_secs_f64();
    let memory = daemon.memory_mib()?;
    let cpu_before = cpu_seconds()?;
    drop(daemon);
    let cost = Cost { seconds, cpu_seconds: cpu_seconds()? - cpu_before };
    drop_slot(server, "pgkeep")?;
    Ok((cost, memory))
}

fn receive_by_peer(server: &Server<'_>, end: &str) -> Result<Cost> {
    server.psql(&["select pg_copy_physical_replication_slot('origin', 'peer')"])?;
    let place = server.place();
    let directory = place.make_directory("peer")?;
    // It ends when it has come beyond the end it is given.
    let last_byte = server.psql(&[&format!("select '{end}'::pg_lsn - 1")])?;
    let mut command = place.postgres("pg_receivewal");
    command.args(["--no-loop", "--slot=peer", "--endpos", &last_byte, "-D"]).arg(&directory);
    command.arg("-d").arg(server.conninfo());
    let (began, cpu_before) = (Instant::now(), cpu_seconds()?);
    run(&mut command)?;
    let seconds = began.elapsed().as_secs_f64();
    let cost = Cost { seconds, cpu_seconds: cpu_seconds()? - cpu_before };
    fs::remove_dir_all(directory)?;
    drop_slot(server, "peer")?;
    Ok(cost)
}

/// Its walsender may need a moment to notice that its client has gone.
fn drop_slot(server: &Server<'_>, name: &str) -> Result<()> {
    let drop = format!(
        "do $$ begin
         while exists (select from pg_replication_slots where slot_name = '{name}' and active) loop
             perform pg_sleep(0.01);
         end loop;
         perform pg_drop_replication_slot('{name}');
         end $$"
    );
    server.psql(&[&drop]).map(|_| ())
}
