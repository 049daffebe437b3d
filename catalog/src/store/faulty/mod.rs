//! A store that is broken on purpose, in ways that can be repeated exactly.

mod fault;
mod plan;
mod store;
mod upload;

pub use fault::Fault;
pub use store::Faulty;
