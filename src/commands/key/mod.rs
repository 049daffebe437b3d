//! `pgkeep key`: which secrets open the repository, and how that is changed.

mod add;
mod check;
mod generate;
mod list;
mod remove;
mod revoke;
mod rotate;
mod tried;

use super::Context;
use crate::cli::KeyVerb;
use crate::exit::Exit;

pub(super) use generate::run as generate;

pub(super) async fn run(context: &Context, verb: KeyVerb) -> anyhow::Result<Exit> {
    match verb {
        KeyVerb::List => list::run(context).await,
        KeyVerb::Check(arguments) => check::run(context, arguments).await,
        KeyVerb::Add(arguments) => add::run(context, arguments).await,
        KeyVerb::Remove(arguments) => remove::run(context, arguments).await,
        KeyVerb::Rotate(arguments) => rotate::run(context, arguments).await,
        KeyVerb::Revoke(arguments) => revoke::run(context, arguments).await,
        // Needs no configuration, so it never comes here.
        KeyVerb::Generate(_) => Ok(Exit::Usage),
    }
}
