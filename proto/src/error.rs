//! What can be wrong with bytes or text that claim to come from Postgres.

/// Result of reading something that claims to come from Postgres.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A fact about input that could not be understood. Nothing here is worth retrying unchanged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Text that is not what its place demands.
    #[error("{what}: {text:?}")]
    Text {
        /// What was expected, as in "not a log sequence number".
        what: &'static str,
        /// The text that was found, shortened to 120 characters.
        text: String,
    },
    /// A message that does not follow the frontend/backend protocol.
    #[error("protocol violation: {what}")]
    Protocol {
        /// What was wrong with it.
        what: String,
    },
    /// A message announced more bytes than any honest server sends.
    #[error("message of {length} bytes announced, more than the limit of {limit}")]
    TooLong {
        /// Announced length in bytes.
        length: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// An error reported by the server.
    #[error("server: {message} (SQLSTATE {code})")]
    Server {
        /// Five-character SQLSTATE.
        code: String,
        /// Primary message.
        message: String,
        /// Detail and hint of the server, if it gave any.
        detail: Option<String>,
    },
    /// A tar stream that is not what Postgres sends, or that tries to leave the target.
    #[error("base backup archive: {what}")]
    Tar {
        /// What was wrong with it.
        what: String,
    },
    /// SCRAM authentication failed or was misused by the server.
    #[error("SCRAM-SHA-256 authentication: {what}")]
    Scram {
        /// What was wrong with it.
        what: String,
    },
}

impl Error {
    /// Text that did not parse, shortened so that a hostile value does not fill a log.
    pub(crate) fn text(what: &'static str, text: &str) -> Self {
        Self::Text { what, text: text.chars().take(120).collect() }
    }

    /// A protocol violation.
    pub fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol { what: what.into() }
    }

    /// The SQLSTATE, when the server reported the error.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Server { code, .. } => Some(code),
            _ => None,
        }
    }
}
