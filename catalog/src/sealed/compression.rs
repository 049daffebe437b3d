//! How frames are made smaller.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// The level of zstd that is meant when none is said: a quarter smaller than LZ4 at two thirds of its
/// speed.
const ZSTD_LEVEL_DEFAULT: i32 = 1;
const ZSTD_LEVEL_MIN: i32 = -7;
const ZSTD_LEVEL_MAX: i32 = 19;

/// The compression of new objects. Every frame says for itself how it is stored, so a change
/// concerns only what is written later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Compression {
    /// Frames are stored as they are.
    None,
    /// LZ4 blocks: faster than the disk that WAL comes from.
    #[default]
    Lz4,
    /// Zstandard frames of this level, from -7 to 19: smaller, slower.
    Zstd(i32),
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        match (name, level) {
            ("none", None) => Ok(Self::None),
            ("lz4", None) => Ok(Self::Lz4),
            ("zstd", None) => Ok(Self::Zstd(ZSTD_LEVEL_DEFAULT)),
            ("zstd", Some(level)) => {
                let level = level.parse().ok();
                let level = level.filter(|l| (ZSTD_LEVEL_MIN..=ZSTD_LEVEL_MAX).contains(l));
                level.map(Self::Zstd).ok_or_else(|| {
                    format!("zstd has levels from {ZSTD_LEVEL_MIN} to {ZSTD_LEVEL_MAX}")
                })
            }
            _ => Err(format!(
                "compression {text:?} is not \"lz4\", \"zstd\", \"zstd:LEVEL\", \"none\""
            )),
        }
    }
}

impl TryFrom<String> for Compression {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Lz4 => f.write_str("lz4"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_meant() {
        for (text, expected) in [
            ("none", Compression::None),
            ("lz4", Compression::Lz4),
            ("zstd", Compression::Zstd(1)),
            ("zstd:-7", Compression::Zstd(-7)),
            ("zstd:19", Compression::Zstd(19)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for text in ["", "gzip", "lz4:1", "zstd:", "zstd:20", "zstd:x", "ZSTD"] {
            assert!(text.parse::<Compression>().is_err(), "{text}");
        }
    }
}
