//! Where everything is in a repository: the only place that builds or takes apart a key.
//!
//! ```text
//! repository                                    uuid, format version
//! keys/<epoch>/<slot>                           key slots
//! <cluster>/<incarnation>/
//!   cluster                                     system id, segment size, server version
//!   epoch/{wal,backup}/<n>                      writer epochs
//!   heartbeat                                   when everything was archived last
//!   pieces/<tli>/<segment>/<level>/<from>       parts of a segment
//!   wal/<tli>/<segment>                         whole segments
//!   history/<tli>                               timeline histories
//!   gaps/<tli>/<from>                           WAL that is lost
//!   inventory/<tli>/<n>                         pages of what is archived
//!   backups/<id>/{started,failed,manifest,backup_manifest,packs/<n>}
//! ```
//!
//! Timelines are `%08X`, positions `%016X`, segments their 24 digits, counters `%08d`: byte order of
//! keys is the order of what they name. Names are derived from here, never read out of an object.

use pgkeep_proto::{Lsn, SegmentName, TimelineId};

use crate::backup::BackupId;
use crate::cluster_name::ClusterName;
use crate::sealed::Kind;
use crate::store::ObjectKey;

/// Builds and reads the keys of one incarnation of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: String,
}

/// Who writes: each kind of writer has its own line of epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterKind {
    /// Ships WAL.
    Wal,
    /// Takes base backups.
    Backup,
}

impl Layout {
    /// The layout of `incarnation` of `cluster`.
    pub fn new(cluster: &ClusterName, incarnation: u32) -> Self {
        Self { root: format!("{cluster}/{incarnation:04}") }
    }

    /// The record of the repository itself.
    pub fn repository() -> ObjectKey {
        key("repository")
    }

    /// Prefix of the key slots of all key epochs.
    pub fn keys() -> &'static str {
        "keys/"
    }

    /// Key slot `slot` of key epoch `epoch`. `slot` is valid in a key.
    pub fn key_slot(epoch: u32, slot: &str) -> ObjectKey {
        key(&format!("keys/{epoch:04}/{slot}"))
    }

    /// The key epoch and the name of the slot that lies at `key`.
    pub fn key_slot_of(key: &ObjectKey) -> Option<(u32, &str)> {
        let [epoch, slot] = parts(key.as_str().strip_prefix(Self::keys())?)?;
        let number: u32 = epoch.parse().ok()?;
        (Self::key_slot(number, slot) == *key).then_some((number, slot))
    }

    /// Page `number` of the inventory of `timeline`.
    pub fn inventory_page(&self, timeline: TimelineId, number: u64) -> ObjectKey {
        self.key(format_args!("inventory/{timeline}/{number:08}"))
    }

    /// Prefix of the inventory of `timeline`.
    pub fn inventory_of(&self, timeline: TimelineId) -> String {
        self.prefix(format_args!("inventory/{timeline}"))
    }

    /// Prefix of the inventories of all timelines.
    pub fn inventory(&self) -> String {
        self.prefix(format_args!("inventory"))
    }

    /// A key behind all pages of `timeline`, from which a listing goes on with the next one.
    pub fn after_inventory_of(&self, timeline: TimelineId) -> ObjectKey {
        self.key(format_args!("inventory/{timeline}/zzzz"))
    }

    /// The timeline and the number of the page at `key`.
    pub fn inventory_number(&self, key: &ObjectKey) -> Option<(TimelineId, u64)> {
        let [timeline, number] = parts(key.as_str().strip_prefix(&self.inventory())?)?;
        let (timeline, number) = (timeline.parse().ok()?, number.parse().ok()?);
        (self.inventory_page(timeline, number) == *key).then_some((timeline, number))
    }

    /// The record of this incarnation.
    pub fn cluster(&self) -> ObjectKey {
        self.key(format_args!("cluster"))
    }

    /// The claim of writer epoch `number`.
    pub fn epoch(&self, kind: WriterKind, number: u64) -> ObjectKey {
        self.key(format_args!("epoch/{}/{number:08}", kind.name()))
    }

    /// Prefix of the claims of one kind of writer.
    pub fn epochs(&self, kind: WriterKind) -> String {
        self.prefix(format_args!("epoch/{}", kind.name()))
    }

    /// The number of the epoch that `key` claims.
    pub fn epoch_number(&self, kind: WriterKind, key: &ObjectKey) -> Option<u64> {
        key.as_str().strip_prefix(&self.epochs(kind))?.parse().ok()
    }

    /// The heartbeat.
    pub fn heartbeat(&self) -> ObjectKey {
        self.key(format_args!("heartbeat"))
    }

    /// The piece of `segment` that begins at `from`, on compaction level `level`.
    pub fn piece(&self, segment: SegmentName, level: u32, from: Lsn) -> ObjectKey {
        let timeline = segment.timeline();
        self.key(format_args!("pieces/{timeline}/{segment}/{level}/{:016X}", from.get()))
    }

    /// Prefix of all pieces.
    pub fn pieces(&self) -> String {
        self.prefix(format_args!("pieces"))
    }

    /// Prefix of the pieces of one segment.
    pub fn pieces_of(&self, segment: SegmentName) -> String {
        self.prefix(format_args!("pieces/{}/{segment}", segment.timeline()))
    }

    /// The segment to which the piece at `key` belongs.
    pub fn piece_segment(&self, key: &ObjectKey) -> Option<SegmentName> {
        let rest = key.as_str().strip_prefix(&self.pieces())?;
        let [timeline, segment, _level, _from] = parts(rest)?;
        segment_on(timeline, segment)
    }

    /// Where the piece at `key` begins.
    pub fn piece_start(&self, key: &ObjectKey) -> Option<Lsn> {
        self.piece_segment(key)?;
        u64::from_str_radix(key.name(), 16).ok().map(Lsn::new)
    }

    /// A whole segment.
    pub fn segment(&self, segment: SegmentName) -> ObjectKey {
        self.key(format_args!("wal/{}/{segment}", segment.timeline()))
    }

    /// Prefix of all whole segments.
    pub fn segments(&self) -> String {
        self.prefix(format_args!("wal"))
    }

    /// Prefix of the whole segments of `timeline`.
    pub fn segments_of(&self, timeline: TimelineId) -> String {
        self.prefix(format_args!("wal/{timeline}"))
    }

    /// The segment stored at `key`.
    pub fn segment_name(&self, key: &ObjectKey) -> Option<SegmentName> {
        let [timeline, segment] = parts(key.as_str().strip_prefix(&self.segments())?)?;
        segment_on(timeline, segment)
    }

    /// The history of `timeline`.
    pub fn history(&self, timeline: TimelineId) -> ObjectKey {
        self.key(format_args!("history/{timeline}"))
    }

    /// Prefix of all histories.
    pub fn histories(&self) -> String {
        self.prefix(format_args!("history"))
    }

    /// The timeline whose history is stored at `key`.
    pub fn history_timeline(&self, key: &ObjectKey) -> Option<TimelineId> {
        key.as_str().strip_prefix(&self.histories())?.parse().ok()
    }

    /// The record of lost WAL that begins at `from`.
    pub fn gap(&self, timeline: TimelineId, from: Lsn) -> ObjectKey {
        self.key(format_args!("gaps/{timeline}/{:016X}", from.get()))
    }

    /// Prefix of all records of lost WAL.
    pub fn gaps(&self) -> String {
        self.prefix(format_args!("gaps"))
    }

    /// Prefix of all backups.
    pub fn backups(&self) -> String {
        self.prefix(format_args!("backups"))
    }

    /// The claim of a backup's id, written first.
    pub fn backup_started(&self, id: &BackupId) -> ObjectKey {
        self.key(format_args!("backups/{id}/started"))
    }

    /// Why a backup failed.
    pub fn backup_failed(&self, id: &BackupId) -> ObjectKey {
        self.key(format_args!("backups/{id}/failed"))
    }

    /// The manifest of a backup, written last.
    pub fn backup_manifest(&self, id: &BackupId) -> ObjectKey {
        self.key(format_args!("backups/{id}/manifest"))
    }

    /// Postgres' own `backup_manifest`, byte for byte.
    pub fn postgres_manifest(&self, id: &BackupId) -> ObjectKey {
        self.key(format_args!("backups/{id}/backup_manifest"))
    }

    /// Pack `number` of a backup.
    pub fn pack(&self, id: &BackupId, number: u32) -> ObjectKey {
        self.key(format_args!("backups/{id}/packs/{number:08}"))
    }

    /// A key behind all keys of a backup, from which a listing goes on with the next one.
    pub fn after_backup(&self, id: &BackupId) -> ObjectKey {
        self.key(format_args!("backups/{id}/zzzz"))
    }

    /// The backup to which `key` belongs.
    pub fn backup_id(&self, key: &ObjectKey) -> Option<BackupId> {
        key.as_str().strip_prefix(&self.backups())?.split('/').next()?.parse().ok()
    }

    /// Prefix of everything of this incarnation.
    pub fn all(&self) -> String {
        format!("{}/", self.root)
    }

    /// The kind of the object that belongs under `key`; none if nothing does.
    pub fn kind(&self, key: &ObjectKey) -> Option<Kind> {
        let rest = key.as_str().strip_prefix(&self.all())?;
        let parts: Vec<&str> = rest.split('/').collect();
        let lsn = |text: &str| u64::from_str_radix(text, 16).ok().map(Lsn::new);
        let (kind, expected) = match *parts.as_slice() {
            ["cluster"] => (Kind::Cluster, self.cluster()),
            ["heartbeat"] => (Kind::Heartbeat, self.heartbeat()),
            ["epoch", "wal", n] => (Kind::Epoch, self.epoch(WriterKind::Wal, n.parse().ok()?)),
            ["epoch", "backup", n] => {
                (Kind::Epoch, self.epoch(WriterKind::Backup, n.parse().ok()?))
            }
            ["gaps", timeline, from] => (Kind::Gap, self.gap(timeline.parse().ok()?, lsn(from)?)),
            ["history", timeline] => (Kind::History, self.history(timeline.parse().ok()?)),
            ["pieces", _, segment, level, from] => {
                let level = level.parse().ok()?;
                (Kind::Piece, self.piece(segment.parse().ok()?, level, lsn(from)?))
            }
            ["wal", _, segment] => (Kind::Segment, self.segment(segment.parse().ok()?)),
            ["inventory", timeline, n] => {
                let (timeline, number) = (timeline.parse().ok()?, n.parse().ok()?);
                (Kind::InventoryPage, self.inventory_page(timeline, number))
            }
            ["backups", id, "packs", n] => {
                (Kind::BackupPack, self.pack(&id.parse().ok()?, n.parse().ok()?))
            }
            ["backups", id, record] => {
                let id = id.parse().ok()?;
                match record {
                    "started" => (Kind::BackupStarted, self.backup_started(&id)),
                    "failed" => (Kind::BackupFailed, self.backup_failed(&id)),
                    "manifest" => (Kind::BackupManifest, self.backup_manifest(&id)),
                    "backup_manifest" => (Kind::PostgresManifest, self.postgres_manifest(&id)),
                    _ => return None,
                }
            }
            _ => return None,
        };
        // One spelling each.
        (expected == *key).then_some(kind)
    }

    fn key(&self, rest: std::fmt::Arguments<'_>) -> ObjectKey {
        key(&format!("{}/{rest}", self.root))
    }

    fn prefix(&self, rest: std::fmt::Arguments<'_>) -> String {
        format!("{}/{rest}/", self.root)
    }
}

impl WriterKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Backup => "backup",
        }
    }
}

fn key(text: &str) -> ObjectKey {
    text.parse().expect("keys are built from parts that are valid in a key")
}

/// Exactly `N` components.
fn parts<const N: usize>(rest: &str) -> Option<[&str; N]> {
    let parts: Vec<&str> = rest.split('/').collect();
    parts.try_into().ok()
}

/// The segment, if it lies where its own name says.
fn segment_on(timeline: &str, segment: &str) -> Option<SegmentName> {
    let name: SegmentName = segment.parse().ok()?;
    (name.timeline() == timeline.parse().ok()?).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::new(&"main".parse().unwrap(), 1)
    }

    #[test]
    fn keys_stand_where_the_format_says() {
        let segment: SegmentName = "0000000A0000000100000002".parse().unwrap();
        let piece = layout().piece(segment, 0, Lsn::new(0x1_0200_2000));
        let expected = "main/0001/pieces/0000000A/0000000A0000000100000002/0/0000000102002000";
        assert_eq!(piece.as_str(), expected);
        assert_eq!(layout().piece_segment(&piece), Some(segment));
        let whole = layout().segment(segment);
        assert_eq!(whole.as_str(), "main/0001/wal/0000000A/0000000A0000000100000002");
        assert_eq!(layout().segment_name(&whole), Some(segment));
    }

    #[test]
    fn a_place_tells_the_kind_and_has_one_spelling() {
        for (text, kind) in [
            ("main/0001/cluster", Some(Kind::Cluster)),
            ("main/0001/epoch/wal/00000007", Some(Kind::Epoch)),
            ("main/0001/epoch/wal/7", None),
            ("main/0001/epoch/other/00000007", None),
            ("main/0001/gaps/0000000A/0000000102002000", Some(Kind::Gap)),
            ("main/0001/wal/0000000A/0000000A0000000100000002", Some(Kind::Segment)),
            ("main/0001/wal/0000000B/0000000A0000000100000002", None),
            ("main/0001/backups/20261122T020000Z-full/packs/00000003", Some(Kind::BackupPack)),
            ("main/0001/backups/20261122T020000Z-full/packs/3", None),
            ("main/0001/backups/20261122T020000Z-full/manifest", Some(Kind::BackupManifest)),
            ("main/0001/backups/20261122T020000Z-full/other", None),
            ("main/0001/inventory/0000000A/00000001", Some(Kind::InventoryPage)),
            ("main/0001/heartbeat/x", None),
            ("main/0002/heartbeat", None),
        ] {
            assert_eq!(layout().kind(&text.parse().unwrap()), kind, "{text}");
        }
    }

    #[test]
    fn a_key_in_the_wrong_place_names_nothing() {
        for text in [
            "main/0001/wal/00000001/0000000A0000000100000002",
            "main/0002/wal/0000000A/0000000A0000000100000002",
            "other/0001/wal/0000000A/0000000A0000000100000002",
            "main/0001/wal/0000000A/0000000A0000000100000002/x",
        ] {
            assert_eq!(layout().segment_name(&text.parse().unwrap()), None, "{text}");
        }
    }
}
