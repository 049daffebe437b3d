//! Azurite: Azure's own emulator of its Blob Storage.

use std::net::TcpListener;
use std::process::Command;

use pgkeep_catalog::store::AzureOptions;

use super::cache::cache;
use super::child::Child;
use super::command::run;
use super::workdir::Workdir;

/// As in `tests/stores/install.sh`.
const PROGRAM: &str = "azurite-3.35.0/node_modules/azurite/dist/src/blob/main.js";

/// Makes a container: the protocol wants a signature for it, and our own client makes none.
const MAKE_CONTAINER: &str = r#"
import base64, hashlib, hmac, sys, urllib.request
from email.utils import formatdate
endpoint, account, name = sys.argv[1:]
key = base64.b64decode("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==")
headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
signed = "PUT" + 12 * "\n" + "".join(f"{name}:{value}\n" for name, value in headers.items())
signed += f"/{account}/{account}/{name}\nrestype:container"
signature = base64.b64encode(hmac.new(key, signed.encode(), hashlib.sha256).digest()).decode()
headers["Authorization"] = f"SharedKey {account}:{signature}"
url = f"{endpoint}/{name}?restype=container"
urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers))
"#;

/// A running Azurite. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Azurite {
    child: Child,
    endpoint: String,
}

impl Azurite {
    /// Starts one with nothing in it.
    pub(crate) async fn start(workdir: &Workdir) -> Self {
        let program = cache().join(PROGRAM);
        assert!(program.exists(), "{} is missing: try make test-stores", program.display());
        let directory = workdir.subdirectory("azurite");
        let port = free_port();
        // It runs as we do: other accounts may be unable to enter the cache.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "node"]).arg(program).current_dir(&directory);
        command.args(["--blobHost", "127.0.0.1", "--blobPort", &port.to_string()]);
        command.args(["--skipApiVersionCheck", "--disableTelemetry", "--silent", "-l", "."]);
        let child = Child::spawn("Azurite", command, &workdir.path().join("azurite.log"));
        let endpoint = format!("http://127.0.0.1:{port}/devstoreaccount1");
        let mut azurite = Self { child, endpoint };
        let listens = async || std::net::TcpStream::connect(("127.0.0.1", port)).ok();
        azurite.child.until("listening", listens).await;
        azurite
    }

    /// Makes an empty container.
    pub(crate) async fn container(&self, workdir: &Workdir, name: &str) {
        // Ours may be one that the account of the servers cannot run.
        let mut command = Command::new("python3");
        command.current_dir(workdir.path()).args([
            "-c",
            MAKE_CONTAINER,
            &self.endpoint,
            "devstoreaccount1",
            name,
        ]);
        run(command).await.expect_success();
    }

    /// How it is reached.
    pub(crate) fn options(&self) -> AzureOptions {
        AzureOptions {
            account: Some("devstoreaccount1".to_owned()),
            endpoint: Some(self.endpoint.clone()),
            ..AzureOptions::default()
        }
    }
}

/// A port that nobody listens on at this moment.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
