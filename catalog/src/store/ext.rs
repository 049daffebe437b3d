//! Conveniences that every store has for free.

use async_trait::async_trait;

use super::{Listed, Store};
use crate::{Error, Result};

const PAGE_SIZE: usize = 1000;

/// What can be said in terms of [`Store`]'s verbs alone.
#[async_trait]
pub trait StoreExt: Store {
    /// Lists every key under `prefix`, page by page.
    async fn list_all(&self, prefix: &str) -> Result<Vec<Listed>> {
        let mut all: Vec<Listed> = Vec::new();
        loop {
            let page = self.list(prefix, all.last().map(|last| &last.key), PAGE_SIZE).await?;
            // A store that repeats itself would keep us here for ever, or make one object two.
            let grows = all.last().iter().copied().chain(&page).is_sorted_by(|a, b| a.key < b.key);
            if !grows {
                let what = format!("list {prefix:?} in {}", self.location());
                return Err(Error::unavailable(what, "the pages of the listing do not go forward"));
            }
            let is_last = page.len() < PAGE_SIZE;
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }
}

impl<S: Store + ?Sized> StoreExt for S {}
