//! Writes the pages of the inventory beside the stream, and remembers the newest as a witness.
//!
//! In: the feed. Out: pages, their head for whoever watches, and the witness on this machine. A page is
//! written when it is full, a minute after a segment that none tells, ten minutes after WAL that is
//! only there in pieces, and when the archiver stops. Nothing waits for it; after a crash the next
//! bookkeeper looks up what was not written down.
//!
//! When it begins it compares the repository with both witnesses. One that knows more raises the alert
//! `repository_rolled_back`; archiving goes on, since the server may still have what is missing, and
//! the witness on this machine is not touched again, so that the alert outlives a restart.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pgkeep_catalog::heartbeat::Heartbeat;
use pgkeep_catalog::inventory::{
    InventoryHead, InventoryWriter, RolledBack, SEGMENTS_MAX, Stand, Witness,
};
use pgkeep_catalog::status::Alert;
use pgkeep_catalog::{Clock, Cluster, WriterEpoch};
use pgkeep_proto::{TimelineId, TimestampTz};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::InventoryFeed;
use super::feed::News;
use crate::watch::Alerts;
use crate::{Error, Result};

const TICK: Duration = Duration::from_secs(1);

/// Longest that a whole segment waits to be written down.
const SEGMENTS_INTERVAL: Duration = Duration::from_secs(60);

/// Longest that the end of the pieces waits to be written down.
const PIECES_INTERVAL: Duration = Duration::from_secs(600);

/// How long the last page may take when the archiver stops.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Keeps the inventory of one cluster.
#[derive(Debug)]
pub(crate) struct Bookkeeper {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) epoch: WriterEpoch,
    pub(crate) feed: Arc<InventoryFeed>,
    /// The file of the witness; none if there is no state directory.
    pub(crate) witness: Option<PathBuf>,
    pub(crate) head: watch::Sender<Option<InventoryHead>>,
    pub(crate) alerts: Arc<Alerts>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// What it knows while it runs.
#[derive(Debug, Default)]
struct Book {
    news: VecDeque<News>,
    writer: Option<(TimelineId, InventoryWriter)>,
    written_at: Option<Instant>,
    /// Loaded when it was compared with the repository.
    witness: Option<Witness>,
    is_rolled_back: bool,
}

impl Bookkeeper {
    /// Runs until `stop`. What needs a human goes to `failures`.
    pub(crate) async fn run(self, failures: mpsc::Sender<Error>, stop: CancellationToken) {
        let mut book = Book::default();
        loop {
            let stopped = tokio::select! {
                () = stop.cancelled() => true,
                () = tokio::time::sleep(TICK) => false,
            };
            let kept = match stopped {
                true => tokio::time::timeout(STOP_DEADLINE, self.keep(&mut book, true)).await,
                false => Ok(self.keep(&mut book, false).await),
            };
            match kept {
                Ok(Ok(())) => {}
                Ok(Err(error)) if error.is_passing() => {
                    tracing::warn!(error = %error.with_cause(), "the inventory waits");
                }
                Ok(Err(error)) => {
                    // Nobody listens any more when the archiver ends anyway.
                    drop(failures.send(error).await);
                    return;
                }
                Err(_) => tracing::warn!("the last page of the inventory was not written in time"),
            }
            if stopped {
                return;
            }
        }
    }

    async fn keep(&self, book: &mut Book, is_last: bool) -> Result<()> {
        if book.witness.is_none() {
            self.compare(book).await?;
        }
        book.news.extend(self.feed.take());
        while let Some(news) = book.news.front() {
            self.note(&mut book.writer, &mut book.written_at, news.clone()).await?;
            let is_closed = book.news.len() > 1;
            self.write(book, is_last || is_closed).await?;
            book.news.pop_front();
        }
        Ok(())
    }

    /// Tells the writer of the news, which is another one when the timeline is.
    async fn note(
        &self,
        writer: &mut Option<(TimelineId, InventoryWriter)>,
        written_at: &mut Option<Instant>,
        news: News,
    ) -> Result<()> {
        let is_other = writer.as_ref().is_none_or(|(timeline, _)| *timeline != news.timeline);
        let is_behind = writer.as_ref().is_some_and(|(_, writer)| writer.is_behind());
        if is_other || is_behind || news.stand.is_some() {
            let News { timeline, archived, .. } = news;
            let stand = news.stand.unwrap_or(Stand { timeline, start: archived, archived });
            let hint = self.head.borrow().filter(|head| head.timeline == timeline);
            let hint = hint.map(|head| head.number);
            let cluster = Arc::clone(&self.cluster);
            let mut resumed = InventoryWriter::resume(cluster, self.epoch, stand, hint).await?;
            resumed.archived_up_to(archived);
            resumed.catch_up(self.now()).await?;
            self.head.send_replace(resumed.head());
            *writer = Some((timeline, resumed));
            written_at.get_or_insert_with(Instant::now);
        }
        if let Some((_, writer)) = writer {
            for (start, digest) in news.segments {
                writer.add(start, digest);
            }
            writer.archived_up_to(news.archived);
        }
        Ok(())
    }

    /// Writes the pages that are due; with `all` everything there is.
    async fn write(&self, book: &mut Book, all: bool) -> Result<()> {
        let Some((_, writer)) = &mut book.writer else { return Ok(()) };
        loop {
            let waited = book.written_at.map_or(Duration::ZERO, |at| at.elapsed());
            let ready = writer.ready();
            let is_due = ready >= SEGMENTS_MAX
                || ready > 0 && waited >= SEGMENTS_INTERVAL
                || writer.has_news() && (all || waited >= PIECES_INTERVAL);
            if !is_due {
                break;
            }
            let Some(head) = writer.write(self.now()).await? else { break };
            book.written_at = Some(Instant::now());
            self.head.send_replace(Some(head));
        }
        let head = *self.head.borrow();
        if let (Some(head), Some(path), Some(witness)) = (head, &self.witness, &mut book.witness)
            && !book.is_rolled_back
            && witness.head(head.timeline) != Some(head)
        {
            witness.learn(head);
            let (witness, path) = (witness.clone(), path.clone());
            let stored = blocking(move || witness.store(&path)).await;
            if let Err(error) = stored {
                tracing::warn!(%error, "the witness of the inventory could not be written");
            }
        }
        Ok(())
    }

    /// Compares the repository with what is known of it here and in the heartbeat.
    async fn compare(&self, book: &mut Book) -> Result<()> {
        let witness = match self.witness.clone() {
            Some(path) => {
                let cluster = Arc::clone(&self.cluster);
                blocking(move || Witness::load(&path, &cluster)).await?
            }
            None => Witness::new(&self.cluster),
        };
        let mut found: Vec<RolledBack> = witness.contradictions(&self.cluster).await?;
        book.is_rolled_back = !found.is_empty();
        let heartbeat = Heartbeat::read(&self.cluster).await?;
        if let Some(known) = heartbeat.and_then(|heartbeat| heartbeat.inventory) {
            found.extend(known.contradiction(&self.cluster).await?);
        }
        if let Some(found) = found.first() {
            tracing::error!(
                witness = ?self.witness,
                "{found}. Archiving goes on; remove the file of the witness when this is understood"
            );
            self.alerts.raise(Alert::ROLLED_BACK, self.now(), found.to_string());
        }
        book.witness = Some(witness);
        Ok(())
    }

    fn now(&self) -> TimestampTz {
        TimestampTz::from_timestamp(self.clock.now())
    }
}

/// Runs what waits for the disk of this machine.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> pgkeep_catalog::Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(act).await;
    Ok(done.map_err(|error| Error::Broken(std::io::Error::other(error)))??)
}
