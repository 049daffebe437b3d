//! One key under another: AES-256-GCM, 48 bytes.
//!
//! The nonce is twelve zero bytes. That is safe because no wrapping key is used twice: each is derived
//! with 32 random bytes of salt that are new for each slot and each link.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use zeroize::Zeroizing;

use super::repository_key::KEY_SIZE;

/// A wrapped key and its tag, in bytes.
pub(super) const WRAPPED_SIZE: usize = KEY_SIZE + TAG_SIZE;

const TAG_SIZE: usize = 16;
const NONCE: [u8; 12] = [0; 12];

/// Wraps `key` under `with`, bound to `aad`.
pub(super) fn wrap(
    with: &[u8; KEY_SIZE],
    aad: &[u8; 32],
    key: &[u8; KEY_SIZE],
) -> [u8; WRAPPED_SIZE] {
    let cipher = Aes256Gcm::new(with.into());
    let mut wrapped = [0; WRAPPED_SIZE];
    let (content, tag) = wrapped.split_at_mut(KEY_SIZE);
    content.copy_from_slice(key);
    let made = cipher.encrypt_inout_detached(&Nonce::from(NONCE), aad, content.into());
    tag.copy_from_slice(&made.expect("32 bytes are less than AES-GCM can take"));
    wrapped
}

/// The key that was wrapped; none if anything differs.
pub(super) fn unwrap(
    with: &[u8; KEY_SIZE],
    aad: &[u8; 32],
    wrapped: &[u8; WRAPPED_SIZE],
) -> Option<Zeroizing<[u8; KEY_SIZE]>> {
    let cipher = Aes256Gcm::new(with.into());
    let (content, tag) = wrapped.split_at(KEY_SIZE);
    let mut key = Zeroizing::new([0; KEY_SIZE]);
    key.copy_from_slice(content);
    let tag = Tag::try_from(tag).ok()?;
    let opened =
        cipher.decrypt_inout_detached(&Nonce::from(NONCE), aad, key.as_mut_slice().into(), &tag);
    opened.ok().map(|()| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_key_comes_back_and_no_bit_may_differ() {
        let wrapped = wrap(&[1; 32], &[2; 32], &[3; 32]);
        assert_eq!(*unwrap(&[1; 32], &[2; 32], &wrapped).unwrap(), [3; 32]);
        assert!(unwrap(&[9; 32], &[2; 32], &wrapped).is_none());
        assert!(unwrap(&[1; 32], &[9; 32], &wrapped).is_none());
        for bit in 0..WRAPPED_SIZE * 8 {
            let mut damaged = wrapped;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(unwrap(&[1; 32], &[2; 32], &damaged).is_none(), "bit {bit}");
        }
    }
}
