//! Whole-system tests: a real Postgres, a real pgkeep, and a control that saw the same bytes.
//!
//! One binary, so that it links once. `harness` starts and stops servers; each other module is a
//! family of tests. Every test prints what it did and fails when it did nothing.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests spawn tasks and rename files; the rules are for what runs at a customer's"
)]

mod e2e;
#[expect(dead_code, reason = "the tests that use the rest come with what they test")]
mod harness;
