//! A stranger reads the repository: Python, written from docs/format.md, on what a real server wrote.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use pgkeep_catalog::key::SecretSource;
use pgkeep_catalog::sealed;
use pgkeep_catalog::store::{PutMode, StoreExt as _};
use pgkeep_catalog::verify::{Scope, Verifier, VerifyState};
use pgkeep_catalog::{Clock as _, Repository, RepositoryConfig, SystemClock};

use crate::harness::{Archive, Pgkeep, Postgres, Reader, Workdir, run};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/format-1");

#[tokio::test]
async fn what_a_server_wrote_is_read_by_a_stranger_plain_and_encrypted() {
    let workdir = Workdir::new("reader");
    let server = Postgres::build(&workdir, "server").start().await;
    let space = workdir.subdirectory("space");
    server.sql(&format!("create tablespace space location '{}'", space.display())).await;
    let control = server.control(&workdir, "control").await;
    let mut keep = Pgkeep::new(&workdir, "keep", &server);
    keep.set_plain();
    keep.verb(&["init"]).await.expect_success();
    keep.start();
    server.pgbench(&["-i", "-s", "2", "-q"]).await;
    server.sql("create table there tablespace space as select generate_series(1, 1000) id").await;
    let taken = keep.json(&["backup"]).await;
    server.pgbench(&["-c", "2", "-t", "200", "-n"]).await;
    let end = server.finish_segment().await;
    keep.wait_archived(end).await;
    let files = control.stop_at(&server, end).await;
    assert!(keep.terminate().await.success());

    let encrypted = workdir.path().join("encrypted");
    let (key_file, passphrase) = (workdir.path().join("key"), workdir.path().join("passphrase"));
    fs::write(&passphrase, "a passphrase of some words\n").unwrap();
    fs::set_permissions(&passphrase, Permissions::from_mode(0o600)).unwrap();
    let config = RepositoryConfig::encrypted(
        format!("file://{}", encrypted.display()),
        SecretSource::File(key_file.clone()),
        SecretSource::File(passphrase.clone()),
    );
    let resealed = reseal(&keep.archive().await, &config).await;
    for reader in
        [Reader::new(&keep.repository()), Reader::new(&encrypted).with("--secret-file", &key_file)]
    {
        let said = run(reader.command("check", &[])).await.expect_success();
        assert_eq!(said.lines().count(), resealed, "{said}");
        for (name, path) in &files {
            let out = workdir.path().join("segment");
            run(reader.command("segment", &[name.as_ref(), out.as_ref()])).await.expect_success();
            assert!(fs::read(&out).unwrap() == fs::read(path).unwrap(), "{name} differs");
        }
        let base = workdir.path().join("base");
        let id = taken["id"].as_str().unwrap();
        run(reader.command("backup", &[id.as_ref(), base.as_ref()])).await.expect_success();
        run(as_us(&server, &base)).await.expect_success();
        fs::remove_dir_all(&base).unwrap();
    }
    // Once is enough: a passphrase costs a second on purpose.
    let reader = Reader::new(&encrypted).with("--secret-file", &passphrase);
    let said = run(reader.command("check", &[])).await.expect_success();
    assert_eq!(said.lines().count(), resealed, "{said}");
    assert!(files.len() >= 10, "only {} segments", files.len());
    println!("{resealed} objects, {} segments and a backup read plain and encrypted", files.len());
}

/// `pg_verifybackup` of what we laid down ourselves.
fn as_us(server: &Postgres, base: &Path) -> std::process::Command {
    let mut verify = std::process::Command::new(server.client_path("pg_verifybackup"));
    verify.arg("--no-parse-wal").arg(base);
    verify
}

/// Copies a repository into one that is encrypted. Gives the number of sealed objects.
async fn reseal(archive: &Archive, config: &RepositoryConfig) -> usize {
    let cluster = archive.cluster();
    let opened = Box::pin(Repository::open_or_create(config, &SystemClock)).await.unwrap();
    let repository = opened.repository;
    let listed = cluster.store().list_all(&cluster.layout().all()).await.unwrap();
    for object in &listed {
        let kind = cluster.layout().kind(&object.key).expect("every object has its place");
        let object = cluster.open_object(kind, &object.key).await.unwrap();
        let content = vec![Bytes::from(object.read_all().await.unwrap())];
        let (mut header, extra) = (object.header().clone(), object.trailer().extra.clone());
        header.repository = repository.uuid();
        let (store, sealing) = (Arc::clone(repository.store()), repository.sealing().clone());
        sealed::write(store, header, PutMode::Create, sealing, content, extra).await.unwrap();
    }
    let verifier = VerifyState::new(repository.uuid(), Scope::default(), SystemClock.now());
    let report = Box::pin(Verifier::new(Arc::new(repository), verifier).run(|_| ())).await;
    assert!(report.is_ok(), "{report:?}");
    listed.len()
}

#[tokio::test]
async fn the_golden_repository_is_the_same_to_the_stranger() {
    let golden = Path::new(GOLDEN);
    let expected = fs::read_to_string(golden.join("expected.txt")).unwrap();
    for reader in [
        Reader::new(&golden.join("plain")),
        Reader::new(&golden.join("encrypted"))
            .with("--raw-key-file", &golden.join("repository.key")),
    ] {
        assert_eq!(run(reader.command("check", &[])).await.expect_success(), expected);
    }
}

#[tokio::test]
async fn what_was_changed_or_moved_is_damage_to_the_stranger_too() {
    let workdir = Workdir::new("reader");
    let golden = Path::new(GOLDEN).join("encrypted");
    let names = [
        "main/0001/heartbeat",
        "main/0001/gaps/00000001/0000000000300000",
        "main/0001/wal/00000001/000000010000000000000001",
    ];
    let key_file = Path::new(GOLDEN).join("repository.key");
    let mut tried = 0;
    for name in names {
        let bytes = fs::read(golden.join(name)).unwrap();
        for at in (0..bytes.len()).step_by(bytes.len() / 6).chain([bytes.len() - 1]) {
            let root = copy(&golden, &workdir.path().join(format!("changed-{tried}")));
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(root.join(name), changed).unwrap();
            let reader = Reader::new(&root).with("--raw-key-file", &key_file);
            let said = run(reader.command("check", &[name.as_ref()])).await.expect_code(1).stderr;
            assert!(said.starts_with(name), "{said}");
            tried += 1;
        }
    }
    let root = copy(&golden, &workdir.path().join("moved"));
    fs::copy(root.join(names[0]), root.join("main/0001/gaps/00000001/0000000000500000")).unwrap();
    let reader = Reader::new(&root).with("--raw-key-file", &key_file);
    let said = run(reader.command("check", &[])).await.expect_code(1).stderr;
    assert!(said.contains("was made for the name main/0001/heartbeat"), "{said}");
    println!("{tried} changes and a move noticed");
}

/// Copies a small repository.
fn copy(from: &Path, to: &Path) -> PathBuf {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let place = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy(&entry, &place);
        } else {
            fs::copy(&entry, &place).unwrap();
        }
    }
    to.to_owned()
}
