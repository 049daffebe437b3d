//! Repository to Postgres: plan, fetch, lay down, feed WAL.
//!
//! ```text
//!   target, moment                what is asked for
//!   inventory, choose, seek, walk what there is, and which record it means
//!   plan | refusal                what will be done, or why not and what could be
//!        |
//!   restorer                      data_dir, unpack, pin, recovery; pg_control last
//!        |
//!   server                        a Postgres of our own; archive_get feeds it; reached judges it
//! ```
//!
//! Invariants: nothing is touched before there is a plan; a data directory that is not complete cannot
//! be started; `archive_get` says "absent" only of what is proven not to exist.

pub mod server;

mod archive_get;
mod blocking;
mod choose;
mod data_dir;
mod error;
mod export;
#[cfg(test)]
mod fixture;
mod inventory;
mod moment;
mod pin;
mod plan;
mod reached;
mod recovery;
mod refusal;
mod restore_command;
mod restorer;
mod seek;
#[cfg(test)]
mod synthetic;
mod tablespace;
mod target;
mod timeline_path;
mod unpack;
mod walk;

pub use archive_get::{Fetched, archive_get};
pub use data_dir::DataDir;
pub use error::{Error, Result};
pub use export::{Exported, export};
pub use inventory::{Candidate, Inventory, TimelineChoice};
pub use moment::MomentError;
pub use pin::{Answer, Pin};
pub use plan::RestorePlan;
pub use reached::Reached;
pub use recovery::{RecoverySettings, TargetAction};
pub use refusal::{Moment, PlanError, Unusable};
pub use restore_command::RestoreCommand;
pub use restorer::{RestoreOptions, Restored, Restorer, StartOptions};
pub use seek::XactRef;
pub use tablespace::TablespaceMapping;
pub use target::{RecoveryTarget, TargetError};
pub use timeline_path::{Leg, TimelinePath};
