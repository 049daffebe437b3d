//! Real servers and a real pgkeep, for tests of the whole system.
//!
//! ```text
//! Workdir     one directory for a test; gone when it passes, kept and named when it fails
//! Postgres    a server in it, copied from a template cluster; starts, dies, recovers, promotes
//! Control     pg_receivewal on a slot of its own: the bytes that must have been archived
//! Pgkeep      the program under test with its pgkeep.toml
//! Archive     its repository, read by a stranger who has nothing else
//! Ledger      a table under load, and what of it was committed before any moment
//! Azurite     an object store that speaks Azure's protocol
//! SmallDisk   a disk that gets full
//! Child       anything of these that runs beside the test
//! ```
//!
//! Postgres refuses root, so everything here runs as `postgres` when the tests run as root.
//! No test sleeps: it waits for a fact, until a deadline, and says what it waited for.
//! Nothing outlives a test: the kernel kills each child when the thread that spawned it ends.
//! That is why a child is never spawned from a blocking pool or a task of its own.

mod account;
mod archive;
mod azurite;
mod child;
mod command;
mod control;
mod installation;
mod ledger;
mod pgkeep;
mod postgres;
mod postgres_builder;
mod shared;
mod small_disk;
mod template;
mod wait;
mod workdir;

pub(crate) use self::{
    archive::Archive,
    azurite::Azurite,
    child::Child,
    command::run,
    ledger::{Ledger, XactEnd},
    pgkeep::Pgkeep,
    postgres::{Postgres, StopMode},
    small_disk::SmallDisk,
    wait::wait_for,
    workdir::Workdir,
};
