//! `pgkeep version`.

use pgkeep_catalog::FORMAT;
use serde_json::json;

use crate::exit::Exit;
use crate::output::{self, Format};

/// Prints the version of the program and of the repository format it writes.
pub(super) fn run(format: Format) -> Exit {
    let version = env!("CARGO_PKG_VERSION");
    let value = json!({ "ok": true, "version": version, "repository_format": FORMAT });
    output::result(format, &value, &format!("pgkeep {version} (repository format {FORMAT})"));
    Exit::Success
}
