//! The log of one run of a private server: followed while it recovers, asked for the reason when it fails.

use std::fs::File;
use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::ServerError;

/// How much is read at once. A longer line is passed over in pieces.
const READ_BYTES_MAX: u64 = 256 * 1024;

/// A log file that a server writes and we read.
#[derive(Debug)]
pub(super) struct ServerLog {
    path: PathBuf,
    offset: u64,
}

impl ServerLog {
    /// Empties the file; returns also the end that the server writes to.
    pub(super) fn create(path: PathBuf) -> Result<(Self, Stdio), ServerError> {
        match File::create(&path) {
            Ok(file) => Ok((Self { path, offset: 0 }, file.into())),
            Err(source) => Err(ServerError::File { path, source }),
        }
    }

    /// The lines that have been completed since the last call.
    pub(super) async fn read_new(&mut self) -> Result<String, ServerError> {
        let mut bytes = read(&self.path, self.offset).await?;
        // Only a line longer than one reading has no end in it: it would stop us for ever.
        let partial = bytes.iter().rev().take_while(|byte| **byte != b'\n').count();
        let whole = bytes.len() - partial;
        bytes.truncate(whole);
        self.offset += u64::try_from(whole).expect("a length in memory fits 64 bits");
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The line that tells why the server stopped.
    pub(super) async fn reason(&self) -> Result<String, ServerError> {
        let unread = read(&self.path, self.offset.saturating_sub(READ_BYTES_MAX / 2)).await?;
        Ok(reason(&String::from_utf8_lossy(&unread)))
    }
}

async fn read(path: &Path, offset: u64) -> Result<Vec<u8>, ServerError> {
    let read = async {
        let mut file = tokio::fs::File::open(path).await?;
        file.seek(SeekFrom::Start(offset)).await?;
        let mut bytes = Vec::new();
        file.take(READ_BYTES_MAX).read_to_end(&mut bytes).await?;
        Ok(bytes)
    };
    read.await.map_err(|source| ServerError::File { path: path.to_owned(), source })
}

/// The first fatal line from its severity on, else the last line.
fn reason(text: &str) -> String {
    let fatal = text.lines().find_map(|line| {
        let at = line.find("FATAL:  ").or_else(|| line.find("PANIC:  "))?;
        line.get(at..)
    });
    fatal.or_else(|| text.lines().last()).unwrap_or("it left no log").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_fatal_line_is_the_reason() {
        let text = "a\n12:00 [1] FATAL:  no\n12:00 [1] HINT:  try\n12:00 [2] FATAL:  gone too\n";
        assert_eq!(reason(text), "FATAL:  no");
        assert_eq!(reason("1\n2\n"), "2");
        assert_eq!(reason(""), "it left no log");
    }

    #[tokio::test]
    async fn a_line_is_read_when_it_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let (mut log, _) = ServerLog::create(path.clone()).unwrap();
        std::fs::write(&path, "one\ntw").unwrap();
        assert_eq!(log.read_new().await.unwrap(), "one\n");
        std::fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(log.read_new().await.unwrap(), "two\n");
        assert_eq!(log.read_new().await.unwrap(), "");
    }
}
