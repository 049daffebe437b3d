//! The tar stream of one archive of a base backup, as Postgres writes it.
//!
//! Place: fed with [`super::BackupMessage::Data`] by whoever takes a backup. Pure: it holds at most
//! one header, and file contents pass through as slices of what was fed.
//!
//! Only what Postgres writes is taken: plain ustar headers for files, directories and symbolic
//! links. Anything else is an error and not skipped, since a backup that left something out would
//! be found wanting at the restore. The header's prefix is among these things: Postgres refuses a
//! name of more than 99 bytes instead of splitting it.
//!
//! Invariants:
//! * a path is a [`BackupPath`]: it cannot leave the directory it is joined to;
//! * the contents of a file add up to its announced size before its [`TarEvent::End`];
//! * the events do not depend on how the stream is chopped, but for the lengths of contents.
//!
//! See `tarCreateHeader` in Postgres' `src/port/tar.c`; Postgres 14 leaves out the two zero blocks
//! at the end, so both ends are taken.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::BackupPath;
use crate::{Error, Result};

/// Size of a header, and what contents are padded to.
const BLOCK: usize = 512;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const KIND: usize = 156;
const TARGET: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const PREFIX: Range<usize> = 345..500;

/// Parser of one archive.
#[derive(Debug, Default)]
pub struct Tar {
    state: State,
    /// The part of a header that has come so far.
    header: BytesMut,
    zero_blocks: u8,
}

impl Tar {
    /// A parser at the beginning of an archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next event off the front of `input`, or `None` if more bytes are needed.
    ///
    /// Call it until it returns `None`, which leaves `input` empty. After an error the archive
    /// cannot be gone on with.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<TarEvent>> {
        loop {
            match self.state {
                State::Header => match self.take_header(input)? {
                    Some(entry) => return Ok(Some(TarEvent::Entry(entry))),
                    None if input.is_empty() => return Ok(None),
                    None => {}
                },
                State::Content { left: 0, padding } => {
                    self.state = State::Padding { left: padding };
                    return Ok(Some(TarEvent::End));
                }
                State::Content { .. } if input.is_empty() => return Ok(None),
                State::Content { left, padding } => {
                    let content = take(input, left);
                    self.state = State::Content { left: left - length(&content), padding };
                    return Ok(Some(TarEvent::Content(content)));
                }
                State::Padding { left: 0 } => self.state = State::Header,
                State::Padding { .. } if input.is_empty() => return Ok(None),
                State::Padding { left } => {
                    let padding = take(input, left);
                    self.state = State::Padding { left: left - length(&padding) };
                }
            }
        }
    }

    /// Judges whether the archive may end here.
    pub fn finish(&self) -> Result<()> {
        let between_entries = matches!(self.state, State::Header | State::Padding { left: 0 });
        if between_entries && self.header.is_empty() && self.zero_blocks != 1 {
            Ok(())
        } else {
            Err(wrong("cut off"))
        }
    }

    /// The entry whose header is completed by `input`. None if it is not yet complete, or if the
    /// block was one of the zero blocks at the end.
    fn take_header(&mut self, input: &mut Bytes) -> Result<Option<TarEntry>> {
        let wanted = BLOCK.saturating_sub(self.header.len()).min(input.len());
        self.header.extend_from_slice(&input.split_to(wanted));
        if self.header.len() < BLOCK {
            return Ok(None);
        }
        let block = self.header.split();
        if block.iter().all(|byte| *byte == 0) {
            self.zero_blocks = self.zero_blocks.saturating_add(1);
            return Ok(None);
        }
        if self.zero_blocks > 0 {
            return Err(wrong("goes on after its end"));
        }
        let entry = TarEntry::decode(&block)?;
        if let EntryKind::File { size } = entry.kind {
            let padding = size.wrapping_neg() % length(&block);
            self.state = State::Content { left: size, padding };
        }
        Ok(Some(entry))
    }
}

/// What happens next in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TarEvent {
    /// A file, directory or link begins.
    Entry(TarEntry),
    /// The next bytes of the file that began last.
    Content(Bytes),
    /// The file that began last is complete; comes for empty files too.
    End,
}

/// A file, directory or link as its header describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TarEntry {
    /// Where it belongs.
    pub path: BackupPath,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u32,
    /// Time of the last change, in seconds since 1970.
    pub mtime: i64,
}

impl TarEntry {
    fn decode(block: &[u8]) -> Result<Self> {
        if field(block, MAGIC)? != b"ustar\x0000" {
            return Err(wrong("a header is not ustar"));
        }
        if number(block, CHECKSUM)? != checksum(block) {
            return Err(wrong("a header has a wrong checksum"));
        }
        if !string(block, PREFIX)?.is_empty() {
            return Err(wrong("a name is longer than Postgres writes"));
        }
        let size = number(block, SIZE)?;
        let kind = match (block.get(KIND), size) {
            (Some(b'0'), size) => EntryKind::File { size },
            (Some(b'5'), 0) => EntryKind::Directory,
            (Some(b'2'), 0) => {
                EntryKind::Symlink { target: Bytes::copy_from_slice(string(block, TARGET)?) }
            }
            _ => return Err(wrong("an entry is not a file, a directory or a symbolic link")),
        };
        let mode = u32::try_from(number(block, MODE)?).ok().filter(|mode| *mode <= 0o7777);
        Ok(Self {
            path: path(string(block, NAME)?, &kind)?,
            kind,
            mode: mode.ok_or_else(|| wrong("a mode is not one of a file"))?,
            mtime: number(block, MTIME)?.cast_signed(),
        })
    }
}

/// What an entry of an archive is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link, which Postgres makes for tablespaces only.
    Symlink {
        /// Where it points: any path of the server, judged by nobody yet.
        target: Bytes,
    },
}

/// Where in an archive the parser stands.
#[derive(Debug, Default)]
enum State {
    #[default]
    Header,
    Content {
        left: u64,
        padding: u64,
    },
    Padding {
        left: u64,
    },
}

/// The path in a name: Postgres begins some with `./` and ends directories and links with `/`.
fn path(name: &[u8], kind: &EntryKind) -> Result<BackupPath> {
    let name = name.strip_prefix(b"./").unwrap_or(name);
    let name = match kind {
        EntryKind::File { .. } => name,
        EntryKind::Directory | EntryKind::Symlink { .. } => name.strip_suffix(b"/").unwrap_or(name),
    };
    BackupPath::new(name)
}

/// Sum of the header's bytes, those of the checksum itself taken as spaces.
fn checksum(block: &[u8]) -> u64 {
    let byte =
        |(at, byte): (usize, &u8)| u64::from(if CHECKSUM.contains(&at) { b' ' } else { *byte });
    block.iter().enumerate().map(byte).sum()
}

/// A number in octal digits ended by a space, or in binary after a byte of 0x80 if digits do not
/// suffice (`print_tar_number`). A time before 1970 comes as the two's complement of 64 bits.
fn number(block: &[u8], range: Range<usize>) -> Result<u64> {
    let malformed = || wrong("a number in a header is malformed");
    match field(block, range)? {
        [0x80, binary @ ..] => binary
            .iter()
            .try_fold(0_u64, |value, byte| value.checked_mul(256)?.checked_add(u64::from(*byte))),
        digits => {
            let digits = digits.strip_suffix(b" ").unwrap_or(digits);
            digits.iter().try_fold(0_u64, |value, digit| {
                let digit = matches!(digit, b'0'..=b'7').then(|| digit - b'0')?;
                value.checked_mul(8)?.checked_add(u64::from(digit))
            })
        }
    }
    .ok_or_else(malformed)
}

/// The text of a field, which ends at a zero byte.
fn string(block: &[u8], range: Range<usize>) -> Result<&[u8]> {
    let field = field(block, range)?;
    Ok(field.split(|byte| *byte == 0).next().unwrap_or(field))
}

fn field(block: &[u8], range: Range<usize>) -> Result<&[u8]> {
    block.get(range).ok_or_else(|| wrong("a header is short"))
}

/// Takes up to `left` bytes off the front of `input`.
fn take(input: &mut Bytes, left: u64) -> Bytes {
    let count = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    input.split_to(count)
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length in memory fits 64 bits")
}

fn wrong(what: &str) -> Error {
    Error::Tar { what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &[u8] = include_bytes!("../../../tests/golden/15/base_backup/base_head.tar");
    const SPACE: &[u8] = include_bytes!("../../../tests/golden/15/base_backup/tablespace.tar");
    const LINK: &[u8] = include_bytes!("../../../tests/golden/15/base_backup/tablespace_link.tar");

    /// The events of an archive fed in chunks, contents joined, and whether it may end there.
    fn events<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<(Vec<TarEvent>, bool)> {
        let mut tar = Tar::new();
        let mut events = Vec::new();
        let mut content = Vec::new();
        for chunk in chunks {
            let mut input = Bytes::copy_from_slice(chunk);
            while let Some(event) = tar.next(&mut input)? {
                match event {
                    TarEvent::Content(bytes) => content.extend_from_slice(&bytes),
                    TarEvent::End => {
                        events.push(TarEvent::Content(std::mem::take(&mut content).into()));
                        events.push(TarEvent::End);
                    }
                    TarEvent::Entry(_) => events.push(event),
                }
            }
            assert!(input.is_empty());
        }
        Ok((events, tar.finish().is_ok()))
    }

    /// A header as Postgres writes it, with its checksum made right.
    fn header(name: &[u8], kind: u8, size: &[u8; 12]) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..name.len()].copy_from_slice(name);
        block[MODE].copy_from_slice(b"0000600 ");
        block[SIZE].copy_from_slice(size);
        block[MTIME].copy_from_slice(b"14716134764 ");
        block[KIND] = kind;
        block[MAGIC].copy_from_slice(b"ustar\x0000");
        seal(block)
    }

    fn seal(mut block: Vec<u8>) -> Vec<u8> {
        let sum = format!("{:07o} ", checksum(&block));
        block[CHECKSUM].copy_from_slice(sum.as_bytes());
        block
    }

    fn entry(block: &[u8]) -> Result<TarEntry> {
        match events([block])?.0.into_iter().next() {
            Some(TarEvent::Entry(entry)) => Ok(entry),
            other => panic!("not an entry: {other:?}"),
        }
    }

    #[test]
    fn a_tablespace_of_postgres_is_understood() {
        let (events, complete) = events([SPACE]).unwrap();
        assert!(complete);
        let [
            TarEvent::Entry(version),
            TarEvent::Entry(database),
            TarEvent::Entry(table),
            TarEvent::Content(content),
            TarEvent::End,
        ] = events.as_slice()
        else {
            panic!("unexpected {events:?}");
        };
        assert_eq!((version.path.to_string().as_str(), version.mode), ("PG_15_202209061", 0o700));
        assert_eq!(database.kind, EntryKind::Directory);
        assert!(table.path.as_bytes().starts_with(b"PG_15_202209061/5/"));
        assert_eq!((&table.kind, table.mode), (&EntryKind::File { size: 8192 }, 0o600));
        assert_eq!(content.len(), 8192);
    }

    #[test]
    fn the_head_of_a_data_directory_is_understood_but_incomplete() {
        let (events, complete) = events([HEAD]).unwrap();
        assert!(!complete);
        let TarEvent::Entry(label) = &events[0] else { panic!("no entry") };
        assert_eq!(label.path.to_string(), "backup_label");
        assert!(matches!(&events[1], TarEvent::Content(file) if file.starts_with(b"START WAL")));
    }

    #[test]
    fn the_link_of_a_tablespace_is_understood() {
        let link = entry(LINK).unwrap();
        assert!(link.path.as_bytes().starts_with(b"pg_tblspc/1"));
        let EntryKind::Symlink { target } = link.kind else { panic!("not a link") };
        assert!(target.ends_with(b"/space"));
    }

    #[test]
    fn an_archive_may_end_without_its_zero_blocks() {
        let end = SPACE.len() - 2 * BLOCK;
        assert!(events([&SPACE[..end]]).unwrap().1);
        for cut in [BLOCK + 1, end - 1, SPACE.len() - 1, SPACE.len() - BLOCK] {
            assert!(!events([&SPACE[..cut]]).unwrap().1, "{cut}");
        }
    }

    #[test]
    fn an_archive_does_not_go_on_after_its_end() {
        assert!(events([SPACE, LINK]).is_err());
    }

    #[test]
    fn sizes_of_8_gib_and_more_are_read() {
        let nine_gib = [0x80, 0, 0, 0, 0, 0, 0, 2, 0x40, 0, 0, 0];
        let file = entry(&header(b"log/x", b'0', &nine_gib)).unwrap();
        assert_eq!(file.kind, EntryKind::File { size: 9 << 30 });
        assert!(entry(&header(b"log/x", b'0', &[0x80; 12])).is_err());
    }

    #[test]
    fn a_leading_dot_and_a_closing_slash_are_taken_off() {
        let directory = entry(&header(b"./pg_wal/archive_status/", b'5', b"00000000000 ")).unwrap();
        assert_eq!(directory.path.to_string(), "pg_wal/archive_status");
    }

    #[test]
    fn hostile_names_are_refused() {
        for name in [&b""[..], b"/etc/passwd", b"a/../../b", b"..", ".//x".as_bytes(), b"./", b"x/"]
        {
            assert!(entry(&header(name, b'0', b"00000000000 ")).is_err(), "{name:?}");
        }
        assert!(entry(&header(b"../", b'5', b"00000000000 ")).is_err());
    }

    #[test]
    fn what_postgres_does_not_write_is_refused() {
        let empty = b"00000000000 ";
        for kind in *b"\x001346xgLK" {
            assert!(entry(&header(b"x", kind, empty)).is_err(), "{kind}");
        }
        assert!(entry(&header(b"x", b'5', b"00000000001 ")).is_err());
        assert!(entry(&header(b"x", b'0', b"0000000000x ")).is_err());
        assert!(entry(&header(b"x", b'0', b"+0000000000 ")).is_err());
        let mut block = header(b"x", b'0', empty);
        block[PREFIX.start] = b'p';
        assert!(entry(&block).is_err(), "checksum");
        assert!(entry(&seal(block)).is_err(), "prefix");
    }

    proptest! {
        #[test]
        fn chopping_does_not_change_the_events(
            sizes in prop::collection::vec(1_usize..3000, 1..40),
        ) {
            let mut chunks = Vec::new();
            let mut rest = SPACE;
            for size in sizes.into_iter().cycle() {
                let (chunk, later) = rest.split_at(size.min(rest.len()));
                chunks.push(chunk);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(events(chunks).unwrap(), events([SPACE]).unwrap());
        }

        #[test]
        fn random_headers_do_not_panic(
            flips in prop::collection::vec((0..BLOCK, any::<u8>()), 0..9),
        ) {
            let mut block = LINK.to_vec();
            for (at, byte) in flips {
                block[at] = byte;
            }
            let _ = events([seal(block).as_slice()]);
        }

        #[test]
        fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = events([bytes.as_slice()]);
        }
    }
}
