//! Bytes that are not those that were written, and bytes of somebody else: found, named, kept out.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use pgkeep_catalog::Error;
use pgkeep_catalog::segment::ArchivedSegment;
use pgkeep_proto::SegmentName;

use crate::harness::{Archive, Pgkeep, Postgres, Workdir, wait_for};

const FOREIGN: i32 = 10;

#[tokio::test]
async fn a_flipped_byte_anywhere_in_a_segment_is_found_and_the_object_named() {
    let workdir = Workdir::new("damage");
    let server = Postgres::build(&workdir, "server").start().await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    server.pgbench(&["-i", "-s", "1", "-q"]).await;
    keep.wait_archived(server.finish_segment().await).await;
    let archive = keep.archive().await;
    let whole = wait_for("a whole segment", async || keep.objects("wal").pop()).await;
    let name = name_of(&whole);
    assert!(read(&archive, name).await.is_ok());

    let length = fs::metadata(&whole).unwrap().len();
    // The crc32 of the whole, before the last word, is for who has no key: `verify` compares it.
    let crc32 = length - 8..length - 4;
    let mut tried = 0;
    for at in (0..length).step_by(usize::try_from(length / 40).unwrap()).chain([length - 1]) {
        if crc32.contains(&at) {
            continue;
        }
        flip(&whole, at);
        let error = read(&archive, name).await.expect_err(&format!("byte {at} was not missed"));
        assert_names(&error, &name.to_string());
        flip(&whole, at);
        tried += 1;
    }
    assert!(read(&archive, name).await.is_ok(), "the last flip was undone");
    println!("{tried} flipped bytes of {name} found");
}

#[tokio::test]
async fn a_piece_that_was_cut_off_is_found_and_named_and_stops_the_daemon() {
    let workdir = Workdir::new("damage");
    let server = Postgres::build(&workdir, "server").segment_size_mb(16).start().await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    server.sql("create table moments as select generate_series(1, 1000) as id").await;
    keep.wait_archived(server.flush_lsn().await).await;
    assert!(keep.terminate().await.success());
    let archive = keep.archive().await;
    let piece = keep.objects("pieces").pop().expect("a piece was shipped");
    let length = fs::metadata(&piece).unwrap().len();
    File::options().write(true).open(&piece).unwrap().set_len(length - 5).unwrap();

    let segment: SegmentName = name_of(piece.parent().unwrap().parent().unwrap());
    let key = piece.strip_prefix(keep.repository()).unwrap().to_str().unwrap();
    assert_names(&read(&archive, segment).await.unwrap_err(), key);
    let refused = keep.verb(&["run"]).await.expect_code(6);
    assert!(
        refused.stderr.contains(key) && refused.stderr.contains("hint: "),
        "{}",
        refused.stderr
    );
    assert_eq!(fs::metadata(&piece).unwrap().len(), length - 5, "it was written over");
    println!("{key} cut to {} bytes: named, and left as it is", length - 5);
}

#[tokio::test]
async fn a_clone_that_went_its_own_way_is_refused_in_mid_segment() {
    clone_is_refused(false).await;
}

#[tokio::test]
async fn a_clone_that_went_its_own_way_is_refused_at_the_end_of_a_segment() {
    clone_is_refused(true).await;
}

/// Two servers from one template: one system identifier, one timeline, other bytes.
async fn clone_is_refused(is_at_boundary: bool) {
    let workdir = Workdir::new("damage");
    let server = Postgres::build(&workdir, "server").start().await;
    let clone = Postgres::build(&workdir, "clone").start().await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    server.sql("create table ours as select generate_series(1, 1000) as id").await;
    let end = if is_at_boundary { server.switch_wal().await } else { server.flush_lsn().await };
    keep.wait_archived(end).await;
    assert!(keep.terminate().await.success());
    let archive = keep.archive().await;
    let size = archive.cluster().segment_size();
    let before = archive.stretches().await;
    let end = archive.end().await;
    assert_eq!(size.is_boundary(end), is_at_boundary, "archived up to {end}");
    let objects = contents(&keep);

    while clone.flush_lsn().await <= end {
        clone.sql("create table if not exists theirs (id int)").await;
        clone.sql("insert into theirs select generate_series(1, 1000)").await;
        clone.finish_segment().await;
    }
    keep.configure(&clone.conninfo());
    let refused = keep.verb(&["run"]).await.expect_code(FOREIGN);
    assert!(refused.stderr.contains("hint: "), "{}", refused.stderr);
    assert_eq!(archive.stretches().await, before, "the clone's WAL was added");
    assert_eq!(contents(&keep), objects, "something was written over");
    println!("{}", refused.stderr.lines().rev().nth(1).unwrap_or_default());
}

async fn read(archive: &Archive, name: SegmentName) -> Result<Vec<u8>, Error> {
    let segment = ArchivedSegment::open(archive.cluster(), name).await?;
    segment.expect("the segment is archived").read_all().await
}

fn assert_names(error: &Error, key: &str) {
    let is_found =
        matches!(error, Error::Damaged { key: named, .. } if named.as_str().ends_with(key));
    assert!(is_found, "{key} is not named as damaged: {error:?}");
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

fn name_of(path: &Path) -> SegmentName {
    path.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// Names and bytes of all WAL objects.
fn contents(keep: &Pgkeep) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = ["wal", "pieces"].into_iter().flat_map(|kind| keep.objects(kind));
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}
