//! `pgkeep key generate`: a new key file. Needs no configuration and touches no repository.

use anyhow::Context as _;
use pgkeep_catalog::key::Secret;
use serde_json::json;

use crate::cli::KeyGenerateArgs;
use crate::exit::Exit;
use crate::output::{self, Format};
use crate::privilege::{self, USER_DEFAULT, User};

/// Makes the file; root gives it to the user that runs Postgres, who must be able to read it.
pub(in crate::commands) fn run(
    arguments: &KeyGenerateArgs,
    format: Format,
) -> anyhow::Result<Exit> {
    let owner = if privilege::is_root() {
        Some(User::find(arguments.owner.as_deref().unwrap_or(USER_DEFAULT))?)
    } else {
        None
    };
    let path = std::path::absolute(&arguments.file)?;
    Secret::generate(&path).with_context(|| format!("make {}", path.display()))?;
    if let Some(owner) = &owner {
        owner.own(&path).with_context(|| format!("give {} to {}", path.display(), owner.name))?;
    }
    let value = json!({ "ok": true, "file": path, "source": format!("file:{}", path.display()) });
    let text = format!(
        "a new key is in {}, for its owner only\nIn the configuration it is file:{}",
        path.display(),
        path.display()
    );
    output::result(format, &value, &text);
    Ok(Exit::Success)
}
