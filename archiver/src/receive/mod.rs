//! Receiving: where to begin, what comes, what is answered.
//!
//! `start` decides from which position on which timeline to stream; `receiver` takes the messages of a
//! running stream and says what to do; `status` paces what we tell the server; `resume` puts the commit
//! scan back where it was.

mod receiver;
mod resume;
mod start;
mod status;

pub use receiver::{Effect, Event, Receiver};
pub use resume::resume_scan;
pub use start::{Archived, Expected, Refusal, Start, decide};
use status::StatusPacer;
