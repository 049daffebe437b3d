//! Finds out what a store does, by trying it, and says it in words.
//!
//! ```text
//!  examine ──> probe            what the verbs of the contract really do
//!          ├─> facts            what the bucket says of itself, if it can be asked
//!          └─> Finding, Verdict what was seen, what it means, what to do
//!  conditional_put              the one question a writer asks before its first byte
//! ```
//!
//! Everything happens below `probe/` and a random name, and is removed again where that is allowed.

mod conditional;
mod facts;
mod finding;
mod probe;

pub use conditional::{Conditions, conditional_put};
pub use facts::StoreFacts;
pub use finding::{Finding, Verdict};
pub use probe::examine;
