//! A store that is not asked faster than it is allowed to be.

mod bucket;
mod config;
mod store;

pub use config::{LimitConfig, LimitWindow};
pub use store::Limit;
