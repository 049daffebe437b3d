//! The inventory of a running archive: what it names, what it costs, and what it tells when somebody
//! removes the newest objects.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use pgkeep_catalog::inventory::InventoryReader;
use pgkeep_catalog::sealed::Kind;
use pgkeep_catalog::store::StoreExt as _;
use pgkeep_proto::{SegmentName, TimelineId};
use serde_json::Value;
use tokio::time::Instant;

use crate::harness::{CountingStore, InProcess, Pgkeep, Postgres, Workdir, wait_for};

#[tokio::test]
async fn the_inventory_names_every_whole_segment_across_restarts() {
    let workdir = Workdir::new("inventory");
    let server = Postgres::build(&workdir, "server").start().await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    let mut named = BTreeMap::new();
    for round in 1..=3 {
        for _ in 0..4 {
            server
                .sql("select pg_logical_emit_message(false, 'tests', repeat('wal ', 90000))")
                .await;
            server.finish_segment().await;
        }
        keep.wait_archived(server.flush_lsn().await).await;
        // A crash leaves what is not written down to the next one; a stop writes it down.
        if round == 2 {
            keep.kill9().await;
        } else {
            assert!(keep.terminate().await.success());
        }
        let before = named.len();
        named = read(&keep).await;
        assert!(round == 2 || named.len() >= before + 4, "{} of {before}", named.len());
        keep.start();
    }
    // Every segment that is stored whole, by the digest of its content, and no other before the last.
    let archive = keep.archive().await;
    let cluster = archive.cluster();
    let listed = cluster.store().list_all(&cluster.layout().segments()).await.unwrap();
    let last = *named.last_key_value().unwrap().0;
    let mut compared = 0;
    for listed in listed {
        let name = cluster.layout().segment_name(&listed.key).unwrap();
        if name <= last {
            let object = cluster.open_object(Kind::Segment, &listed.key).await.unwrap();
            assert_eq!(named.get(&name), Some(&object.trailer().raw_digest), "{name}");
            compared += 1;
        }
    }
    assert_eq!(compared, named.len());
    let told = keep.json(&["status"]).await;
    let pages = keep.objects("inventory").len();
    println!("{compared} segments in {pages} pages; {}", told["clusters"][0]["inventory"]);
}

/// The segments that the pages of the first timeline name, with their digests.
async fn read(keep: &Pgkeep) -> BTreeMap<SegmentName, [u8; 32]> {
    let archive = keep.archive().await;
    let size = archive.cluster().segment_size();
    let mut reader = InventoryReader::new(archive.cluster(), TimelineId::FIRST);
    let mut named = BTreeMap::new();
    while let Some(page) = reader.next().await.unwrap() {
        for (name, digest) in page.segments(size) {
            assert!(named.insert(name, digest).is_none(), "{name} is named twice");
        }
    }
    named
}

#[tokio::test]
async fn removing_the_newest_page_is_told_until_a_person_has_seen_to_it() {
    let workdir = Workdir::new("inventory");
    let server = Postgres::build(&workdir, "server").start().await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    for round in 0..2 {
        if round > 0 {
            keep.start();
        }
        keep.wait_archived(server.finish_segment().await).await;
        assert!(keep.terminate().await.success());
        assert_eq!(alert(&keep).await, None);
    }
    let pages = keep.objects("inventory");
    let witness = keep.state().join("main.head");
    let known = fs::read_to_string(&witness).unwrap();
    fs::remove_file(pages.last().unwrap()).unwrap();

    let said = alert(&keep).await.expect("status without a daemon says nothing");
    assert!(said.contains(&format!("page {}", pages.len())), "{said}");
    keep.start();
    let is_told = async || alert(&keep).await;
    wait_for("the daemon to tell", is_told).await;
    server.finish_segment().await;
    keep.wait_archived(server.flush_lsn().await).await;
    assert!(keep.terminate().await.success());
    assert_eq!(fs::read_to_string(&witness).unwrap(), known, "the witness was set back");
    assert!(alert(&keep).await.is_some());
    println!("{said}");

    fs::remove_file(&witness).unwrap();
    keep.start();
    keep.wait_archived(server.finish_segment().await).await;
    assert!(keep.terminate().await.success());
    assert_eq!(alert(&keep).await, None);
    assert!(witness.exists());
}

/// What the alert says, if there is one.
async fn alert(keep: &Pgkeep) -> Option<String> {
    let status = keep.json(&["status"]).await;
    let alerts = status["clusters"][0]["alerts"].as_array().unwrap();
    let found = alerts.iter().find(|alert| alert["name"] == "repository_rolled_back")?;
    found["message"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn steady_streaming_is_one_put_for_each_object_and_no_listing() {
    let workdir = Workdir::new("inventory");
    let server = Postgres::build(&workdir, "server").segment_size_mb(16).start().await;
    server.sql("create table moments (id int)").await;
    let store = Arc::new(CountingStore::default());
    let archiver = InProcess::start(&server, Arc::clone(&store) as _).await;
    archiver.wait_archived(server.flush_lsn().await).await;
    // The bookkeeper looks around a second after the stream was opened, the heartbeat comes after five.
    let is_settled = async || store.counts().contains_key("put heartbeat").then_some(());
    wait_for("the first heartbeat", is_settled).await;
    let (before, began) = (store.counts(), Instant::now());
    let pieces_before = pieces(&archiver).await;
    for id in 0..40 {
        server.sql(&format!("insert into moments values ({id})")).await;
        archiver.wait_archived(server.flush_lsn().await).await;
    }
    let (after, pieces_after) = (store.counts(), pieces(&archiver).await);
    let spent = |what: &str| after.get(what).unwrap_or(&0) - before.get(what).unwrap_or(&0);
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    // The one listing is that of this test itself.
    assert_eq!(spent("list"), 1, "{before:?} {after:?}");
    let new = pieces_after - pieces_before;
    assert!(new >= 40 && spent("put pieces").abs_diff(new) <= 1, "{new} pieces: {after:?}");
    assert_eq!(spent("put wal"), 0);
    assert!(spent("put heartbeat") <= seconds / 5 + 1, "{after:?}");
    assert!(spent("put inventory") <= seconds / 60 + 1, "{after:?}");
    assert!(spent("head pieces").abs_diff(new) <= 2, "each is looked up once, beside: {after:?}");
    assert!(spent("head epoch") <= seconds / 2 + 2, "{after:?}");
    archiver.stop().await;
    println!("{new} pieces in {seconds} s: {after:?}");
}

async fn pieces(archiver: &InProcess) -> usize {
    let cluster = &archiver.cluster;
    cluster.store().list_all(&cluster.layout().pieces()).await.unwrap().len()
}

#[tokio::test]
async fn a_head_told_by_status_is_a_page_of_the_repository() {
    let workdir = Workdir::new("inventory");
    let server = Postgres::build(&workdir, "server").start().await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    keep.wait_archived(server.finish_segment().await).await;
    assert!(keep.terminate().await.success());
    let status: Value = keep.json(&["status"]).await;
    let head = &status["clusters"][0]["inventory"];
    assert_eq!(head["number"], keep.objects("inventory").len());
    assert_eq!(head["archived"], status["clusters"][0]["archived_lsn"]);
    let witness: Value =
        serde_json::from_str(&fs::read_to_string(keep.state().join("main.head")).unwrap()).unwrap();
    assert_eq!(&witness["heads"][0], head);
    println!("{head}");
}
