//! A server that speaks S3, and behaves as Amazon's: LocalStack, shared by all tests of a machine.
//!
//! It takes 12 s to start, so the first test that needs it starts it, and it ends by itself soon after
//! the last one (`tests/stores/localstack.sh`). Each test has a bucket of its own in it. Signatures
//! are not checked.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::shared;

/// Twelve seconds when the machine is idle.
const START_DEADLINE: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(200);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// A running server, and our claim that it is in use.
#[derive(Debug)]
pub(crate) struct ObjectServer {
    directory: PathBuf,
    address: SocketAddr,
    /// Held until this process ends.
    _user: File,
}

impl ObjectServer {
    /// The one that all tests use; started if there is none.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<ObjectServer> = OnceLock::new();
        SHARED.get_or_init(Self::find_or_start)
    }

    /// Where it listens, for http and https.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The authority that signed its certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    fn find_or_start() -> Self {
        let directory = shared::directory("localstack");
        let user = File::options()
            .create(true)
            .append(true)
            .open(directory.join("users.lock"))
            .expect("the lock file can be made");
        // Waits for one that is just ending.
        user.lock_shared().unwrap();
        let _start = shared::lock(&directory, "start");
        let noted = fs::read_to_string(directory.join("address")).ok();
        let noted = noted.and_then(|text| text.parse().ok()).filter(is_healthy);
        let address = noted.unwrap_or_else(|| start(&directory));
        Self { directory, address, _user: user }
    }
}

fn start(directory: &Path) -> SocketAddr {
    // Free a moment ago; nothing better can be had of a server that takes no open socket.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stores");
    let installed = Command::new(tests.join("install.sh")).stdin(Stdio::null()).status().unwrap();
    assert!(installed.success(), "LocalStack cannot be installed: see above");
    let log = File::create(directory.join("log")).unwrap();
    // A session of its own: it does not end with this test.
    let started = Command::new("setsid")
        .arg("--fork")
        .arg(tests.join("localstack.sh"))
        .arg(directory)
        .arg(address.port().to_string())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .status()
        .unwrap();
    assert!(started.success());
    let deadline = Instant::now() + START_DEADLINE;
    while !is_healthy(&address) {
        let log = directory.join("log");
        assert!(Instant::now() < deadline, "LocalStack did not start; see {}", log.display());
        sleep(POLL_INTERVAL);
    }
    fs::write(directory.join("address"), address.to_string()).unwrap();
    address
}

fn is_healthy(address: &SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let request = "GET /_localstack/health HTTP/1.1\r\nHost: localhost\r\n\
                       Connection: close\r\n\r\n";
        socket.write_all(request.as_bytes())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains("\"s3\""))
}
