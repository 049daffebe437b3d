//! Any bytes, taken for the header of a sealed object: what is read encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgkeep_catalog::sealed::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::header(bytes));
