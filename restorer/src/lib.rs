//! Repository to Postgres: plan, fetch, lay down, feed WAL.

pub mod server;
