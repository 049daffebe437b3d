//! Waiting for a fact instead of sleeping.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long anything may take before a test gives up. Generous: the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Asks until there is an answer; `None` when there was none in time.
pub(crate) async fn poll<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// Asks until there is an answer; fails the test when there was none in time.
pub(crate) async fn wait_for<T>(what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
    poll(ask).await.unwrap_or_else(|| panic!("waited {DEADLINE:?} in vain for {what}"))
}
