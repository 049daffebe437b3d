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

mod keyring;
mod repository_key;
mod secret;

pub use keyring::Keyring;
pub use repository_key::RepositoryKey;
pub(crate) use repository_key::derive;
pub use secret::SecretSource;
