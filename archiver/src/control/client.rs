//! Asks the daemon.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::{Answer, Request};
use crate::{Error, Result};

const DEADLINE: Duration = Duration::from_secs(10);

/// Longest answer accepted, in bytes.
const ANSWER_SIZE_MAX: u64 = 64 << 20;

/// Asks the daemon that listens at `socket`; `None` when none does.
pub async fn ask(socket: &Path, request: &Request) -> Result<Option<Value>> {
    let failed = |what: &str, source| Error::Control {
        path: socket.display().to_string(),
        what: what.to_owned(),
        source,
    };
    let mut stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed("cannot connect", Some(error))),
    };
    let exchange = async {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = String::new();
        BufReader::new(stream.take(ANSWER_SIZE_MAX)).read_line(&mut answer).await?;
        Ok::<_, std::io::Error>(serde_json::from_str(&answer)?)
    };
    match tokio::time::timeout(DEADLINE, exchange).await {
        Err(_) => Err(failed("the daemon does not answer", None)),
        Ok(Err(error)) => Err(failed("the daemon's answer cannot be read", Some(error))),
        Ok(Ok(Answer::Error(what))) => Err(failed(&what, None)),
        Ok(Ok(Answer::Ok(value))) => Ok(Some(value)),
    }
}

/// No socket, or one that a dead daemon left behind.
fn is_absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    matches!(error.kind(), NotFound | ConnectionRefused)
}
