//! A server that speaks S3 and checks signatures: s3s-fs, one for each test that needs it.
//!
//! It knows neither tags nor storage classes nor versions. `tests/stores/install.sh all` builds it.

use std::net::{TcpListener, TcpStream};
use std::process::Command;

use super::bucket::{ACCESS_KEY, SECRET_KEY};
use super::cache::cache;
use super::child::Child;
use super::workdir::Workdir;

/// As in `tests/stores/install.sh`.
const PROGRAM: &str = "s3s-fs-0.14.1/bin/s3s-fs";

/// A running server.
#[derive(Debug)]
pub(crate) struct SigningServer {
    endpoint: String,
    _child: Child,
}

impl SigningServer {
    /// Starts one that keeps its objects in `workdir`.
    pub(crate) async fn start(workdir: &Workdir) -> Self {
        let program = cache().join(PROGRAM);
        assert!(program.exists(), "{} is missing: try make test-stores", program.display());
        // Free a moment ago; nothing better can be had of a server that takes no open socket.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command.args(["--host", "127.0.0.1", "--port", &address.port().to_string()]);
        command.args(["--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]);
        command.arg(workdir.subdirectory("objects"));
        let log = workdir.path().join("s3s-fs.log");
        let mut child = Child::spawn("s3s-fs", command, &log);
        child.until("listening", async || TcpStream::connect(address).ok().map(drop)).await;
        Self { endpoint: format!("http://{address}"), _child: child }
    }

    /// Where it is.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }
}
