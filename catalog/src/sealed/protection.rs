//! How an object is encrypted: a key of its own, derived from the repository key and what it is.
//!
//! ```text
//! salt      32 random bytes, new for each object
//! info      "pgkeep/1 object" | suite u16 | repository | key epoch u32 | kind u8 | canonical name
//! frame key | commitment  =  HKDF(content root, salt, info), 64 bytes
//! tail key                =  HKDF(tail root,    salt, info), 32 bytes
//!
//! nonce     number of the frame, 11 bytes, big endian | 0: a frame, 1: the last frame, 2: the tail
//! AAD       SHA-256 of the header | for a frame: raw length u32, codec u8
//! ```
//!
//! Numbers are little endian but where it is said. As every object has its own key, nonces may count;
//! no key ever sees more than a few million of them.
//!
//! Invariants:
//! * the commitment is compared before anything is decrypted: a key that is not the right one is told
//!   from damage, and no two keys open one object;
//! * what is moved to another name, kind, cluster or repository has another key or another header and
//!   does not open; frames that are cut off, repeated or in another order do not either.

use std::fmt;

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use minicbor::{Decode, Encode};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Header;
use crate::key::{Keyring, RepositoryKey, derive, is_equal};
use crate::store::ObjectKey;
use crate::{Error, Result};

/// What authentication adds to each frame and to the tail.
pub(super) const TAG_SIZE: usize = 16;

const NONCE_SIZE: usize = 12;

/// In the header of an encrypted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Protection {
    /// Which algorithms are used.
    #[n(0)]
    pub suite: Suite,
    /// Epoch of the repository key.
    #[n(1)]
    pub key_epoch: u32,
    #[cbor(n(2), with = "minicbor::bytes")]
    salt: [u8; 32],
    #[cbor(n(3), with = "minicbor::bytes")]
    commitment: [u8; 32],
}

/// A fixed set of algorithms. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Suite {
    /// AES-256-GCM with keys by HKDF-SHA-256.
    #[n(1)]
    Aes256Gcm,
}

/// Encrypts or decrypts one object.
pub(super) struct ObjectCipher {
    frames: Aes256Gcm,
    tail: Aes256Gcm,
    header_digest: [u8; 32],
}

/// What of the raw bytes a frame's tag binds besides the stored ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameBinding {
    pub(super) number: u64,
    pub(super) is_last: bool,
    pub(super) raw_length: u32,
    pub(super) codec: u8,
}

impl Protection {
    /// Of a new object: a fresh salt, and the commitment that belongs to it.
    pub(super) fn new(header: &Header, key: &RepositoryKey) -> Self {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).expect("the kernel has random numbers");
        Self::with_salt(header, key, salt)
    }

    pub(super) fn with_salt(header: &Header, key: &RepositoryKey, salt: [u8; 32]) -> Self {
        let suite = Suite::Aes256Gcm;
        let (key_epoch, commitment) = (key.epoch(), [0; 32]);
        let unsealed = Self { suite, key_epoch, salt, commitment };
        let (_, commitment) = unsealed.content_keys(header, key);
        Self { commitment, ..unsealed }
    }

    /// The key of the frames, and the commitment to it.
    fn content_keys(
        &self,
        header: &Header,
        key: &RepositoryKey,
    ) -> (Zeroizing<[u8; 32]>, [u8; 32]) {
        let info = self.info(header);
        let keys: Zeroizing<[u8; 64]> =
            Zeroizing::new(derive(key.content_root().as_slice(), Some(&self.salt), &info));
        let (mut frame_key, mut commitment) = (Zeroizing::new([0; 32]), [0; 32]);
        let (first, second) = keys.split_at(32);
        frame_key.copy_from_slice(first);
        commitment.copy_from_slice(second);
        (frame_key, commitment)
    }

    fn info(&self, header: &Header) -> Vec<u8> {
        let suite: u16 = match self.suite {
            Suite::Aes256Gcm => 1,
        };
        let mut info = b"pgkeep/1 object".to_vec();
        info.extend(suite.to_le_bytes());
        info.extend(header.repository.as_bytes());
        info.extend(self.key_epoch.to_le_bytes());
        info.push(header.kind.number());
        info.extend(header.key.as_str().as_bytes());
        info
    }
}

impl ObjectCipher {
    /// The cipher of the object with this header, whose encoded form is `encoded`; none if it is not
    /// encrypted. What the header says decides nothing: the keyring does. Errors name `key`, where the
    /// object was found.
    pub(super) fn of(
        key: &ObjectKey,
        header: &Header,
        encoded: &[u8],
        keys: &Keyring,
    ) -> Result<Option<Box<Self>>> {
        let protection = match (header.protection, keys.is_on()) {
            (None, false) => return Ok(None),
            (None, true) => return Err(Error::Unencrypted { key: key.clone() }),
            (Some(_), false) => return Err(Error::NoKey { what: key.to_string() }),
            (Some(protection), true) => protection,
        };
        let epoch = protection.key_epoch;
        let repository_key =
            keys.get(epoch).ok_or_else(|| Error::KeyEpochMissing { key: key.clone(), epoch })?;
        let (frame_key, commitment) = protection.content_keys(header, repository_key);
        if !is_equal(&commitment, &protection.commitment) {
            let what =
                "its key commitment differs: the header was changed, or made with another key";
            return Err(Error::damaged(key, what));
        }
        let info = protection.info(header);
        let tail_root = repository_key.tail_root();
        let tail_key: Zeroizing<[u8; 32]> =
            Zeroizing::new(derive(tail_root.as_slice(), Some(&protection.salt), &info));
        Ok(Some(Box::new(Self {
            frames: Aes256Gcm::new((&*frame_key).into()),
            tail: Aes256Gcm::new((&*tail_key).into()),
            header_digest: Sha256::digest(encoded).into(),
        })))
    }

    /// Encrypts what stands in `stored` from `start` on, and appends the tag.
    pub(super) fn seal_frame(&self, binding: FrameBinding, stored: &mut Vec<u8>, start: usize) {
        let frame = stored.get_mut(start..).unwrap_or_default();
        let (nonce, aad) = self.frame_nonce(binding);
        let tag = self.frames.encrypt_inout_detached(&nonce, &aad, frame.into());
        stored.extend_from_slice(&tag.expect("a frame is shorter than 64 GiB"));
    }

    /// Decrypts a stored frame into `clear`, which is shorter by the tag. None if it is not authentic.
    pub(super) fn open_frame(
        &self,
        binding: FrameBinding,
        stored: &[u8],
        clear: &mut [u8],
    ) -> Option<()> {
        let (nonce, aad) = self.frame_nonce(binding);
        open(&self.frames, &nonce, &aad, stored, clear)
    }

    /// Encrypts the tail.
    pub(super) fn seal_tail(&self, tail: &mut Vec<u8>) {
        let sealed = self.tail.encrypt_inout_detached(
            &nonce(0, Purpose::Tail),
            &self.header_digest,
            tail.as_mut_slice().into(),
        );
        tail.extend_from_slice(&sealed.expect("a tail is shorter than 64 GiB"));
    }

    /// Decrypts the tail. None if it is not authentic.
    pub(super) fn open_tail(&self, stored: &[u8]) -> Option<Vec<u8>> {
        let mut clear = vec![0; stored.len().checked_sub(TAG_SIZE)?];
        open(&self.tail, &nonce(0, Purpose::Tail), &self.header_digest, stored, &mut clear)?;
        Some(clear)
    }

    fn frame_nonce(&self, binding: FrameBinding) -> (Nonce<aes_gcm::aead::consts::U12>, [u8; 37]) {
        let FrameBinding { number, is_last, raw_length, codec } = binding;
        let purpose = if is_last { Purpose::LastFrame } else { Purpose::Frame };
        let mut aad = [0; 37];
        let (digest, rest) = aad.split_at_mut(32);
        digest.copy_from_slice(&self.header_digest);
        let (length, last) = rest.split_at_mut(4);
        length.copy_from_slice(&raw_length.to_le_bytes());
        last.fill(codec);
        (nonce(number, purpose), aad)
    }
}

impl fmt::Debug for ObjectCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectCipher").finish_non_exhaustive()
    }
}

/// What a nonce is used for: its last byte.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Frame = 0,
    LastFrame = 1,
    Tail = 2,
}

fn nonce(number: u64, purpose: Purpose) -> Nonce<aes_gcm::aead::consts::U12> {
    let mut nonce = [0; NONCE_SIZE];
    let (counter, last) = nonce.split_at_mut(NONCE_SIZE - 1);
    let (_, low) = counter.split_at_mut(counter.len() - size_of::<u64>());
    low.copy_from_slice(&number.to_be_bytes());
    last.fill(purpose as u8);
    nonce.into()
}

fn open(
    cipher: &Aes256Gcm,
    nonce: &Nonce<aes_gcm::aead::consts::U12>,
    aad: &[u8],
    sealed: &[u8],
    clear: &mut [u8],
) -> Option<()> {
    let (content, tag) = sealed.split_at_checked(clear.len())?;
    let tag = Tag::try_from(tag).ok()?;
    let buffer = InOutBuf::new(content, clear).ok()?;
    cipher.decrypt_inout_detached(nonce, aad, buffer, &tag).ok()
}
