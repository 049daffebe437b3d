//! A store that ignores conditions: nothing is written to it, unless the operator says that it is known.

use std::collections::BTreeMap;
use std::fs;

use crate::harness::{Bucket, ObjectServer, Pgkeep, Postgres, Trick, Wire, Workdir};

/// See docs/errors.md.
const REPOSITORY: i32 = 7;

#[tokio::test]
async fn a_bucket_that_overwrites_is_refused_until_the_operator_says_that_it_is_known() {
    let workdir = Workdir::new("conditions");
    let server = Postgres::build(&workdir, "server").start().await;
    let bucket = Bucket::new().await;
    let wire = Wire::to(ObjectServer::shared().address(), Trick::ForgetConditions).await;
    let through = bucket.through(&wire.endpoint());
    let mut keep = Pgkeep::in_bucket(&workdir, "keep", &server, &through, "");
    expect_refused(&keep, "init").await;
    assert!(wire.struck() > 0, "no condition was taken away");
    assert_eq!(contents(&bucket).await, BTreeMap::new());

    let required = fs::read_to_string(keep.config()).unwrap();
    let absent = required.replace("[repository]\n", "[repository]\nconditional_put = \"absent\"\n");
    keep.write_config(&absent);
    let init = keep.verb(&["init"]).await.expect_code(0);
    assert!(init.stderr.contains("conditional_put"), "init did not warn: {}", init.stderr);
    keep.start();
    keep.json(&["backup"]).await;
    keep.wait_archived(server.finish_segment().await).await;
    let status = keep.json(&["status"]).await;
    let alerts = status["clusters"][0]["alerts"].as_array().unwrap();
    assert!(alerts.iter().any(|alert| alert["name"] == "conditional_put"), "{status}");
    let log = fs::read_to_string(workdir.path().join("keep/daemon.log")).unwrap();
    assert!(log.contains("repository.conditional_put"), "the daemon did not warn: {log}");
    assert!(keep.terminate().await.success());

    keep.write_config(&required);
    let before = contents(&bucket).await;
    for verb in ["init", "run", "backup"] {
        expect_refused(&keep, verb).await;
        assert_eq!(contents(&bucket).await, before, "{verb} changed something");
    }
}

async fn expect_refused(keep: &Pgkeep, verb: &str) {
    let error = keep.verb(&[verb]).await.expect_refusal(REPOSITORY);
    let told = "ignores conditions: a name that is taken is overwritten";
    assert!(error.contains(told), "{verb}: {error}");
}

/// All keys with what tells their content.
async fn contents(bucket: &Bucket) -> BTreeMap<String, Option<String>> {
    let objects = bucket.objects().await.into_iter();
    objects.map(|(key, head)| (key, head.e_tag().map(str::to_owned))).collect()
}
