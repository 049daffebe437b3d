//! The inventory: what is archived, written down in pages that name each other.
//!
//! ```text
//!  page 1 <--digest-- page 2 <--digest-- page 3        one chain for each timeline
//!  segments, gaps     segments, gaps     …        <--- head: known to witnesses elsewhere
//! ```
//!
//! A listing cannot say what is no longer in it. The inventory can: an object that a page names and
//! that is not there was removed, and a page that a witness knows and that is not there was removed
//! with it. Witnesses are the heartbeat, the state directory of the daemon, and whoever keeps the
//! output of `status --json`. If all of them are lost with the newest objects, nobody can tell.
//!
//! Invariants:
//! * a page is created, never rewritten, and names the BLAKE3 digest of the raw content of the page
//!   before it: of the content, not of the stored bytes, so that it does not depend on key or
//!   compression;
//! * within a chain, segments only go forward, and every one between the first and the last is named
//!   or lies in a recorded gap;
//! * no acknowledgement waits for a page.
//!
//! In an encrypted repository a page is authenticated as every sealed object is: who has no key can
//! neither write nor change one. Without encryption there is only the chain: it shows what is missing
//! or damaged, and whoever can write to the store can forge all of it up to what a witness knows.

#[cfg(fuzzing)]
pub mod fuzzing;
mod head;
mod page;
mod reader;
mod witness;
mod writer;

#[cfg(test)]
mod tests;

pub use head::InventoryHead;
pub use page::{InventoryPage, SEGMENTS_MAX, SegmentRun};
pub use reader::{InventoryReader, head, heads, timelines};
pub use witness::{RolledBack, Witness};
pub use writer::{InventoryWriter, Stand};
