//! Where bytes rest: a narrow contract, the stores that keep it, and the decorators around them.
//!
//! ```text
//!   sealed objects, records, manifests
//!                |
//!             Limit<S>            waits, where there is a limit
//!                |
//!             Retry<S>            repeats what may succeed later
//!                |
//!          Unconditional<S>       looks before it creates, where the store ignores conditions
//!                |
//!  LocalStore | S3Store | CloudStore     bytes at rest; MemoryStore for tests
//! ```
//!
//! Invariant: a store knows keys and bytes and nothing of what they mean. It uses the rest of the
//! crate only for its errors, for durable writes and for the time of day.
//!
//! [`doctor`] tries what a store really does. [`Faulty`] breaks one on purpose; [`conformance::check`]
//! is run against every store.

mod blocking;
mod byte_size;
mod cloud;
pub mod conformance;
mod contract;
pub mod doctor;
mod ext;
mod faulty;
mod key;
mod limit;
mod local;
mod local_list;
mod memory;
mod open;
mod refusal;
mod retry;
mod s3;
mod unconditional;

pub(crate) use blocking::blocking;
pub use byte_size::ByteSize;
pub use cloud::{AzureConfig, AzureOptions, CloudStore, GoogleConfig, GoogleOptions};
pub use contract::{GetRange, Listed, Object, ObjectClass, PutMode, PutOptions, Store, Upload};
pub use ext::StoreExt;
pub use faulty::{Fault, Faulty};
pub use key::ObjectKey;
pub use limit::{Limit, LimitConfig, LimitWindow};
pub use local::LocalStore;
pub use memory::MemoryStore;
pub use open::{ConditionalPut, IfMissing, OpenStore, StoreLocation, StoreUse, connect, open};
pub use refusal::Refusal;
pub use retry::{Retry, RetryPolicy};
pub use s3::{
    BucketFacts, ChecksumMode, LockMode, ObjectLock, S3Config, S3Store, ServerSideEncryption,
};
pub use unconditional::Unconditional;
