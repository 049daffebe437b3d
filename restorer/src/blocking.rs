//! The way to threads that may block: whatever touches a file goes through here.

use std::panic::resume_unwind;

use tokio::task::{JoinError, spawn_blocking};

/// Runs `act` on the pool for blocking work. A panic in it continues in the caller.
///
/// Not cancel-safe: `act` runs to its end even when the returned future is dropped.
pub(crate) async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    finished(spawn_blocking(act).await)
}

/// What a task that nobody aborts came to.
pub(crate) fn finished<T>(joined: Result<T, JoinError>) -> T {
    joined.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}
