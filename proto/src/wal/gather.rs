//! A few bytes of fixed length that may come in parts: a header cut by a page or by a packet.

/// Up to `N` bytes gathered so far.
#[derive(Debug)]
pub(super) struct Gather<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Gather<N> {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    /// What has been gathered.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) const fn clear(&mut self) {
        self.length = 0;
    }

    /// Takes bytes off the front of `input` until `wanted` are here (at most `N`); says whether
    /// they are.
    pub(super) fn fill(&mut self, wanted: usize, input: &mut &[u8]) -> bool {
        let missing = wanted.min(N).saturating_sub(self.length);
        let (part, rest) = input.split_at(missing.min(input.len()));
        let end = self.length + part.len();
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(part);
        }
        self.length = end;
        *input = rest;
        part.len() == missing
    }
}
