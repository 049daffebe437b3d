//! The name of an object in a store.
//!
//! A key is also a path below a local root and a part of a URL, so its alphabet is small and a
//! component never begins with a dot: no `..`, nothing hidden, nothing to escape.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::{Error, Result};

const KEY_LENGTH_MAX: usize = 512;

/// Components of `[A-Za-z0-9._-]`, joined by `/`. Ordered by bytes. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Arc<str>);

impl ObjectKey {
    /// The text of the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Refuses a listing prefix that is neither empty nor whole components ending in `/`.
    pub(super) fn check_prefix(prefix: &str) -> Result<()> {
        match prefix.strip_suffix('/') {
            None if prefix.is_empty() => Ok(()),
            Some(path) if is_key(path) => Ok(()),
            _ => Err(Error::Invalid { what: format!("not a prefix of keys: {prefix:?}") }),
        }
    }
}

/// Whether `text` may stand between two slashes of a key.
pub(super) fn is_component(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

fn is_key(text: &str) -> bool {
    text.len() <= KEY_LENGTH_MAX && text.split('/').all(is_component)
}

impl FromStr for ObjectKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if is_key(text) {
            Ok(Self(text.into()))
        } else {
            let shown: String = text.chars().take(120).collect();
            Err(Error::Invalid { what: format!("not an object key: {shown:?}") })
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<C> minicbor::Encode<C> for ObjectKey {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        encoder.str(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for ObjectKey {
    fn decode(
        decoder: &mut minicbor::Decoder<'b>,
        _: &mut C,
    ) -> Result<Self, minicbor::decode::Error> {
        decoder.str()?.parse().map_err(|_| minicbor::decode::Error::message("not an object key"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_the_layout_are_keys() {
        for text in [
            "repository",
            "main/1/cluster",
            "main/1/wal/00000001/000000010000000A000000FE",
            "main/1/backups/20261122T020000Z-full/packs/1",
            "a_b-c.d",
        ] {
            assert_eq!(text.parse::<ObjectKey>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn nothing_that_could_leave_the_root_is_a_key() {
        let long = "a".repeat(KEY_LENGTH_MAX + 1);
        for text in [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", ".tmp/x", "a b", "a\\b", "ä", "a\0",
            &long,
        ] {
            assert!(text.parse::<ObjectKey>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_prefix_is_whole_components() {
        for prefix in ["", "a/", "a/b/"] {
            assert!(ObjectKey::check_prefix(prefix).is_ok(), "{prefix:?}");
        }
        for prefix in ["a", "/", "a//", "../", ".tmp/"] {
            assert!(ObjectKey::check_prefix(prefix).is_err(), "{prefix:?}");
        }
    }
}
