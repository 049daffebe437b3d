//! A slot whose secret never leaves AWS KMS; moto plays it.

use crate::harness::{Kms, Pgkeep, Postgres, Workdir, run};

/// See docs/errors.md.
const REPOSITORY: i32 = 7;
const KEY: i32 = 13;

#[tokio::test]
async fn a_key_in_kms_opens_the_repository_and_without_kms_the_recovery_key_does() {
    let workdir = Workdir::new("kms");
    let server = Postgres::build(&workdir, "server").start().await;
    let kms = Kms::start(&workdir).await;
    let keep = Pgkeep::new(&workdir, "keep", &server);
    let ask = async |keep: &Pgkeep, verb: &[&str]| {
        let mut command = keep.command(verb);
        kms.reached_by(&mut command);
        run(command).await
    };
    let spare = keep.secret_source("spare.key");
    let daily = format!("kms:{}", kms.create_key());
    keep.set_keys(&daily, Some(&spare));
    ask(&keep, &["init"]).await.expect_success();
    ask(&keep, &["status"]).await.expect_success();
    let checked = ask(&keep, &["key", "check", "--json"]).await.expect_success();
    assert!(checked.contains(r#""kind":"kms""#), "{checked}");

    let other = format!("kms:{}", kms.create_key());
    keep.set_keys(&other, Some(&spare));
    // KMS itself says IncorrectKeyException, moto AccessDeniedException.
    let error = ask(&keep, &["status"]).await.expect_refusal(KEY);
    assert!(error.contains("kms:arn:"), "{error}");
    let nowhere = daily.replace(":key/", ":key/00000000-");
    keep.set_keys(&nowhere, Some(&spare));
    let error = ask(&keep, &["status"]).await.expect_refusal(KEY);
    assert!(error.contains("KMS refuses"), "{error}");

    keep.set_keys(&daily, Some(&spare));
    let mut status = keep.command(&["status"]);
    kms.reached_by(&mut status);
    kms.stop().await;
    let down = run(status).await.expect_code(REPOSITORY);
    assert!(down.stderr.contains("AWS KMS"), "{}", down.stderr);
    keep.set_keys(&spare, None);
    keep.verb(&["status"]).await.expect_success();
    println!("opened by KMS; refused when it was down: {}", down.stderr.trim());
}
