//! The account that servers run under: `postgres` when we are root, our own otherwise.

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

const SERVER_ACCOUNT: &str = "postgres";

/// A command that runs under the account of the servers, in `directory`, with a plain environment.
///
/// `setpriv` becomes the program, so that the child's id is the program's. The kernel kills it
/// when the spawning thread ends; a descendant that makes itself a daemon would escape that.
pub(crate) fn command(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid", SERVER_ACCOUNT, "--regid", SERVER_ACCOUNT, "--init-groups"]);
    }
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).current_dir(directory);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("PG") || text.starts_with("LC_") {
            command.env_remove(name);
        }
    }
    command.env("LC_ALL", "C").env("TZ", "UTC");
    command
}

/// Gives `path` to the account of the servers.
pub(crate) fn give(path: &Path) {
    if let Some((uid, gid)) = server_ids() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// Whether the account of the servers is another than ours.
pub(crate) fn is_root() -> bool {
    our_uid() == 0
}

/// Our own user id.
pub(crate) fn our_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// User and group to become, if we have to become somebody else.
fn server_ids() -> Option<(u32, u32)> {
    is_root().then(|| {
        let accounts = fs::read_to_string("/etc/passwd").unwrap();
        let fields: Vec<&str> = accounts
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields[0] == SERVER_ACCOUNT)
            .expect("an account named postgres exists where its package is installed");
        (fields[2].parse().unwrap(), fields[3].parse().unwrap())
    })
}
