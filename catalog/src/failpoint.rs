//! Places at which a test lets the process die, panic or wait: debug builds only.
//!
//! `PGKEEP_FAILPOINT=ship_before_put=kill` kills the process without a word when it comes there;
//! `=panic` panics. Names are the constants below, so that a test and the code cannot drift apart. A
//! release build reads nothing.

/// Before a shipment is stored.
pub const SHIP_BEFORE_PUT: &str = "ship_before_put";
/// A shipment is stored; nobody knows yet.
pub const SHIP_AFTER_PUT: &str = "ship_after_put";
/// Before the server is told a position.
pub const BEFORE_STATUS: &str = "before_status";
/// A segment is complete in pieces; its whole object is about to be made.
pub const BEFORE_WHOLE: &str = "before_whole";
/// A temporary file is synced; it has no name yet.
pub const BEFORE_RENAME: &str = "before_rename";
/// The packs of a backup are stored; its manifest is not.
pub const BACKUP_BEFORE_MANIFEST: &str = "backup_before_manifest";
/// A restored directory is complete but for `pg_control`.
pub const RESTORE_BEFORE_CONTROL: &str = "restore_before_control";
/// Inside `archive-get`.
pub const ARCHIVE_GET: &str = "archive_get";
/// The first key slot of a new repository is stored and opened; the second is not.
pub const INIT_AFTER_FIRST_SLOT: &str = "init_after_first_slot";
/// The key slots of a new repository are stored and opened; its record is not.
pub const INIT_BEFORE_RECORD: &str = "init_before_record";
/// A key slot is stored and was not opened yet.
pub const KEY_AFTER_PUT: &str = "key_after_put";
/// The slots of a new key epoch are there; the link that makes it count is not.
pub const REVOKE_BEFORE_LINK: &str = "revoke_before_link";
/// The new way in works; the old slot is about to go.
pub const KEY_BEFORE_REMOVE: &str = "key_before_remove";

/// Does what the environment asks for at `name`; usually nothing.
///
/// # Panics
/// When it is asked to.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "a panic is what a test asks for")]
pub fn hit(name: &str) {
    let Ok(asked) = std::env::var("PGKEEP_FAILPOINT") else { return };
    match asked.split_once('=') {
        Some((point, "kill")) if point == name => {
            let own = rustix::process::getpid();
            // SIGKILL leaves no time for anything, as a power cut would.
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        }
        Some((point, "panic")) if point == name => {
            panic!("failpoint {name}");
        }
        _ => {}
    }
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
pub const fn hit(_name: &str) {}
