//! A program that runs beside the test.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::wait::{DEADLINE, poll};

const LOG_TAIL_LINES: usize = 40;

/// A running program whose output goes to a log file. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    child: process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts `command`; what it prints is appended to `log`.
    pub(crate) fn spawn(name: &str, mut command: Command, log: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("start {name}: {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, or `None` while it runs.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Sends a signal to it, and to it alone.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Kills it without giving it a chance to tidy up.
    pub(crate) async fn kill9(mut self) {
        self.signal(Signal::KILL);
        self.wait_exit().await;
    }

    /// Waits for its end.
    pub(crate) async fn wait_exit(&mut self) -> ExitStatus {
        match poll(async || self.exit_status()).await {
            Some(status) => status,
            None => self.fail(&format!("did not end within {DEADLINE:?}")),
        }
    }

    /// Waits for a fact that this program brings about. Fails as soon as it has ended without.
    pub(crate) async fn until<T>(
        &mut self,
        what: &str,
        mut ask: impl AsyncFnMut() -> Option<T>,
    ) -> T {
        // Asked once more after the end: the fact may have been the last thing it did.
        let answer = poll(async || {
            let ended = self.exit_status();
            match ask().await {
                Some(answer) => Some(Ok(answer)),
                None => ended.map(Err),
            }
        });
        match answer.await {
            Some(Ok(answer)) => answer,
            Some(Err(status)) => self.fail(&format!("ended with {status} before {what}")),
            None => self.fail(&format!("did not reach {what} within {DEADLINE:?}")),
        }
    }

    /// All it has printed, by all its lives.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    fn fail(&self, what: &str) -> ! {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n");
        panic!("{} {what}; the end of {}:\n{tail}", self.name, self.log.display());
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
