//! One file per verb: each calls a crate and prints what came of it.

mod archive_get;
mod backup;
mod check;
mod demo;
mod export;
mod init;
mod key;
mod list;
mod restore;
mod run;
mod status;
mod upgrade;
mod verify;
mod version;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use pgkeep_catalog::store::IfMissing;
use pgkeep_catalog::{Cluster, ClusterName, Repository};

use crate::cli::{Cli, KeyVerb, Verb};
use crate::config::Config;
use crate::exit::Exit;
use crate::logging::{self, Verbosity};
use crate::output::{self, Format};
use crate::privilege;

/// No upload that somebody still works at is as old.
const UPLOAD_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// What every verb that works on a repository needs.
#[derive(Debug)]
struct Context {
    config: Config,
    format: Format,
    cluster: Option<String>,
    incarnation: Option<u32>,
}

impl Context {
    /// Loads the configuration, and becomes the user that runs Postgres.
    fn load(cli: &Cli) -> anyhow::Result<Self> {
        let config = Config::load(cli.config.as_deref())?;
        privilege::leave_root(&config.user)?;
        Ok(Self {
            config,
            format: cli.format(),
            cluster: cli.cluster.clone(),
            incarnation: cli.incarnation,
        })
    }

    /// The cluster that is meant.
    fn cluster_name(&self) -> anyhow::Result<ClusterName> {
        Ok(self.config.cluster_name(self.cluster.as_deref())?)
    }

    /// Opens the repository.
    async fn repository(&self) -> anyhow::Result<Arc<Repository>> {
        Ok(Arc::new(Repository::open(&self.config.repository).await?))
    }

    /// Opens the repository for somebody who will write.
    async fn repository_to_write(&self) -> anyhow::Result<Arc<Repository>> {
        Ok(Arc::new(Repository::open_to_write(&self.config.repository).await?))
    }

    /// Aborts uploads that writers who died left in the bucket: nobody can read them, and they cost
    /// space. Every writer does so at its start. Nothing depends on it, so a failure is only told.
    async fn abort_stale_uploads(&self) {
        let aborted = async {
            match self.config.repository.bare_store(IfMissing::Fail).await?.s3 {
                Some(s3) => s3.abort_stale_uploads(UPLOAD_AGE_MAX).await,
                None => Ok(0),
            }
        };
        match aborted.await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "aborted uploads that nobody completed"),
            Err(error) => {
                let cause = std::error::Error::source(&error);
                tracing::warn!(%error, cause, "cannot look for abandoned uploads");
            }
        }
    }

    /// Opens the cluster that is meant.
    async fn cluster(&self) -> anyhow::Result<Arc<Cluster>> {
        let name = self.cluster_name()?;
        let repository = self.repository().await?;
        Ok(Arc::new(self.open(repository, name).await?))
    }

    /// Opens a cluster in the incarnation that is meant.
    async fn open(
        &self,
        repository: Arc<Repository>,
        name: ClusterName,
    ) -> anyhow::Result<Cluster> {
        Ok(match self.incarnation {
            Some(number) => Cluster::open_incarnation(repository, name, number).await?,
            None => Cluster::open(repository, name).await?,
        })
    }
}

/// Runs a verb and says how it ended.
pub(crate) fn run(cli: Cli) -> Exit {
    let format = cli.format();
    let verbosity =
        if matches!(cli.verb, Verb::Run) { Verbosity::Daemon } else { Verbosity::Quiet };
    logging::start(verbosity);
    match dispatch(cli) {
        Ok(exit) => exit,
        Err(error) => {
            output::error(format, &error);
            Exit::of(&error)
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    match &cli.verb {
        Verb::Version => return Ok(version::run(cli.format())),
        Verb::Key(KeyVerb::Generate(arguments)) => return key::generate(arguments, cli.format()),
        Verb::Demo(_) => {}
        // One segment, one thread: starting more would take longer than the work.
        Verb::ArchiveGet(arguments) => {
            let context = Context::load(&cli)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            return runtime
                .context("start the runtime")?
                .block_on(archive_get::run(&context, arguments));
        }
        _ => {}
    }
    let runtime = || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        runtime.context("start the runtime")
    };
    if let Verb::Demo(arguments) = &cli.verb {
        return demo::run(arguments, cli.format(), &runtime);
    }
    let context = Context::load(&cli)?;
    runtime()?.block_on(async {
        match cli.verb {
            Verb::Init(arguments) => init::run(&context, arguments).await,
            Verb::Upgrade => upgrade::run(&context).await,
            Verb::Check => check::run(&context).await,
            Verb::Run => run::run(context).await,
            Verb::Backup(arguments) => backup::run(&context, &arguments).await,
            Verb::List => list::run(&context).await,
            Verb::Status => status::run(&context).await,
            Verb::Key(verb) => Box::pin(key::run(&context, verb)).await,
            Verb::Restore(arguments) => Box::pin(restore::run(&context, arguments)).await,
            Verb::Verify(arguments) => Box::pin(verify::run(&context, &arguments)).await,
            Verb::Export(arguments) => Box::pin(export::run(&context, &arguments)).await,
            Verb::Demo(_) | Verb::ArchiveGet(_) | Verb::Version => Ok(Exit::Usage),
        }
    })
}
