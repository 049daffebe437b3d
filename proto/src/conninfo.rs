//! Connection strings as libpq writes them: `key=value` pairs and `postgres://` URIs.
//!
//! What is not understood is refused by name, never ignored: a dropped `sslmode=verify-full` would be
//! a silent loss of protection. One host; TLS, several hosts, password and service files are refused
//! until they are there. The environment is an argument, so that this stays a pure function.
//! See `conninfo_parse` and `conninfo_uri_parse` in Postgres' `src/interfaces/libpq/fe-connect.c`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Error, Result};

/// Where Debian's packages put the server's socket; used when no host is named.
const SOCKET_DIRECTORY_DEFAULT: &str = "/var/run/postgresql";
const PORT_DEFAULT: u16 = 5432;
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Keys that libpq knows and that are not there yet; each is refused with this reason.
const NOT_YET: &[&str] = &[
    "hostaddr",
    "passfile",
    "service",
    "servicefile",
    "sslcert",
    "sslkey",
    "sslrootcert",
    "sslcrl",
    "channel_binding",
    "gssencmode",
    "krbsrvname",
    "target_session_attrs",
    "requirepeer",
    "load_balance_hosts",
    "sslnegotiation",
    "require_auth",
];

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A directory that holds the server's Unix socket.
    Unix(PathBuf),
    /// A host name or address.
    Tcp(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(directory) => write!(f, "{}", directory.display()),
            Self::Tcp(name) => f.write_str(name),
        }
    }
}

/// How to reach one server, and as whom. `Debug` and `Display` never show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Conninfo {
    /// Where it listens.
    pub host: Host,
    /// Its port, also part of a Unix socket's name.
    pub port: u16,
    /// The role, if one was named; libpq then takes the operating system's user.
    pub user: Option<String>,
    /// The password, if one was given.
    pub password: Option<String>,
    /// The database, if one was named; for physical replication none is needed.
    pub database: Option<String>,
    /// `options` of the startup packet, such as `-c wal_sender_timeout=5min`.
    pub options: Option<String>,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
}

impl Conninfo {
    /// Parses `text`; what it does not say is taken from the environment (`PGHOST`, `PGPORT`, `PGUSER`,
    /// `PGPASSWORD`, `PGDATABASE`, `PGOPTIONS`, `PGSSLMODE`, `PGCONNECT_TIMEOUT`) and then from libpq's
    /// defaults.
    pub fn parse(text: &str, environment: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let text = text.trim();
        let uri = ["postgres://", "postgresql://"].iter().find_map(|s| text.strip_prefix(s));
        let given = match uri {
            Some(rest) => uri_pairs(rest)?,
            None => pairs(text)?,
        };
        for (key, _) in &given {
            refuse_unknown(key)?;
        }
        let value = |key: &str, variable: &str| {
            let last = given.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.clone());
            last.or_else(|| environment(variable)).filter(|v| !v.is_empty())
        };
        refuse_tls(value("sslmode", "PGSSLMODE").as_deref())?;
        Ok(Self {
            host: host(value("host", "PGHOST"))?,
            port: value("port", "PGPORT").map_or(Ok(PORT_DEFAULT), |text| {
                text.parse().map_err(|_| Error::text("not a port", &text))
            })?,
            user: value("user", "PGUSER"),
            password: value("password", "PGPASSWORD"),
            database: value("dbname", "PGDATABASE"),
            options: value("options", "PGOPTIONS"),
            connect_timeout: connect_timeout(value("connect_timeout", "PGCONNECT_TIMEOUT"))?,
        })
    }

    /// The path of the Unix socket, if it is one.
    pub fn socket_path(&self) -> Option<PathBuf> {
        match &self.host {
            Host::Unix(directory) => Some(directory.join(format!(".s.PGSQL.{}", self.port))),
            Host::Tcp(_) => None,
        }
    }
}

impl fmt::Display for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host={} port={}", self.host, self.port)?;
        if let Some(user) = &self.user {
            write!(f, " user={user}")?;
        }
        if let Some(database) = &self.database {
            write!(f, " dbname={database}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Conninfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conninfo({self})")
    }
}

fn host(text: Option<String>) -> Result<Host> {
    let text = text.unwrap_or_else(|| SOCKET_DIRECTORY_DEFAULT.to_owned());
    if text.contains(',') {
        return Err(Error::text("several hosts are not supported yet", &text));
    }
    Ok(if text.starts_with('/') { Host::Unix(PathBuf::from(text)) } else { Host::Tcp(text) })
}

/// Zero, negative and absent mean "as long as it takes" to libpq; an archiver always has a limit.
fn connect_timeout(text: Option<String>) -> Result<Duration> {
    let Some(text) = text else { return Ok(CONNECT_TIMEOUT_DEFAULT) };
    match text.trim().parse::<i32>() {
        Ok(seconds) => Ok(u64::try_from(seconds)
            .ok()
            .filter(|s| *s > 0)
            .map_or(CONNECT_TIMEOUT_DEFAULT, |s| Duration::from_secs(s.max(2)))),
        Err(_) => Err(Error::text("not a number of seconds", &text)),
    }
}

fn refuse_unknown(key: &str) -> Result<()> {
    match key {
        "host"
        | "port"
        | "user"
        | "password"
        | "dbname"
        | "options"
        | "connect_timeout"
        | "sslmode"
        | "application_name"
        | "fallback_application_name"
        | "client_encoding"
        | "keepalives"
        | "keepalives_idle"
        | "keepalives_interval"
        | "keepalives_count"
        | "tcp_user_timeout" => Ok(()),
        _ if NOT_YET.contains(&key) => {
            Err(Error::text("a connection option that is not supported yet", key))
        }
        _ => Err(Error::text("not a connection option", key)),
    }
}

fn refuse_tls(mode: Option<&str>) -> Result<()> {
    match mode {
        None | Some("disable" | "allow" | "prefer") => Ok(()),
        Some(mode @ ("require" | "verify-ca" | "verify-full")) => {
            Err(Error::text("TLS is not supported yet, so this sslmode cannot be kept", mode))
        }
        Some(mode) => Err(Error::text("not an sslmode", mode)),
    }
}

/// `key = value` pairs; a value may stand in single quotes, `\` escapes the next character.
fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest
            .split_once('=')
            .filter(|(key, _)| !key.trim().is_empty() && !key.trim().contains(char::is_whitespace))
            .ok_or_else(|| Error::text("not a connection string of key=value pairs", text))?;
        let (value, after) = value(after.trim_start()).ok_or_else(|| {
            Error::text("a connection string with an unfinished value", text_safe(key))
        })?;
        pairs.push((key.trim().to_owned(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// An error about a value names its key only: the value may be a password.
fn text_safe(key: &str) -> &str {
    key.trim()
}

/// One value and what follows it; `None` if a quote or an escape is left open.
fn value(text: &str) -> Option<(String, &str)> {
    let (quoted, body) = match text.strip_prefix('\'') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let mut value = String::new();
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.push(characters.next()?.1),
            '\'' if quoted => return Some((value, body.get(at + 1..)?)),
            c if !quoted && c.is_whitespace() => return Some((value, body.get(at..)?)),
            c => value.push(c),
        }
    }
    (!quoted).then_some((value, ""))
}

/// `[user[:password]@][host][:port][/dbname][?key=value&...]`, percent-encoded.
fn uri_pairs(rest: &str) -> Result<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (host, port) = match place.strip_prefix('[').and_then(|p| p.split_once(']')) {
        Some((address, port)) => (address, port.strip_prefix(':').unwrap_or("")),
        None => place.rsplit_once(':').unwrap_or((place, "")),
    };
    let named = [
        ("host", host),
        ("port", port),
        ("user", user),
        ("password", password),
        ("dbname", database),
    ];
    for (key, encoded) in named {
        if !encoded.is_empty() {
            pairs.push((key.to_owned(), percent_decode(key, encoded)?));
        }
    }
    for parameter in query.split('&').filter(|p| !p.is_empty()) {
        let (key, encoded) = parameter
            .split_once('=')
            .ok_or_else(|| Error::text("not a parameter of a connection URI", parameter))?;
        pairs.push((percent_decode(key, key)?, percent_decode(key, encoded)?));
    }
    Ok(pairs)
}

fn percent_decode(key: &str, encoded: &str) -> Result<String> {
    let wrong = || Error::text("not percent-encoded UTF-8 in a connection URI", key);
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
                bytes.push(digit(high).ok_or_else(wrong)? * 16 + digit(low).ok_or_else(wrong)?);
                after
            }
            (b'%', _) => return Err(wrong()),
            _ => {
                bytes.push(*first);
                after
            }
        };
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Conninfo> {
        Conninfo::parse(text, |_| None)
    }

    #[test]
    fn pairs_are_read_as_libpq_reads_them() {
        let conninfo =
            parse(r"host = /run/pg  port=5433 user='o\'brien x' password=a\ b dbname=d").unwrap();
        assert_eq!(conninfo.host, Host::Unix("/run/pg".into()));
        assert_eq!(conninfo.socket_path(), Some("/run/pg/.s.PGSQL.5433".into()));
        assert_eq!(conninfo.user.as_deref(), Some("o'brien x"));
        assert_eq!(conninfo.password.as_deref(), Some("a b"));
    }

    #[test]
    fn a_uri_is_read_as_libpq_reads_it() {
        let conninfo =
            parse("postgresql://me:p%40ss@db.example:6432/app?connect_timeout=5").unwrap();
        assert_eq!(conninfo.host, Host::Tcp("db.example".to_owned()));
        assert_eq!((conninfo.port, conninfo.database.as_deref()), (6432, Some("app")));
        assert_eq!(conninfo.password.as_deref(), Some("p@ss"));
        assert_eq!(conninfo.connect_timeout, Duration::from_secs(5));
        assert_eq!(parse("postgres://[::1]:1/").unwrap().host, Host::Tcp("::1".to_owned()));
        assert_eq!(parse("postgres://%2Frun%2Fpg/x").unwrap().host, Host::Unix("/run/pg".into()));
    }

    #[test]
    fn the_environment_fills_what_the_string_leaves_out() {
        let environment = |name: &str| match name {
            "PGHOST" => Some("from-environment".to_owned()),
            "PGUSER" => Some("e".to_owned()),
            _ => None,
        };
        let conninfo = Conninfo::parse("user=s", environment).unwrap();
        assert_eq!(conninfo.host, Host::Tcp("from-environment".to_owned()));
        assert_eq!(conninfo.user.as_deref(), Some("s"));
    }

    #[test]
    fn what_cannot_be_kept_is_refused_by_name() {
        for (text, named) in [
            ("host=a,b", "several hosts"),
            ("sslmode=verify-full", "TLS"),
            ("sslmode=maybe", "maybe"),
            ("passfile=/x", "passfile"),
            ("hots=a", "hots"),
            ("port=high", "high"),
            ("host", "key=value"),
            ("password='open", "unfinished"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let conninfo = parse("host=h user=u password=secret").unwrap();
        assert!(!format!("{conninfo} {conninfo:?}").contains("secret"));
        assert!(!parse("password='secret").unwrap_err().to_string().contains("secret"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,80}") {
            let _ = parse(&text);
            let _ = parse(&format!("postgres://{text}"));
        }
    }
}
