//! A cluster as `initdb` makes it, made once on this machine and copied from then on.

use std::fs;
use std::path::Path;

use super::account;
use super::command::run;
use super::installation::Installation;
use super::shared;

/// What `initdb` is told, and what therefore tells one template from another.
#[derive(Clone, Debug)]
pub(crate) struct InitOptions {
    /// Size of a WAL segment.
    pub(crate) segment_size_mb: u32,
    /// Whether data pages carry checksums.
    pub(crate) checksums: bool,
}

impl InitOptions {
    /// Makes a cluster in `data`, a directory that does not exist yet.
    pub(crate) async fn initdb(&self, data: &Path) {
        let mut command =
            account::command(&Installation::newest().program("initdb"), Path::new("/"));
        command.args(["--username=postgres", "--auth=trust", "--no-locale", "--encoding=UTF8"]);
        command.args(["--no-sync", "--no-instructions"]);
        command.arg(format!("--wal-segsize={}", self.segment_size_mb));
        if self.checksums {
            command.arg("--data-checksums");
        }
        command.arg("--pgdata").arg(data);
        run(command).await.expect_success();
    }

    /// Copies a cluster made with these options to `data`. All copies have one system identifier.
    pub(crate) async fn copy_template(&self, data: &Path) {
        let directory = shared::directory("templates");
        account::give(&directory);
        let name = format!(
            "{}-{}mb{}",
            Installation::newest().version(),
            self.segment_size_mb,
            if self.checksums { "-checksums" } else { "" }
        );
        let template = directory.join(&name);
        {
            let _lock = shared::lock(&directory, &name);
            if !template.exists() {
                let partial = directory.join(format!("{name}.partial"));
                // A run that was killed in the middle may have left one.
                let _ = fs::remove_dir_all(&partial);
                self.initdb(&partial).await;
                fs::rename(&partial, &template).unwrap();
            }
        }
        let mut copy = account::command(Path::new("cp"), Path::new("/"));
        copy.args(["-a", "--reflink=auto"]).arg(&template).arg(data);
        run(copy).await.expect_success();
    }
}
