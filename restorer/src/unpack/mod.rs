//! From packs to files: lays a backup down in its data directory.
//!
//! ```text
//!   ManifestReader -> Unpacker -> batches of files -> up to four threads
//!                                                      PackWindow -> file, digest, sync
//! ```
//!
//! Invariants:
//! * a file stands as it was backed up, by its BLAKE3 digest, and is synced, or unpacking fails;
//! * memory is bounded by batches and windows, not by the number or size of files;
//! * `global/pg_control` gets its name when everything else is durable: without it no Postgres
//!   starts, so a directory that is not complete cannot be taken for one that is.

mod batch;
mod file;
mod pack_window;
mod unpacker;

pub(crate) use unpacker::Unpacker;
