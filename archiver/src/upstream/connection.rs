//! One connection to a server: whole messages out of and into a byte stream.
//!
//! Receiving is cancel-safe: bytes of an unfinished message stay in the buffer. Notices and settings may
//! arrive between any two messages; they are taken out here, so that nobody else meets them.

use std::collections::HashMap;
use std::time::Duration;

use bytes::BytesMut;
use pgkeep_catalog::dial::Stream;
use pgkeep_proto::replication::BackendMessage;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Error, Result};

/// Room kept for reading: two of the largest messages of a WAL stream.
const READ_SIZE: usize = 256 << 10;

/// A server that does not take 34 bytes in this time is not there any more.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// A connection on which messages come and go.
#[derive(Debug)]
pub struct Connection {
    stream: Box<dyn Stream>,
    input: BytesMut,
    output: BytesMut,
    settings: HashMap<String, String>,
}

impl Connection {
    /// Messages over `stream`, to which nothing was sent yet.
    pub fn new(stream: Box<dyn Stream>) -> Self {
        let input = BytesMut::with_capacity(READ_SIZE);
        Self { stream, input, output: BytesMut::new(), settings: HashMap::new() }
    }

    /// The next message. Cancel-safe.
    pub async fn receive(&mut self) -> Result<BackendMessage> {
        loop {
            match BackendMessage::decode(&mut self.input)? {
                Some(BackendMessage::ParameterStatus { name, value }) => {
                    self.settings.insert(name, value);
                }
                Some(BackendMessage::Notice(notice)) => tracing::debug!(%notice, "server notice"),
                Some(BackendMessage::Other) => {}
                Some(message) => return Ok(message),
                None => self.read().await?,
            }
        }
    }

    async fn read(&mut self) -> Result<()> {
        if self.input.capacity() - self.input.len() < READ_SIZE / 4 {
            self.input.reserve(READ_SIZE);
        }
        match self.stream.read_buf(&mut self.input).await {
            Ok(0) => Err(Error::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(Error::Broken(error)),
        }
    }

    /// A setting that the server reported, such as `server_version`.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// Sends a command of the replication grammar, or a simple query.
    pub async fn send_query(&mut self, text: &str) -> Result<()> {
        self.send(|output| frontend::query(text, output)).await
    }

    /// Sends the payload of one CopyData message.
    pub async fn send_copy_data(&mut self, fill: impl FnOnce(&mut BytesMut)) -> Result<()> {
        let mut payload = BytesMut::new();
        fill(&mut payload);
        self.send(|output| {
            let body = frontend::CopyData::new(payload)?;
            body.write(output);
            Ok(())
        })
        .await
    }

    /// Sends a message that `write` puts into the buffer.
    ///
    /// Not cancel-safe: half a message may have been sent. Do not put it in a `select!` branch.
    pub async fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>,
    ) -> Result<()> {
        write(&mut self.output).map_err(Error::Broken)?;
        let output = self.output.split();
        let sent = tokio::time::timeout(WRITE_DEADLINE, self.stream.write_all(&output)).await;
        sent.map_err(|_| Error::Silent { after: WRITE_DEADLINE })?.map_err(Error::Broken)
    }

    /// Says goodbye; the server needs no answer and neither do we.
    pub async fn close(mut self) {
        let goodbye = self.send(|output| {
            frontend::terminate(output);
            Ok(())
        });
        if let Err(error) = goodbye.await {
            tracing::debug!(%error, "closing a connection");
        }
    }

    /// Sends a password message of SASL: the mechanism first, then the exchange.
    pub(super) async fn send_sasl(&mut self, mechanism: Option<&str>, data: &[u8]) -> Result<()> {
        self.send(|output| match mechanism {
            Some(mechanism) => frontend::sasl_initial_response(mechanism, data, output),
            None => frontend::sasl_response(data, output),
        })
        .await
    }

    /// Sends the startup packet.
    pub(super) async fn send_startup(&mut self, parameters: &[(&str, &str)]) -> Result<()> {
        self.send(|output| frontend::startup_message(parameters.iter().copied(), output)).await
    }
}
