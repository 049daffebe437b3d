//! Keys: what opens an encrypted repository, and where the secrets come from.
//!
//! ```text
//!   secret        file:, env: or kms:, as the configuration names it
//!      |  opens
//!   key slot      wraps a repository key; several, each for another holder
//!      |
//!   keyring       the repository keys of all epochs
//!      |  derive
//!   sealed        a key of its own for each object
//! ```
//!
//! Invariants: a secret is never printed, logged or put into an argument, and is wiped from memory
//! when it is dropped; what is encrypted always has a slot that was opened once after it was written.

mod change;
mod create;
pub(crate) mod encoded;
#[cfg(test)]
mod fixture;
#[cfg(fuzzing)]
pub mod fuzzing;
mod keyring;
mod kms;
mod link;
mod open;
mod repository_key;
mod secret;
mod slot;
mod slot_name;
mod slots;
mod source;
mod stretch;
#[cfg(test)]
mod sweep;
mod wrap;

pub use change::{KeyChange, LastButOne, Revoked};
pub(crate) use create::create;
#[cfg(test)]
pub(crate) use fixture::put_slots;
pub use keyring::Keyring;
pub use open::{OpenedKeys, open};
pub use repository_key::RepositoryKey;
pub(crate) use repository_key::{derive, is_equal};
pub use secret::Secret;
pub use slot::KeySlot;
pub use slot_name::SlotName;
pub use slots::KeySlots;
pub use source::SecretSource;
