//! The streaming replication protocol, client side: what is sent, what comes back.
//!
//! `backend` cuts messages off a byte buffer, `command` writes the commands, `reply` reads their result
//! sets, `message` is what travels inside the copy of a running stream. See Postgres'
//! `src/backend/replication/repl_gram.y` and `walsender.c`.

mod backend;
mod command;
mod message;
mod reply;

pub use backend::{Authentication, BackendMessage, MESSAGE_SIZE_MAX, Row};
pub use command::Command;
pub use message::{ReplicationMessage, StatusUpdate};
pub use reply::{EndOfTimeline, HistoryFile, IdentifySystem, SlotPosition};
