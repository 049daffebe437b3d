//! Sealed objects: how everything in the repository but its description is stored.
//!
//! ```text
//! magic, version | header | frame | frame | … | index, trailer | footer
//!                  who      what                where, and a digest of the whole
//! ```
//!
//! The header says what the object is and where it belongs; a frame is up to 256 KiB, compressed by
//! itself, so that any range can be read without the rest; the footer has a fixed size, so that a
//! reader who knows only the name finds everything from the end. Numbers outside of CBOR are little
//! endian. CBOR is in the one form that RFC 8949 section 4.2.1 calls deterministic, and a reader
//! refuses any other.
//!
//! Invariants:
//! * an object that is cut, changed, moved or somebody else's is never taken for what it is not:
//!   the error names its key;
//! * what a length announces is judged before it is allocated;
//! * frames, header and index can be checked without the whole, and all of them with one crc32 of
//!   the stored bytes, which needs no key.
//!
//! In an encrypted repository, frames and tail are encrypted with keys of the object's own; how is
//! told in `protection.rs`. `docs/format.md` tells it to who has no Rust.

mod body;
mod canonical;
mod compression;
mod frame;
#[cfg(fuzzing)]
pub mod fuzzing;
mod header;
mod kind;
mod object;
mod protection;
mod sealer;
mod sealing;
mod tail;
mod upload;
mod whole_reader;

pub use compression::Compression;
pub use frame::FRAME_SIZE;
pub use header::{Header, Origin, Span};
pub use kind::Kind;
pub use object::SealedObject;
pub use protection::{Protection, Suite};
pub use sealer::{Sealed, Sealer};
pub use sealing::Sealing;
pub use tail::Trailer;
pub use upload::{SealedUpload, write};
pub use whole_reader::WholeReader;
