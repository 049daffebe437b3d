//! Where bytes rest: a narrow contract, the stores that keep it, and the decorators around them.
//!
//! ```text
//!   sealed objects, records, manifests
//!                |
//!             Retry<S>            repeats what may succeed later
//!                |
//!     LocalStore | MemoryStore | S3Store    bytes at rest
//! ```
//!
//! Invariant: a store knows keys and bytes and nothing of what they mean. It uses the rest of the
//! crate only for its errors and for durable writes.
//!
//! [`Faulty`] breaks a store on purpose; [`conformance::check`] is run against every store.

mod blocking;
mod cloud;
pub mod conformance;
mod contract;
mod ext;
mod faulty;
mod key;
mod local;
mod local_list;
mod memory;
mod open;
mod refusal;
mod retry;
mod s3;

pub(crate) use blocking::blocking;
pub use cloud::{AzureConfig, GoogleConfig};
pub use contract::{GetRange, Listed, Object, ObjectClass, PutMode, PutOptions, Store, Upload};
pub use ext::StoreExt;
pub use faulty::{Fault, Faulty};
pub use key::ObjectKey;
pub use local::LocalStore;
pub use memory::MemoryStore;
pub use open::{IfMissing, OpenStore, StoreLocation, connect, open};
pub use refusal::Refusal;
pub use retry::{Retry, RetryPolicy};
pub use s3::{
    BucketFacts, ChecksumMode, LockMode, ObjectLock, S3Config, S3Store, ServerSideEncryption,
};
