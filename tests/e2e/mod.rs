//! From end to end: what a server committed is what comes back.

mod crash;
mod gap;
mod harness_itself;
mod promotion;
mod stream;
