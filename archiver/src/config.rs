//! What is archived, and how it is reached: `[cluster.NAME]` of the configuration.

use pgkeep_proto::Conninfo;
use serde::Deserialize;

use crate::ship::ShipOverrides;
use crate::{Error, Result};

/// One cluster.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// How to reach the server: a libpq connection string. May be left out where only restoring is
    /// done. `PGHOST`, `PGPORT`, `PGUSER` and `PGPASSWORD` fill what it does not say.
    pub upstream: Option<String>,
    /// The physical replication slot that keeps WAL for us. Default `pgkeep`; made by `init` or `run`.
    #[serde(default = "slot_default")]
    pub slot: String,
    /// What counts as safe for the server: only `"repository"` exists yet.
    #[serde(default)]
    pub ack: Ack,
    /// Fields of `[ship]` that are different for this cluster.
    #[serde(default)]
    pub ship: ShipOverrides,
}

/// Without `upstream`, which may hold a password.
impl std::fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { slot, ack, ship, .. } = self;
        let mut shown = f.debug_struct("ClusterConfig");
        shown.field("slot", slot).field("ack", ack).field("ship", ship).finish_non_exhaustive()
    }
}

/// When WAL counts as safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// When it is in the repository.
    #[default]
    Repository,
}

fn slot_default() -> String {
    "pgkeep".to_owned()
}

impl ClusterConfig {
    /// Every problem of this section, for the cluster called `name`.
    pub fn problems(&self, name: &str) -> Vec<String> {
        let mut problems = Vec::new();
        let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_');
        if self.slot.is_empty() || self.slot.len() > 63 || !self.slot.bytes().all(allowed) {
            problems.push(format!(
                "cluster.{name}.slot = {:?}: must be 1 to 63 of a-z, 0-9 and _",
                self.slot
            ));
        }
        if let Some(Err(error)) =
            self.upstream.as_deref().map(|text| Conninfo::parse(text, |_| None))
        {
            problems.push(format!("cluster.{name}.upstream: {error}"));
        }
        problems
    }

    /// The server, from the connection string and the environment.
    pub fn conninfo(&self, name: &str) -> Result<Conninfo> {
        let text = self.upstream.as_deref().ok_or_else(|| Error::Invalid {
            what: format!("cluster.{name}.upstream is not set, and this needs the server"),
        })?;
        Ok(Conninfo::parse(text, |variable| std::env::var(variable).ok())?)
    }
}
