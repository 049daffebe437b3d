//! Any bytes, taken for a key slot and for a link: they are refused, and never open.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgkeep_catalog::key::fuzzing;

fuzz_target!(|json: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(fuzzing::slot(json));
    fuzzing::link(json);
});
