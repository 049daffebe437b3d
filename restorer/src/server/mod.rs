//! A Postgres of our own: finished recovery for `restore --start`, proof for a drill, a toy for the
//! demo.
//!
//! [`Installation`] is where the programs are, [`PrivateServer`] a server nobody else can reach,
//! [`ControlData`] what a data directory says of itself.

mod control_data;
mod error;
mod installation;
mod log;
mod private_server;

pub use control_data::{ClusterState, ControlData};
pub use error::ServerError;
pub use installation::Installation;
pub use private_server::{PrivateServer, RecoveryEnd, SUPERUSER};
