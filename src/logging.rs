//! Log lines on standard error, where systemd's journal and a terminal both find them.
//!
//! `PGKEEP_LOG` chooses what is logged, as in `PGKEEP_LOG=debug` or
//! `PGKEEP_LOG=pgkeep_archiver=debug`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// How much is logged unless `PGKEEP_LOG` says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// Warnings: for commands that print a result.
    Quiet,
    /// Changes of state: for the daemon.
    Daemon,
}

/// Begins to log.
pub(crate) fn start(verbosity: Verbosity) {
    let default = match verbosity {
        Verbosity::Quiet => "warn",
        Verbosity::Daemon => "info",
    };
    let filter = EnvFilter::try_from_env("PGKEEP_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
