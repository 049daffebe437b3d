//! Watching: how fresh the archive is, how the slot stands, what needs a human.

mod live;
mod rpo;
mod slot;

pub use live::{Alerts, Live};
pub use rpo::Rpo;
pub use slot::SlotWatch;
