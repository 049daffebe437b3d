//! The configuration: `pgkeep.toml`, overridden by `PGKEEP_*` variables, overridden by flags.
//!
//! Each section's struct lives beside its noun; here they are put together, merged and judged. Every
//! problem is reported at once, with the name of its field. Nothing reads the environment later.
//!
//! `[cluster.NAME.ship]` stands above `[ship]` and its variables, field by field.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pgkeep_archiver::{ClusterConfig, ShipConfig};
use pgkeep_catalog::{ClusterName, RepositoryConfig};
use serde::Deserialize;
use toml::{Table, Value};

use crate::privilege::USER_DEFAULT;

/// Where the configuration is looked for when nobody says where.
const PLACES: [&str; 2] = ["pgkeep.toml", "/etc/pgkeep/pgkeep.toml"];

/// Longest path of a Unix socket that the kernel takes (`sun_path`), without the final zero.
const SOCKET_PATH_MAX: usize = 107;

/// Fields that a variable may override: `PGKEEP_SHIP_INTERVAL` is `ship.interval`.
const VARIABLES: [(&str, &str); 12] = [
    ("repository", "url"),
    ("repository", "encryption"),
    ("repository", "encryption_key"),
    ("repository", "recovery_key"),
    ("repository", "compression"),
    ("repository", "endpoint"),
    ("repository", "region"),
    ("ship", "interval"),
    ("ship", "in_flight_max"),
    ("ship", "confirm"),
    ("daemon", "state"),
    ("daemon", "user"),
];

/// The one field among them that is a number.
const NUMBER: &str = "in_flight_max";

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// No file was named, and there is none where it is looked for.
    #[error("no configuration: neither {} exists", PLACES.join(" nor "))]
    Missing,
    /// The file cannot be read.
    #[error("read {path}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: {what}", path = path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// Every problem.
        what: String,
    },
    /// It is not clear which cluster is meant.
    #[error("which cluster? {what}")]
    WhichCluster {
        /// What there is.
        what: String,
    },
}

impl ConfigError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Missing => {
                Some("name one with --config FILE; docs/config.md has an example".to_owned())
            }
            Self::Wrong { .. } => Some("docs/config.md describes every field".to_owned()),
            Self::WhichCluster { .. } => Some("name one with --cluster NAME".to_owned()),
            Self::Unreadable { .. } => {
                Some("check --config and PGKEEP_CONFIG, and that this user may read it".to_owned())
            }
        }
    }
}

/// The daemon: `[daemon]` of the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DaemonConfig {
    /// Directory for the control socket, the witness of the inventory and the reason why the daemon
    /// ended. Default `/var/lib/pgkeep` for a configuration under /etc,
    /// else `pgkeep.state` beside the configuration.
    state: Option<PathBuf>,
    /// The user that runs Postgres, and that pgkeep becomes when root calls it. Default `postgres`.
    user: Option<String>,
}

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    /// Where everything is kept.
    repository: RepositoryConfig,
    /// The clusters, by name.
    #[serde(default)]
    cluster: BTreeMap<String, ClusterConfig>,
    /// How WAL is shipped.
    #[serde(default)]
    ship: ShipConfig,
    /// The daemon.
    #[serde(default)]
    daemon: DaemonConfig,
    /// Time zone of times given without one, such as `Europe/Berlin`. None: such times are refused.
    time_zone: Option<String>,
}

/// A configuration that was judged good.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file it came from, absolute.
    pub path: PathBuf,
    /// Where everything is kept.
    pub repository: RepositoryConfig,
    /// The clusters, with how WAL of each is shipped.
    pub clusters: BTreeMap<ClusterName, ClusterSettings>,
    /// Directory for the control socket and what the daemon remembers.
    pub state: PathBuf,
    /// The user that runs Postgres.
    pub user: String,
    /// Time zone of times given without one.
    pub time_zone: Option<jiff::tz::TimeZone>,
}

/// One cluster, with the settings that hold for it.
#[derive(Clone, Debug)]
pub(crate) struct ClusterSettings {
    /// Its own section.
    pub cluster: ClusterConfig,
    /// How its WAL is shipped.
    pub ship: ShipConfig,
}

impl Config {
    /// Reads `path`, or the first of the usual places.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let usual = || PLACES.iter().map(PathBuf::from).find(|place| place.exists());
        let path = path.map(Path::to_owned).or_else(usual).ok_or(ConfigError::Missing)?;
        let unreadable = |source| ConfigError::Unreadable { path: path.clone(), source };
        let text = std::fs::read_to_string(&path).map_err(unreadable)?;
        let path = std::path::absolute(&path).map_err(unreadable)?;
        Self::parse(&path, &text, |name| std::env::var(name).ok())
    }

    fn parse(
        path: &Path,
        text: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let wrong = |what: String| ConfigError::Wrong { path: path.to_owned(), what };
        let unread = |error: toml::de::Error| wrong(one_line(text, &error));
        let mut table: Table = text.parse().map_err(unread)?;
        override_by_variables(&mut table, variable);
        let raw: RawConfig = Value::Table(table).try_into().map_err(|error| {
            // What is wrong in the text itself is told with its line.
            unread(toml::from_str::<RawConfig>(text).err().unwrap_or(error))
        })?;
        let mut problems = Vec::new();
        let mut clusters = BTreeMap::new();
        for (name, cluster) in raw.cluster {
            problems.extend(cluster.problems(&name));
            let ship = cluster.ship.over(&raw.ship);
            problems.extend(ship.problems());
            match name.parse::<ClusterName>() {
                Ok(name) => drop(clusters.insert(name, ClusterSettings { cluster, ship })),
                Err(error) => problems.push(error.to_string()),
            }
        }
        problems.extend(raw.ship.problems());
        problems.extend(raw.repository.problems());
        let time_zone = raw.time_zone.map(|name| {
            jiff::tz::TimeZone::get(&name).map_err(|error| format!("time_zone: {error}"))
        });
        let time_zone = time_zone.transpose().unwrap_or_else(|problem| {
            problems.push(problem);
            None
        });
        let state = raw.daemon.state.unwrap_or_else(|| state_default(path));
        problems.extend(socket_problem(&state));
        problems.dedup();
        if !problems.is_empty() {
            return Err(wrong(problems.join("; ")));
        }
        let user = raw.daemon.user.unwrap_or_else(|| USER_DEFAULT.to_owned());
        let path = path.to_owned();
        Ok(Self { path, repository: raw.repository, clusters, state, user, time_zone })
    }

    /// The path of the control socket.
    pub(crate) fn control_socket(&self) -> PathBuf {
        socket_in(&self.state)
    }

    /// The name of the cluster that is meant: the one named, or the only one there is.
    pub(crate) fn cluster_name(&self, named: Option<&str>) -> Result<ClusterName, ConfigError> {
        let which = |what: String| ConfigError::WhichCluster { what };
        if let Some(name) = named {
            return name.parse().map_err(|error: pgkeep_catalog::Error| which(error.to_string()));
        }
        let mut names = self.clusters.keys();
        match (names.next(), names.next()) {
            (Some(name), None) => Ok(name.clone()),
            (None, _) => Err(which("the configuration has no [cluster.NAME]".to_owned())),
            _ => {
                let names: Vec<_> = self.clusters.keys().map(ToString::to_string).collect();
                Err(which(format!("the configuration has {}", names.join(", "))))
            }
        }
    }

    /// The settings of a cluster that the configuration must describe.
    pub(crate) fn cluster(&self, name: &ClusterName) -> Result<&ClusterSettings, ConfigError> {
        self.clusters.get(name).ok_or_else(|| ConfigError::WhichCluster {
            what: format!("{} has no [cluster.{name}]", self.path.display()),
        })
    }
}

fn override_by_variables(table: &mut Table, variable: impl Fn(&str) -> Option<String>) {
    for (section, field) in VARIABLES {
        let name = format!("PGKEEP_{section}_{field}").to_uppercase();
        if let Some(text) = variable(&name) {
            let value = match text.parse() {
                Ok(number) if field == NUMBER => Value::Integer(number),
                _ => Value::String(text),
            };
            let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(section) = section {
                section.insert(field.to_owned(), value);
            }
        }
    }
}

/// What is wrong with the text and, where that is known, in which line and field. Never the value: it
/// may be a password.
fn one_line(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', " ");
    let Some(start) = error.span().map(|span| span.start) else { return message };
    let number = text.bytes().take(start).filter(|byte| *byte == b'\n').count();
    let line = text.lines().nth(number).unwrap_or_default();
    match line.split_once('=') {
        Some((field, _)) => format!("line {}, {}: {message}", number + 1, field.trim()),
        None => format!("line {}: {message}", number + 1),
    }
}

fn state_default(path: &Path) -> PathBuf {
    if path.starts_with("/etc") {
        return PathBuf::from("/var/lib/pgkeep");
    }
    path.parent().unwrap_or(Path::new("/")).join("pgkeep.state")
}

fn socket_in(state: &Path) -> PathBuf {
    state.join("control.sock")
}

fn socket_problem(state: &Path) -> Option<String> {
    let socket = socket_in(state);
    let length = socket.as_os_str().len();
    (length > SOCKET_PATH_MAX).then(|| {
        format!(
            "daemon.state: the path of the socket {} has {length} bytes, and the kernel takes \
             {SOCKET_PATH_MAX}; choose a shorter directory",
            socket.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const GOOD: &str = r#"
        [repository]
        url = "file:///srv/keep"
        encryption = "off"
        [cluster.main]
        upstream = "host=/run/postgresql user=pgkeep"
        [cluster.main.ship]
        in_flight_max = 2
        [ship]
        interval = "250ms"
    "#;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new("/home/me/pgkeep.toml"), text, |_| None)
    }

    #[test]
    fn a_cluster_overrides_single_fields() {
        let config = parse(GOOD).unwrap();
        let name = config.cluster_name(None).unwrap();
        let ship = &config.cluster(&name).unwrap().ship;
        assert_eq!((ship.interval(), ship.in_flight_max), (Duration::from_millis(250), 2));
        assert_eq!(config.control_socket(), Path::new("/home/me/pgkeep.state/control.sock"));
    }

    #[test]
    fn a_variable_overrides_the_file() {
        let variable = |name: &str| (name == "PGKEEP_SHIP_INTERVAL").then(|| "2s".to_owned());
        let config = Config::parse(Path::new("/etc/pgkeep/pgkeep.toml"), GOOD, variable).unwrap();
        let ship = &config.clusters.values().next().unwrap().ship;
        assert_eq!(ship.interval(), Duration::from_secs(2));
        assert_eq!(config.state, Path::new("/var/lib/pgkeep"));
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let text = GOOD.replace("file:///srv/keep", "ftp://host").replace("250ms", "1us");
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains("repository.url") && error.contains("ship.interval"), "{error}");
    }

    #[test]
    fn unknown_fields_are_refused_with_their_line() {
        let error = parse(&GOOD.replace("interval =", "intervall =")).unwrap_err().to_string();
        assert!(error.contains("intervall") && error.contains("line"), "{error}");
    }

    #[test]
    fn encryption_must_be_said() {
        let error = parse(&GOOD.replace("encryption = \"off\"", "")).unwrap_err().to_string();
        assert!(error.contains("encryption"), "{error}");
    }

    #[test]
    fn a_socket_path_too_long_for_the_kernel_is_refused() {
        let text = format!("{GOOD}\n[daemon]\nstate = \"/{}\"", "x".repeat(120));
        assert!(parse(&text).unwrap_err().to_string().contains("daemon.state"));
    }
}
