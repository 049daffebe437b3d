//! Where a tablespace goes that is not to go back to its old place: `--tablespace OLD=NEW`.

use std::path::PathBuf;
use std::str::FromStr;

use crate::Error;

/// The new place of one tablespace. A `=` within a path is written `\=`, as for `pg_basebackup`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablespaceMapping {
    /// Where it was on the server that was backed up.
    pub old: PathBuf,
    /// Where it is to be.
    pub new: PathBuf,
}

impl FromStr for TablespaceMapping {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Mapping { text: text.to_owned() };
        let equals = |(at, _): &(usize, &str)| !text.get(..*at).unwrap_or_default().ends_with('\\');
        let mut separators = text.match_indices('=').filter(equals);
        let (Some((at, _)), None) = (separators.next(), separators.next()) else {
            return Err(wrong());
        };
        let path = |part: Option<&str>| {
            let path = PathBuf::from(part?.replace("\\=", "="));
            path.is_absolute().then_some(path)
        };
        let old = path(text.get(..at)).ok_or_else(wrong)?;
        let new = path(text.get(at + 1..)).ok_or_else(wrong)?;
        Ok(Self { old, new })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TablespaceMapping, Error> {
        text.parse()
    }

    #[test]
    fn both_sides_are_absolute_and_may_hold_an_escaped_sign() {
        let mapping = parse("/srv/a\\=b=/mnt/c").unwrap();
        assert_eq!(mapping.old, PathBuf::from("/srv/a=b"));
        assert_eq!(mapping.new, PathBuf::from("/mnt/c"));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "/a", "/a=", "=/a", "a=/b", "/a=b", "/a=/b=/c", "/a\\=/b"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
