//! One message of the copy that carries a base backup, Postgres 15 and later.
//!
//! There is no message for the end of an archive: it ends where the next archive or the manifest
//! begins, or with the copy.
//!
//! See `bbsink_copystream_ops` in Postgres' `src/backend/backup/basebackup_copy.c`.

use std::str;

use bytes::{Buf, Bytes};

use crate::{Error, Result};

/// Longest path of a tablespace (`MAXPGPATH`).
const TABLESPACE_PATH_BYTES_MAX: usize = 1024;

/// What the payload of one `CopyData` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupMessage {
    /// An archive begins.
    Archive {
        /// The tablespace in it; none for the main data directory.
        tablespace: Option<Tablespace>,
    },
    /// The manifest begins.
    Manifest,
    /// Bytes of the archive or manifest that began last.
    Data(Bytes),
    /// Bytes of all archives sent so far.
    Progress(u64),
}

impl BackupMessage {
    /// Reads the whole payload of one `CopyData`.
    pub fn decode(mut payload: Bytes) -> Result<Self> {
        match payload.try_get_u8() {
            Ok(b'd') => Ok(Self::Data(payload)),
            Ok(b'n') => Ok(Self::Archive { tablespace: decode_archive(&payload)? }),
            Ok(b'm') if payload.is_empty() => Ok(Self::Manifest),
            Ok(b'p') => match (payload.try_get_i64().map(u64::try_from), payload.is_empty()) {
                (Ok(Ok(bytes)), true) => Ok(Self::Progress(bytes)),
                _ => Err(Error::protocol("malformed progress of a base backup")),
            },
            _ => Err(Error::protocol("unknown message in the copy of a base backup")),
        }
    }
}

/// A tablespace as a base backup names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tablespace {
    /// Name of its link in `pg_tblspc`.
    pub oid: u32,
    /// Its directory on the server, in the encoding of the server's file system. Relative to the
    /// data directory if the tablespace lives in `pg_tblspc` itself.
    pub path: Bytes,
}

/// Reads name and path of an archive: two strings, each ended by a zero byte.
///
/// The name is `base.tar` or `<oid>.tar`, since we never ask for compression.
fn decode_archive(payload: &Bytes) -> Result<Option<Tablespace>> {
    let mut strings = payload.split(|byte| *byte == 0);
    let (Some(name), Some(path), Some([]), None) =
        (strings.next(), strings.next(), strings.next(), strings.next())
    else {
        return Err(Error::protocol("malformed name of an archive in a base backup"));
    };
    if name == b"base.tar" && path.is_empty() {
        return Ok(None);
    }
    let oid = str::from_utf8(name)
        .ok()
        .and_then(|name| name.strip_suffix(".tar"))
        .filter(|oid| oid.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|oid| oid.parse().ok());
    match oid {
        Some(oid) if (1..TABLESPACE_PATH_BYTES_MAX).contains(&path.len()) => {
            Ok(Some(Tablespace { oid, path: payload.slice_ref(path) }))
        }
        _ => Err(Error::text("not an archive of a base backup", &String::from_utf8_lossy(name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(payload: &'static [u8]) -> Result<BackupMessage> {
        BackupMessage::decode(Bytes::from_static(payload))
    }

    #[test]
    fn every_message_is_understood() {
        let space = Tablespace { oid: 16384, path: Bytes::from_static(b"/sp\xFFce") };
        let messages = [
            (&b"nbase.tar\0\0"[..], BackupMessage::Archive { tablespace: None }),
            (b"n16384.tar\0/sp\xFFce\0", BackupMessage::Archive { tablespace: Some(space) }),
            (b"m", BackupMessage::Manifest),
            (b"dxyz", BackupMessage::Data(Bytes::from_static(b"xyz"))),
            (b"d", BackupMessage::Data(Bytes::new())),
            (b"p\0\0\0\0\0\0\x01\0", BackupMessage::Progress(256)),
        ];
        for (payload, message) in messages {
            assert_eq!(decode(payload).unwrap(), message);
        }
    }

    #[test]
    fn malformed_messages_are_refused() {
        let payloads = [
            &b""[..],
            b"x",
            b"m\0",
            b"p\0\0\0",
            b"p\xFF\0\0\0\0\0\0\0",
            b"p\0\0\0\0\0\0\0\0\0",
            b"n",
            b"nbase.tar\0",
            b"nbase.tar\0\0\0",
            b"nbase.tar\0/somewhere\0",
            b"n16384.tar\0\0",
            b"n+1.tar\0/space\0",
            b"n.tar\0/space\0",
            b"n99999999999.tar\0/space\0",
            b"n../16384.tar\0/space\0",
        ];
        for payload in payloads {
            assert!(decode(payload).is_err(), "{payload:?}");
        }
    }

    proptest! {
        #[test]
        fn random_bytes_do_not_panic(payload: Vec<u8>) {
            let _ = BackupMessage::decode(payload.into());
        }
    }
}
