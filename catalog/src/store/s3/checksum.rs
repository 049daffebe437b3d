//! CRC-32 on the way to the store: what is sent, and what the store says that it got.
//!
//! It is S3's `x-amz-checksum-crc32`: big-endian, in base64. We compute it ourselves, so that no
//! request is sent in chunks with a trailer, which older stores do not understand.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::config::ChecksumMode;
use crate::{Error, Result};

/// What is sent with `body`; none if the store is not to be given any.
pub(super) fn of(mode: ChecksumMode, body: &[u8]) -> Option<String> {
    match mode {
        ChecksumMode::None => None,
        ChecksumMode::Auto | ChecksumMode::Crc32 => {
            Some(STANDARD.encode(crc32fast::hash(body).to_be_bytes()))
        }
    }
}

/// Fails unless the store got what was sent. Trying again may help: the bytes changed on their way.
pub(super) fn compare(
    mode: ChecksumMode,
    sent: Option<&str>,
    returned: Option<&str>,
    what: &str,
) -> Result<()> {
    match (sent, returned) {
        (Some(sent), Some(returned)) if sent != returned => {
            let cause = format!("sent crc32 {sent}, the store has {returned}");
            Err(Error::unavailable(what, cause))
        }
        (Some(_), None) if mode == ChecksumMode::Crc32 => {
            Err(Error::unavailable(what, "the store did not say which checksum it has"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_written_as_s3_writes_it() {
        // The check value of CRC-32/ISO-HDLC, 0xCBF43926.
        assert_eq!(of(ChecksumMode::Auto, b"123456789").unwrap(), "y/Q5Jg==");
        assert_eq!(of(ChecksumMode::None, b"123456789"), None);
    }

    #[test]
    fn another_checksum_is_an_error_and_none_only_where_one_is_demanded() {
        use ChecksumMode::{Auto, Crc32};
        assert!(compare(Auto, Some("a"), Some("a"), "write x").is_ok());
        assert!(compare(Auto, Some("a"), None, "write x").is_ok());
        assert!(compare(Auto, Some("a"), Some("b"), "write x").unwrap_err().is_retryable());
        assert!(compare(Crc32, Some("a"), None, "write x").unwrap_err().is_retryable());
        assert!(compare(ChecksumMode::None, None, Some("b"), "write x").is_ok());
    }
}
