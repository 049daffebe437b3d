//! What do sealing and opening cost beside their parts: LZ4, AES-256-GCM and BLAKE3 alone, on the same
//! frames of 256 KiB? And how long does one page out of a segment take?
//!
//! One thread and no store. The parts run one after the other over all frames, each over what the one
//! before made, and their times are added.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use pgkeep_catalog::key::{Keyring, RepositoryKey};
use pgkeep_catalog::sealed::{
    Compression, FRAME_SIZE, Header, Kind, Origin, SealedObject, Sealer, Sealing,
};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::figure::Figure;
use crate::place::Place;
use crate::server::Server;

const SEGMENT_SIZE: usize = 16 << 20;
const ROUNDS: usize = 5;
const RATIO_MAX: f64 = 1.15;
const PAGES: usize = 200;
const PAGE_SIZE: u64 = 8192;
const PAGE_MS_MAX: f64 = 0.2;

/// Measures.
pub(crate) fn measure(place: &Place) -> Result<Vec<Figure>> {
    let server = Server::start(place, "segments", 16)?;
    server.psql(&["create table lines (id bigint, line text)"])?;
    server.pgbench(&["-q", "-i", "-s", "20"])?;
    let pgbench = segments(&server, || server.pgbench(&["-n", "-c", "4", "-t", "5000"]))?;
    let insert = "insert into lines select i, md5(random()::text) || md5(random()::text)
                  from generate_series(1, 200000) i";
    let text = segments(&server, || server.psql(&[insert]).map(|_| ()))?;
    drop(server);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut figures = compare("pgbench", &pgbench, &runtime)?;
    figures.extend(compare("hash text", &text, &runtime)?);
    figures.push(page(&text, &runtime)?);
    Ok(figures)
}

/// Four full segments of WAL that `load` wrote.
fn segments(server: &Server<'_>, load: impl Fn() -> Result<()>) -> Result<Vec<Vec<u8>>> {
    server.psql(&["select pg_switch_wal()", "checkpoint"])?;
    let name = |ahead: usize| {
        format!("select pg_walfile_name(pg_current_wal_lsn() + {})", ahead * SEGMENT_SIZE)
    };
    let mut names = Vec::new();
    for ahead in 1..=4 {
        names.push(server.psql(&[&name(ahead)])?);
    }
    let last = names.last().context("four names")?;
    let is_full = format!("select pg_walfile_name(pg_current_wal_flush_lsn() - 1) > '{last}'");
    while server.psql(&[&is_full])? == "f" {
        load()?;
    }
    names.iter().map(|name| Ok(fs::read(server.wal_file(name))?)).collect()
}

/// The times of one round, in seconds.
#[derive(Clone, Copy, Debug)]
struct Round {
    seal: f64,
    seal_parts: f64,
    open: f64,
    open_parts: f64,
}

fn compare(name: &str, segments: &[Vec<u8>], runtime: &Runtime) -> Result<Vec<Figure>> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(round(segments, runtime)?);
    }
    let mib = (segments.len() * SEGMENT_SIZE) as f64 / f64::from(1 << 20);
    let rate = |what: &str, part: fn(&Round) -> f64| {
        let samples: Vec<f64> = rounds.iter().map(|round| mib / part(round)).collect();
        Figure::median(format!("{name}: {what}"), "MiB/s", &samples)
    };
    let ratio = |what: &str, part: fn(&Round) -> f64| {
        let samples: Vec<f64> = rounds.iter().map(part).collect();
        Figure::median(format!("{name}: {what}"), "", &samples).claimed_below(RATIO_MAX)
    };
    Ok(vec![
        rate("sealing", |round| round.seal),
        rate("its parts alone", |round| round.seal_parts),
        ratio("sealing / its parts", |round| round.seal / round.seal_parts),
        rate("opening", |round| round.open),
        rate("its parts alone", |round| round.open_parts),
        ratio("opening / its parts", |round| round.open / round.open_parts),
    ])
}

fn round(segments: &[Vec<u8>], runtime: &Runtime) -> Result<Round> {
    let (seal_parts, open_parts) = parts(segments)?;
    let sealing = sealing();
    let mut stored = Vec::new();
    let seal = timed(|| {
        for segment in segments {
            stored.push(sealed(segment, &sealing));
        }
        Ok(())
    })?;
    let open = timed(|| {
        for object in &stored {
            let object = opened(object, &sealing)?;
            black_box(runtime.block_on(object.read_all())?);
        }
        Ok(())
    })?;
    Ok(Round { seal, seal_parts, open, open_parts })
}

/// How long the parts of sealing take, and the parts of opening.
fn parts(segments: &[Vec<u8>]) -> Result<(f64, f64)> {
    let cipher = Aes256Gcm::new(&[7; 32].into());
    let nonce = Nonce::from([0; 12]);
    let frames: Vec<&[u8]> = segments.iter().flat_map(|s| s.chunks(FRAME_SIZE)).collect();
    let mut compressed: Vec<Vec<u8>> = Vec::new();
    let mut tags: Vec<Tag> = Vec::new();
    let lz4 = timed(|| {
        for frame in &frames {
            let mut room = vec![0; lz4_flex::block::get_maximum_output_size(frame.len())];
            let length = lz4_flex::block::compress_into(frame, &mut room)?;
            room.truncate(length);
            compressed.push(room);
        }
        Ok(())
    })?;
    let aes = timed(|| {
        for frame in &mut compressed {
            let tag = cipher.encrypt_inout_detached(&nonce, b"", frame.as_mut_slice().into());
            tags.push(tag.ok().context("encrypt")?);
        }
        Ok(())
    })?;
    let hash = timed(|| {
        let mut hasher = blake3::Hasher::new();
        for frame in &frames {
            hasher.update(frame);
        }
        black_box(hasher.finalize());
        Ok(())
    })?;
    let decrypt = timed(|| {
        for (frame, tag) in compressed.iter_mut().zip(&tags) {
            let frame = frame.as_mut_slice().into();
            cipher.decrypt_inout_detached(&nonce, b"", frame, tag).ok().context("decrypt")?;
        }
        Ok(())
    })?;
    let decompress = timed(|| {
        for (frame, raw) in compressed.iter().zip(&frames) {
            let mut room = vec![0; raw.len()];
            lz4_flex::block::decompress_into(frame, &mut room)?;
            black_box(room);
        }
        Ok(())
    })?;
    Ok((lz4 + aes + hash, decrypt + decompress + hash))
}

/// One page at a time out of the middle of a segment, from an object that is open.
fn page(segments: &[Vec<u8>], runtime: &Runtime) -> Result<Figure> {
    let segment = segments.first().context("a segment")?;
    let sealing = sealing();
    let object = opened(&sealed(segment, &sealing), &sealing)?;
    let mut samples = Vec::new();
    for number in 0..PAGES as u64 {
        let from = number * 7 % (SEGMENT_SIZE as u64 / PAGE_SIZE) * PAGE_SIZE;
        let began = Instant::now();
        let page = runtime.block_on(object.read(from..from + PAGE_SIZE))?;
        samples.push(began.elapsed().as_secs_f64() * 1000.0);
        ensure!(page.len() as u64 == PAGE_SIZE, "a page of {} bytes", page.len());
    }
    let figure = Figure::median("one page of 8 KiB out of 16 MiB", "ms", &samples);
    Ok(figure.claimed_below(PAGE_MS_MAX))
}

fn sealing() -> Sealing {
    let keys = Keyring::new([RepositoryKey::generate(1)]);
    Sealing { keys: Arc::new(keys), compression: Compression::Lz4 }
}

fn origin() -> Origin {
    Origin { repository: Uuid::nil(), cluster: "main".to_owned(), incarnation: 1 }
}

fn sealed(raw: &[u8], sealing: &Sealing) -> Bytes {
    let key = "main/0001/wal/00000001/000000010000000000000001";
    let key = key.parse().expect("a key");
    let mut sealer = Sealer::new(Header::new(Kind::Segment, key, &origin(), 1, None), sealing);
    let mut stored = Vec::with_capacity(raw.len());
    for chunk in raw.chunks(1 << 20) {
        sealer.push(chunk);
        stored.extend_from_slice(&sealer.take());
    }
    stored.extend_from_slice(&sealer.finish(b"").0);
    stored.into()
}

fn opened(stored: &Bytes, sealing: &Sealing) -> Result<SealedObject> {
    let key = "main/0001/wal/00000001/000000010000000000000001".parse()?;
    Ok(SealedObject::open_bytes(stored, &key, Kind::Segment, &origin(), &sealing.keys)?)
}

fn timed(act: impl FnOnce() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    act()?;
    Ok(began.elapsed().as_secs_f64())
}
