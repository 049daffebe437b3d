//! From a connection string to an open socket.
//!
//! Used by every connection that pgkeep makes to a Postgres: the WAL stream, base backups, SQL. Unix
//! sockets and TCP; TLS is refused by the parser until it is there. Every attempt has a deadline.

use std::fmt::Debug;
use std::time::Duration;

use pgkeep_proto::{Conninfo, Host};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// A byte stream to a server.
pub trait Stream: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin> Stream for T {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The system refused.
    #[error("connect to {server}")]
    Refused {
        /// The server, without the password.
        server: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Nobody answered in time.
    #[error("connect to {server}: no answer in {} s", after.as_secs())]
    TimedOut {
        /// The server, without the password.
        server: String,
        /// How long was waited.
        after: Duration,
    },
}

impl DialError {
    /// Whether trying again may succeed. A name that does not resolve may be a name server that
    /// starts, so only the caller who connects for the first time treats it as final.
    pub fn is_retryable(&self) -> bool {
        !self.is_unknown_host()
    }

    /// Whether the host's name means nothing here.
    pub fn is_unknown_host(&self) -> bool {
        // The standard library gives failures of getaddrinfo no kind of their own.
        matches!(self, Self::Refused { source, .. } if source.to_string().contains("lookup"))
    }
}

/// Opens a socket to the server.
pub async fn dial(conninfo: &Conninfo) -> Result<Box<dyn Stream>, DialError> {
    let opened = tokio::time::timeout(conninfo.connect_timeout, open(conninfo)).await;
    let server = || conninfo.to_string();
    match opened {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(DialError::Refused { server: server(), source }),
        Err(_) => Err(DialError::TimedOut { server: server(), after: conninfo.connect_timeout }),
    }
}

async fn open(conninfo: &Conninfo) -> std::io::Result<Box<dyn Stream>> {
    match (&conninfo.host, conninfo.socket_path()) {
        (_, Some(path)) => Ok(Box::new(UnixStream::connect(path).await?)),
        (Host::Tcp(name), None) => {
            let stream = TcpStream::connect((name.as_str(), conninfo.port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
        (Host::Unix(_), None) => Err(std::io::ErrorKind::InvalidInput.into()),
    }
}
