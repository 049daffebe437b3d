//! Any index and frames, behind checksums that are right: they are refused, or read without a panic.
//! This is inside the seal, where a fuzzer that only changes bytes never comes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgkeep_catalog::sealed::fuzzing;

fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (tail, frames) = input;
    fuzzing::frames(&tail, &frames);
});
