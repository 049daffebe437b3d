//! Death at each step of what changes keys: a secret that the operator has opens the repository, and
//! running the command again finishes it.

use pgkeep_catalog::failpoint;

use crate::harness::{Pgkeep, Postgres, Workdir, run};

/// See docs/errors.md.
const KEY: i32 = 13;

#[tokio::test]
async fn an_init_that_dies_at_any_step_is_finished_by_the_next() {
    let steps =
        [failpoint::BEFORE_RENAME, failpoint::INIT_AFTER_FIRST_SLOT, failpoint::INIT_BEFORE_RECORD];
    let workdir = Workdir::new("key_steps");
    let server = Postgres::build(&workdir, "server").start().await;
    for step in steps {
        let keep = Pgkeep::new(&workdir, step, &server);
        set_keys(&keep, "daily.key");
        dies_at(&keep, step, &["init"]).await;
        keep.verb(&["init"]).await.expect_success();
        let checked = keep.json(&["key", "check"]).await;
        assert_eq!(checked["problems"], serde_json::json!([]), "after {step}");
        assert_eq!(names(&keep).await, ["1 encryption", "1 recovery"]);
    }
    println!("init died at {} steps and was finished each time", steps.len());
}

#[tokio::test]
async fn a_rotation_never_has_a_moment_without_a_working_slot() {
    let steps = [failpoint::BEFORE_RENAME, failpoint::KEY_AFTER_PUT, failpoint::KEY_BEFORE_REMOVE];
    let workdir = Workdir::new("key_steps");
    let server = Postgres::build(&workdir, "server").start().await;
    let keep = Pgkeep::new(&workdir, "keep", &server);
    set_keys(&keep, "key-0");
    keep.verb(&["init"]).await.expect_success();
    let mut slot = "encryption".to_owned();
    for (number, step) in steps.into_iter().enumerate() {
        let (old, new) = (format!("key-{number}"), format!("key-{}", number + 1));
        keep.verb(&["key", "generate", &new]).await.expect_success();
        let to = keep.secret_source(&new);
        let rotate = ["key", "rotate", &slot, "--to", &to];
        dies_at(&keep, step, &rotate).await;
        keep.verb(&["status"]).await.expect_success();
        let done = keep.json(&rotate).await;
        assert_eq!(done["encryption_key_changes"], true);
        keep.verb(&["status"]).await.expect_refusal(KEY);
        set_keys(&keep, &new);
        keep.verb(&["status"]).await.expect_success();
        keep.verb(&["key", "check"]).await.expect_success();
        slot = done["slot"].as_str().unwrap().to_owned();
        assert_eq!(names(&keep).await.len(), 2, "{old} is gone after {step}");
    }
    println!("a rotation died at {} steps and was finished each time", steps.len());
}

#[tokio::test]
async fn a_revocation_that_dies_at_any_step_leaves_the_old_way_in_or_the_new_one() {
    let steps =
        [failpoint::KEY_AFTER_PUT, failpoint::REVOKE_BEFORE_LINK, failpoint::KEY_BEFORE_REMOVE];
    let workdir = Workdir::new("key_steps");
    let server = Postgres::build(&workdir, "server").start().await;
    for step in steps {
        let keep = Pgkeep::new(&workdir, step, &server);
        set_keys(&keep, "leaked.key");
        keep.verb(&["init"]).await.expect_success();
        keep.verb(&["key", "generate", "new.key"]).await.expect_success();
        let new = keep.secret_source("new.key");
        keep.json(&["key", "add", "daily", "--secret", &new]).await;
        set_keys(&keep, "new.key");
        let revoke = ["key", "revoke", "encryption"];
        dies_at(&keep, step, &revoke).await;
        keep.verb(&["status"]).await.expect_success();
        if step == failpoint::KEY_BEFORE_REMOVE {
            // The new epoch counts, and has a slot of this name; what is left to do is the old one.
            keep.json(&["key", "remove", "encryption", "--epoch", "1"]).await;
        } else {
            keep.json(&revoke).await;
        }
        let expected = ["1 daily", "1 recovery", "2 encryption", "2 recovery"];
        assert_eq!(names(&keep).await, expected, "after {step}");
        keep.verb(&["key", "check"]).await.expect_success();
        set_keys(&keep, "leaked.key");
        keep.verb(&["status"]).await.expect_refusal(KEY);
    }
    println!("a revocation died at {} steps and was finished each time", steps.len());
}

fn set_keys(keep: &Pgkeep, daily: &str) {
    let spare = keep.secret_source("spare.key");
    keep.set_keys(&keep.secret_source(daily), Some(&spare));
}

async fn dies_at(keep: &Pgkeep, step: &str, verb: &[&str]) {
    let mut command = keep.command(verb);
    command.env("PGKEEP_FAILPOINT", format!("{step}=kill"));
    let died = run(command).await;
    assert_eq!(died.code, None, "it did not die at {step}:\n{}{}", died.stdout, died.stderr);
}

/// Epoch and name of every slot.
async fn names(keep: &Pgkeep) -> Vec<String> {
    let listed = keep.json(&["key", "list"]).await;
    let slots = listed["slots"].as_array().unwrap();
    slots
        .iter()
        .map(|slot| format!("{} {}", slot["epoch"], slot["name"].as_str().unwrap()))
        .collect()
}
