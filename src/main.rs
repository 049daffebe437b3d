//! `pgkeep`: the command line. Parses, loads the configuration, calls a crate, chooses an exit code.
//!
//! When Postgres calls `archive-get`, every way out but two must be 126 or above: Postgres takes
//! anything from 1 to 125 for "end of archive" and promotes. So the verb is looked for before anything
//! is parsed, a panic aborts, and only `commands/archive_get` may choose 0 or 1.

mod cli;
mod commands;
mod config;
mod exit;
mod last_words;
mod logging;
mod output;
mod privilege;

use std::process::ExitCode;

use exit::Exit;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let is_archive_get = arguments.iter().any(|argument| argument == "archive-get");
    if is_archive_get {
        exit::abort_on_panic();
    }
    let exit = match cli::parse(&arguments) {
        Ok(cli) => commands::run(cli),
        Err(exit) => exit,
    };
    match exit {
        Exit::Success | Exit::Absent => exit.into(),
        _ if is_archive_get => Exit::Fault.into(),
        other => other.into(),
    }
}
