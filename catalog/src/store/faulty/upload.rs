//! An upload that suffers faults.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::fault::{Call, Fault};
use super::store::{Shared, half};
use crate::Result;
use crate::store::Upload;

/// An upload into a store with faults.
#[derive(Debug)]
pub(super) struct FaultyUpload {
    pub(super) inner: Box<dyn Upload>,
    pub(super) shared: Arc<Shared>,
}

#[async_trait]
impl Upload for FaultyUpload {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let fault = self.shared.strike(Call::Write, bytes.len()).await?;
        match fault {
            Some(Fault::Drop) => return Ok(()),
            Some(Fault::TruncatePut) => self.inner.write(half(bytes)).await?,
            _ => self.inner.write(bytes).await?,
        }
        Shared::answer(fault)
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        let fault = self.shared.strike(Call::Finish, 0).await?;
        if fault == Some(Fault::Drop) {
            return Ok(());
        }
        self.inner.finish().await?;
        Shared::answer(fault)
    }
}
