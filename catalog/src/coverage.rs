//! Which WAL the repository holds: stretches without a break, per timeline.
//!
//! Computed from listings, so absence is proven and not guessed; whole segments count by their names,
//! segments that are only pieces by the chain of pieces from their first byte. Nothing is remembered:
//! what is not in the repository at the moment of asking is not covered.

use std::collections::BTreeSet;

use pgkeep_proto::{Lsn, SegmentName, TimelineId};

use crate::Result;
use crate::cluster::Cluster;
use crate::piece::Piece;
use crate::store::StoreExt;

/// WAL `from..to` of a timeline, all of it archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The timeline.
    pub timeline: TimelineId,
    /// First byte: the start of a segment.
    pub from: Lsn,
    /// End.
    pub to: Lsn,
}

/// All stretches, ordered by timeline and position.
///
/// Invariant: no two stretches of a timeline touch or overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage(Vec<Stretch>);

impl Coverage {
    /// Reads it out of the repository.
    pub async fn read(cluster: &Cluster) -> Result<Self> {
        let layout = cluster.layout();
        let size = cluster.segment_size();
        let listed = cluster.store().list_all(&layout.segments()).await?;
        let wholes: BTreeSet<_> =
            listed.iter().filter_map(|l| layout.segment_name(&l.key)).collect();
        let listed = cluster.store().list_all(&layout.pieces()).await?;
        let parted: BTreeSet<_> =
            listed.iter().filter_map(|l| layout.piece_segment(&l.key)).collect();

        let mut stretches = Vec::new();
        for name in &wholes {
            if let Ok(from) = name.start(size) {
                stretches.push(Stretch { timeline: name.timeline(), from, to: size.end_of(from) });
            }
        }
        for name in parted.difference(&wholes) {
            stretches.extend(Self::pieces(cluster, *name).await?);
        }
        Ok(Self::from_stretches(stretches))
    }

    async fn pieces(cluster: &Cluster, name: SegmentName) -> Result<Option<Stretch>> {
        let chain = Piece::chain(cluster, name).await?;
        Ok(chain.first().zip(chain.last()).map(|(first, last)| Stretch {
            timeline: name.timeline(),
            from: first.from,
            to: last.to,
        }))
    }

    /// Joins stretches that touch.
    pub fn from_stretches(mut stretches: Vec<Stretch>) -> Self {
        stretches.sort_by_key(|s| (s.timeline, s.from));
        let mut joined: Vec<Stretch> = Vec::new();
        for stretch in stretches {
            match joined.last_mut() {
                Some(last) if last.timeline == stretch.timeline && stretch.from <= last.to => {
                    last.to = last.to.max(stretch.to);
                }
                _ => joined.push(stretch),
            }
        }
        Self(joined)
    }

    /// All stretches, ordered by timeline and position.
    pub fn stretches(&self) -> &[Stretch] {
        &self.0
    }

    /// The stretch of `timeline` in which the byte at `lsn` lies, or which ends there.
    pub fn stretch_at(&self, timeline: TimelineId, lsn: Lsn) -> Option<Stretch> {
        let holds = |s: &&Stretch| s.timeline == timeline && s.from <= lsn && lsn <= s.to;
        // Of two neighbours of a gap without length there is none: stretches never touch.
        self.0.iter().find(holds).copied()
    }

    /// The last stretch of `timeline`.
    pub fn last_of(&self, timeline: TimelineId) -> Option<Stretch> {
        self.0.iter().rev().find(|s| s.timeline == timeline).copied()
    }

    /// The highest timeline of which anything is archived.
    pub fn latest_timeline(&self) -> Option<TimelineId> {
        self.0.last().map(|s| s.timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(timeline: u32, from: u64, to: u64) -> Stretch {
        let timeline = TimelineId::new(timeline).unwrap();
        Stretch { timeline, from: Lsn::new(from), to: Lsn::new(to) }
    }

    #[test]
    fn stretches_that_touch_are_one_and_timelines_stay_apart() {
        let coverage = Coverage::from_stretches(vec![
            stretch(1, 20, 30),
            stretch(2, 30, 40),
            stretch(1, 0, 10),
            stretch(1, 10, 15),
        ]);
        let expected = [stretch(1, 0, 15), stretch(1, 20, 30), stretch(2, 30, 40)];
        assert_eq!(coverage.stretches(), &expected);
        let first = TimelineId::FIRST;
        assert_eq!(coverage.stretch_at(first, Lsn::new(15)), Some(stretch(1, 0, 15)));
        assert_eq!(coverage.stretch_at(first, Lsn::new(16)), None);
        assert_eq!(coverage.last_of(first), Some(stretch(1, 20, 30)));
    }
}
