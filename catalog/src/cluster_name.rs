//! The operator's name for a cluster; it is the first component of every key of it.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// The operator's name for a cluster: a key component of `a-z`, `0-9`, `-` and `_`, up to 63 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(String);

impl ClusterName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClusterName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        let reserved = ["repository", "keys"].contains(&text);
        if text.is_empty() || text.len() > 63 || reserved || !text.bytes().all(allowed) {
            return Err(Error::Invalid {
                what: format!("cluster name {text:?}: 1 to 63 of a-z, 0-9, - and _"),
            });
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_key_component_and_none_of_ours() {
        for name in ["main", "db-1", "a_b", "0"] {
            assert_eq!(name.parse::<ClusterName>().unwrap().to_string(), name);
        }
        for name in ["", "Main", "a.b", "a/b", "..", "repository", "keys", &"x".repeat(64)] {
            assert!(name.parse::<ClusterName>().is_err(), "{name}");
        }
    }
}
