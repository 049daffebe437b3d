//! Bad input: each ends with its documented exit code, one line of error and one of hint, and
//! archives nothing.

use std::fs;

use serde_json::Value;

use crate::harness::{Child, Pgkeep, Postgres, Workdir, wait_for};

/// See docs/errors.md.
const FAILURE: i32 = 2;
const REPOSITORY: i32 = 7;
const UNREACHABLE: i32 = 8;
const DENIED: i32 = 9;
const FOREIGN: i32 = 10;
const SLOT_IN_USE: i32 = 11;
const USAGE: i32 = 64;
const CONFIG: i32 = 78;

#[tokio::test]
async fn a_wrong_password_and_a_role_that_may_not_replicate_are_refused() {
    let workdir = Workdir::new("refusal");
    let server = Postgres::build(&workdir, "server").tcp().start().await;
    server.sql("create role keeper login replication password 'right'").await;
    server.sql("create role reader login password 'right'").await;
    let mut keep = Pgkeep::new(&workdir, "keep", &server);
    let tcp = |user: &str, rest: &str| format!("{} user={user} {rest}", server.conninfo_tcp());

    for verb in ["init", "run", "backup"] {
        keep.configure(&tcp("keeper", "password=right"));
        keep.verb(&["init"]).await.expect_success();
        keep.configure(&tcp("keeper", "password=wrong"));
        keep.verb(&[verb]).await.expect_refusal(DENIED);
        keep.configure(&tcp("keeper", ""));
        keep.verb(&[verb]).await.expect_refusal(DENIED);
        keep.configure(&tcp("reader", "password=right"));
        keep.verb(&[verb]).await.expect_refusal(DENIED);
    }
    expect_untouched(&keep, &server).await;

    keep.configure(&tcp("keeper", "password=right"));
    keep.start();
    keep.wait_archived(server.flush_lsn().await).await;
    println!("9 logins refused; with the right password all of it is archived");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_by_its_address() {
    let workdir = Workdir::new("refusal");
    let mut server = Postgres::build(&workdir, "server").start().await;
    let mut keep = Pgkeep::new(&workdir, "keep", &server);
    keep.verb(&["init"]).await.expect_success();

    keep.configure("host=no-such-host.invalid user=postgres");
    for verb in ["init", "run", "backup"] {
        let error = keep.verb(&[verb]).await.expect_refusal(UNREACHABLE);
        assert!(error.contains("no-such-host.invalid"), "{error}");
    }
    let nowhere = workdir.subdirectory("nowhere");
    keep.configure(&format!("host={} user=postgres", nowhere.display()));
    for verb in ["init", "backup"] {
        let error = keep.verb(&[verb]).await.expect_refusal(UNREACHABLE);
        assert!(error.contains(nowhere.to_str().unwrap()), "{error}");
    }

    // The daemon may be started before its server, and says what it waits for.
    keep.configure(&server.conninfo());
    server.stop(crate::harness::StopMode::Fast).await;
    keep.start();
    let is_told = async || {
        let status = keep.json(&["status"]).await;
        let alert = status["clusters"][0]["alerts"].as_array()?.first()?.clone();
        (alert["name"] == "upstream").then_some(())
    };
    wait_for("the alert", is_told).await;
    server.start().await;
    keep.wait_archived(server.flush_lsn().await).await;
    println!("5 refusals; the daemon waited for its server and then archived it");
}

#[tokio::test]
async fn a_slot_that_another_receiver_holds_is_not_taken() {
    let workdir = Workdir::new("refusal");
    let server = Postgres::build(&workdir, "server").start().await;
    let keep = Pgkeep::new(&workdir, "keep", &server);
    keep.verb(&["init"]).await.expect_success();
    let mut command = server.client("pg_receivewal");
    command.arg("-D").arg(workdir.subdirectory("other")).args(["--slot", "pgkeep"]);
    let mut other = Child::spawn("pg_receivewal", command, &workdir.path().join("other.log"));
    let holds = "select active from pg_replication_slots where slot_name = 'pgkeep'";
    let is_held = async || (server.value(holds).await == "t").then_some(());
    other.until("holding the slot", is_held).await;

    let error = keep.verb(&["run"]).await.expect_refusal(SLOT_IN_USE);
    assert!(error.contains("pgkeep"), "{error}");
    assert!(other.exit_status().is_none(), "the other receiver was disturbed");
    assert!(keep.archive().await.stretches().await.is_empty(), "something was archived");
    println!("{error}");
}

#[tokio::test]
async fn a_server_with_another_system_identifier_is_refused() {
    let workdir = Workdir::new("refusal");
    let server = Postgres::build(&workdir, "server").start().await;
    let stranger = Postgres::build(&workdir, "stranger").own_system_id().start().await;
    let keep = Pgkeep::new(&workdir, "keep", &server);
    keep.verb(&["init"]).await.expect_success();

    keep.configure(&stranger.conninfo());
    for verb in ["init", "run", "backup"] {
        keep.verb(&[verb]).await.expect_refusal(FOREIGN);
    }
    expect_untouched(&keep, &stranger).await;
    let slots = "select count(*) from pg_replication_slots";
    assert_eq!(stranger.value(slots).await, "0", "a slot was made on the stranger");
    println!("3 verbs refused the stranger and left it as it was");
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_is_refused() {
    let workdir = Workdir::new("refusal");
    let server = Postgres::build(&workdir, "server").start().await;
    let keep = Pgkeep::new(&workdir, "keep", &server);
    let good = fs::read_to_string(keep.config()).unwrap();

    for (was, is, named) in [
        ("slot =", "slto =", "slto"),
        ("interval = \"200ms\"", "interval = \"1 fortnight\"", "interval"),
        ("interval = \"200ms\"", "interval = \"1us\"", "interval"),
        ("slot = \"pgkeep\"", "slot = \"Pg-Keep\"", "slot"),
        ("file://", "ftp://", "repository.url"),
        ("encryption_key =", "# encryption_key =", "encryption"),
        ("user=postgres", "user=postgres sslmode=verify-full", "sslmode"),
        ("[ship]", "[ship", "pgkeep.toml"),
    ] {
        let wrong = good.replace(was, is);
        assert!(wrong != good, "{was:?} is not in the configuration");
        keep.write_config(&wrong);
        let finished = keep.verb(&["status"]).await;
        assert!(finished.stderr.contains(named), "{named} is not named: {}", finished.stderr);
        finished.expect_refusal(CONFIG);
    }
    fs::remove_file(keep.config()).unwrap();
    keep.verb(&["status"]).await.expect_refusal(CONFIG);
    assert!(!keep.repository().exists(), "a repository was made");
    println!("9 configurations refused");
}

#[tokio::test]
async fn an_unknown_cluster_a_missing_repository_and_a_wrong_verb_are_refused() {
    let workdir = Workdir::new("refusal");
    let server = Postgres::build(&workdir, "server").start().await;
    let keep = Pgkeep::new(&workdir, "keep", &server);
    for verb in ["run", "backup", "list", "status"] {
        keep.verb(&[verb]).await.expect_refusal(REPOSITORY);
    }
    fs::create_dir(keep.repository()).unwrap();
    fs::set_permissions(keep.repository(), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .unwrap();
    for verb in ["run", "backup", "list", "status"] {
        keep.verb(&[verb]).await.expect_refusal(REPOSITORY);
    }
    keep.verb(&["init"]).await.expect_success();
    for verb in ["run", "backup"] {
        keep.verb(&["--cluster", "other", verb]).await.expect_refusal(CONFIG);
    }
    for verb in ["list", "status"] {
        keep.verb(&["--cluster", "other", verb]).await.expect_refusal(REPOSITORY);
    }
    for arguments in [&["remember"][..], &["backup", "--type", "half"], &["status", "--yaml"]] {
        keep.verb(arguments).await.expect_code(USAGE);
    }
    expect_untouched(&keep, &server).await;
    println!("15 refusals");
}

#[tokio::test]
async fn a_refusal_in_json_is_one_object() {
    let workdir = Workdir::new("refusal");
    let server = Postgres::build(&workdir, "server").start().await;
    let keep = Pgkeep::new(&workdir, "keep", &server);
    keep.configure("host=no-such-host.invalid user=postgres");
    let finished = keep.verb(&["init", "--json"]).await.expect_code(UNREACHABLE);
    let error: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(error["ok"], false);
    assert!(error["error"].is_string() && error["hint"].is_string(), "{error}");
    println!("{error}");
}

#[tokio::test]
async fn a_second_daemon_with_the_same_state_directory_is_refused() {
    let workdir = Workdir::new("refusal");
    let server = Postgres::build(&workdir, "server").start().await;
    let mut keep = Pgkeep::archiving(&workdir, "keep", &server).await;
    keep.wait_archived(server.flush_lsn().await).await;
    let error = keep.verb(&["run"]).await.expect_refusal(FAILURE);
    server.sql("create table moments (id int)").await;
    keep.wait_archived(server.flush_lsn().await).await;
    println!("{error}; the first one goes on");
}

/// Fails the test if anything was archived, or if the server was told that anything was.
async fn expect_untouched(keep: &Pgkeep, server: &Postgres) {
    assert!(keep.archive().await.stretches().await.is_empty(), "something was archived");
    let ask = "select count(*) from pg_replication_slots where active";
    assert_eq!(server.value(ask).await, "0", "somebody streams");
}
