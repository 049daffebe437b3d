//! Goes through a repository and finds what is damaged, missing or foreign.
//!
//! ```text
//!   verifier         lists page by page, some objects at once     -- what can be read
//!      |  object     one object: place, header, tail, content
//!      |  backup     the files of a backup against its manifest
//!   cluster_tally    what the objects say together                -- what follows from it
//!      |  inventory  what its pages name, against what is stored
//!      |  keys       slots and links of the key epochs
//!   report           findings, each with what is lost by it
//! ```
//!
//! Without `full`, of a large object its ends are read, where header, index and trailer are; with it,
//! every byte. What is small is always read whole.
//!
//! Invariants:
//! * nothing is written into the repository;
//! * memory does not grow with the number of objects, but with that of findings, holes and backups;
//! * "could not be read" is never "damaged", and neither is ever "sound".

mod backup;
mod cluster_tally;
mod inventory;
mod keys;
mod object;
mod report;
#[cfg(test)]
mod sweep;
mod verifier;

pub use report::{Finding, Report, Scope, Totals, VerifyState};
pub use verifier::Verifier;
