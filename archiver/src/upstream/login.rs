//! From a socket to a session: startup packet and authentication.
//!
//! The name of a connection matters: `synchronous_standby_names` matches it, so only the WAL stream may
//! be called `pgkeep`. SCRAM-SHA-256 proves the server to us as well as us to the server; a server that
//! asks for the password in clear or as md5 is refused.

use pgkeep_catalog::dial::dial;
use pgkeep_proto::replication::{Authentication, BackendMessage};
use pgkeep_proto::{Conninfo, Scram};

use super::connection::Connection;
use crate::{Error, Result};

/// What a connection is for; this names it on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Streams WAL.
    Wal,
    /// Takes a base backup.
    Backup,
    /// Asks the server about itself, in SQL.
    Sql,
}

impl Purpose {
    /// `application_name` on the server.
    pub const fn application_name(self) -> &'static str {
        match self {
            Self::Wal => "pgkeep",
            Self::Backup => "pgkeep_backup",
            Self::Sql => "pgkeep_sql",
        }
    }
}

/// The role to log in as: the one in the connection string, else the operating system's user.
pub fn role(conninfo: &Conninfo) -> String {
    let system = || std::env::var("USER").ok().filter(|user| !user.is_empty());
    conninfo.user.clone().or_else(system).unwrap_or_else(|| "postgres".to_owned())
}

/// Connects for physical replication and authenticates.
pub async fn log_in(conninfo: &Conninfo, purpose: Purpose) -> Result<Connection> {
    let user = role(conninfo);
    let mut connection = Connection::new(dial(conninfo).await?);
    let mut parameters = vec![
        ("user", user.as_str()),
        ("replication", "true"),
        ("application_name", purpose.application_name()),
        ("client_encoding", "UTF8"),
    ];
    if let Some(options) = &conninfo.options {
        parameters.push(("options", options));
    }
    connection.send_startup(&parameters).await?;
    let authentication = authenticate(&mut connection, &user, conninfo.password.as_deref());
    match tokio::time::timeout(conninfo.connect_timeout, authentication).await {
        Ok(done) => done.map(|()| connection),
        Err(_) => Err(Error::Silent { after: conninfo.connect_timeout }),
    }
}

async fn authenticate(
    connection: &mut Connection,
    user: &str,
    password: Option<&str>,
) -> Result<()> {
    let mut scram: Option<Scram> = None;
    let out_of_turn = || pgkeep_proto::Error::protocol("a step of authentication out of turn");
    loop {
        match connection.receive().await? {
            BackendMessage::Authentication(step) => match step {
                Authentication::Ok => {
                    // Without the server's proof a SCRAM exchange is not finished.
                    if scram.take().is_some() {
                        return Err(out_of_turn().into());
                    }
                }
                Authentication::Sasl(mechanisms) => {
                    if !mechanisms.iter().any(|m| m == Scram::MECHANISM) {
                        return Err(Error::LoginMethod { method: mechanisms.join(", ") });
                    }
                    let no_password = || Error::NoPassword { user: user.to_owned() };
                    let exchange = Scram::new(password.ok_or_else(no_password)?);
                    connection.send_sasl(Some(Scram::MECHANISM), exchange.message()).await?;
                    scram = Some(exchange);
                }
                Authentication::SaslContinue(challenge) => {
                    let exchange = scram.as_mut().ok_or_else(out_of_turn)?;
                    exchange.update(&challenge)?;
                    connection.send_sasl(None, exchange.message()).await?;
                }
                Authentication::SaslFinal(proof) => {
                    scram.take().ok_or_else(out_of_turn)?.finish(&proof)?;
                }
                Authentication::Unsupported(method) => {
                    return Err(Error::LoginMethod { method: method.to_owned() });
                }
            },
            BackendMessage::Error(error) => return Err(Error::refused(user, error)),
            BackendMessage::ReadyForQuery => return Ok(()),
            message => {
                let what = format!("unexpected during login: {message:?}");
                return Err(pgkeep_proto::Error::protocol(what).into());
            }
        }
    }
}
