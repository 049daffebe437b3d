//! Tries the verbs of the contract on a store, and judges what they do.
//!
//! What a failure means is known best where it happened, so each step makes its own finding; a step
//! that cannot be done leaves the rest to be tried, but for the first write.

use bytes::Bytes;
use uuid::Uuid;

use super::conditional::{self, Conditions, probe_key};
use super::facts::StoreFacts;
use super::finding::{Finding, Verdict};
use crate::store::{GetRange, ObjectClass, ObjectKey, PutOptions, Store, StoreExt as _};
use crate::{Error, Result};

const CREATE: PutOptions = PutOptions::create(ObjectClass::Passing);
const OVERWRITE: PutOptions = PutOptions::overwrite(ObjectClass::Passing);

/// Larger than one part of an upload where parts are as small as they may be.
const UPLOAD_SIZE: usize = 9 * 1024 * 1024;

const BODY: &[u8] = b"pgkeep check: what is written here is removed again";
const OTHER: &[u8] = b"the same name with other content";

/// Tries everything a repository needs of `store`, and adds what follows from `facts`.
pub async fn examine(store: &dyn Store, facts: &StoreFacts) -> Vec<Finding> {
    let mut probe = Probe { store, examination: Uuid::new_v4(), findings: Vec::new() };
    if probe.write().await {
        probe.read_after_write().await;
        probe.absence().await;
        probe.conditional_put().await;
        probe.overwrite().await;
        probe.ranges().await;
        probe.listing().await;
        probe.upload().await;
    }
    probe.delete().await;
    let mut findings = probe.findings;
    findings.extend(facts.findings());
    findings
}

struct Probe<'a> {
    store: &'a dyn Store,
    examination: Uuid,
    findings: Vec<Finding>,
}

impl Probe<'_> {
    fn key(&self, name: &str) -> ObjectKey {
        probe_key(self.examination, name).expect("a number and a name of ours make a key")
    }

    fn found(&mut self, name: &'static str, verdict: Verdict, seen: impl Into<String>) {
        self.findings.push(Finding::new(name, verdict, seen.into()));
    }

    fn bad(
        &mut self,
        name: &'static str,
        seen: impl Into<String>,
        meaning: &'static str,
        advice: &'static str,
    ) {
        let finding = Finding::new(name, Verdict::Bad, seen.into());
        self.findings.push(finding.meaning(meaning).advice(advice));
    }

    async fn write(&mut self) -> bool {
        let written = self.store.put(&self.key("one"), Bytes::from_static(BODY), CREATE).await;
        match written {
            Ok(()) => self.found("write", Verdict::Good, "an object can be created"),
            Err(error) => {
                let advice = match error {
                    Error::Denied { .. } => "allow these credentials to write below the prefix",
                    _ => error.hint().unwrap_or("check repository.url and that the store answers"),
                };
                self.bad("write", told(&error), "nothing can be archived here", advice);
                return false;
            }
        }
        true
    }

    async fn read_after_write(&mut self) {
        let name = "read after write";
        match self.store.get(&self.key("one"), GetRange::All).await {
            Ok(object) if object.bytes == BODY => {
                self.found(name, Verdict::Good, "what was written is read back at once");
            }
            Ok(_) => self.bad(
                name,
                "other bytes came back than were written",
                "what is archived here cannot be trusted",
                "do not use this store",
            ),
            Err(error) if error.is_not_found() => self.bad(
                name,
                "what was just written is not found",
                "a writer cannot tell what is there; it would report holes or make them",
                "use a store that is consistent after a write",
            ),
            Err(error) => self.bad(
                name,
                told(&error),
                "nothing can be compared, verified or restored with these credentials",
                "allow these credentials to read below the prefix",
            ),
        }
    }

    async fn absence(&mut self) {
        let name = "absence";
        match self.store.get(&self.key("never-written"), GetRange::All).await {
            Err(error) if error.is_not_found() => {
                self.found(name, Verdict::Good, "what is not there is said not to be there");
            }
            Err(error @ Error::Denied { .. }) => self.bad(
                name,
                told(&error),
                "absence cannot be told from a lack of rights, so nothing is ever proven absent",
                "allow these credentials to list the bucket: S3 then answers 404 instead of 403",
            ),
            Err(error) => self.found(name, Verdict::Unknown, told(&error)),
            Ok(_) => self.bad(
                name,
                "an object that was never written was read",
                "what is archived here cannot be trusted",
                "do not use this store",
            ),
        }
    }

    async fn conditional_put(&mut self) {
        let name = "conditional put";
        match conditional::race(self.store, &self.key("race")).await {
            Ok(seen @ Conditions::Kept) => self.found(name, Verdict::Good, seen.to_string()),
            Ok(seen @ (Conditions::OneByOne | Conditions::Ignored)) => self.bad(
                name,
                seen.to_string(),
                "two writers can overwrite each other, and nobody would notice",
                "use another store; or, if only one pgkeep ever writes, say \
                 repository.conditional_put = \"absent\"",
            ),
            Err(error) => self.bad(
                name,
                told(&error),
                "a writer could not claim a name for itself",
                "allow conditional writes (If-None-Match) for these credentials",
            ),
        }
    }

    async fn overwrite(&mut self) {
        let name = "overwrite";
        let key = self.key("one");
        match self.store.put(&key, Bytes::from_static(OTHER), OVERWRITE).await {
            Ok(()) => match self.store.get(&key, GetRange::All).await {
                Ok(object) if object.bytes == OTHER => {
                    self.found(name, Verdict::Good, "an object can be rewritten, and is read anew");
                }
                Ok(_) => self.bad(
                    name,
                    "after it was rewritten the old content was read",
                    "something in between keeps old answers",
                    "take away the cache between pgkeep and the store",
                ),
                Err(error) => self.found(name, Verdict::Unknown, told(&error)),
            },
            Err(Error::Denied { .. }) => self.findings.push(
                Finding::new(name, Verdict::Warning, "objects may not be rewritten".to_owned())
                    .meaning("the heartbeat stays old, so `status` without the daemon is, too")
                    .advice("allow overwriting of NAME/NNNN/heartbeat, or live with it"),
            ),
            Err(error) => self.found(name, Verdict::Unknown, told(&error)),
        }
    }

    async fn ranges(&mut self) {
        let name = "ranged reads";
        let key = self.key("range");
        match self.try_ranges(&key).await {
            Ok(true) => self.found(name, Verdict::Good, "parts of an object can be read"),
            Ok(false) => self.bad(
                name,
                "other bytes came than were asked for",
                "objects cannot be opened",
                "look for a proxy in between that does not know ranges",
            ),
            Err(error) => self.found(name, Verdict::Unknown, told(&error)),
        }
    }

    async fn try_ranges(&self, key: &ObjectKey) -> Result<bool> {
        self.store.put(key, Bytes::from_static(BODY), CREATE).await?;
        let some = self.store.get(key, GetRange::Range(3..9)).await?;
        let end = self.store.get(key, GetRange::Suffix(6)).await?;
        let size = BODY.len() as u64;
        let is_some = BODY.get(3..9).is_some_and(|part| some.bytes == part);
        let is_end = BODY.ends_with(&end.bytes) && end.bytes.len() == 6;
        Ok(is_some && is_end && some.size == size && end.size == size)
    }

    async fn listing(&mut self) {
        let name = "listing";
        match self.try_listing().await {
            Ok(None) => {
                self.found(name, Verdict::Good, "complete at once, in order, page by page");
            }
            Ok(Some(seen)) => self.bad(
                name,
                seen,
                "what is archived is found by listing; here it would be missed",
                "use a store that lists what it has; on Azure, one without hierarchical namespace",
            ),
            Err(error @ Error::Denied { .. }) => self.bad(
                name,
                told(&error),
                "what is archived is found by listing",
                "allow these credentials to list the bucket below the prefix",
            ),
            Err(error) => self.found(name, Verdict::Unknown, told(&error)),
        }
    }

    async fn try_listing(&self) -> Result<Option<String>> {
        let prefix = format!("probe/{}/list/", self.examination.simple());
        // `-` and `.` come before `/`, digits after it: directories sort otherwise than names.
        let mut expected: Vec<ObjectKey> =
            ["a-", "a.b", "a/b", "a0", "b"].map(|name| self.key(&format!("list/{name}"))).to_vec();
        expected.sort();
        for key in &expected {
            self.store.put(key, Bytes::from_static(BODY), CREATE).await?;
        }
        let listed = self.store.list_all(&prefix).await?;
        let listed: Vec<ObjectKey> = listed.into_iter().map(|listed| listed.key).collect();
        if listed != expected {
            return Ok(Some(format!(
                "{} objects were put and {} listed",
                expected.len(),
                listed.len()
            )));
        }
        let mut paged: Vec<ObjectKey> = Vec::new();
        while paged.len() < expected.len() {
            let page = self.store.list(&prefix, paged.last(), 2).await?;
            if page.is_empty() {
                break;
            }
            paged.extend(page.into_iter().map(|listed| listed.key));
        }
        Ok((paged != expected).then(|| "pages of a listing do not follow each other".to_owned()))
    }

    async fn upload(&mut self) {
        let name = "upload in parts";
        match self.try_upload().await {
            Ok((true, true)) => {
                self.found(
                    name,
                    Verdict::Good,
                    "arrives whole, and a name that is taken is refused",
                );
            }
            Ok((false, _)) => self.bad(
                name,
                "what was uploaded in parts did not come back whole",
                "base backups would be damaged",
                "do not use this store",
            ),
            Ok((true, false)) => self.findings.push(
                Finding::new(
                    name,
                    Verdict::Warning,
                    "a name that was taken was overwritten".to_owned(),
                )
                .meaning("large objects of two writers can overwrite each other")
                .advice("let only one pgkeep write to each cluster"),
            ),
            Err(error) => self.bad(
                name,
                told(&error),
                "base backups cannot be stored",
                "allow these credentials to upload in parts, and to abort that",
            ),
        }
    }

    /// Whether it came back, and whether a second one was refused.
    async fn try_upload(&self) -> Result<(bool, bool)> {
        let key = self.key("upload");
        let body = Bytes::from(vec![0x5A; UPLOAD_SIZE]);
        let mut upload = self.store.upload(&key, CREATE).await?;
        upload.write(body.clone()).await?;
        upload.write(Bytes::from_static(BODY)).await?;
        upload.finish().await?;
        let end = self.store.get(&key, GetRange::Suffix(BODY.len() as u64)).await?;
        let is_whole = end.size == (UPLOAD_SIZE + BODY.len()) as u64 && end.bytes == BODY;
        let mut second = self.store.upload(&key, CREATE).await?;
        second.write(body).await?;
        match second.finish().await {
            Ok(()) => Ok((is_whole, false)),
            Err(error) if error.is_already_exists() => Ok((is_whole, true)),
            Err(error) => Err(error),
        }
    }

    async fn delete(&mut self) {
        let name = "delete";
        let prefix = format!("probe/{}/", self.examination.simple());
        // Without a listing there are still the names we know.
        let mut keys: Vec<ObjectKey> =
            ["one", "race", "range", "upload"].map(|name| self.key(name)).to_vec();
        if let Ok(listed) = self.store.list_all(&prefix).await {
            keys = listed.into_iter().map(|listed| listed.key).collect();
        }
        if keys.is_empty() {
            return;
        }
        for key in &keys {
            match self.store.delete(key).await {
                Ok(()) => {}
                Err(Error::Denied { .. }) => {
                    let seen =
                        format!("these credentials may not remove objects; {prefix} is left");
                    self.findings.push(
                        Finding::new(name, Verdict::Warning, seen)
                            .meaning(
                                "append-only: whoever takes over this machine cannot destroy the \
                                 past, and nothing here can be expired by it",
                            )
                            .advice("remove old objects from elsewhere, with other credentials"),
                    );
                    return;
                }
                Err(error) => {
                    self.found(name, Verdict::Unknown, told(&error));
                    return;
                }
            }
        }
        match self.store.head(&self.key("one")).await {
            Err(error) if error.is_not_found() => {
                self.found(name, Verdict::Good, "objects can be removed, and are gone at once");
            }
            Ok(_) => {
                self.found(name, Verdict::Warning, "what was removed is still seen for a while");
            }
            Err(error) => self.found(name, Verdict::Unknown, told(&error)),
        }
    }
}

/// An error with its first cause, on one line.
fn told(error: &Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Fault, Faulty, LocalStore, MemoryStore};

    fn verdict(findings: &[Finding], name: &str) -> Verdict {
        findings.iter().find(|finding| finding.name == name).unwrap().verdict
    }

    fn worst(findings: &[Finding]) -> Vec<&'static str> {
        let bad = findings.iter().filter(|finding| finding.verdict == Verdict::Bad);
        bad.map(|finding| finding.name).collect()
    }

    #[tokio::test]
    async fn sound_stores_are_found_sound_and_left_empty() {
        let directory = tempfile::tempdir().unwrap();
        let local = LocalStore::create(directory.path()).unwrap();
        let memory = MemoryStore::new();
        let stores: [&dyn Store; 2] = [&local, &memory];
        for store in stores {
            let findings = examine(store, &StoreFacts::default()).await;
            let tried = findings.iter().filter(|finding| finding.verdict == Verdict::Good).count();
            assert_eq!(tried, 9, "{findings:?}");
            assert!(worst(&findings).is_empty());
            assert!(store.list("", None, 1).await.unwrap().is_empty(), "nothing is left");
        }
    }

    #[tokio::test]
    async fn each_broken_promise_is_found() {
        for (fault, broken) in [
            (Fault::IgnoreCondition, "conditional put"),
            (Fault::Stale, "read after write"),
            (Fault::Drop, "read after write"),
            (Fault::Flip, "read after write"),
            (Fault::TruncatePut, "read after write"),
            (Fault::Truncate, "ranged reads"),
            (Fault::Omit, "listing"),
            (Fault::Page(1), "listing"),
            (Fault::Denied, "write"),
            (Fault::Before, "write"),
        ] {
            let store = Faulty::always(MemoryStore::new(), fault);
            let findings = examine(&store, &StoreFacts::default()).await;
            assert_eq!(verdict(&findings, broken), Verdict::Bad, "{fault:?}: {findings:#?}");
        }
    }

    #[tokio::test]
    async fn a_store_that_only_grows_is_recognised() {
        let memory = MemoryStore::new();
        let store = AppendOnly(memory.clone());
        let findings = examine(&store, &StoreFacts::default()).await;
        let delete = findings.iter().find(|finding| finding.name == "delete").unwrap();
        assert_eq!(delete.verdict, Verdict::Warning);
        assert!(delete.seen.contains("probe/"), "{}", delete.seen);
        assert_eq!(verdict(&findings, "overwrite"), Verdict::Warning);
        assert!(worst(&findings).is_empty(), "append-only is a posture and no fault");
        assert!(!memory.list("probe/", None, 1).await.unwrap().is_empty());
    }

    /// Takes new objects and gives nothing away.
    #[derive(Debug)]
    struct AppendOnly(MemoryStore);

    fn denied<T>() -> Result<T> {
        Err(Error::Denied { what: "remove".to_owned(), source: "no right to".into() })
    }

    #[async_trait::async_trait]
    impl Store for AppendOnly {
        async fn put(&self, key: &ObjectKey, body: Bytes, how: PutOptions) -> Result<()> {
            if how.mode == crate::store::PutMode::Overwrite {
                return denied();
            }
            self.0.put(key, body, how).await
        }

        async fn upload(
            &self,
            key: &ObjectKey,
            how: PutOptions,
        ) -> Result<Box<dyn crate::store::Upload>> {
            self.0.upload(key, how).await
        }

        async fn get(&self, key: &ObjectKey, range: GetRange) -> Result<crate::store::Object> {
            self.0.get(key, range).await
        }

        async fn head(&self, key: &ObjectKey) -> Result<u64> {
            self.0.head(key).await
        }

        async fn list(
            &self,
            prefix: &str,
            after: Option<&ObjectKey>,
            limit: usize,
        ) -> Result<Vec<crate::store::Listed>> {
            self.0.list(prefix, after, limit).await
        }

        async fn delete(&self, _: &ObjectKey) -> Result<()> {
            denied()
        }

        fn location(&self) -> String {
            self.0.location()
        }
    }
}
