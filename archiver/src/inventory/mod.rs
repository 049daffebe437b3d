//! Keeps the inventory while the archiver runs.
//!
//! The stream says to the feed what it stored, which never waits; the bookkeeper writes it down beside.

mod bookkeeper;
mod feed;

pub(crate) use bookkeeper::Bookkeeper;
pub(crate) use feed::InventoryFeed;
