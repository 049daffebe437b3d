//! What a command prints: its result on standard output, errors and progress on standard error.
//!
//! With `--json`, a result is one object and an error is `{"ok":false,"error":...,"hint":...}`;
//! progress is one object a line.

use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

/// Whether people or machines read along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// People.
    Text,
    /// Machines.
    Json,
}

/// Prints a result.
pub(crate) fn result(format: Format, value: &Value, text: &str) {
    let printed = match format {
        Format::Json => writeln!(std::io::stdout(), "{value}"),
        Format::Text => writeln!(std::io::stdout(), "{}", text.trim_end()),
    };
    // A reader that closed its end, such as `head`, is no failure of ours.
    drop(printed);
}

/// Prints an error, its causes and a hint.
pub(crate) fn error(format: Format, error: &anyhow::Error) {
    let mut message = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Transparent errors repeat the text of their cause.
        if !message.ends_with(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    let hint = hint(error);
    if format == Format::Json {
        println!("{}", json!({ "ok": false, "error": message, "hint": hint }));
    } else {
        eprintln!("error: {message}");
        if let Some(hint) = hint {
            eprintln!("hint: {hint}");
        }
    }
}

/// The first hint among an error's causes.
fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let own = |hint: Option<&str>| hint.map(str::to_owned);
        let archiver = own(cause.downcast_ref().and_then(pgkeep_archiver::Error::hint));
        let catalog = || own(cause.downcast_ref().and_then(pgkeep_catalog::Error::hint));
        let plan = || own(cause.downcast_ref().and_then(pgkeep_restorer::PlanError::hint));
        let target = || own(cause.downcast_ref().and_then(pgkeep_restorer::TargetError::hint));
        let restorer = || own(cause.downcast_ref().and_then(pgkeep_restorer::Error::hint));
        let config = || cause.downcast_ref().and_then(crate::config::ConfigError::hint);
        let privilege = || cause.downcast_ref().and_then(crate::privilege::PrivilegeError::hint);
        let first = archiver.or_else(catalog).or_else(plan).or_else(target);
        first.or_else(restorer).or_else(config).or_else(privilege)
    })
}

/// Shows how far long work has come.
#[derive(Debug)]
pub(crate) struct Progress {
    format: Format,
    bar: ProgressBar,
}

impl Progress {
    /// Progress in bytes of work called `name`: a bar on a terminal, JSON lines with `--json`,
    /// otherwise nothing.
    pub(crate) fn bytes(format: Format, name: &'static str) -> Self {
        let is_shown = format == Format::Text && std::io::stderr().is_terminal();
        let target =
            if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template(
            "{msg:>8} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        );
        let bar = ProgressBar::with_draw_target(Some(0), target).with_message(name);
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { format, bar }
    }

    /// So much is done.
    pub(crate) fn update(&self, done: u64, total: u64) {
        // The server's estimate may be short of what comes.
        self.bar.set_length(total.max(done));
        self.bar.set_position(done);
        if self.format == Format::Json {
            let line = json!({ "bytes_done": done, "bytes_total": total.max(done) });
            drop(writeln!(std::io::stderr(), "{line}"));
        }
    }

    /// The work is in another phase.
    pub(crate) fn phase(&self, name: &'static str) {
        self.bar.set_message(name);
    }
}

impl Drop for Progress {
    /// The work is over, or has failed: the bar goes.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A number of bytes for people: `1.9 GB`.
pub(crate) fn bytes(count: u64) -> String {
    let mut value = count;
    let mut rest = 0;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 1000 {
            return if unit == "B" {
                format!("{value} B")
            } else {
                format!("{value}.{rest} {unit}")
            };
        }
        rest = value % 1000 / 100;
        value /= 1000;
    }
    format!("{value}.{rest} PB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_printed_in_decimal_units() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_950_000_000), "1.9 GB");
        assert_eq!(bytes(1_000), "1.0 kB");
    }
}
