//! Azure Blob Storage, as Azurite speaks it.
//!
//! Ignored by default, since Azurite takes a minute to install: `make test-stores` runs them.

use std::sync::Arc;

use bytes::Bytes;
use pgkeep_catalog::Error;
use pgkeep_catalog::store::{
    AzureConfig, AzureOptions, CloudStore, GetRange, ObjectClass, PutOptions, Retry, Store,
    conformance,
};

use crate::harness::{Azurite, Workdir};

fn store(container: &str, options: AzureOptions) -> CloudStore {
    let (container, prefix) = (container.to_owned(), "deep/prefix".to_owned());
    CloudStore::azure(&AzureConfig { container, prefix, options }).unwrap()
}

#[tokio::test]
#[ignore = "needs Azurite: make test-stores"]
async fn azure_keeps_the_contract() {
    let workdir = Workdir::new("azure");
    let azurite = Azurite::start(&workdir).await;
    azurite.container(&workdir, "plain").await;
    azurite.container(&workdir, "retried").await;
    conformance::check(Arc::new(store("plain", azurite.options()))).await;
    conformance::check(Arc::new(Retry::new(store("retried", azurite.options())))).await;
}

#[tokio::test]
#[ignore = "needs Azurite: make test-stores"]
async fn azure_takes_tags_and_a_tier_for_backups() {
    let workdir = Workdir::new("azure_tags");
    let azurite = Azurite::start(&workdir).await;
    azurite.container(&workdir, "tagged").await;
    let tags = [("RetentionYears".to_owned(), "7".to_owned())].into();
    let backup_storage_class = Some("Cool".to_owned());
    let options = AzureOptions { tags, backup_storage_class, ..azurite.options() };
    let store = store("tagged", options);
    for class in [ObjectClass::Wal, ObjectClass::Backup] {
        let key = format!("put/{class:?}").parse().unwrap();
        store.put(&key, Bytes::from_static(b"x"), PutOptions::create(class)).await.unwrap();
        let key = format!("upload/{class:?}").parse().unwrap();
        let mut upload = store.upload(&key, PutOptions::create(class)).await.unwrap();
        upload.write(Bytes::from_static(b"x")).await.unwrap();
        upload.finish().await.unwrap();
        assert_eq!(store.get(&key, GetRange::All).await.unwrap().bytes, "x");
    }
}

#[tokio::test]
#[ignore = "needs Azurite: make test-stores"]
async fn a_missing_container_is_no_missing_object() {
    let workdir = Workdir::new("azure_missing");
    let azurite = Azurite::start(&workdir).await;
    let store = store("nowhere", azurite.options());
    let key = "main/0001/cluster".parse().unwrap();
    let get = store.get(&key, GetRange::All).await.unwrap_err();
    let suffix = store.get(&key, GetRange::Suffix(9)).await.unwrap_err();
    let head = store.head(&key).await.unwrap_err();
    let list = store.list("", None, 1).await.unwrap_err();
    let body = Bytes::from_static(b"x");
    let put = store.put(&key, body, PutOptions::create(ObjectClass::Wal)).await.unwrap_err();
    for error in [get, suffix, head, list, put] {
        assert!(matches!(error, Error::NoBucket { .. }), "{error:?}");
    }
}
