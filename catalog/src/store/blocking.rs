//! The way to threads that may block.

use std::panic::resume_unwind;

use crate::{Error, Result};

/// Runs `act` on the pool for blocking work. A panic in it continues in the caller.
///
/// Not cancel-safe: `act` runs to its end even when the returned future is dropped.
pub(crate) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(act).await {
        Ok(result) => result,
        Err(stopped) => match stopped.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(stopped) => Err(Error::unavailable("run on the pool for blocking work", stopped)),
        },
    }
}
