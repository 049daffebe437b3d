//! WAL that was received and not yet cut, in blocks that become frames as they are.
//!
//! A block ends at a multiple of the frame size, so that a whole segment is sealed without another copy.
//! Cutting in the middle of a block shares its memory; nothing is held twice.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use pgkeep_catalog::sealed::FRAME_SIZE;
use pgkeep_proto::Lsn;

/// Bytes `from..to`, in order.
#[derive(Debug)]
pub(super) struct Backlog {
    from: Lsn,
    to: Lsn,
    full: VecDeque<Bytes>,
    /// The block that is being filled. Its capacity ends at a multiple of the frame size.
    open: BytesMut,
}

impl Backlog {
    /// Holds nothing, at `at`.
    pub(super) fn new(at: Lsn) -> Self {
        Self { from: at, to: at, full: VecDeque::new(), open: BytesMut::new() }
    }

    /// First byte held.
    pub(super) const fn from(&self) -> Lsn {
        self.from
    }

    /// End of what is held.
    pub(super) const fn to(&self) -> Lsn {
        self.to
    }

    /// Appends bytes that follow what is held.
    pub(super) fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.room_in_block();
            if self.open.is_empty() {
                // What is left of the last block's memory, or a new block.
                self.open.reserve(room);
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.open.extend_from_slice(now);
            self.to = self.to.advance(now.len() as u64);
            if now.len() == room {
                self.full.push_back(self.open.split().freeze());
            }
            bytes = later;
        }
    }

    /// Takes everything before `end` off the front.
    pub(super) fn cut(&mut self, end: Lsn) -> Vec<Bytes> {
        assert!(self.from <= end && end <= self.to, "cut at {end} of {}..{}", self.from, self.to);
        let mut wanted = usize::try_from(end.since(self.from)).unwrap_or(usize::MAX);
        let mut chunks = Vec::new();
        self.from = end;
        while wanted > 0 {
            let chunk = match self.full.pop_front() {
                Some(mut block) if block.len() > wanted => {
                    let chunk = block.split_to(wanted);
                    self.full.push_front(block);
                    chunk
                }
                Some(block) => block,
                None => self.open.split_to(wanted).freeze(),
            };
            wanted -= chunk.len();
            chunks.push(chunk);
        }
        chunks
    }

    fn room_in_block(&self) -> usize {
        let used = self.to.get() % FRAME_SIZE as u64;
        FRAME_SIZE - usize::try_from(used).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_end_where_frames_end() {
        let mut backlog = Backlog::new(Lsn::new(0));
        backlog.append(&vec![1; 2 * FRAME_SIZE + 10]);
        let sizes: Vec<_> = backlog.cut(backlog.to()).iter().map(Bytes::len).collect();
        assert_eq!(sizes, [FRAME_SIZE, FRAME_SIZE, 10]);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_order(
            start in 0u64..1 << 20,
            steps in prop::collection::vec((1usize..600_000, 0u8..3), 1..8),
        ) {
            let mut backlog = Backlog::new(Lsn::new(start));
            let (mut sent, mut cut) = (Vec::new(), Vec::new());
            for (length, parts) in steps {
                let bytes: Vec<u8> = (0..length).map(|i| u8::try_from((i * 7 + length) % 251).unwrap()).collect();
                backlog.append(&bytes);
                sent.extend_from_slice(&bytes);
                if parts > 0 {
                    let held = backlog.to().since(backlog.from());
                    let end = backlog.from().advance(held / u64::from(parts));
                    backlog.cut(end).iter().for_each(|chunk| cut.extend_from_slice(chunk));
                }
            }
            backlog.cut(backlog.to()).iter().for_each(|chunk| cut.extend_from_slice(chunk));
            prop_assert_eq!(sent, cut);
        }
    }
}
