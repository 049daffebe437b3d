//! How WAL is shipped.

use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;

use super::Confirm;

/// How WAL is shipped: `[ship]` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShipConfig {
    /// How long WAL may wait before it is shipped. Default `1s`; from `10ms` to `1h`.
    pub interval: SignedDuration,
    /// How many objects may be on their way at once. Default 4; from 1 to 16.
    pub in_flight_max: usize,
    /// When a stored object is looked up: `"beside"` (default for object stores), `"head"` or
    /// `"off"` (default for a directory).
    pub confirm: Option<Confirm>,
}

impl Default for ShipConfig {
    fn default() -> Self {
        // One second is the RPO we promise; four objects hide the latency of a store without
        // filling the memory.
        Self { interval: SignedDuration::from_secs(1), in_flight_max: 4, confirm: None }
    }
}

impl ShipConfig {
    /// Every problem of this section.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(3600));
        if !(least..=most).contains(&self.interval()) {
            problems.push(format!("ship.interval = {:#}: must be from 10ms to 1h", self.interval));
        }
        if !(1..=16).contains(&self.in_flight_max) {
            problems
                .push(format!("ship.in_flight_max = {}: must be from 1 to 16", self.in_flight_max));
        }
        problems
    }

    /// The interval; zero for a negative one.
    pub fn interval(&self) -> Duration {
        Duration::try_from(self.interval).unwrap_or(Duration::ZERO)
    }
}

/// How WAL of one cluster is shipped otherwise: `[cluster.NAME.ship]` of the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShipOverrides {
    /// Instead of `ship.interval`.
    pub interval: Option<SignedDuration>,
    /// Instead of `ship.in_flight_max`.
    pub in_flight_max: Option<usize>,
    /// Instead of `ship.confirm`.
    pub confirm: Option<Confirm>,
}

impl ShipOverrides {
    /// What holds for the cluster.
    pub fn over(&self, global: &ShipConfig) -> ShipConfig {
        ShipConfig {
            interval: self.interval.unwrap_or(global.interval),
            in_flight_max: self.in_flight_max.unwrap_or(global.in_flight_max),
            confirm: self.confirm.or(global.confirm),
        }
    }
}
