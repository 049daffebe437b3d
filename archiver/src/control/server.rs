//! Answers for the daemon.
//!
//! In: what the archiver publishes. Out: answers on the control socket. Stops when told to, and removes
//! the socket. A peer that is slow, silent or a stranger costs one bounded task and nothing else.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pgkeep_catalog::Clock;
use pgkeep_catalog::status::{Alert, ClusterStatus, DaemonStatus, Status};
use pgkeep_proto::TimestampTz;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Answer, Request};
use crate::archiver::ArchiverHandle;
use crate::{Error, Result};

/// Longest question accepted, in bytes.
const REQUEST_SIZE_MAX: u64 = 64 << 10;

const DEADLINE: Duration = Duration::from_secs(10);

/// Of that, what reading the repository may take.
const REPOSITORY_DEADLINE: Duration = Duration::from_secs(5);

/// Most peers answered at a time.
const PEERS_MAX: usize = 16;

/// What the daemon can be asked about.
#[derive(Debug)]
pub struct Daemon {
    /// The clusters it archives.
    pub archivers: Vec<ArchiverHandle>,
    /// When it was started.
    pub since: TimestampTz,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
}

/// Listens on the control socket.
#[derive(Debug)]
pub struct ControlServer {
    listener: UnixListener,
    path: PathBuf,
    daemon: Arc<Daemon>,
}

impl ControlServer {
    /// Takes the socket at `path`; fails if a living daemon has it.
    pub async fn bind(path: &Path, daemon: Daemon) -> Result<Self> {
        let failed = |what: &str, source| Error::Control {
            path: path.display().to_string(),
            what: what.to_owned(),
            source,
        };
        if UnixStream::connect(path).await.is_ok() {
            return Err(failed("another daemon answers there", None));
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("cannot be replaced", Some(error)));
            }
            _ => {}
        }
        let listener =
            UnixListener::bind(path).map_err(|error| failed("cannot be made", Some(error)))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .map_err(|error| failed("cannot be protected", Some(error)))?;
        Ok(Self { listener, path: path.to_owned(), daemon: Arc::new(daemon) })
    }

    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut peers = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = peers.join_next() => {}
                accepted = self.listener.accept(), if peers.len() < PEERS_MAX => match accepted {
                    Ok((stream, _)) if is_trusted(&stream) => {
                        let daemon = Arc::clone(&self.daemon);
                        peers.spawn(async move {
                            let answered = tokio::time::timeout(DEADLINE, answer(stream, &daemon));
                            if let Ok(Err(error)) | Err(error) =
                                answered.await.map_err(std::io::Error::from)
                            {
                                tracing::debug!(%error, "control socket");
                            }
                        });
                    }
                    Ok(_) => tracing::warn!("a stranger was turned away from the control socket"),
                    Err(error) => {
                        tracing::warn!(%error, "control socket");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "control socket could not be removed");
        }
    }
}

/// Whether the peer is our own user or root.
fn is_trusted(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

async fn answer(mut stream: UnixStream, daemon: &Daemon) -> std::io::Result<()> {
    let (read, mut write) = stream.split();
    let mut line = String::new();
    BufReader::new(read.take(REQUEST_SIZE_MAX)).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Err(error) => Answer::Error(error.to_string()),
        Ok(Request::Status) => Answer::Ok(serde_json::to_value(status(daemon).await)?),
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    write.write_all(&line).await
}

async fn status(daemon: &Daemon) -> Status {
    let now = TimestampTz::from_timestamp(daemon.clock.now());
    let deadline = Instant::now() + REPOSITORY_DEADLINE;
    let mut clusters = Vec::new();
    for archiver in &daemon.archivers {
        let mut status = read(archiver, now, deadline).await;
        fill_in(&mut status, archiver);
        status.daemon = DaemonStatus {
            running: true,
            pid: Some(std::process::id()),
            since: Some(daemon.since),
        };
        clusters.push(status);
    }
    Status { clusters }
}

/// What the repository says. When it says nothing, that is an alert and no reason to keep silent about
/// what we know without it.
async fn read(archiver: &ArchiverHandle, now: TimestampTz, deadline: Instant) -> ClusterStatus {
    let cluster = &archiver.cluster;
    let reading = ClusterStatus::from_repository(cluster);
    let message = match timeout_at(deadline, reading).await {
        Ok(Ok(status)) => return status,
        Ok(Err(error)) => Error::from(error).with_cause(),
        Err(_) => format!("the repository did not answer within {REPOSITORY_DEADLINE:?}"),
    };
    tracing::warn!(error = %message, "status without the repository");
    let mut status = ClusterStatus::unread(cluster);
    if !archiver.alerts.all().iter().any(|alert| alert.name == "store") {
        status.alerts.push(Alert { name: "store".to_owned(), since: now, message });
    }
    status
}

/// What only the running archiver knows.
fn fill_in(status: &mut ClusterStatus, archiver: &ArchiverHandle) {
    let live = *archiver.live.borrow();
    status.timeline = live.timeline.or(status.timeline);
    status.server_lsn = live.server;
    status.received_lsn = live.received;
    // A stream that has just begun compares what is stored before it goes on behind it.
    status.archived_lsn = live.archived.max(status.archived_lsn);
    status.archived_commit_time = live.archived_commit_time.or(status.archived_commit_time);
    status.caught_up_at = live.caught_up_at.or(status.caught_up_at);
    status.rpo_seconds = live.caught_up_arrival.map(|arrival| arrival.elapsed().as_secs_f64());
    status.slot = archiver.slot.borrow().clone();
    status.inventory = (*archiver.inventory.borrow()).or(status.inventory);
    status.alerts.extend(archiver.alerts.all());
}
