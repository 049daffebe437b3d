//! A repository in a bucket: the whole way through, and what happens when the bucket is not as it was.

use std::time::Duration;

use aws_sdk_s3::types::{ObjectLockMode, StorageClass};
use pgkeep_proto::Lsn;
use serde_json::Value;

use crate::harness::{
    Bucket, Child, Ledger, ObjectServer, Pgkeep, Postgres, StopMode, Trick, Wire, Workdir, wait_for,
};

/// See docs/errors.md.
const REPOSITORY: i32 = 7;

#[tokio::test]
async fn what_went_into_a_bucket_comes_back_from_it() {
    let workdir = Workdir::new("s3");
    let server = Postgres::build(&workdir, "server").segment_size_mb(16).start().await;
    Ledger::create(&server).await;
    let bucket = Bucket::new().await;
    let mut keep = Pgkeep::in_bucket(&workdir, "keep", &server, &bucket, "");
    // Otherwise what a young server holds fits into one part.
    keep.set("PGKEEP_REPOSITORY_COMPRESSION", "none");
    keep.verb(&["init"]).await.expect_success();
    keep.start();
    let control = server.control(&workdir, "control").await;
    server.pgbench(&["-i", "-s", "4", "-q"]).await;
    keep.json(&["backup"]).await;
    for _ in 0..20 {
        server.sql("insert into ledger default values").await;
    }
    let rows = Ledger::rows_in(&server).await;
    let end = server.finish_segment().await;
    keep.wait_archived(end).await;
    let archive = keep.archive_in(&bucket).await;
    let compared = archive.expect_equal(&control.stop_at(&server, end).await).await;
    let sound = archive.expect_sound().await;

    let objects = bucket.objects().await;
    assert!(objects.keys().all(|key| key.starts_with("keep/")), "a key is not below the prefix");
    let packs = objects.iter().filter(|(key, _)| key.contains("/packs/"));
    let in_parts = packs.filter(|(_, head)| head.e_tag().unwrap().contains('-')).count();
    assert!(in_parts > 0, "no pack was uploaded in parts");
    assert_eq!(bucket.pending_uploads().await, 0);

    let restored = Postgres::without_data(&workdir, "restored");
    keep.restore(&restored, &["--to", "latest"]).await;
    let mut restored = restored.with_variables(keep.variables());
    restored.recover().await;
    assert_eq!(Ledger::rows_in(&restored).await, rows);
    restored.stop(StopMode::Immediate).await;
    println!(
        "{compared} segments equal, {sound} sound objects of {}, {in_parts} packs in parts, \
         restored {} rows",
        objects.len(),
        rows.len()
    );
}

#[tokio::test]
async fn a_bucket_that_is_gone_is_told_and_archiving_goes_on_when_it_is_back() {
    let workdir = Workdir::new("s3");
    let server = Postgres::build(&workdir, "server").start().await;
    let bucket = Bucket::new().await;
    let wire = Wire::to(ObjectServer::shared().address(), Trick::None).await;
    let bucket = bucket.through(&wire.endpoint());
    let mut keep = Pgkeep::in_bucket(&workdir, "keep", &server, &bucket, "");
    keep.verb(&["init"]).await.expect_success();
    keep.start();
    keep.wait_archived(server.flush_lsn().await).await;

    wire.play(Trick::HideBuckets);
    server.pgbench(&["-i", "-s", "1", "-q"]).await;
    let written = server.flush_lsn().await;
    let is_told = async || {
        let status = keep.json(&["status"]).await;
        alert(&status, "store").filter(|message| message.contains("the bucket does not exist"))
    };
    let message = wait_for("an alert about the bucket", is_told).await;
    assert!(keep.daemon().exit_status().is_none(), "the daemon gave up");
    let slot = "select restart_lsn from pg_replication_slots where slot_name = 'pgkeep'";
    let told: Lsn = server.value(slot).await.parse().unwrap();
    assert!(told < written, "the server was told {told}, which nobody has");

    wire.play(Trick::None);
    keep.wait_archived(written).await;
    let is_over = async || {
        let status = keep.json(&["status"]).await;
        alert(&status, "store").is_none().then_some(())
    };
    wait_for("the end of the alert", is_over).await;
    let archive = keep.archive_in(&bucket).await;
    assert_eq!(archive.stretches().await.len(), 1, "there is a hole");
    println!("told as {message:?}; nothing is missing after it");
}

#[tokio::test]
async fn a_wrong_address_is_told_in_words() {
    let workdir = Workdir::new("s3");
    let server = Postgres::build(&workdir, "server").start().await;
    let there = Bucket::new().await;
    let bucket = Bucket::unmade(there.endpoint());
    let keep = Pgkeep::in_bucket(&workdir, "keep", &server, &bucket, "");
    for verb in ["init", "list", "status"] {
        let error = keep.verb(&[verb]).await.expect_refusal(REPOSITORY);
        assert!(error.contains("the bucket does not exist"), "{verb}: {error}");
    }

    let mut keep = Pgkeep::in_bucket(&workdir, "nobody", &server, &there, "");
    keep.unset("AWS_ACCESS_KEY_ID");
    keep.set("AWS_EC2_METADATA_DISABLED", "true");
    let error = keep.verb(&["init"]).await.expect_refusal(REPOSITORY);
    assert!(error.contains("there are no credentials"), "{error}");
    println!("{error}");
}

#[tokio::test]
async fn each_kind_of_object_has_its_class_its_tags_and_its_lock() {
    let workdir = Workdir::new("s3");
    let server = Postgres::build(&workdir, "server").start().await;
    let bucket = Bucket::lockable().await;
    let settings = "storage_class = \"STANDARD_IA\"\nbackup_storage_class = \"GLACIER_IR\"\n\
                    tags = { RetentionYears = \"7\" }\nserver_side_encryption = \"AES256\"\n\
                    object_lock = \"governance\"\nobject_lock_days = 3";
    let mut keep = Pgkeep::in_bucket(&workdir, "keep", &server, &bucket, settings);
    keep.verb(&["init"]).await.expect_success();
    keep.start();
    keep.json(&["backup"]).await;
    keep.wait_archived(server.finish_segment().await).await;
    let has_whole =
        async || bucket.objects().await.keys().any(|key| key.contains("/wal/")).then_some(());
    wait_for("a whole segment", has_whole).await;

    let mut seen = [0; 4];
    for (key, head) in bucket.objects().await {
        let (number, kind, class) = match key.split('/').nth(3).unwrap_or_default() {
            "pieces" | "epoch" | "heartbeat" => (0, "passing", None),
            "backups" if key.contains("/packs/") => (1, "backup", Some(StorageClass::GlacierIr)),
            "backups" if key.ends_with("/started") => (0, "passing", None),
            "wal" => (2, "wal", Some(StorageClass::StandardIa)),
            _ => (3, "record", Some(StorageClass::StandardIa)),
        };
        seen[number] += 1;
        let found = head.storage_class().filter(|class| **class != StorageClass::Standard);
        assert_eq!(found, class.as_ref(), "class of {key}");
        assert_eq!(head.server_side_encryption().unwrap().as_str(), "AES256", "{key}");
        let lock = head.object_lock_mode();
        let expected = (number != 0).then_some(&ObjectLockMode::Governance);
        assert_eq!(lock, expected, "lock of {key}");
        let tags = bucket.client().get_object_tagging().bucket(bucket.name()).key(&key);
        let tags = tags.send().await.unwrap();
        let mut tags: Vec<_> = tags.tag_set().iter().map(|tag| (tag.key(), tag.value())).collect();
        tags.sort_unstable();
        assert_eq!(tags, [("RetentionYears", "7"), ("Type", kind)], "tags of {key}");
    }
    assert!(seen.iter().all(|count| *count > 0), "not every kind of object was seen: {seen:?}");
    println!("{} passing, {} backup, {} wal, {} records", seen[0], seen[1], seen[2], seen[3]);
}

#[tokio::test]
async fn what_a_killed_backup_left_at_the_store_is_aborted_once_it_is_old() {
    let workdir = Workdir::new("s3");
    let server = Postgres::build(&workdir, "server").start().await;
    server.pgbench(&["-i", "-s", "4", "-q"]).await;
    let bucket = Bucket::new().await;
    let wire = Wire::to(ObjectServer::shared().address(), Trick::None).await;
    let bucket = bucket.through(&wire.endpoint());
    let mut keep = Pgkeep::in_bucket(&workdir, "keep", &server, &bucket, "");
    keep.verb(&["init"]).await.expect_success();
    keep.start();
    keep.set("PGKEEP_REPOSITORY_COMPRESSION", "none");
    let second_part = ["PUT /", "partNumber=2"].map(str::to_owned);
    wire.play(Trick::Hold(second_part.to_vec()));
    let log = workdir.path().join("backup.log");
    let mut backup = Child::spawn("pgkeep backup", keep.command(&["backup"]), &log);
    backup.until("the second part", async || (wire.struck() > 0).then_some(())).await;
    backup.kill9().await;
    wire.play(Trick::None);
    assert_eq!(bucket.pending_uploads().await, 1);

    // The next writer looks, and finds it too young to be surely nobody's.
    keep.json(&["backup"]).await;
    assert_eq!(bucket.pending_uploads().await, 1);
    let store = bucket.store("keep");
    assert_eq!(store.abort_stale_uploads(Duration::from_secs(3600)).await.unwrap(), 0);
    assert_eq!(bucket.store("kee").abort_stale_uploads(Duration::ZERO).await.unwrap(), 0);
    assert_eq!(store.abort_stale_uploads(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(bucket.pending_uploads().await, 0);
}

#[tokio::test]
async fn a_certificate_is_trusted_only_with_its_authority() {
    let workdir = Workdir::new("s3");
    let server = Postgres::build(&workdir, "server").start().await;
    let shared = ObjectServer::shared();
    let secure = Bucket::new().await.through(&format!("https://{}", shared.address()));
    let keep = Pgkeep::in_bucket(&workdir, "stranger", &server, &secure, "");
    let error = keep.verb(&["init"]).await.expect_refusal(REPOSITORY);
    assert!(error.contains("certificate is not trusted"), "{error}");

    let authority = format!("ca_file = \"{}\"", shared.authority().display());
    let mut keep = Pgkeep::in_bucket(&workdir, "keep", &server, &secure, &authority);
    keep.verb(&["init"]).await.expect_success();
    keep.start();
    keep.wait_archived(server.flush_lsn().await).await;
}

fn alert(status: &Value, name: &str) -> Option<String> {
    let alerts = status["clusters"][0]["alerts"].as_array()?;
    let found = alerts.iter().find(|alert| alert["name"] == name)?;
    Some(found["message"].as_str()?.to_owned())
}
