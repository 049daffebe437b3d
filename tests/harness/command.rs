//! Commands that run to their end, within the deadline.

use std::process::{Command, Stdio};

use tokio::time::timeout;

use super::wait::DEADLINE;

/// What a command left when it had ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// How it was called.
    pub(crate) call: String,
    /// Its exit code; `None` when a signal killed it.
    pub(crate) code: Option<i32>,
    /// All of its standard output.
    pub(crate) stdout: String,
    /// All of its standard error.
    pub(crate) stderr: String,
}

impl Finished {
    /// The standard output of a command that must have succeeded.
    pub(crate) fn expect_success(self) -> String {
        self.expect_code(0).stdout
    }

    /// Fails the test, showing what the command said, unless it ended with this code.
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert!(
            self.code == Some(code),
            "{} ended with {:?} instead of {code}\n{}{}",
            self.call,
            self.code,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Fails the test unless it ended with this code and said so with one error and one hint.
    /// Gives the error.
    pub(crate) fn expect_refusal(self, code: i32) -> String {
        let finished = self.expect_code(code);
        let said: Vec<&str> = finished.stderr.lines().filter(|line| !is_log(line)).collect();
        let is_short = matches!(said.as_slice(), [error, hint]
            if error.starts_with("error: ") && hint.starts_with("hint: "));
        let call = &finished.call;
        assert!(is_short, "{call} does not say one error and one hint:\n{}", said.join("\n"));
        assert!(finished.stdout.is_empty(), "{call} printed {}", finished.stdout);
        said[0].to_owned()
    }
}

/// Whether a daemon logged this line: they begin with a time.
fn is_log(line: &str) -> bool {
    line.starts_with(|first: char| first.is_ascii_digit())
}

/// Runs a command to its end; one that does not end in time is killed and fails the test.
pub(crate) async fn run(mut command: Command) -> Finished {
    let call = format!("{command:?}");
    command.stdin(Stdio::null());
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let output = timeout(DEADLINE, command.output())
        .await
        .unwrap_or_else(|_| panic!("{call} did not end within {DEADLINE:?}"))
        .unwrap_or_else(|error| panic!("{call} did not start: {error}"));
    Finished {
        call,
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
