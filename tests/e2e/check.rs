//! `pgkeep check`: what it says of a store, and what it leaves there.

use crate::harness::{Azurite, Pgkeep, Postgres, Workdir};

#[tokio::test]
async fn check_tries_a_directory_and_leaves_it_as_it_was() {
    let workdir = Workdir::new("check");
    let server = Postgres::build(&workdir, "server").start().await;
    let keep = Pgkeep::new(&workdir, "keep", &server);
    let missing = keep.verb(&["check"]).await;
    missing.expect_code(7);
    keep.verb(&["init"]).await.expect_success();

    let text = keep.verb(&["check"]).await.expect_success();
    assert!(text.contains("conditional put"), "{text}");
    assert!(text.contains("Safe to use"), "{text}");
    let value = keep.json(&["check"]).await;
    assert_eq!(value["ok"], true);
    let findings = value["findings"].as_array().unwrap();
    let named = |name: &str| {
        let found = findings.iter().find(|finding| finding["name"] == name);
        found.unwrap_or_else(|| panic!("{name} was not examined: {value}"))["verdict"].clone()
    };
    for name in ["write", "listing", "conditional put", "delete", "repository", "cluster"] {
        assert_eq!(named(name), "good", "{name}");
    }
    assert_eq!(named("clock"), "unknown", "a directory has no clock of its own");
    let left: Vec<_> = std::fs::read_dir(keep.repository()).unwrap().collect();
    let is_probe = |name: &std::ffi::OsStr| name == "probe";
    assert!(!left.iter().flatten().any(|entry| is_probe(&entry.file_name())), "{left:?}");
}

#[tokio::test]
#[ignore = "needs Azurite: make test-stores"]
async fn a_cluster_is_archived_and_restored_through_azure() {
    let workdir = Workdir::new("check_azure");
    let azurite = Azurite::start(&workdir).await;
    azurite.container(&workdir, "keep").await;
    let server = Postgres::build(&workdir, "server").start().await;
    server.pgbench(&["-i", "-s", "1", "-q"]).await;
    let mut keep = Pgkeep::new(&workdir, "keep", &server);
    let config = std::fs::read_to_string(keep.config()).unwrap();
    let directory = format!("file://{}", keep.repository().display());
    let config = config.replace(&directory, "az://keep/below/this");
    let options = azurite.options();
    keep.write_config(&format!(
        "{config}\n[repository.azure]\naccount = \"{}\"\nendpoint = \"{}\"\n",
        options.account.unwrap(),
        options.endpoint.unwrap(),
    ));
    let text = keep.verb(&["check"]).await.expect_success();
    assert!(text.contains("Safe to use") && text.contains("az://keep/below/this"), "{text}");

    keep.verb(&["init"]).await.expect_success();
    keep.start();
    keep.verb(&["backup"]).await.expect_success();
    server.pgbench(&["-c", "2", "-t", "100", "-n"]).await;
    let ask = "select count(*) || ' ' || sum(abalance) from pgbench_accounts";
    let before = server.value(ask).await;
    let end = server.finish_segment().await;
    keep.wait_archived(end).await;
    let mut restored = Postgres::without_data(&workdir, "restored");
    keep.restore(&restored, &["--to", "latest"]).await;
    restored.recover().await;
    assert_eq!(restored.value(ask).await, before);
}
