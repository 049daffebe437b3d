//! A token bucket: something flows in at a rate, and what is used is taken out.
//!
//! It may be overdrawn: who comes first is let through and pays, and who comes next waits until the
//! debt is paid. So nothing needs to know beforehand how much it will use, and a thing larger than the
//! bucket is possible. The bucket holds one second, so an idle time does not allow a flood later.

use std::time::Duration;

use tokio::time::Instant;

/// How far behind unhindered use may push those who wait.
const DEBT_MAX_SECONDS: f64 = 10.0;

/// Tokens of one kind: requests or bytes.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: f64,
    filled_at: Option<Instant>,
}

impl Bucket {
    pub(super) const fn new() -> Self {
        Self { tokens: 0.0, filled_at: None }
    }

    /// How long to wait at `rate` until something may go; nothing without a rate.
    pub(super) fn wait(&mut self, rate: Option<u64>, now: Instant) -> Option<Duration> {
        let rate = self.fill(rate, now)?;
        // Half a token short would be a wait too short to be taken.
        (self.tokens < 0.0).then(|| Duration::from_secs_f64((-self.tokens / rate).max(0.001)))
    }

    /// Takes out what is used.
    pub(super) fn take(&mut self, rate: Option<u64>, amount: u64, now: Instant) {
        if self.fill(rate, now).is_some() {
            self.tokens -= as_float(amount);
        }
    }

    /// Takes out what is used by those who do not wait, but never so much that others starve.
    pub(super) fn take_unhindered(&mut self, rate: Option<u64>, amount: u64, now: Instant) {
        if let Some(rate) = self.fill(rate, now) {
            let floor = (-rate * DEBT_MAX_SECONDS).min(self.tokens);
            self.tokens = (self.tokens - as_float(amount)).max(floor);
        }
    }

    fn fill(&mut self, rate: Option<u64>, now: Instant) -> Option<f64> {
        let Some(rate) = rate.map(as_float) else {
            // Whoever is limited later begins anew.
            *self = Self::new();
            return None;
        };
        let since = self.filled_at.map_or(1.0, |then| (now - then).as_secs_f64());
        self.tokens = (self.tokens + since * rate).min(rate);
        self.filled_at = Some(now);
        Some(rate)
    }
}

#[expect(clippy::cast_precision_loss, reason = "beyond 2^53 bytes nobody counts single ones")]
const fn as_float(number: u64) -> f64 {
    number as f64
}
