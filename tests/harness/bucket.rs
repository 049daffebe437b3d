//! A bucket of a test.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use pgkeep_catalog::store::{Retry, S3Config, S3Store, Store};
use uuid::Uuid;

use super::object_server::ObjectServer;

/// Keys that servers which check signatures are started with.
pub(crate) const ACCESS_KEY: &str = "pgkeep-tests";
pub(crate) const SECRET_KEY: &str = "not-a-secret-in-tests";

/// A bucket, seen through a client that is not the one under test.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    name: String,
    endpoint: String,
    client: Client,
}

impl Bucket {
    /// A fresh bucket on the shared server.
    pub(crate) async fn new() -> Self {
        let endpoint = format!("http://{}", ObjectServer::shared().address());
        Self::at(&endpoint).await
    }

    /// A fresh bucket on the shared server, whose objects can be locked.
    pub(crate) async fn lockable() -> Self {
        let endpoint = format!("http://{}", ObjectServer::shared().address());
        let bucket = Self::unmade(&endpoint);
        let request = bucket.client.create_bucket().bucket(&bucket.name);
        request.object_lock_enabled_for_bucket(true).send().await.unwrap();
        bucket
    }

    /// A fresh bucket on the server at `endpoint`.
    pub(crate) async fn at(endpoint: &str) -> Self {
        let bucket = Self::unmade(endpoint);
        bucket.make().await;
        bucket
    }

    /// A bucket that does not exist yet.
    pub(crate) fn unmade(endpoint: &str) -> Self {
        let name = format!("test-{}", Uuid::new_v4().simple());
        Self { name, endpoint: endpoint.to_owned(), client: client(endpoint) }
    }

    /// Makes it.
    pub(crate) async fn make(&self) {
        self.client.create_bucket().bucket(&self.name).send().await.unwrap();
    }

    /// The same bucket, reached at another address.
    pub(crate) fn through(&self, endpoint: &str) -> Self {
        let (name, endpoint) = (self.name.clone(), endpoint.to_owned());
        Self { name, client: client(&endpoint), endpoint }
    }

    /// The same bucket for somebody with another secret under the same name.
    pub(crate) fn with_secret(&self, secret: &str) -> Self {
        let client = client_with(&self.endpoint, secret);
        Self { name: self.name.clone(), endpoint: self.endpoint.clone(), client }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The client.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The store under test in it, below `prefix`, with nothing around it.
    pub(crate) fn store(&self, prefix: &str) -> S3Store {
        self.store_with(S3Config { prefix: prefix.to_owned(), ..S3Config::default() })
    }

    /// The store under test in it, with these settings.
    pub(crate) fn store_with(&self, config: S3Config) -> S3Store {
        S3Store::new(&self.client, S3Config { bucket: self.name.clone(), ..config })
    }

    /// The store as a repository has it.
    pub(crate) fn repository(&self, prefix: &str) -> Arc<dyn Store> {
        Arc::new(Retry::new(self.store(prefix)))
    }

    /// All its keys with what the server says of each.
    pub(crate) async fn objects(&self) -> BTreeMap<String, HeadObjectOutput> {
        let mut objects = BTreeMap::new();
        let mut pages = self.client.list_objects_v2().bucket(&self.name).into_paginator().send();
        while let Some(page) = pages.next().await {
            for object in page.unwrap().contents() {
                let key = object.key().unwrap();
                let head = self.client.head_object().bucket(&self.name).key(key);
                objects.insert(key.to_owned(), head.send().await.unwrap());
            }
        }
        objects
    }

    /// Uploads in parts that nobody has completed or aborted.
    pub(crate) async fn pending_uploads(&self) -> usize {
        let answer = self.client.list_multipart_uploads().bucket(&self.name).send().await;
        answer.unwrap().uploads().len()
    }

    /// Removes it with all that is in it.
    pub(crate) async fn destroy(&self) {
        for key in self.objects().await.into_keys() {
            self.client.delete_object().bucket(&self.name).key(key).send().await.unwrap();
        }
        self.client.delete_bucket().bucket(&self.name).send().await.unwrap();
    }
}

fn client(endpoint: &str) -> Client {
    client_with(endpoint, SECRET_KEY)
}

fn client_with(endpoint: &str, secret: &str) -> Client {
    let config = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::new(ACCESS_KEY, secret, None, None, "tests"))
        .force_path_style(true);
    Client::from_conf(config.build())
}
