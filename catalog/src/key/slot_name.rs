//! The name of a key slot, as the operator knows it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::link::LINK_NAME;
use crate::{Error, Result};

/// The name of a key slot: 1 to 63 of `a-z`, `0-9`, `-` and `_`; not `previous`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct SlotName(String);

impl SlotName {
    /// The slot for daily work that `init` makes.
    pub fn encryption() -> Self {
        Self("encryption".to_owned())
    }

    /// The slot for the day when the other secret is lost; `init` makes it, too.
    pub fn recovery() -> Self {
        Self("recovery".to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first of `encryption-2`, `encryption-3` and so on that is not taken.
    pub(super) fn successor(&self, is_taken: impl Fn(&Self) -> bool) -> Self {
        // Room for the number; names are ASCII.
        let stem: String = self.stem().chars().take(40).collect();
        let mut names = (2_u64..).map(|number| Self(format!("{stem}-{number}")));
        names.find(|name| !is_taken(name)).unwrap_or_else(|| self.clone())
    }

    /// Whether the two differ only in their number: one came after the other.
    pub(super) fn is_kin(&self, other: &Self) -> bool {
        self.stem().chars().take(40).eq(other.stem().chars().take(40))
    }

    /// The name without the number of a successor.
    fn stem(&self) -> &str {
        let is_number =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match self.0.rsplit_once('-') {
            Some((stem, number)) if is_number(number) && !stem.is_empty() => stem,
            _ => &self.0,
        }
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SlotName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        let is_good = !text.is_empty() && text.len() <= 63 && text.bytes().all(allowed);
        if is_good && text != LINK_NAME {
            return Ok(Self(text.to_owned()));
        }
        let shown: String = text.chars().take(80).collect();
        let what =
            format!("name of a key slot {shown:?}: 1 to 63 of a-z, 0-9, - and _, not {LINK_NAME}");
        Err(Error::Invalid { what })
    }
}

impl TryFrom<String> for SlotName {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_key_component_and_not_that_of_the_link() {
        for name in ["encryption", "recovery", "encryption-2", "a_b"] {
            assert_eq!(name.parse::<SlotName>().unwrap().to_string(), name);
        }
        for name in ["", "previous", "A", "a.b", "a/b", "..", &"x".repeat(64)] {
            assert!(name.parse::<SlotName>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_successor_counts_on() {
        let next = |name: &str, taken: &[&str]| {
            let name: SlotName = name.parse().unwrap();
            name.successor(|name| taken.contains(&name.as_str())).to_string()
        };
        assert_eq!(next("encryption", &["encryption"]), "encryption-2");
        assert_eq!(next("encryption-2", &["encryption-2"]), "encryption-3");
        assert_eq!(next("laptop-of-ann", &[]), "laptop-of-ann-2");
        let long: SlotName = "x".repeat(63).parse().unwrap();
        let after: SlotName = next(long.as_str(), &[]).parse().unwrap();
        assert!(after.is_kin(&long) && !after.is_kin(&SlotName::recovery()));
    }
}
