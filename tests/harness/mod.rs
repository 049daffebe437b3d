//! Real servers and a real pgkeep, for tests of the whole system.
//!
//! ```text
//! Workdir     one directory for a test; gone when it passes, kept and named when it fails
//! Postgres    a server in it, copied from a template cluster; starts, dies, recovers, promotes
//! Control     pg_receivewal on a slot of its own: the bytes that must have been archived
//! Pgkeep      the program under test with its pgkeep.toml
//! Archive     its repository, read by a stranger who has nothing else
//! Reader      its repository, read by a program that shares no line with it
//! Ledger      a table under load, and what of it was committed before any moment
//! Azurite     an object store that speaks Azure's protocol
//! SmallDisk   a disk that gets full
//! ObjectServer, Bucket   a server of objects that all tests share, and a bucket of one test in it
//! SigningServer   another one that checks signatures
//! Wire        the way to such a server, with faults
//! Kms         AWS KMS, as moto plays it
//! InProcess   an archiver inside the test, on a CountingStore
//! Child       anything of these that runs beside the test
//! ```
//!
//! Postgres refuses root, so everything here runs as `postgres` when the tests run as root.
//! No test sleeps: it waits for a fact, until a deadline, and says what it waited for.
//! Nothing outlives a test but the shared server of objects, which ends by itself: the kernel kills each
//! child when the thread that spawned it ends.
//! That is why a child is never spawned from a blocking pool or a task of its own.

mod account;
mod archive;
mod azurite;
mod bucket;
mod cache;
mod child;
mod command;
mod control;
mod counting_store;
mod in_process;
mod installation;
mod kms;
mod ledger;
mod object_server;
mod pgkeep;
mod postgres;
mod postgres_builder;
mod reader;
mod shared;
mod signing_server;
mod small_disk;
mod template;
mod wait;
mod wire;
mod workdir;

pub(crate) use self::{
    archive::Archive,
    azurite::Azurite,
    bucket::Bucket,
    child::Child,
    command::run,
    counting_store::CountingStore,
    in_process::InProcess,
    kms::Kms,
    ledger::{Ledger, XactEnd},
    object_server::ObjectServer,
    pgkeep::Pgkeep,
    postgres::{Postgres, StopMode},
    reader::Reader,
    signing_server::SigningServer,
    small_disk::SmallDisk,
    wait::wait_for,
    wire::{Trick, Wire},
    workdir::Workdir,
};
