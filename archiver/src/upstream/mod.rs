//! The server we archive: connections to it, and what is asked of it.
//!
//! `connection` moves whole messages, `login` makes it ours, `session` speaks the replication commands,
//! `slot` keeps the replication slot. Nothing here decides where to stream from.

mod connection;
mod login;
mod session;
mod slot;

pub use connection::Connection;
pub use login::{Purpose, log_in, role};
pub use session::Session;
pub use slot::{ensure_slot, recreate_slot};
