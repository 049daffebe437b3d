//! What the daemon knows at this moment, for whoever asks.
//!
//! The stream writes it, the control socket reads it. Nothing is decided from it.

use std::sync::Mutex;

use pgkeep_catalog::status::Alert;
use pgkeep_proto::{Lsn, TimelineId, TimestampTz};
use tokio::time::Instant;

/// Positions and moments of the running stream.
#[derive(Clone, Copy, Debug, Default)]
pub struct Live {
    /// The timeline that is streamed.
    pub timeline: Option<TimelineId>,
    /// End of the server's WAL.
    pub server: Option<Lsn>,
    /// End of what was received.
    pub received: Option<Lsn>,
    /// End of what is archived.
    pub archived: Option<Lsn>,
    /// Time of the last commit that is archived.
    pub archived_commit_time: Option<TimestampTz>,
    /// The server's clock at the last moment when everything was archived.
    pub caught_up_at: Option<TimestampTz>,
    /// When the message of that moment arrived.
    pub caught_up_arrival: Option<Instant>,
}

/// Conditions that need a human, by name; one of a name at a time.
#[derive(Debug, Default)]
pub struct Alerts(Mutex<Vec<Alert>>);

impl Alerts {
    /// The condition `name` holds. Its beginning is kept while it lasts.
    pub fn raise(&self, name: &str, now: TimestampTz, message: String) {
        let mut alerts = self.lock();
        match alerts.iter_mut().find(|alert| alert.name == name) {
            Some(alert) => alert.message = message,
            None => alerts.push(Alert { name: name.to_owned(), since: now, message }),
        }
    }

    /// The condition `name` is over.
    pub fn clear(&self, name: &str) {
        self.lock().retain(|alert| alert.name != name);
    }

    /// All that hold.
    pub fn all(&self) -> Vec<Alert> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Alert>> {
        // Nothing panics while it is held; a list of messages is sound at any point anyway.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
