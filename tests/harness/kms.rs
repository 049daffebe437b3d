//! AWS KMS, as moto plays it: it keeps keys, encrypts and decrypts, and can be stopped.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use super::cache::cache;
use super::child::Child;
use super::workdir::Workdir;

/// A running KMS.
#[derive(Debug)]
pub(crate) struct Kms {
    child: Child,
    port: u16,
}

impl Kms {
    /// Starts one, and waits until it answers.
    pub(crate) async fn start(workdir: &Workdir) -> Self {
        // Free a moment ago; moto takes no socket and tells no port.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(cache().join("moto/bin/moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let child = Child::spawn("moto_server", command, &workdir.path().join("moto.log"));
        let mut kms = Self { child, port };
        let Self { child, .. } = &mut kms;
        let answers = async || ask(port, "ListKeys").filter(|said| said.contains("Keys")).map(drop);
        child.until("answering", answers).await;
        kms
    }

    /// Makes a key. Gives its ARN.
    pub(crate) fn create_key(&self) -> String {
        let answer = ask(self.port, "CreateKey").expect("KMS runs");
        let (_, arn) = answer.split_once("\"Arn\": \"").expect("a key has an ARN");
        arn.split('"').next().unwrap().to_owned()
    }

    /// Lets `command` find it, with credentials that it takes.
    pub(crate) fn reached_by(&self, command: &mut Command) {
        command.env("AWS_ENDPOINT_URL_KMS", format!("http://127.0.0.1:{}", self.port));
        command.env("AWS_ACCESS_KEY_ID", "tester").env("AWS_SECRET_ACCESS_KEY", "testing");
    }

    /// Stops it at once.
    pub(crate) async fn stop(self) {
        self.child.kill9().await;
    }
}

/// One request of KMS without content.
fn ask(port: u16, act: &str) -> Option<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let request = format!(
        "POST / HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nX-Amz-Target: TrentService.{act}\r\n\
         Content-Type: application/x-amz-json-1.1\r\nAuthorization: AWS4-HMAC-SHA256 \
         Credential=tester/20261122/us-east-1/kms/aws4_request, SignedHeaders=host, \
         Signature=x\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    socket.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    Some(answer)
}
