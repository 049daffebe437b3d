//! What `pgkeep status` says of a cluster: one type for the daemon, the repository and the dashboard.
//!
//! The daemon fills in what is live; [`ClusterStatus::from_repository`] says what a stranger with only
//! the repository can know. Unknown is `None` and prints as `null`. The JSON is a public contract.

use pgkeep_proto::{Lsn, SystemId, TimelineId, TimestampTz};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::backup::{Backup, BackupStatus};
use crate::cluster::Cluster;
use crate::coverage::Coverage;
use crate::gap::Gap;
use crate::heartbeat::Heartbeat;
use crate::inventory::{self, InventoryHead, RolledBack};
use crate::segment::ArchivedSegment;

/// All clusters that were asked for.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// One entry per cluster.
    pub clusters: Vec<ClusterStatus>,
}

/// One cluster.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterStatus {
    /// The operator's name for it.
    pub name: String,
    /// Identity that initdb gave it.
    pub system_id: SystemId,
    /// Which incarnation of the name.
    pub incarnation: u32,
    /// The timeline that is archived.
    pub timeline: Option<TimelineId>,
    /// End of the server's WAL as it last told us.
    pub server_lsn: Option<Lsn>,
    /// End of what was received.
    pub received_lsn: Option<Lsn>,
    /// End of what is durable in the spool; there is none yet.
    pub spooled_lsn: Option<Lsn>,
    /// End of the contiguous coverage.
    pub archived_lsn: Option<Lsn>,
    /// Time of the last commit in the coverage.
    pub archived_commit_time: Option<TimestampTz>,
    /// The server's clock at the last moment when everything was archived.
    pub caught_up_at: Option<TimestampTz>,
    /// Seconds of commits that would be lost if the server were lost now.
    pub rpo_seconds: Option<f64>,
    /// Seconds that the last drill took; there are none yet.
    pub rto_seconds: Option<f64>,
    /// The replication slot, when the server can be asked.
    pub slot: Option<SlotStatus>,
    /// WAL that is lost.
    pub gaps: Vec<GapStatus>,
    /// WAL that is there.
    pub coverage: Vec<CoverageStatus>,
    /// The newest page of the inventory: keep it elsewhere, and it witnesses what was archived.
    pub inventory: Option<InventoryHead>,
    /// The newest backup that ended.
    pub last_backup: Option<LastJob>,
    /// The newest verification; there are none yet.
    pub last_verify: Option<LastJob>,
    /// The newest drill; there are none yet.
    pub last_drill: Option<LastJob>,
    /// The daemon.
    pub daemon: DaemonStatus,
    /// What needs a human.
    pub alerts: Vec<Alert>,
}

/// The replication slot as the server sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// Its name.
    pub name: String,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// WAL it keeps on the server, in bytes.
    pub retained_bytes: Option<i64>,
    /// WAL that may still be written before it is lost, in bytes; `None` without a limit.
    pub safe_bytes: Option<i64>,
}

/// Lost WAL.
#[derive(Clone, Debug, Serialize)]
pub struct GapStatus {
    /// The timeline.
    pub timeline: TimelineId,
    /// First byte that is missing.
    pub from_lsn: Lsn,
    /// First byte that is there again.
    pub to_lsn: Lsn,
    /// When the loss was noticed.
    pub since: TimestampTz,
}

/// WAL without a break.
#[derive(Clone, Debug, Serialize)]
pub struct CoverageStatus {
    /// The timeline.
    pub timeline: TimelineId,
    /// First byte.
    pub from_lsn: Lsn,
    /// End.
    pub to_lsn: Lsn,
    /// Time of the first commit in it, as far as its first segment tells.
    pub from_time: Option<TimestampTz>,
    /// Time of the last commit in it.
    pub to_time: Option<TimestampTz>,
}

/// How a kind of job ended last.
#[derive(Clone, Debug, Serialize)]
pub struct LastJob {
    /// The backup.
    pub id: String,
    /// When it ended.
    pub at: Option<TimestampTz>,
    /// Whether it succeeded.
    pub ok: bool,
}

/// The daemon.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct DaemonStatus {
    /// Whether it answers.
    pub running: bool,
    /// Its process id.
    pub pid: Option<u32>,
    /// When it was started.
    pub since: Option<TimestampTz>,
}

/// A condition that needs a human.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// Which condition: `docs/errors.md` lists them.
    pub name: String,
    /// Since when.
    pub since: TimestampTz,
    /// What it means, in words.
    pub message: String,
}

impl Alert {
    /// The repository holds less than a witness knows.
    pub fn rolled_back(found: &RolledBack, since: TimestampTz) -> Self {
        Self { name: Self::ROLLED_BACK.to_owned(), since, message: found.to_string() }
    }

    /// Name of the alert that the repository holds less than a witness knows.
    pub const ROLLED_BACK: &str = "repository_rolled_back";
}

impl ClusterStatus {
    /// Of a cluster whose repository cannot be read now: who it is, and nothing else.
    pub fn unread(cluster: &Cluster) -> Self {
        Self {
            name: cluster.name().to_string(),
            system_id: cluster.record().system_id,
            incarnation: cluster.incarnation(),
            timeline: None,
            server_lsn: None,
            received_lsn: None,
            spooled_lsn: None,
            archived_lsn: None,
            archived_commit_time: None,
            caught_up_at: None,
            rpo_seconds: None,
            rto_seconds: None,
            slot: None,
            gaps: Vec::new(),
            coverage: Vec::new(),
            last_backup: None,
            last_verify: None,
            last_drill: None,
            daemon: DaemonStatus::default(),
            inventory: None,
            alerts: Vec::new(),
        }
    }

    /// What the repository alone says.
    pub async fn from_repository(cluster: &Cluster) -> Result<Self> {
        let coverage = Coverage::read(cluster).await?;
        let heartbeat = Heartbeat::read(cluster).await?;
        let last = coverage.latest_timeline().and_then(|timeline| coverage.last_of(timeline));
        let mut stretches = Vec::new();
        for stretch in coverage.stretches() {
            let first = summary_at(cluster, stretch.timeline, stretch.from).await?;
            let end = Lsn::new(stretch.to.get().saturating_sub(1));
            let last = summary_at(cluster, stretch.timeline, end).await?;
            stretches.push(CoverageStatus {
                timeline: stretch.timeline,
                from_lsn: stretch.from,
                to_lsn: stretch.to,
                from_time: first.and_then(|summary| summary.first_xact_time),
                to_time: last.and_then(|summary| summary.last_commit).map(|commit| commit.time),
            });
        }
        let gaps = Gap::read_all(cluster).await?;
        let mut alerts: Vec<_> = gaps.iter().map(gap_alert).collect();
        let inventory = inventory::heads(cluster).await?.pop();
        if let Some(beat) = &heartbeat
            && let Some(known) = beat.inventory
            && let Some(found) = known.contradiction(cluster).await?
        {
            alerts.push(Alert::rolled_back(&found, beat.written_at));
        }
        Ok(Self {
            timeline: last.map(|stretch| stretch.timeline),
            archived_lsn: last.map(|stretch| stretch.to),
            archived_commit_time: stretches.last().and_then(|stretch| stretch.to_time),
            caught_up_at: heartbeat.map(|heartbeat| heartbeat.caught_up_at),
            gaps: gaps.iter().map(GapStatus::from).collect(),
            coverage: stretches,
            inventory,
            last_backup: last_backup(cluster).await?,
            alerts,
            ..Self::unread(cluster)
        })
    }
}

async fn summary_at(
    cluster: &Cluster,
    timeline: TimelineId,
    lsn: Lsn,
) -> Result<Option<pgkeep_proto::wal::ScanSummary>> {
    let name = pgkeep_proto::SegmentName::containing(timeline, lsn, cluster.segment_size());
    Ok(ArchivedSegment::open(cluster, name).await?.and_then(|segment| segment.summary()))
}

async fn last_backup(cluster: &Cluster) -> Result<Option<LastJob>> {
    let backups = Backup::list(cluster).await?;
    Ok(backups.iter().rev().find_map(|backup| {
        let (at, ok) = match &backup.status {
            BackupStatus::InProgress => return None,
            BackupStatus::Completed(summary) => (Some(summary.completed_at), true),
            BackupStatus::Failed(_) => (backup.started_at, false),
        };
        Some(LastJob { id: backup.id.to_string(), at, ok })
    }))
}

fn gap_alert(gap: &Gap) -> Alert {
    Alert {
        name: "gap".to_owned(),
        since: gap.since,
        message: format!(
            "WAL {}..{} of timeline {} is lost ({}); take a new full backup",
            gap.from,
            gap.to,
            gap.timeline.get(),
            gap.reason
        ),
    }
}

impl From<&Gap> for GapStatus {
    fn from(gap: &Gap) -> Self {
        Self { timeline: gap.timeline, from_lsn: gap.from, to_lsn: gap.to, since: gap.since }
    }
}
