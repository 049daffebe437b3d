//! An encrypted repository in a bucket that is not trusted with an answer: all the way through, and
//! what `pgkeep check` makes of buckets.

use std::fs;
use std::path::{Path, PathBuf};

use aws_sdk_s3::types::{
    DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode,
    ObjectLockRule,
};
use serde_json::Value;

use crate::harness::{Bucket, Ledger, Pgkeep, Postgres, Reader, Workdir, run};

/// See docs/errors.md.
const UNSAFE: i32 = 14;

#[tokio::test]
async fn the_recovery_key_alone_brings_everything_back_out_of_a_bucket() {
    let workdir = Workdir::new("sealed-bucket");
    let server = Postgres::build(&workdir, "server").start().await;
    Ledger::create(&server).await;
    let bucket = Bucket::new().await;
    let mut keep = Pgkeep::in_bucket(&workdir, "keep", &server, &bucket, "");
    let config = fs::read_to_string(keep.config()).unwrap();
    keep.write_config(&config.replace("[ship]\n", "[ship]\nconfirm = \"head\"\n"));
    let (daily, spare) = (keep.secret_source("daily.key"), keep.secret_source("spare.key"));
    keep.set_keys(&daily, Some(&spare));
    keep.verb(&["init"]).await.expect_success();
    let checked = keep.json(&["check"]).await;
    expect_safe(&checked);
    assert!(
        bucket.objects().await.keys().all(|key| !key.contains("probe")),
        "check left something"
    );

    keep.start();
    server.sql("insert into ledger select from generate_series(1, 200)").await;
    keep.json(&["backup"]).await;
    server.sql("insert into ledger select from generate_series(1, 200)").await;
    keep.wait_archived(server.finish_segment().await).await;
    let rows = Ledger::rows_in(&server).await;
    assert!(keep.terminate().await.success());
    keep.verb(&["verify", "--full"]).await.expect_success();

    fs::remove_file(daily.trim_start_matches("file:")).unwrap();
    keep.set_keys(&spare, None);
    let restored = Postgres::without_data(&workdir, "restored");
    keep.restore(&restored, &["--to", "latest"]).await;
    let mut restored = restored.with_variables(keep.variables());
    restored.recover().await;
    assert_eq!(Ledger::rows_in(&restored).await, rows);

    let copy = download(&bucket, &workdir.path().join("copy")).await;
    let spare_file = PathBuf::from(spare.trim_start_matches("file:"));
    let reader = Reader::new(&copy).with("--secret-file", &spare_file);
    let said = run(reader.command("check", &[])).await.expect_success();
    let read = said.lines().count();
    assert!(read > 10, "the stranger found only {read} objects");
    println!("{} rows came back; a stranger read {read} objects of the bucket", rows.len());
}

#[tokio::test]
async fn a_bucket_that_locks_everything_by_itself_is_not_safe() {
    let workdir = Workdir::new("sealed-bucket");
    let server = Postgres::build(&workdir, "server").start().await;
    let bucket = Bucket::lockable().await;
    let keep = Pgkeep::in_bucket(&workdir, "keep", &server, &bucket, "");
    expect_safe_without_repository(&keep.json(&["check"]).await);
    let retention =
        DefaultRetention::builder().mode(ObjectLockRetentionMode::Governance).days(30).build();
    let lock = ObjectLockConfiguration::builder()
        .object_lock_enabled(ObjectLockEnabled::Enabled)
        .rule(ObjectLockRule::builder().default_retention(retention).build())
        .build();
    let request = bucket.client().put_object_lock_configuration().bucket(bucket.name());
    request.object_lock_configuration(lock).send().await.unwrap();
    let said = keep.verb(&["check"]).await.expect_code(UNSAFE).stdout;
    assert!(said.contains("Not safe to use, because of: retention."), "{said}");
    assert!(said.contains("GOVERNANCE for 30 days"), "{said}");
    println!("{said}");
}

fn verdict<'a>(checked: &'a Value, name: &str) -> &'a str {
    let findings = checked["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["name"] == name);
    let found = found.unwrap_or_else(|| panic!("{name} was not examined: {checked}"));
    found["verdict"].as_str().unwrap()
}

fn expect_safe(checked: &Value) {
    assert_eq!(checked["ok"], true, "{checked}");
    for name in ["conditional put", "listing", "upload in parts", "delete", "repository", "keys"] {
        assert_eq!(verdict(checked, name), "good", "{name}");
    }
    for name in ["clock", "retention", "unfinished uploads", "cluster"] {
        assert_eq!(verdict(checked, name), "good", "{name}");
    }
    assert_eq!(verdict(checked, "versioning"), "warning", "this bucket keeps no versions");
}

fn expect_safe_without_repository(checked: &Value) {
    assert_eq!(checked["ok"], true, "{checked}");
    for name in ["versioning", "retention"] {
        assert_eq!(verdict(checked, name), "good", "{name}");
    }
}

/// Everything below `keep/` in the bucket, as files.
async fn download(bucket: &Bucket, to: &Path) -> PathBuf {
    for key in bucket.objects().await.into_keys() {
        let path = to.join(key.strip_prefix("keep/").expect("all is below the prefix"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let request = bucket.client().get_object().bucket(bucket.name()).key(&key);
        let body = request.send().await.unwrap().body.collect().await.unwrap();
        fs::write(path, body.into_bytes()).unwrap();
    }
    to.to_owned()
}
