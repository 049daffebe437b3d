//! From end to end: what a server committed is what comes back.

mod backup;
mod crash;
mod damage;
mod full_disk;
mod gap;
mod harness_itself;
mod promotion;
mod refusal;
mod restore_time;
mod status;
mod stream;
