//! Postgres' own `backup_manifest`: kept byte for byte, and checked before it is kept.
//!
//! Its last line holds the SHA-256 of everything before that line. It is never taken apart and written
//! anew: `pg_verifybackup` judges the bytes. See `VerifyManifestChecksum` in Postgres'
//! `src/bin/pg_verifybackup/parse_manifest.c`.

use sha2::{Digest, Sha256};

use crate::{Error, Result};

const CHECKSUM: &[u8] = b"\n\"Manifest-Checksum\": \"";

/// Checks a manifest against the checksum in its last line.
pub fn check_manifest(manifest: &[u8]) -> Result<()> {
    let wrong = |what: &str| Error::protocol(format!("backup_manifest {what}"));
    let at = manifest.windows(CHECKSUM.len()).rposition(|window| window == CHECKSUM);
    // The newline before the last line still counts.
    let (body, last) = at
        .and_then(|at| manifest.split_at_checked(at + 1))
        .ok_or_else(|| wrong("has no checksum"))?;
    let told = last.get(CHECKSUM.len() - 1..).and_then(|rest| rest.strip_suffix(b"\"}\n"));
    let told = told.ok_or_else(|| wrong("does not end with its checksum"))?;
    let found: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    if found.as_bytes() == told { Ok(()) } else { Err(wrong("has another checksum than it says")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &[u8] = include_bytes!("../../../tests/golden/15/base_backup/backup_manifest");

    #[test]
    fn the_manifest_of_a_real_server_is_sound() {
        check_manifest(GOLDEN).unwrap();
    }

    #[test]
    fn a_manifest_that_was_changed_or_cut_is_not() {
        for at in [0, GOLDEN.len() / 2, GOLDEN.len() - 4, GOLDEN.len() - 1] {
            let mut changed = GOLDEN.to_vec();
            changed[at] ^= 1;
            assert!(check_manifest(&changed).is_err(), "changed at {at}");
            assert!(check_manifest(&GOLDEN[..at]).is_err(), "cut at {at}");
        }
    }
}
