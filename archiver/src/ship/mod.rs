//! Shipping: from received bytes to objects in the repository.
//!
//! `backlog` holds what has not been cut, `shipper` decides what to cut and when it counts as archived,
//! `put` stores one run. Runs are stored at the same time; acknowledgement is in order.

mod backlog;
mod config;
mod put;
mod shipper;

pub use config::{ShipConfig, ShipOverrides};
pub use put::put;
pub use shipper::{Effect, Event, Known, Shipment, Shipper};
