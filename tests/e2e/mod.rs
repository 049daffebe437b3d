//! From end to end: what a server committed is what comes back.

mod harness_itself;
