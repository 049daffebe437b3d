//! From end to end: what a server committed is what comes back.

mod azure;
mod backup;
mod check;
mod crash;
mod crash_steps;
mod damage;
mod full_disk;
mod gap;
mod harness_itself;
mod promotion;
mod refusal;
mod restore_archive_get;
mod restore_damage;
mod restore_demo;
mod restore_directory;
mod restore_fork;
mod restore_refusal;
mod restore_target;
mod restore_time;
mod status;
mod stream;
