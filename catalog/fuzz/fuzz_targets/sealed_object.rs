//! Any bytes, taken for a sealed object: they are refused, or read without a panic.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pgkeep_catalog::key::Keyring;
use pgkeep_catalog::sealed::{Kind, Origin, SealedObject};
use uuid::Uuid;

fuzz_target!(|bytes: &[u8]| {
    let key = "main/0001/heartbeat".parse().expect("a key");
    let origin = Origin { repository: Uuid::nil(), cluster: "main".to_owned(), incarnation: 1 };
    let bytes = Bytes::copy_from_slice(bytes);
    let object = SealedObject::open_bytes(&bytes, &key, Kind::Heartbeat, &origin, &Keyring::off());
    if let Ok(object) = object {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        if let Ok(raw) = runtime.block_on(object.read_all()) {
            assert_eq!(raw.len() as u64, object.raw_length());
        }
    }
});
