//! `pgkeep run`: the daemon. The one place where the crates are joined.
//!
//! Any task that ends unexpectedly ends the process with its reason. The first signal stops receiving,
//! ships what there is and leaves; the second aborts.

use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;

use anyhow::Context as _;
use pgkeep_archiver::Archiver;
use pgkeep_archiver::control::{ControlServer, Daemon};
use pgkeep_catalog::inventory::Witness;
use pgkeep_catalog::store::ConditionalPut;
use pgkeep_catalog::{Clock, Cluster, RepositoryConfig, SystemClock};
use pgkeep_proto::TimestampTz;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::exit::Exit;
use crate::last_words::LastWords;

pub(super) async fn run(context: Context) -> anyhow::Result<Exit> {
    let signals = StopSignals::catch().context("catch signals")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let repository = context.repository_to_write().await?;
    context.abort_stale_uploads().await;
    let mut archivers = Vec::new();
    let names = match &context.cluster {
        Some(_) => vec![context.cluster_name()?],
        None => context.config.clusters.keys().cloned().collect(),
    };
    anyhow::ensure!(!names.is_empty(), "the configuration has no [cluster.NAME] to archive");
    for name in names {
        let settings = context.config.cluster(&name)?;
        let conninfo = settings.cluster.conninfo(name.as_str())?;
        let cluster = Arc::new(Cluster::open(Arc::clone(&repository), name.clone()).await?);
        let (slot, ship) = (settings.cluster.slot.clone(), settings.ship.clone());
        let witness = Witness::path(&context.config.state, &cluster);
        let archiver = Archiver::new(cluster, conninfo, slot, ship, Arc::clone(&clock));
        archivers.push((name, archiver.with_witness(witness)));
    }
    let now = TimestampTz::from_timestamp(clock.now());
    if context.config.repository.conditional_put == ConditionalPut::Absent {
        for (_, archiver) in &archivers {
            let message = RepositoryConfig::ABSENT_MEANS.to_owned();
            archiver.handle().alerts.raise("conditional_put", now, message);
        }
    }
    let state = &context.config.state;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .with_context(|| format!("create the state directory {}", state.display()))?;
    let daemon = Daemon {
        archivers: archivers.iter().map(|(_, archiver)| archiver.handle()).collect(),
        since: now,
        clock: Arc::clone(&clock),
    };
    // Bound before a byte is written: two daemons with one state directory are one too many.
    let control = ControlServer::bind(&context.config.control_socket(), daemon).await?;

    let stop = CancellationToken::new();
    let finished = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let mut beside = JoinSet::new();
    beside.spawn(control.run(finished.clone()));
    beside.spawn(signals.pass_on(stop.clone(), finished.clone()));
    for (name, archiver) in archivers {
        LastWords::forget(state, &name).context("forget why archiving ended before")?;
        let stop = stop.clone();
        tasks.spawn(async move { (name, archiver.run(stop).await) });
    }
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = match ended {
            Ok((name, ended)) => ended.map_err(|error| {
                let error = anyhow::Error::from(error);
                let words = LastWords::new(TimestampTz::from_timestamp(clock.now()), &error);
                if let Err(error) = words.write(state, &name) {
                    tracing::warn!(%error, "why archiving ended could not be written down");
                }
                error
            }),
            Err(error) => Err(error).context("the archiver panicked"),
        };
        if result.is_ok() {
            result = ended;
        }
        stop.cancel();
    }
    finished.cancel();
    while beside.join_next().await.is_some() {}
    result.map(|()| Exit::Success)
}

/// The signals that stop the daemon.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// From here on they no longer kill.
    fn catch() -> std::io::Result<Self> {
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(Self { terminate: signal(terminate)?, interrupt: signal(interrupt)? })
    }

    /// Passes the first one on; the second one aborts.
    async fn pass_on(mut self, stop: CancellationToken, finished: CancellationToken) {
        for round in 0.. {
            tokio::select! {
                () = finished.cancelled() => return,
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
            if round > 0 {
                tracing::warn!("told to stop a second time; what is on its way is abandoned");
                std::process::exit(i32::from(Exit::Failure as u8));
            }
            tracing::info!("stopping");
            stop.cancel();
        }
    }
}
