//! The head of a sealed object: what it is and where it belongs.
//!
//! ```text
//! "PGKEEP" | version u16 | length u32 | CBOR
//! ```

use minicbor::{Decode, Encode};
use pgkeep_proto::{Lsn, TimelineId};
use uuid::Uuid;

use super::canonical::{self, uuid_bytes};
use super::kind::Kind;
use super::protection::Protection;
use crate::store::ObjectKey;
use crate::{Error, Result};

const MAGIC: &[u8; 6] = b"PGKEEP";
const VERSION: u16 = 1;
const PREFIX_SIZE: usize = 12;

/// Keys and cluster names are short, so no header comes near this.
pub(super) const HEADER_SIZE_MAX: usize = 4096;

/// What a sealed object says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Header {
    /// What it is.
    #[n(0)]
    pub kind: Kind,
    /// The name it was made for. A copy under another name is not the object.
    #[n(1)]
    pub key: ObjectKey,
    /// The repository it was made for.
    #[cbor(n(2), with = "uuid_bytes")]
    pub repository: Uuid,
    /// Name of the cluster; empty for an object of the repository itself.
    #[n(3)]
    pub cluster: String,
    /// Incarnation of the cluster.
    #[n(4)]
    pub incarnation: u32,
    /// Epoch of the writer.
    #[n(5)]
    pub epoch: u64,
    /// How it is encrypted; none if it is not.
    #[n(6)]
    pub protection: Option<Protection>,
    /// The WAL in it, for kinds that hold WAL.
    #[n(7)]
    pub span: Option<Span>,
}

/// A range of WAL on one timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Span {
    /// The timeline.
    #[n(0)]
    pub timeline: TimelineId,
    /// First byte.
    #[n(1)]
    pub from: Lsn,
    /// End, exclusive.
    #[n(2)]
    pub to: Lsn,
}

/// Where an object belongs, as its reader expects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The repository.
    pub repository: Uuid,
    /// Name of the cluster; empty for an object of the repository itself.
    pub cluster: String,
    /// Incarnation of the cluster.
    pub incarnation: u32,
}

impl Header {
    /// The header of an object; whoever seals it adds how it is protected.
    pub fn new(
        kind: Kind,
        key: ObjectKey,
        origin: &Origin,
        epoch: u64,
        span: Option<Span>,
    ) -> Self {
        let Origin { repository, cluster, incarnation } = origin.clone();
        Self { kind, key, repository, cluster, incarnation, epoch, protection: None, span }
    }

    /// Where the object belongs.
    pub fn origin(&self) -> Origin {
        let Self { repository, ref cluster, incarnation, .. } = *self;
        Origin { repository, cluster: cluster.clone(), incarnation }
    }

    /// The bytes with which the object begins.
    pub(super) fn encode(&self) -> Vec<u8> {
        let body = canonical::encode(self);
        let length = u32::try_from(body.len()).ok();
        let length = length.filter(|_| PREFIX_SIZE + body.len() <= HEADER_SIZE_MAX);
        let length = length.expect("a header holds short names only");
        [MAGIC.as_slice(), &VERSION.to_le_bytes(), &length.to_le_bytes(), &body].concat()
    }

    /// Reads the header off the front of the object at `key`; also gives its length there.
    pub(super) fn decode(key: &ObjectKey, front: &[u8]) -> Result<(Self, usize)> {
        let damaged = |what| Error::damaged(key, what);
        let (prefix, rest) =
            front.split_first_chunk::<PREFIX_SIZE>().ok_or_else(|| damaged("it is cut short"))?;
        let [magic @ .., v0, v1, l0, l1, l2, l3] = prefix;
        if magic != MAGIC {
            return Err(damaged("it does not begin as a sealed object"));
        }
        let version = u16::from_le_bytes([*v0, *v1]);
        if version != VERSION {
            return Err(Error::OtherFormat {
                location: key.to_string(),
                format: version.into(),
                supported: VERSION.into(),
            });
        }
        let length = usize::try_from(u32::from_le_bytes([*l0, *l1, *l2, *l3])).ok();
        let header = length
            .and_then(|length| rest.get(..length))
            .and_then(canonical::decode)
            .ok_or_else(|| damaged("its header cannot be read"))?;
        Ok((header, PREFIX_SIZE + length.unwrap_or_default()))
    }

    /// Refuses an object that is sound but not the one that was asked for.
    pub(super) fn expect(&self, key: &ObjectKey, kind: Kind, origin: &Origin) -> Result<()> {
        let foreign = |what| Err(Error::Foreign { key: key.clone(), what });
        if self.kind != kind {
            return foreign(format!("a {}, not a {kind}", self.kind));
        }
        if self.key != *key {
            return foreign(format!("made for the name {}", self.key));
        }
        if self.repository != origin.repository {
            return foreign(format!("made for the repository {}", self.repository));
        }
        if self.cluster != origin.cluster || self.incarnation != origin.incarnation {
            let Self { cluster, incarnation, .. } = self;
            return foreign(format!("made for incarnation {incarnation} of cluster {cluster:?}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let origin =
            Origin { repository: Uuid::from_u128(7), cluster: "main".to_owned(), incarnation: 1 };
        let key = "main/1/cluster".parse().unwrap();
        Header::new(Kind::Cluster, key, &origin, 3, None)
    }

    #[test]
    fn a_header_comes_back() {
        let (from, to) = (Lsn::new(0x100_0000), Lsn::new(0x200_0000));
        let span = Span { timeline: TimelineId::FIRST, from, to };
        for header in [header(), Header { span: Some(span), ..header() }] {
            let bytes = header.encode();
            let decoded = Header::decode(&header.key, &bytes).unwrap();
            assert_eq!(decoded, (header, bytes.len()));
        }
    }

    #[test]
    fn the_form_on_disk_does_not_change_by_accident() {
        let mut expected = b"PGKEEP\x01\0\x29\0\0\0".to_vec();
        expected.extend(b"\x86\x00\x6Emain/1/cluster\x50");
        expected.extend(Uuid::from_u128(7).as_bytes());
        expected.extend(b"\x64main\x01\x03");
        assert_eq!(header().encode(), expected);
    }

    #[test]
    fn a_later_format_is_told_from_damage() {
        let mut bytes = header().encode();
        bytes[6] = 2;
        let error = Header::decode(&header().key, &bytes).unwrap_err();
        assert!(matches!(error, Error::OtherFormat { .. }));
    }

    #[test]
    fn what_belongs_elsewhere_is_foreign() {
        let (header, origin) = (header(), header().origin());
        header.expect(&header.key, Kind::Cluster, &origin).unwrap();
        let other = "main/2/cluster".parse().unwrap();
        let refused = [
            header.expect(&other, Kind::Cluster, &origin),
            header.expect(&header.key, Kind::Gap, &origin),
            header.expect(
                &header.key,
                Kind::Cluster,
                &Origin { repository: Uuid::nil(), ..origin.clone() },
            ),
            header.expect(&header.key, Kind::Cluster, &Origin { incarnation: 2, ..origin }),
        ];
        for refusal in refused {
            assert!(matches!(refusal, Err(Error::Foreign { .. })));
        }
    }
}
