//! What `status` says: the fields others rely on, with a daemon and without.

use std::collections::BTreeSet;

use pgkeep_proto::Lsn;
use serde_json::{Value, json};

use crate::harness::{Pgkeep, Postgres, Workdir, wait_for};

const CLUSTER: [&str; 21] = [
    "name",
    "system_id",
    "incarnation",
    "timeline",
    "server_lsn",
    "received_lsn",
    "spooled_lsn",
    "archived_lsn",
    "archived_commit_time",
    "caught_up_at",
    "rpo_seconds",
    "rto_seconds",
    "slot",
    "gaps",
    "coverage",
    "inventory",
    "last_backup",
    "last_verify",
    "last_drill",
    "daemon",
    "alerts",
];

#[tokio::test]
async fn status_has_the_fields_of_its_contract() {
    let workdir = Workdir::new("status");
    let server = Postgres::build(&workdir, "server").start().await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    server.sql("create table moments (id int)").await;
    keep.wait_archived(server.flush_lsn().await).await;
    keep.json(&["backup"]).await;
    let is_complete = async || {
        let cluster = cluster(&keep).await;
        (!cluster["slot"].is_null() && !cluster["caught_up_at"].is_null()).then_some(cluster)
    };
    let cluster = wait_for("all that a daemon knows", is_complete).await;

    let status = keep.json(&["status"]).await;
    assert_eq!(names(&status), set(&["clusters"]));
    assert_eq!(names(&cluster), set(&CLUSTER));
    assert_eq!(
        names(&cluster["slot"]),
        set(&["name", "wal_status", "retained_bytes", "safe_bytes"])
    );
    assert_eq!(
        names(&cluster["coverage"][0]),
        set(&["timeline", "from_lsn", "to_lsn", "from_time", "to_time"])
    );
    assert_eq!(names(&cluster["last_backup"]), set(&["id", "at", "ok"]));
    assert_eq!(names(&cluster["daemon"]), set(&["running", "pid", "since"]));

    assert_eq!(cluster["name"], "main");
    let system_id = server.value("select system_identifier from pg_control_system()").await;
    let told = cluster["system_id"].to_string();
    assert_eq!(told.trim_matches('"'), system_id);
    assert_eq!((&cluster["timeline"], &cluster["incarnation"]), (&json!(1), &json!(1)));
    for position in ["server_lsn", "received_lsn", "archived_lsn"] {
        let lsn: Lsn = cluster[position].as_str().unwrap().parse().unwrap();
        assert!(lsn > Lsn::ZERO && lsn <= server.flush_lsn().await, "{position} is {lsn}");
    }
    for time in ["archived_commit_time", "caught_up_at"] {
        expect_time(&cluster[time]);
    }
    expect_time(&cluster["daemon"]["since"]);
    expect_time(&cluster["last_backup"]["at"]);
    assert_eq!(cluster["slot"]["wal_status"], "reserved");
    assert_eq!(cluster["daemon"]["pid"], keep.daemon().pid());
    let rpo = cluster["rpo_seconds"].as_f64().unwrap();
    assert!((0.0..30.0).contains(&rpo), "the RPO of an idle server is {rpo} s");
    println!("{cluster}");
}

#[tokio::test]
async fn a_dead_daemon_leaves_the_word_to_the_repository() {
    let workdir = Workdir::new("status");
    let server = Postgres::build(&workdir, "server").start().await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    server.sql("create table moments (id int)").await;
    keep.wait_archived(server.flush_lsn().await).await;
    let alive = cluster(&keep).await;
    keep.kill9().await;

    let dead = cluster(&keep).await;
    assert_eq!(names(&dead), names(&alive));
    assert_eq!(dead["daemon"], json!({ "running": false, "pid": null, "since": null }));
    for live in ["server_lsn", "received_lsn", "spooled_lsn", "rpo_seconds", "slot"] {
        assert!(dead[live].is_null(), "{live} is {}", dead[live]);
    }
    let archive = keep.archive().await;
    assert_eq!(dead["archived_lsn"], json!(archive.end().await.to_string()));
    for same in ["system_id", "timeline", "archived_commit_time", "gaps"] {
        assert_eq!(dead[same], alive[same], "{same}");
    }
    let text = keep.verb(&["status"]).await.expect_success();
    assert!(text.contains("not running"), "{text}");

    // Told to stop, it leaves the moment until which nothing is missing.
    keep.start();
    keep.wait_archived(server.flush_lsn().await).await;
    let is_fresh = async || cluster(&keep).await["caught_up_at"].as_str().map(str::to_owned);
    let alive_at = wait_for("a moment when everything was archived", is_fresh).await;
    assert!(keep.terminate().await.success());
    let dead_at = cluster(&keep).await["caught_up_at"].clone();
    expect_time(&dead_at);
    assert!(dead_at.as_str() >= Some(&*alive_at), "{dead_at} is before {alive_at}");
    println!("dead: {dead}; caught up at {dead_at}");
}

async fn cluster(keep: &Pgkeep) -> Value {
    let status = keep.json(&["status"]).await;
    assert_eq!(status["clusters"].as_array().map(Vec::len), Some(1), "{status}");
    status["clusters"][0].clone()
}

fn names(object: &Value) -> BTreeSet<String> {
    object.as_object().unwrap_or_else(|| panic!("no object: {object}")).keys().cloned().collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// RFC 3339 in UTC with microseconds.
fn expect_time(value: &Value) {
    let text = value.as_str().unwrap_or_else(|| panic!("no time: {value}"));
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{text}");
}
