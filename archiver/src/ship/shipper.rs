//! Decides what is cut off the backlog, as what it is stored, and when it counts as archived.
//!
//! A state machine without a store and without a clock:
//!
//! ```text
//!                  whole segment there, nothing of it cut  ->  a whole segment
//!  backlog ---->   the interval is over                    ->  a piece
//!                  the rest of a segment is there          ->  a piece
//!                  stored already, by an earlier run       ->  the same piece again, to be adopted
//! ```
//!
//! Invariants:
//! * `archived` moves over a shipment only when it and all before it are stored;
//! * nothing new is put before all that is stored already has been compared: a server whose WAL
//!   differs from the archive adds nothing to it;
//! * no shipment crosses the end of a segment;
//! * the commit scan sees every byte once, in order, and each shipment carries what it found;
//! * what is held in memory stays below [`HELD_MAX`]: who asks [`Shipper::has_room`] before reading on
//!   lets the server keep the rest.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pgkeep_catalog::piece::WalRun;
use pgkeep_proto::wal::Tally;
use pgkeep_proto::{Lsn, SegmentName, SegmentSize, TimelineId, TimestampTz};
use tokio::time::Instant;

use super::backlog::Backlog;
use super::config::ShipConfig;

/// Most bytes of WAL held in memory, cut or not.
const HELD_MAX: u64 = 40 << 20;

/// Larger segments are never held whole: they go as pieces of this size.
const WHOLE_SIZE_MAX: u64 = 16 << 20;

/// Largest piece of a segment that is larger than [`WHOLE_SIZE_MAX`].
const PIECE_SIZE_MAX: u64 = 8 << 20;

/// What the repository holds already of the segment where the stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// First byte.
    pub from: Lsn,
    /// End.
    pub to: Lsn,
    /// Whether it is stored as a whole segment and not as a piece.
    pub is_whole: bool,
}

/// What happens.
#[derive(Debug)]
pub enum Event {
    /// WAL arrived, right after what arrived before.
    Received(Bytes),
    /// The shipment that begins here is stored.
    Stored(Lsn),
    /// Ship what there is, without waiting for the interval.
    ShipNow,
    /// Time has passed.
    Tick,
}

/// What is to be done about it.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Store this.
    Put(Shipment),
    /// All of this segment is archived in pieces: make the whole object of it, beside.
    MakeWhole(SegmentName),
}

/// A run of WAL and the form in which it is stored.
#[derive(Clone, Debug)]
pub enum Shipment {
    /// Part of a segment.
    Piece(Arc<WalRun>),
    /// A segment.
    Whole(Arc<WalRun>),
    /// Part of a segment that is stored already: it only has to be the same.
    StoredPiece(Arc<WalRun>),
    /// A segment that is stored already: it only has to be the same.
    StoredWhole(Arc<WalRun>),
}

impl Shipment {
    /// Whether it is stored already and only compared.
    pub const fn is_comparison(&self) -> bool {
        matches!(self, Self::StoredPiece(_) | Self::StoredWhole(_))
    }

    /// Whether it is all of a segment.
    pub const fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(_) | Self::StoredWhole(_))
    }

    /// The WAL.
    pub fn run(&self) -> &Arc<WalRun> {
        match self {
            Self::Piece(run)
            | Self::Whole(run)
            | Self::StoredPiece(run)
            | Self::StoredWhole(run) => run,
        }
    }
}

/// A shipment on its way.
#[derive(Debug)]
struct Flight {
    shipment: Shipment,
    since: Instant,
    is_stored: bool,
}

/// Ships one stream.
#[derive(Debug)]
pub struct Shipper {
    timeline: TimelineId,
    size: SegmentSize,
    interval: Duration,
    in_flight_max: usize,
    tally: Tally,
    backlog: Backlog,
    known: VecDeque<Known>,
    in_flight: VecDeque<Flight>,
    archived: Lsn,
    archived_commit_time: Option<TimestampTz>,
    /// When the oldest byte of the backlog arrived.
    waiting_since: Option<Instant>,
    is_urgent: bool,
}

impl Shipper {
    /// Ships WAL of `timeline` that begins at `start`, the start of a segment, of which the pieces
    /// `known` are stored already; `tally` has seen what is before.
    pub fn new(
        timeline: TimelineId,
        start: Lsn,
        size: SegmentSize,
        tally: Tally,
        known: Vec<Known>,
        config: &ShipConfig,
    ) -> Self {
        assert!(size.is_boundary(start), "a stream begins at a segment, not at {start}");
        Self {
            timeline,
            size,
            interval: config.interval(),
            in_flight_max: config.in_flight_max,
            tally,
            backlog: Backlog::new(start),
            known: known.into(),
            in_flight: VecDeque::new(),
            archived: start,
            archived_commit_time: None,
            waiting_since: None,
            is_urgent: false,
        }
    }

    /// Whether segments of this size are held whole in memory.
    pub const fn holds_whole(size: SegmentSize) -> bool {
        size.bytes() <= WHOLE_SIZE_MAX
    }

    /// End of the contiguous prefix that is stored.
    pub const fn archived(&self) -> Lsn {
        self.archived
    }

    /// Time of the last commit in it, if this stream has seen one.
    pub const fn archived_commit_time(&self) -> Option<TimestampTz> {
        self.archived_commit_time
    }

    /// Since when the oldest shipment has been on its way.
    pub fn oldest_since(&self) -> Option<Instant> {
        self.in_flight.front().map(|flight| flight.since)
    }

    /// Whether everything received is archived.
    pub fn is_idle(&self) -> bool {
        self.archived == self.backlog.to()
    }

    /// Whether more WAL may be read from the server, when `unconfirmed` bytes of what was archived are
    /// still held in memory.
    pub fn has_room(&self, unconfirmed: u64) -> bool {
        self.backlog.to().since(self.archived) + unconfirmed < HELD_MAX
    }

    /// When to tick if nothing happens before. Never while only another event can help: whoever
    /// waits for this must not be woken in vain.
    pub fn next_at(&self) -> Option<Instant> {
        let is_full = self.in_flight.len() >= self.in_flight_max;
        let is_stored = self.known.front().is_some_and(|known| known.from == self.backlog.from());
        self.due_at().filter(|_| !is_full && !is_stored && !self.is_comparing())
    }

    /// When the oldest byte of the backlog has waited long enough.
    fn due_at(&self) -> Option<Instant> {
        self.waiting_since.map(|since| since + self.interval)
    }

    /// Whether something that is stored already is being compared.
    fn is_comparing(&self) -> bool {
        self.in_flight.iter().any(|flight| flight.shipment.is_comparison())
    }

    /// Takes an event.
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Received(bytes) => {
                if self.backlog.from() == self.backlog.to() {
                    self.waiting_since = Some(now);
                }
                self.backlog.append(&bytes);
            }
            Event::Stored(from) => self.stored(from, &mut effects),
            Event::ShipNow => self.is_urgent = true,
            Event::Tick => {}
        }
        while self.in_flight.len() < self.in_flight_max {
            let Some(shipment) = self.next_shipment(now) else { break };
            self.waiting_since = (self.backlog.from() < self.backlog.to()).then_some(now);
            let flight = Flight { shipment: shipment.clone(), since: now, is_stored: false };
            self.in_flight.push_back(flight);
            effects.push(Effect::Put(shipment));
        }
        if self.waiting_since.is_none() {
            self.is_urgent = false;
        }
        effects
    }

    /// What to cut now, if anything.
    fn next_shipment(&mut self, now: Instant) -> Option<Shipment> {
        let (from, received) = (self.backlog.from(), self.backlog.to());
        if let Some(known) = self.known.front().copied().filter(|known| known.from == from) {
            if received < known.to {
                return None;
            }
            self.known.pop_front();
            let run = self.cut(known.to);
            return Some(match known.is_whole {
                true => Shipment::StoredWhole(run),
                false => Shipment::StoredPiece(run),
            });
        }
        if self.is_comparing() {
            return None;
        }
        let segment_end = self.size.end_of(from);
        let available = received.min(segment_end);
        let is_large = !Self::holds_whole(self.size);
        if is_large && available.since(from) >= PIECE_SIZE_MAX {
            return Some(Shipment::Piece(self.cut(from.advance(PIECE_SIZE_MAX))));
        }
        if available == segment_end && !is_large && self.size.is_boundary(from) {
            return Some(Shipment::Whole(self.cut(segment_end)));
        }
        let is_due = self.is_urgent || self.due_at().is_some_and(|at| now >= at);
        if available > from && (available == segment_end || is_due) {
            return Some(Shipment::Piece(self.cut(available)));
        }
        None
    }

    fn cut(&mut self, to: Lsn) -> Arc<WalRun> {
        let from = self.backlog.from();
        let chunks = self.backlog.cut(to);
        for chunk in &chunks {
            self.tally.feed(chunk);
        }
        let summary = self.tally.cut();
        Arc::new(WalRun { timeline: self.timeline, from, to, chunks, summary })
    }

    fn stored(&mut self, from: Lsn, effects: &mut Vec<Effect>) {
        let flight = self.in_flight.iter_mut().find(|f| f.shipment.run().from == from);
        flight.expect("only what is on its way can be stored").is_stored = true;
        while self.in_flight.front().is_some_and(|flight| flight.is_stored) {
            let Some(Flight { shipment, .. }) = self.in_flight.pop_front() else { break };
            let run = shipment.run();
            assert_eq!(run.from, self.archived, "shipments are acknowledged in order");
            self.archived = run.to;
            let commit = run.summary.last_commit.as_ref().map(|commit| commit.time);
            self.archived_commit_time = commit.or(self.archived_commit_time);
            let is_end = self.size.is_boundary(run.to);
            if is_end && matches!(shipment, Shipment::Piece(_) | Shipment::StoredPiece(_)) {
                let name = SegmentName::containing(run.timeline, run.from, self.size);
                effects.push(Effect::MakeWhole(name));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn shipper(size_mib: u64, known: Vec<Known>) -> Shipper {
        let size = SegmentSize::new(size_mib * MIB).unwrap();
        let start = Lsn::new(size.bytes() * 3);
        let tally = Tally::new(start, size);
        Shipper::new(TimelineId::FIRST, start, size, tally, known, &ShipConfig::default())
    }

    fn bytes(length: u64) -> Event {
        Event::Received(Bytes::from(vec![0; usize::try_from(length).unwrap()]))
    }

    /// `(kind, from, to)` of what is put, relative to the start.
    fn puts(effects: &[Effect], start: Lsn) -> Vec<(&'static str, u64, u64)> {
        let put = |effect: &Effect| match effect {
            Effect::Put(shipment) => {
                let kind = match shipment {
                    Shipment::Piece(_) => "piece",
                    Shipment::Whole(_) => "whole",
                    Shipment::StoredPiece(_) => "stored piece",
                    Shipment::StoredWhole(_) => "stored whole",
                };
                Some((kind, shipment.run().from.since(start), shipment.run().to.since(start)))
            }
            Effect::MakeWhole(_) => None,
        };
        effects.iter().filter_map(put).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_goes_as_a_piece_when_the_interval_is_over() {
        let mut shipper = shipper(1, vec![]);
        let (start, now) = (shipper.archived(), Instant::now());
        assert!(shipper.step(now, bytes(100)).is_empty());
        assert_eq!(shipper.next_at(), Some(now + Duration::from_secs(1)));
        let effects = shipper.step(now + Duration::from_secs(1), Event::Tick);
        assert_eq!(puts(&effects, start), [("piece", 0, 100)]);
        assert_eq!(shipper.next_at(), None);
        assert!(shipper.step(now + Duration::from_secs(9), Event::Tick).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_segment_that_fills_within_the_interval_goes_whole() {
        let mut shipper = shipper(1, vec![]);
        let (start, now) = (shipper.archived(), Instant::now());
        let effects = shipper.step(now, bytes(2 * MIB + 5));
        assert_eq!(puts(&effects, start), [("whole", 0, MIB), ("whole", MIB, 2 * MIB)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_segment_finished_in_pieces_is_made_whole_beside() {
        let mut shipper = shipper(1, vec![]);
        let (start, now) = (shipper.archived(), Instant::now());
        shipper.step(now, bytes(100));
        shipper.step(now, Event::ShipNow);
        let effects = shipper.step(now, bytes(MIB - 100));
        assert_eq!(puts(&effects, start), [("piece", 100, MIB)]);
        assert!(shipper.step(now, Event::Stored(start.advance(100))).is_empty());
        assert_eq!(shipper.archived(), start);
        let effects = shipper.step(now, Event::Stored(start));
        assert_eq!(shipper.archived(), start.advance(MIB));
        assert!(matches!(effects.as_slice(), [Effect::MakeWhole(_)]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_stored_already_is_adopted_in_its_own_cuts() {
        let size = MIB;
        let at = |offset| Lsn::new(size * 3 + offset);
        let known = |from, to| Known { from: at(from), to: at(to), is_whole: false };
        let known = vec![known(0, 10), known(10, 25)];
        let mut shipper = shipper(1, known);
        let (start, now) = (shipper.archived(), Instant::now());
        let effects = shipper.step(now, bytes(20));
        assert_eq!(puts(&effects, start), [("stored piece", 0, 10)]);
        let effects = shipper.step(now + Duration::from_secs(5), bytes(10));
        assert_eq!(puts(&effects, start), [("stored piece", 10, 25)]);
        let effects = shipper.step(now + Duration::from_secs(7), Event::Tick);
        assert!(effects.is_empty(), "nothing new before all that is stored has been compared");
        shipper.step(now, Event::Stored(at(0)));
        shipper.step(now, Event::Stored(at(10)));
        let effects = shipper.step(now + Duration::from_secs(7), Event::Tick);
        assert_eq!(puts(&effects, start), [("piece", 25, 30)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stored_segment_is_compared_and_not_stored_again() {
        let start = Lsn::new(MIB * 3);
        let known = Known { from: start, to: start.advance(MIB), is_whole: true };
        let mut shipper = shipper(1, vec![known]);
        let now = Instant::now();
        assert!(shipper.step(now + Duration::from_secs(9), bytes(MIB - 1)).is_empty());
        let effects = shipper.step(now, bytes(1));
        assert_eq!(puts(&effects, start), [("stored whole", 0, MIB)]);
        assert!(shipper.step(now, Event::Stored(start)).is_empty(), "nothing is made of it");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_woken_while_only_the_store_can_help() {
        let mut shipper = shipper(1, vec![]);
        let (start, now) = (shipper.archived(), Instant::now());
        shipper.step(now, bytes(5 * MIB));
        assert_eq!(shipper.next_at(), None, "four segments are on their way, one waits");
        shipper.step(now, Event::Stored(start));
        assert_eq!(shipper.next_at(), None, "the fifth took the place");
        shipper.step(now, bytes(10));
        for segment in 1..5 {
            shipper.step(now, Event::Stored(start.advance(segment * MIB)));
        }
        assert!(shipper.next_at().is_some(), "ten bytes wait for the interval");
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_segment_is_never_held_whole() {
        let mut shipper = shipper(64, vec![]);
        let (start, now) = (shipper.archived(), Instant::now());
        let mut shipped = 0;
        while shipper.has_room(0) {
            let effects = shipper.step(now, bytes(MIB));
            shipped += puts(&effects, start).len();
        }
        assert_eq!(shipped, 4, "as many as may be on their way");
        assert!(shipper.backlog.to().since(start) <= HELD_MAX + MIB);
    }

    proptest! {
        #[test]
        fn archived_is_the_stored_prefix_whatever_the_order(
            arrivals in prop::collection::vec((1u64..700_000, any::<bool>()), 1..40),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 1..80),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let mut shipper = shipper(1, vec![]);
                let (start, mut now) = (shipper.archived(), Instant::now());
                let mut flying: Vec<(Lsn, Lsn)> = Vec::new();
                let mut stored: Vec<(Lsn, Lsn)> = Vec::new();
                let note = |effects: Vec<Effect>, flying: &mut Vec<(Lsn, Lsn)>| {
                    for effect in effects {
                        if let Effect::Put(shipment) = effect {
                            let run = shipment.run();
                            let length: usize = run.chunks.iter().map(Bytes::len).sum();
                            assert_eq!(length as u64, run.to.since(run.from));
                            flying.push((run.from, run.to));
                        }
                    }
                };
                let mut picks = picks.into_iter().cycle();
                for (length, urgent) in arrivals {
                    now += Duration::from_millis(300);
                    note(shipper.step(now, bytes(length)), &mut flying);
                    if urgent { note(shipper.step(now, Event::ShipNow), &mut flying); }
                    if !flying.is_empty() {
                        let chosen = flying.swap_remove(picks.next().unwrap().index(flying.len()));
                        stored.push(chosen);
                        note(shipper.step(now, Event::Stored(chosen.0)), &mut flying);
                    }
                    stored.sort();
                    let mut prefix = start;
                    for (from, to) in &stored { if *from == prefix { prefix = *to; } }
                    assert_eq!(shipper.archived(), prefix);
                }
            });
        }
    }
}
