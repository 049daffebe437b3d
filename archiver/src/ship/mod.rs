//! Shipping: from received bytes to objects in the repository.
//!
//! `backlog` holds what has not been cut, `shipper` decides what to cut and when it counts as archived,
//! `put` stores one run, `confirm` looks it up. Runs are stored at the same time; acknowledgement is in order.

mod backlog;
mod config;
mod confirm;
mod put;
mod shipper;

pub use config::{ShipConfig, ShipOverrides};
pub use confirm::Confirm;
pub(crate) use confirm::{Confirmer, Unconfirmed};
pub use put::put;
pub use shipper::{Effect, Event, Known, Shipment, Shipper};
