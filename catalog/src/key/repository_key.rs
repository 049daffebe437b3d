//! A repository key: 32 random bytes of one key epoch, from which everything else is derived.
//!
//! ```text
//! repository key --HKDF--> content root    frames of objects, by salt and header
//!                     +--> tail root       index and trailer of objects
//!                     +--> key check       tells a wrong key before any data is touched
//!                     +--> record          MAC of the repository's own record
//! ```
//!
//! Content and tail have roots of their own, so that a writer can one day be given what it must read
//! back (the tails) without what it must not (the content).

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Length of every key in bytes.
pub(crate) const KEY_SIZE: usize = 32;

/// One repository key. Never printed; wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct RepositoryKey {
    epoch: u32,
    secret: Zeroizing<[u8; KEY_SIZE]>,
}

impl RepositoryKey {
    /// A new key, from the random numbers of the operating system.
    pub fn generate(epoch: u32) -> Self {
        let mut secret = Zeroizing::new([0; KEY_SIZE]);
        getrandom::fill(secret.as_mut_slice()).expect("the kernel has random numbers");
        Self { epoch, secret }
    }

    /// The key of `epoch` out of its bytes.
    pub fn from_bytes(epoch: u32, secret: Zeroizing<[u8; KEY_SIZE]>) -> Self {
        Self { epoch, secret }
    }

    /// Its epoch, from 1 on.
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Its bytes, for who wraps it.
    pub(crate) fn bytes(&self) -> &[u8; KEY_SIZE] {
        &self.secret
    }

    /// Sixteen bytes that tell this key from another, and nothing else about it.
    pub fn check_value(&self) -> [u8; 16] {
        derive(self.bytes(), None, b"pgkeep/1 key check")
    }

    /// From which the keys of frames are derived.
    pub(crate) fn content_root(&self) -> Zeroizing<[u8; KEY_SIZE]> {
        Zeroizing::new(derive(self.bytes(), None, b"pgkeep/1 content"))
    }

    /// From which the keys of indexes and trailers are derived.
    pub(crate) fn tail_root(&self) -> Zeroizing<[u8; KEY_SIZE]> {
        Zeroizing::new(derive(self.bytes(), None, b"pgkeep/1 tail"))
    }

    /// With which the record of the repository is authenticated.
    pub fn record_key(&self) -> Zeroizing<[u8; KEY_SIZE]> {
        Zeroizing::new(derive(self.bytes(), None, b"pgkeep/1 repository record"))
    }
}

impl fmt::Debug for RepositoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepositoryKey").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// HKDF-SHA-256 (RFC 5869).
pub(crate) fn derive<const N: usize>(input: &[u8], salt: Option<&[u8]>, info: &[u8]) -> [u8; N] {
    let mut output = [0; N];
    let derived = Hkdf::<Sha256>::new(salt, input).expand(info, &mut output);
    derived.expect("a few keys are less than HKDF can give");
    output
}

/// Compares without telling by its time where the difference is.
pub(crate) fn is_equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_printed() {
        let key = RepositoryKey::from_bytes(3, Zeroizing::new([0xAB; KEY_SIZE]));
        assert_eq!(format!("{key:?}"), "RepositoryKey { epoch: 3, .. }");
    }

    #[test]
    fn derived_keys_differ_from_each_other_and_between_keys() {
        let one = RepositoryKey::generate(1);
        let other = RepositoryKey::generate(1);
        let all = [
            one.content_root(),
            one.tail_root(),
            one.record_key(),
            other.content_root(),
            other.tail_root(),
            other.record_key(),
        ];
        for (index, key) in all.iter().enumerate() {
            assert!(!all[..index].contains(key));
        }
        assert_ne!(one.check_value(), other.check_value());
    }
}
