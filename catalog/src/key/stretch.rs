//! How a passphrase becomes a key: Argon2id (RFC 9106), version 19, 32 bytes, without secret or data.
//!
//! The parameters stand in the slot, which anybody who can write to the store may have written: what
//! is too cheap to protect, or too dear to compute, is refused before it is computed.

use std::ops::RangeInclusive;

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::repository_key::KEY_SIZE;

/// Memory in KiB that a slot may ask for: 64 MiB to 1 GiB.
const MEMORY_KIB: RangeInclusive<u32> = 64 << 10..=1 << 20;
/// Passes over the memory that a slot may ask for.
const PASSES: RangeInclusive<u32> = 1..=16;
/// Lanes that a slot may ask for; they are computed one after the other here.
const LANES: RangeInclusive<u32> = 1..=8;

/// Parameters of Argon2id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stretch {
    /// Memory in KiB.
    pub(super) memory_kib: u32,
    /// Passes over it.
    pub(super) passes: u32,
    /// Lanes.
    pub(super) lanes: u32,
}

impl Default for Stretch {
    /// 256 MiB and three passes: about a second of one core, and dear to who must try millions.
    fn default() -> Self {
        Self { memory_kib: 256 << 10, passes: 3, lanes: 1 }
    }
}

impl Stretch {
    /// What is wrong with parameters that somebody else wrote.
    pub(super) fn problem(&self) -> Option<String> {
        let is_allowed = MEMORY_KIB.contains(&self.memory_kib)
            && PASSES.contains(&self.passes)
            && LANES.contains(&self.lanes);
        (!is_allowed).then(|| {
            format!(
                "Argon2id with {} KiB, {} passes and {} lanes is not within what is allowed",
                self.memory_kib, self.passes, self.lanes
            )
        })
    }

    /// The key that the passphrase and this salt give; none if the parameters are not allowed.
    ///
    /// Blocks, for about a second.
    pub(super) fn derive(
        &self,
        passphrase: &[u8],
        salt: &[u8; KEY_SIZE],
    ) -> Option<Zeroizing<[u8; KEY_SIZE]>> {
        if self.problem().is_some() {
            return None;
        }
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(KEY_SIZE)).ok()?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut key = Zeroizing::new([0; KEY_SIZE]);
        argon2.hash_password_into(passphrase, salt, key.as_mut_slice()).ok()?;
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As cheap as it may be.
    const CHEAP: Stretch = Stretch { memory_kib: 64 << 10, passes: 1, lanes: 1 };

    #[test]
    fn the_key_depends_on_everything() {
        let key = |stretch: Stretch, passphrase: &[u8], salt| stretch.derive(passphrase, &salt);
        let one = key(CHEAP, b"correct horse", [1; 32]).unwrap();
        assert_eq!(key(CHEAP, b"correct horse", [1; 32]).as_ref(), Some(&one));
        let others = [
            key(CHEAP, b"correct horsf", [1; 32]),
            key(CHEAP, b"correct horse", [2; 32]),
            key(Stretch { passes: 2, ..CHEAP }, b"correct horse", [1; 32]),
        ];
        assert!(others.iter().flatten().all(|other| *other != one));
    }

    #[test]
    fn what_a_hostile_slot_asks_for_is_refused() {
        for stretch in [
            Stretch { memory_kib: (1 << 20) + 1, ..CHEAP },
            Stretch { memory_kib: (64 << 10) - 1, ..CHEAP },
            Stretch { passes: 17, ..CHEAP },
            Stretch { passes: 0, ..CHEAP },
            Stretch { lanes: u32::MAX, ..CHEAP },
        ] {
            assert!(stretch.problem().is_some(), "{stretch:?}");
            assert!(stretch.derive(b"correct horse", &[0; 32]).is_none());
        }
        assert_eq!(Stretch::default().problem(), None);
    }
}
