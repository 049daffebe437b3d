//! SCRAM-SHA-256 without a socket: text in, text out.
//!
//! Channel binding (`-PLUS`) needs TLS and comes with it. An iteration count above the codec's limit
//! (100,000) is refused by postgres-protocol before any work is done.

use postgres_protocol::authentication::sasl;

use crate::{Error, Result};

/// One authentication exchange, from the client's side.
#[derive(Debug)]
pub struct Scram(State);

struct State(sasl::ScramSha256);

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("..")
    }
}

impl Scram {
    /// The mechanism's name on the wire.
    pub const MECHANISM: &'static str = sasl::SCRAM_SHA_256;

    /// Begins an exchange; the first message to send is [`Self::message`].
    pub fn new(password: &str) -> Self {
        let binding = sasl::ChannelBinding::unsupported();
        Self(State(sasl::ScramSha256::new(password.as_bytes(), binding)))
    }

    /// What to send next.
    pub fn message(&self) -> &[u8] {
        self.0.0.message()
    }

    /// Takes the server's challenge; then [`Self::message`] is the answer.
    pub fn update(&mut self, challenge: &[u8]) -> Result<()> {
        self.0.0.update(challenge).map_err(|e| Error::Scram { what: e.to_string() })
    }

    /// Takes the server's last message, which proves that the server knows the password too.
    pub fn finish(&mut self, proof: &[u8]) -> Result<()> {
        self.0.0.finish(proof).map_err(|e| Error::Scram { what: e.to_string() })
    }
}
