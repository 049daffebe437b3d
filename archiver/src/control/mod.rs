//! The Unix socket between the daemon and the command line.
//!
//! One line of JSON asks, one line of JSON answers. The socket lies in the state directory with mode
//! 0600, and the daemon answers only processes of its own user and of root.

mod client;
mod message;
mod server;

pub use client::ask;
pub use message::{Answer, Request};
pub use server::{ControlServer, Daemon};
