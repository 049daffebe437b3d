//! Every store that can be run here keeps the contract, and one that does not is told from them.
//!
//! Tests that need a store which takes minutes to build are ignored; `make test-stores` runs them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use pgkeep_catalog::Error;
use pgkeep_catalog::store::doctor::{self, Conditions};
use pgkeep_catalog::store::{
    ChecksumMode, GetRange, ObjectClass, ObjectKey, PutOptions, Refusal, S3Config, Store,
    conformance,
};

use crate::harness::{Bucket, ObjectServer, SigningServer, Trick, Wire, Workdir};

const CREATE: PutOptions = PutOptions::create(ObjectClass::Record);
const PART_SIZE: usize = 8 * 1024 * 1024;
const ROUNDS: usize = 20;

fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

#[tokio::test]
async fn s3_keeps_the_contract() {
    let bucket = Bucket::new().await;
    conformance::check(Arc::new(bucket.store("some/prefix"))).await;
    let checksum = ChecksumMode::Crc32;
    conformance::check(Arc::new(bucket.store_with(S3Config {
        prefix: "strict".into(),
        checksum,
        ..S3Config::default()
    })))
    .await;
    println!("with a prefix, and with a checksum demanded");
}

#[tokio::test]
#[ignore = "s3s-fs takes minutes to build: make test-stores"]
async fn every_verb_is_signed_as_a_server_that_checks_expects() {
    let workdir = Workdir::new("stores");
    let server = SigningServer::start(&workdir).await;
    let bucket = Bucket::at(server.endpoint()).await;
    let config = config_of_signing_server();
    let store = bucket.store_with(config.clone());
    let (small, large) = (key("main/1/a-b"), key("main/1/large"));
    store.put(&small, Bytes::from_static(b"0123456789"), CREATE).await.unwrap();
    let again = store.put(&small, Bytes::from_static(b"others"), CREATE).await;
    assert!(again.unwrap_err().is_already_exists());
    assert_eq!(store.get(&small, GetRange::Range(2..4)).await.unwrap().bytes, "23");
    assert_eq!(store.get(&small, GetRange::Suffix(3)).await.unwrap().bytes, "789");
    let mut upload = store.upload(&large, CREATE).await.unwrap();
    upload.write(Bytes::from(vec![7; PART_SIZE + 1])).await.unwrap();
    upload.finish().await.unwrap();
    assert_eq!(store.head(&large).await.unwrap(), PART_SIZE as u64 + 1);
    assert_eq!(store.list("main/", Some(&small), 10).await.unwrap().len(), 1);
    store.delete(&small).await.unwrap();
    assert!(store.head(&small).await.unwrap_err().is_not_found());

    let stranger = bucket.with_secret("another").store_with(config);
    for error in [
        stranger.get(&large, GetRange::All).await.unwrap_err(),
        stranger.put(&small, Bytes::new(), CREATE).await.unwrap_err(),
        stranger.list("", None, 1).await.unwrap_err(),
    ] {
        let is_told = matches!(error, Error::Refused { refusal: Refusal::Credentials, .. });
        assert!(is_told, "{error:?}");
    }
}

/// Its condition is looked at before the write and not with it: of writers that come one after another
/// the second is refused, of writers that come at once several succeed. Chance decides whether they meet.
#[tokio::test]
#[ignore = "s3s-fs takes minutes to build: make test-stores"]
async fn a_store_whose_conditions_hold_only_one_by_one_is_found_out() {
    let workdir = Workdir::new("stores");
    let server = SigningServer::start(&workdir).await;
    let bucket = Bucket::at(server.endpoint()).await;
    let store = bucket.store_with(config_of_signing_server());
    let mut found_out = 0;
    for _ in 0..ROUNDS {
        match doctor::conditional_put(&store).await.unwrap() {
            Conditions::OneByOne => found_out += 1,
            Conditions::Kept => {}
            Conditions::Ignored => panic!("the second is refused when it comes later"),
        }
    }
    println!("found out in {found_out} of {ROUNDS} rounds");
    assert!(found_out > 0, "it does better than it did, or the race is too tame");
}

/// It knows neither tags nor classes.
fn config_of_signing_server() -> S3Config {
    let tags = Some(BTreeMap::new());
    S3Config { prefix: "some/prefix".into(), tags, ..S3Config::default() }
}

#[tokio::test]
async fn large_objects_come_in_parts_and_nothing_is_left_of_those_given_up() {
    let bucket = Bucket::new().await;
    let store = bucket.store("keep");
    let whole: Bytes = (0..=255).cycle().step_by(7).take(2 * PART_SIZE + 77).collect();
    let name = key("main/1/large");
    let mut upload = store.upload(&name, CREATE).await.unwrap();
    for chunk in whole.chunks(1_000_000) {
        upload.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    assert_eq!(bucket.pending_uploads().await, 1);
    upload.finish().await.unwrap();
    assert_eq!(bucket.pending_uploads().await, 0);
    assert!(store.get(&name, GetRange::All).await.unwrap().bytes == whole, "the bytes differ");

    let mut second = store.upload(&name, CREATE).await.unwrap();
    second.write(whole.clone()).await.unwrap();
    assert!(second.finish().await.unwrap_err().is_already_exists());
    assert_eq!(bucket.pending_uploads().await, 0, "the refused upload is aborted");

    let mut third = store.upload(&key("main/1/other"), CREATE).await.unwrap();
    third.write(whole.clone()).await.unwrap();
    drop(third);
    drop(store.upload(&key("main/1/other"), CREATE).await.unwrap());
    assert_eq!(bucket.pending_uploads().await, 0, "the next upload aborts what was dropped");
    assert_eq!(bucket.objects().await.len(), 1);
    println!("{} bytes in three parts; a refused and a dropped upload left nothing", whole.len());
}

#[tokio::test]
async fn a_lost_answer_is_told_from_somebody_elses_object() {
    let bucket = Bucket::new().await;
    let wire = Wire::to(ObjectServer::shared().address(), Trick::None).await;
    let through = bucket.through(&wire.endpoint());
    let store = through.repository("keep");
    let lose = |text: &str| Trick::LoseAnswer(vec![text.to_owned(), "main/1/".to_owned()]);

    wire.play(lose("PUT /"));
    store.put(&key("main/1/small"), Bytes::from_static(b"ours"), CREATE).await.unwrap();
    assert_eq!(wire.struck(), 1);

    let mut upload = store.upload(&key("main/1/middle"), CREATE).await.unwrap();
    upload.write(Bytes::from_static(b"less than a part")).await.unwrap();
    wire.play(lose("PUT /"));
    upload.finish().await.unwrap();
    assert_eq!(wire.struck(), 2);

    let whole = Bytes::from(vec![7; PART_SIZE + 1]);
    let mut upload = store.upload(&key("main/1/large"), CREATE).await.unwrap();
    upload.write(whole.clone()).await.unwrap();
    wire.play(lose("POST /"));
    upload.finish().await.unwrap();
    assert_eq!(wire.struck(), 3);
    let got = store.get(&key("main/1/large"), GetRange::All).await.unwrap();
    assert_eq!(got.size, whole.len() as u64);

    let mut upload = store.upload(&key("main/1/taken"), CREATE).await.unwrap();
    upload.write(whole.clone()).await.unwrap();
    let theirs = Bytes::from_static(b"theirs");
    bucket.repository("keep").put(&key("main/1/taken"), theirs.clone(), CREATE).await.unwrap();
    wire.play(lose("POST /"));
    assert!(upload.finish().await.unwrap_err().is_already_exists());
    let got = store.get(&key("main/1/taken"), GetRange::All).await.unwrap();
    assert_eq!(got.bytes, theirs);
    assert_eq!(wire.struck(), 4);
    println!("{} answers were lost", wire.struck());
}

#[tokio::test]
async fn a_store_that_ignores_conditions_overwrites_and_so_breaks_the_contract() {
    let bucket = Bucket::new().await;
    let wire = Wire::to(ObjectServer::shared().address(), Trick::ForgetConditions).await;
    let store = bucket.through(&wire.endpoint()).store("keep");
    for body in [b"first!", b"second"] {
        store.put(&key("main/1/one"), Bytes::from_static(body), CREATE).await.unwrap();
    }
    let got = store.get(&key("main/1/one"), GetRange::All).await.unwrap();
    assert_eq!(got.bytes, "second", "this server should have overwritten");
    assert_eq!(wire.struck(), 2);
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let bucket = Bucket::new().await;
    let store = bucket.store("keep");
    assert!(store.head(&key("main/1/no")).await.unwrap_err().is_not_found());
    let gone = Bucket::unmade(bucket.endpoint()).store("keep");
    let name = key("main/1/no");
    let errors = [
        gone.head(&name).await.unwrap_err(),
        gone.get(&name, GetRange::All).await.unwrap_err(),
        gone.put(&name, Bytes::new(), CREATE).await.unwrap_err(),
        gone.list("", None, 1).await.unwrap_err(),
        gone.delete(&name).await.unwrap_err(),
    ];
    for error in errors {
        let is_told = matches!(error, Error::Refused { refusal: Refusal::NoBucket, .. });
        assert!(is_told, "{error:?}");
    }

    // An object in an archive is there and cannot be read.
    let class = Some("GLACIER".to_owned());
    let frozen = bucket.store_with(S3Config { backup_storage_class: class, ..S3Config::default() });
    let pack = key("main/1/pack");
    let how = PutOptions::create(ObjectClass::Backup);
    frozen.put(&pack, Bytes::from_static(b"ice"), how).await.unwrap();
    assert_eq!(frozen.head(&pack).await.unwrap(), 3);
    let error = frozen.get(&pack, GetRange::All).await.unwrap_err();
    assert!(matches!(error, Error::Refused { refusal: Refusal::Archived, .. }), "{error:?}");
}

#[tokio::test]
async fn facts_about_a_bucket_are_what_it_was_made_with() {
    let plain = Bucket::new().await.store("keep").bucket_facts().await.unwrap();
    assert_eq!((plain.versioning, plain.lock_enabled), (Some(false), Some(false)), "{plain:?}");
    assert_eq!((plain.default_retention, plain.stale_uploads), (None, Some(0)));
    assert!(plain.server_date.is_some());

    let bucket = Bucket::lockable().await;
    let store = bucket.store("keep");
    let mut upload = store.upload(&key("main/1/large"), CREATE).await.unwrap();
    upload.write(Bytes::from(vec![7; PART_SIZE + 1])).await.unwrap();
    let facts = store.bucket_facts().await.unwrap();
    assert_eq!((facts.versioning, facts.lock_enabled), (Some(true), Some(true)), "{facts:?}");
    assert_eq!(facts.stale_uploads, Some(1));
    // Others in the same bucket are none of ours.
    assert_eq!(bucket.store("other").bucket_facts().await.unwrap().stale_uploads, Some(0));
}
